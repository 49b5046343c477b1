r"""Counters that the programs of one machine share.

    python examples/net/unix_counter.py PATH

    $ printf 'add visits 2\nadd visits 1\nget visits\n' | nc -N -U PATH
    2
    3
    3

Only the user who has started it may connect: the permissions of the path say so from the moment it exists.
"""

from __future__ import annotations

import signal
import sys
from collections import Counter

from nimloop_core import Loop
from nimloop_net import Connection, TcpServer

LONGEST_LINE = 1000
counters: Counter[str] = Counter()


def answer(line: str) -> str:
    """Do what one line asks for."""
    match line.split():
        case ["get", name]:
            return str(counters[name])
        case ["add", name, number] if number.removeprefix("-").isdecimal():
            counters[name] += int(number)
            return str(counters[name])
        case _:
            return "? get NAME, or add NAME NUMBER"


def on_data(conn: Connection, data: bytes) -> None:
    """Answer each line that is complete; what a line lacks comes with the next call."""
    before = conn.context if isinstance(conn.context, bytes) else b""
    *lines, conn.context = (before + data).split(b"\n")
    if lines and not conn.sendv([f"{answer(line.decode(errors='replace'))}\n".encode() for line in lines]):
        conn.pause_reading()
    if len(conn.context) > LONGEST_LINE:
        conn.close_after_drain()


def main() -> None:
    """Serve until Ctrl+C."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with Loop() as loop, TcpServer(loop, on_data=on_data, on_drain=Connection.resume_reading) as server:
        server.listen_unix(sys.argv[1], 0o600)
        print(f"counting on {sys.argv[1]}", flush=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: server.shutdown(2.0, lambda _aborted: loop.stop()))
        loop.run()


if __name__ == "__main__":
    main()
