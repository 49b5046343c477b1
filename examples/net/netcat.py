"""Standard input to a TCP server, its answer to standard output.

    echo hello | python examples/net/netcat.py HOST PORT

Pipes and terminals are connections like any other; a file is not waited for, so cat it.
"""

from __future__ import annotations

import sys

from nimloop_core import Loop
from nimloop_net import Connection, connect, open_stream


def main() -> None:
    """Copy both ways until the server has ended and everything is written."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with Loop() as loop:
        failures: list[Exception] = []

        def failed(error: Exception | None) -> None:
            if error is not None:
                failures.append(error)
            loop.stop()

        def joined(conn: Connection) -> None:
            keys = open_stream(loop, sys.stdin, on_data=lambda _keys, data: forward(keys, conn, data))
            screen = open_stream(loop, writer=sys.stdout, on_drain=lambda _screen: conn.resume_reading())
            keys.on_close = lambda _keys, _error: conn.shutdown()
            conn.on_drain = lambda _conn: keys.resume_reading()
            conn.on_data = lambda _conn, data: forward(conn, screen, data)
            conn.on_eof = lambda _conn: screen.close_after_drain()
            conn.on_close = lambda _conn, error: screen.close_after_drain() if error is None else failed(error)
            screen.on_close = lambda _screen, error: failed(error)

        connect(loop, sys.argv[1], int(sys.argv[2]), on_connect=joined, on_error=failed)
        loop.run()
    if failures:
        sys.exit(str(failures[0]))


def forward(source: Connection, target: Connection, data: bytes) -> None:
    """Send on what has come, and wait where it is not taken."""
    if target.writable and not target.send(data):
        source.pause_reading()


if __name__ == "__main__":
    main()
