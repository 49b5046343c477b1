"""Writing down what the callbacks of a connection are told."""

from __future__ import annotations

from nimloop_net import Connection

Endings = list[Exception | None]


def endings(conn: Connection) -> Endings:
    """Collect what `on_close` is told."""
    told: Endings = []
    conn.on_close = lambda _conn, error: told.append(error)
    return told


def collect(conn: Connection) -> bytearray:
    """Collect what `on_data` is given."""
    data = bytearray()
    conn.on_data = lambda _conn, chunk: data.extend(chunk)
    return data
