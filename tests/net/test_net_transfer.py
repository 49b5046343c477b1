"""A large transfer, byte for byte, in each of the ways there are to send.

    NIMLOOP_TRANSFER=1000000000 pytest -s tests/net/test_net_transfer.py

sends that many bytes each and prints the rates: both ends in one process, the comparison of every byte included.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import final

import pytest
from tests.net.certificates import client_context, server_context

from nimloop_core import Loop
from nimloop_net import Connection

SIZE = int(os.environ.get("NIMLOOP_TRANSFER", str(24 << 20)))
# A prime number of bytes: a piece that is lost, doubled or out of place shows, whatever power of two it is long.
PATTERN = os.urandom(1_000_003)
TWICE = memoryview(PATTERN * 2)


@final
class Sender:
    """Sends the pattern over and over, as fast as it may."""

    def __init__(self, conn: Connection, send: Callable[[Connection, int, int], bool]) -> None:
        self._conn = conn
        self._send = send
        self._position = 0
        conn.on_drain = self.go_on

    def go_on(self, _conn: Connection) -> None:
        """Send until the high mark is reached, and end when it was all."""
        while self._position < SIZE:
            start = self._position % len(PATTERN)
            count = min(300_001, SIZE - self._position, len(PATTERN) - start)
            self._position += count
            if not self._send(self._conn, start, count):
                return
        self._conn.close_after_drain()


def by_send(conn: Connection, start: int, count: int) -> bool:
    """Send one piece."""
    return conn.send(PATTERN[start : start + count])


def by_sendv(conn: Connection, start: int, count: int) -> bool:
    """Send three pieces of it."""
    first, second = start + count // 3, start + count // 2
    return conn.sendv([PATTERN[start:first], PATTERN[first:second], TWICE[second : start + count]])


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("how", ["send", "sendv", "file"])
def test_transfer(*, how: str, tls: bool) -> None:
    """Everything arrives as it was, and then a good end."""
    received = 0
    wrong = 0
    ends: list[Exception | None] = []

    def compare(_conn: Connection, data: bytes) -> None:
        nonlocal received, wrong
        start = received % len(PATTERN)
        wrong += data != TWICE[start : start + len(data)]
        received += len(data)

    def ended(conn: Connection, error: Exception | None) -> None:
        ends.append(error)
        conn.loop.stop()

    file = os.memfd_create("pattern")
    os.write(file, PATTERN)

    def by_file(conn: Connection, start: int, count: int) -> bool:
        return conn.send_file(os.dup(file), start, count)

    with Loop() as loop, socket.create_server(("127.0.0.1", 0)) as listener:
        there = socket.create_connection(listener.getsockname())
        here, _ = listener.accept()
        for end in (here, there):
            end.setblocking(False)
        source = Connection(loop, here)
        sink = Connection(loop, there, on_data=compare, on_close=ended)
        source.start()
        sink.start()
        if tls:
            source.start_tls(server_context(), server_side=True)
            sink.start_tls(client_context(), server_hostname="localhost")
        before, cpu = time.perf_counter(), time.process_time()
        Sender(source, {"send": by_send, "sendv": by_sendv, "file": by_file}[how]).go_on(source)
        loop.run()
        seconds, cpu = time.perf_counter() - before, time.process_time() - cpu
        loop.run_once(0)
    os.close(file)
    print(  # noqa: T201 - seen only by those who ask for it
        f"{how}{' over TLS' if tls else ''}: {SIZE / seconds / 1e6:.0f} MB/s, {cpu / SIZE * 1e9:.2f} ns CPU per byte"
    )
    assert (received, wrong, ends) == (SIZE, 0, [None])
