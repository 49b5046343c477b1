"""What an idle connection costs: bytes of Python heap, counted by tracemalloc."""

from __future__ import annotations

import gc
import socket
import sys
import tracemalloc
from collections.abc import Callable

import pytest

from nimloop_core import Loop
from nimloop_http import HttpRequest, HttpResponse, HttpServer

COUNT = 500
# The aim for CPython 3.11 and newer; older objects, and those of other interpreters, have other sizes.
MOST = 2048

pytestmark = pytest.mark.skipif(
    sys.implementation.name != "cpython" or sys.version_info < (3, 11), reason="sizes are those of CPython"
)


def hello(_req: HttpRequest, res: HttpResponse) -> None:
    """Answer."""
    res.send("Hello, World!")


@pytest.mark.parametrize("request_", [b"", b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"], ids=["fresh", "after a request"])
def test_an_idle_connection_takes_two_kib(request_: bytes) -> None:
    """H-3: what the server keeps for a connection that is open and says nothing, or nothing more."""
    with Loop() as loop, HttpServer(loop, hello) as server:
        server.listen("127.0.0.1", 0)
        once(loop, server, request_)  # what is made once and for all
        sockets = [socket.socket() for _ in range(COUNT)]
        gc.collect()
        tracemalloc.start()
        try:
            connect(loop, server, sockets, request_)
            gc.collect()
            each = tracemalloc.get_traced_memory()[0] / COUNT
        finally:
            tracemalloc.stop()
            for sock in sockets:
                sock.close()
    assert each <= MOST


def once(loop: Loop, server: HttpServer, request: bytes) -> None:
    """Open a connection and close it."""
    with socket.socket() as sock:
        connect(loop, server, [sock], request)
    until(loop, lambda: server.stats.connections == 0)


def connect(loop: Loop, server: HttpServer, sockets: list[socket.socket], request: bytes) -> None:
    """Have all of them accepted, and the request answered on each."""
    address = server.addresses[0]
    assert isinstance(address, tuple)
    before = server.stats
    for sock in sockets:
        sock.connect(address)
        if request:
            sock.sendall(request)
    until(loop, lambda: server.stats.accepted == before.accepted + len(sockets))
    if request:
        until(loop, lambda: server.stats.responses == before.responses + len(sockets))


def until(loop: Loop, done: Callable[[], bool]) -> None:
    """Turn the loop until it is so."""
    while not done():
        loop.run_once(0.001)
