"""Does something with an installed package, and says how it was built: `python scripts/smoke.py nimloop-http`.

It needs nothing but the package and the standard library, takes a moment, and ends with an error where anything is
wrong. It says nothing of speed; it is here to find a wheel that lacks a module, or a library that cannot be loaded.
"""

from __future__ import annotations

import socket
import sys
import threading
import urllib.request
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nimloop_http import HttpRequest, HttpResponse

PATIENCE = 20.0
"""Seconds until something must have happened."""


def core() -> str:
    """A timer, a descriptor and a call from another thread."""
    from nimloop_core import READ, Loop, build

    seen: list[str] = []
    one, two = socket.socketpair()
    with one, two, Loop() as loop:

        def on_ready(_events: int) -> None:
            seen.append(two.recv(10).decode())
            loop.stop()

        loop.register(two, READ, on_ready)
        loop.call_later(0.01, lambda: one.send(b"hello"))
        threading.Thread(target=loop.call_soon_threadsafe, args=[lambda: seen.append("thread")]).start()
        loop.call_later(PATIENCE, loop.stop)
        loop.run()
    assert sorted(seen) == ["hello", "thread"], seen
    return build.IMPLEMENTATION


def net() -> str:
    """An echo over TCP."""
    from nimloop_core import Loop
    from nimloop_net import Connection, TcpServer, build, connect

    received: list[bytes] = []
    with Loop() as loop:
        server = TcpServer(loop, on_data=Connection.send)
        ((host, port),) = server.listen("127.0.0.1", 0)

        def on_data(conn: Connection, data: bytes) -> None:
            received.append(data)
            conn.close()
            loop.stop()

        connect(loop, host, port, on_connect=lambda conn: conn.send(b"hello"), on_data=on_data)
        loop.call_later(PATIENCE, loop.stop)
        loop.run()
        server.close()
    assert received == [b"hello"], received
    return build.IMPLEMENTATION


def fetch(url: str, done: Callable[[str], object]) -> None:
    """Get a page in a thread."""

    def get() -> None:
        with urllib.request.urlopen(url, timeout=PATIENCE) as response:
            done(response.read().decode())

    threading.Thread(target=get).start()


def http() -> str:
    """A request from the standard library's client."""
    from nimloop_core import Loop
    from nimloop_http import HttpServer, build

    pages: list[str] = []
    with Loop() as loop:
        server = HttpServer(loop, lambda req, res: res.send(req.path))
        ((host, port),) = server.listen("127.0.0.1", 0)

        def done(text: str) -> None:
            pages.append(text)
            loop.call_soon_threadsafe(loop.stop)

        fetch(f"http://{host}:{port}/hello", done)
        loop.call_later(PATIENCE, loop.stop)
        loop.run()
        server.close()
    assert pages == ["/hello"], pages
    return build.IMPLEMENTATION


def ws() -> str:
    """A message there and back."""
    from nimloop_core import Loop
    from nimloop_ws import WebSocket, WsServer, build, connect

    messages: list[str | bytes] = []
    with Loop() as loop:
        server = WsServer(loop, on_message=lambda ws, message: ws.send(message))
        ((host, port),) = server.listen("127.0.0.1", 0)

        def on_message(ws: WebSocket, message: str | bytes) -> None:
            messages.append(message)
            ws.abort()
            loop.stop()

        connect(loop, f"ws://{host}:{port}/", on_open=lambda ws: ws.send("hello"), on_message=on_message)
        loop.call_later(PATIENCE, loop.stop)
        loop.run()
        server.close()
    assert messages == ["hello"], messages
    return build.IMPLEMENTATION


def hello(req: HttpRequest, res: HttpResponse) -> None:
    """The handler of workers, which find it by name in this file."""
    res.send(req.path)


def mt() -> str:
    """Two workers, and a page from one of them."""
    from nimloop_mt import MultiThreadHttpServer

    pages: list[str] = []
    got = threading.Event()

    def done(text: str) -> None:
        pages.append(text)
        got.set()

    with MultiThreadHttpServer(hello, workers=2) as server:
        ((host, port),) = server.listen("127.0.0.1", 0)
        server.start()
        fetch(f"http://{host}:{port}/hello", done)
        got.wait(PATIENCE)
    assert pages == ["/hello"], pages
    return server.mode


def main() -> None:
    """Try one package."""
    package = Path(sys.argv[1]).name  # its folder will do, too
    tries = {"nimloop-core": core, "nimloop-net": net, "nimloop-http": http, "nimloop-ws": ws, "nimloop-mt": mt}
    print(f"{package} {version(package)} on Python {sys.version.split()[0]}: {tries[package]()}")


if __name__ == "__main__":
    main()
