"""What the workers of these tests serve."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading
import time
from types import ModuleType

from nimloop_http import HttpRequest, HttpResponse, HttpServer, OnRequest

NOTHING = "not to be called"
waiting = threading.Event()
released = threading.Event()


def nimloop_ws() -> ModuleType:
    """The package of WebSockets, which may be missing."""
    return importlib.import_module("nimloop_ws")


def answer(req: HttpRequest, res: HttpResponse) -> None:
    """Say who answers; ``/hang``, ``/spin`` and ``/wait`` take a minute, or until somebody says so."""
    match req.path:
        case "/hang":
            os.write(2, b"/hang is under way\n")
            time.sleep(60)
        case "/spin":
            os.write(2, b"/spin is under way\n")
            end = time.monotonic() + 60
            while time.monotonic() < end:
                pass
        case "/wait":
            waiting.set()
            released.wait()
            res.send("late")
        case "/begin":
            res.stream().write("begun")
        case "/exit":
            os._exit(3)
        case "/cpus":
            res.send_json(sorted(os.sched_getaffinity(0)))
        case "/client":
            res.send(req.client_ip)
        case "/descriptors":
            listing = ["ls", "-l", "/proc/self/fd"]
            res.send(subprocess.run(listing, close_fds=False, capture_output=True, check=True).stdout)
        case "/orphan":
            subprocess.run([sys.executable, "-c", "import os; os.fork() or os.execlp('true', 'true')"], check=True)
            res.send("done")
        case "/ws":
            nimloop_ws().upgrade(req, res, on_message=lambda ws, text: ws.send(text))
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


def make_with(data: bytes, _server: HttpServer) -> OnRequest:
    """A factory that was bound to data, whose handler tells how much."""

    def handle(_req: HttpRequest, res: HttpResponse) -> None:
        res.send(str(len(data)))

    return handle


def broken(_server: HttpServer) -> OnRequest:
    """A factory that fails."""
    raise RuntimeError("no luck")


def ending(_server: HttpServer) -> OnRequest:
    """A factory that wants to end it all."""
    sys.exit("no more")


class Unreadable:
    """A handler that can be sent to another process, and not be read there."""

    def __call__(self, _req: HttpRequest, res: HttpResponse) -> None:
        """Answer."""
        res.send("read")

    def __getstate__(self) -> int:
        """Say who has written it."""
        return os.getpid()

    def __setstate__(self, state: int) -> None:
        """Fail, but for its writer."""
        if state != os.getpid():
            raise ValueError("not for you")
