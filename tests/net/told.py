"""Writing down what the callbacks of a connection are told."""

from __future__ import annotations

from nimloop_net import Connection

Endings = list[Exception | None]


def endings(conn: Connection) -> Endings:
    """Collect what `on_close` is told."""
    told: Endings = []
    conn.on_close = lambda _conn, error: told.append(error)
    return told


def collect(conn: Connection, *, pauses: float = 0) -> bytearray:
    """Collect what `on_data` is given, and pause reading after each of the first `pauses` times."""
    data = bytearray()
    times = 0

    def on_data(conn: Connection, chunk: bytes) -> None:
        nonlocal times
        data.extend(chunk)
        times += 1
        if times <= pauses:
            conn.pause_reading()

    conn.on_data = on_data
    return data
