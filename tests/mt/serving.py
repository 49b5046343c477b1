"""What the tests of workers have in common: asking, waiting, and serving for a while."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Literal

from nimloop_mt import MultiThreadHttpServer
from nimloop_mt._member import Member

PATIENCE = 40.0  # seconds before a test gives up; nothing ever waits for it
Mode = Literal["threads", "processes"]


def ask(port: int, path: str = "/") -> tuple[int, str, str]:
    """Ask on a connection of its own: status, worker, text."""
    client = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        client.request("GET", path)
        answer = client.getresponse()
        return answer.status, answer.headers.get("Worker", ""), answer.read().decode()
    finally:
        client.close()


def read_all(client: socket.socket) -> bytes:
    """Read to the end."""
    return b"".join(iter(lambda: client.recv(65536), b""))


def until(holds: Callable[[], object]) -> None:
    """Wait for another thread or process to have done something."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


@contextmanager
def serving(server: MultiThreadHttpServer) -> Iterator[int]:
    """Serve on a free port, and end with nothing cut off."""
    with server:
        ((_, port),) = server.listen("127.0.0.1", 0)
        server.start()
        yield port
        server.shutdown(0.2)
        assert server.join(PATIENCE) is not None


def seen(port: int, count: int) -> set[str]:
    """Ask until as many workers have answered."""
    found: set[str] = set()

    def enough() -> bool:
        found.add(ask(port)[1])
        return len(found) >= count

    until(enough)
    return found


def members(server: MultiThreadHttpServer) -> list[Member]:
    """Return the workers there are."""
    assert server._supervisor is not None
    return server._supervisor.members.copy()


def roll(server: MultiThreadHttpServer) -> None:
    """Replace all workers, and wait until the old ones have gone."""
    old = {member.started for member in members(server)}
    server.roll()
    until(lambda: server.ready and not old & {member.started for member in members(server)})
