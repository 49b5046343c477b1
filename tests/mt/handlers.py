"""What the workers of these tests serve."""

from __future__ import annotations

import os
import threading
import time

from nimloop_http import HttpRequest, HttpResponse, HttpServer, OnRequest

NOTHING = "not to be called"


def answer(req: HttpRequest, res: HttpResponse) -> None:
    """Say who answers; ``/hang`` never does."""
    match req.path:
        case "/hang":
            time.sleep(60)
        case "/exit":
            os._exit(3)
        case _:
            res.header("Worker", f"{os.getpid()}.{threading.get_native_id()}").send(f"answer to {req.path}")


def application(environ: dict[str, object], start_response: object) -> list[bytes]:
    """A WSGI application."""
    assert callable(start_response)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"from WSGI"]


def make(server: HttpServer) -> OnRequest:
    """A factory, whose handler tells that it has its worker's server."""

    def handle(_req: HttpRequest, res: HttpResponse) -> None:
        res.send(f"{server.loop.running} {server.stats.accepted > 0}")

    return handle


def broken(_server: HttpServer) -> OnRequest:
    """A factory that fails."""
    raise RuntimeError("no luck")
