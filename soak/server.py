"""What the soak test talks to: HTTP, uploads, streams, files and WebSockets, in worker processes.

    python soak/server.py FOLDER WORKERS [CERTIFICATE KEY]

Prints its address, and serves until SIGTERM. Every answer names the process that gave it.
"""

from __future__ import annotations

import hashlib
import os
import sys

from nimloop_http import (
    FormLimits,
    HttpRequest,
    HttpResponse,
    HttpServer,
    Limits,
    OnRequest,
    RequestBody,
    StaticFiles,
    Timeouts,
)
from nimloop_mt import MultiThreadHttpServer
from nimloop_ws import WebSocket, upgrade

FOLDER = "NIMLOOP_SOAK_FOLDER"
PIECE = b"0123456789abcdef" * 1024


class Digest:
    """A body that is hashed as it comes, and not kept."""

    def __init__(self, res: HttpResponse) -> None:
        self.res = res
        self.sha256 = hashlib.sha256()

    def begin(self, flow: RequestBody) -> None:
        """Nothing is needed of the body."""

    def write(self, data: bytes) -> None:
        """Take a piece."""
        self.sha256.update(data)

    def end(self) -> None:
        """Say what it was."""

    def abort(self, error: Exception) -> None:
        """A client that goes away is a part of the test."""


def echo(ws: WebSocket, message: str | bytes) -> None:
    """Send back what came."""
    ws.send(message)


def download(res: HttpResponse, pieces: int) -> None:
    """Stream as fast as the client reads, and no faster."""
    stream = res.stream(length=pieces * len(PIECE))
    left = pieces

    def go_on() -> None:
        nonlocal left
        while left:
            left -= 1
            if not stream.write(PIECE):
                return
        stream.end()

    stream.on_drain = go_on
    go_on()


def make(server: HttpServer) -> OnRequest:
    """Make the handler of one worker."""
    files = StaticFiles(os.environ[FOLDER], prefix="/files/", listing=True)
    pid = str(os.getpid())

    def on_headers(req: HttpRequest, res: HttpResponse) -> None:
        if req.path == "/digest":
            digest = req.context = Digest(res)
            req.receive_into(digest)
        elif req.path == "/form":
            req.receive_form(limits=FormLimits(memory=64 << 10))

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        res.header("X-Worker", pid)
        match req.path:
            case "/":
                res.send("hello")
            case "/later":
                server.loop.call_later(0.02, lambda: res.send("later"))
            case "/digest":
                assert isinstance(req.context, Digest)
                res.send(req.context.sha256.hexdigest())
            case "/form":
                res.send(hashlib.sha256(req.form()["file"].data).hexdigest())
            case "/download":
                download(res, int(req.params["pieces"]))
            case "/ws":
                upgrade(req, res, on_message=echo, origins=None)
            case _:
                files.serve(req, res)

    server.on_headers = on_headers
    return on_request


def main() -> None:
    """Serve until told to stop."""
    os.environ[FOLDER] = sys.argv[1]
    server = MultiThreadHttpServer(
        factory=make,
        workers=int(sys.argv[2]),
        mode="processes",
        tls=(sys.argv[3], sys.argv[4]) if len(sys.argv) > 3 else None,
        limits=Limits(body=64 << 20),
        timeouts=Timeouts(head=2.0, idle=5.0, write=5.0, body=20.0, grace=10.0),
    )
    ((host, port),) = server.listen("127.0.0.1", 0)
    report = server.run(lambda: print(f"{host} {port}", flush=True))
    print(f"aborted {report.aborted}, killed {report.killed}, restarts {report.restarts}", flush=True)


if __name__ == "__main__":
    main()
