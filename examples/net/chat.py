"""A chat room over TCP.

    python examples/net/chat.py [PORT]          # prints the port
    nc 127.0.0.1 PORT                           # in two other terminals

Whoever does not read is not waited for: above the high mark nothing more is queued for him but a word about it later,
and whoever says nothing for ten minutes is shown out.
"""

from __future__ import annotations

import signal
import sys

from nimloop_core import Loop
from nimloop_net import Connection, IdleTimeoutError, TcpServer

LONGEST_LINE = 1000  # bytes
PATIENCE = 600.0  # seconds


class Guest:
    """What the room knows about one connection."""

    def __init__(self) -> None:
        self.name = ""
        self.unread = b""
        self.missed = 0


class Room:
    """Everybody who has given a name, and what each says to all the others."""

    def __init__(self, loop: Loop) -> None:
        self._guests: dict[Connection, Guest] = {}
        self.server = TcpServer(
            loop,
            on_accept=self._greet,
            on_data=self._hear,
            on_drain=self._catch_up,
            on_close=self._leave,
            max_connections=1000,
            refuse=True,
        )

    def _greet(self, conn: Connection) -> None:
        conn.context = Guest()
        conn.idle_timeout = PATIENCE
        conn.send(b"Your name? ")

    def _hear(self, conn: Connection, data: bytes) -> None:
        guest = conn.context
        assert isinstance(guest, Guest)
        *lines, guest.unread = (guest.unread + data).split(b"\n")
        for line in lines:
            self._say(conn, guest, line.decode(errors="replace").strip())
        if len(guest.unread) > LONGEST_LINE:
            conn.send(b"* That is too long for anybody to read.\n")
            conn.close_after_drain()

    def _say(self, conn: Connection, guest: Guest, text: str) -> None:
        if guest.name:
            if text:
                self._tell_all(f"{guest.name}: {text}", conn)
            return
        if not text.isalnum() or text in [each.name for each in self._guests.values()]:
            conn.send(b"Letters and digits, please, and none that is here already. Your name? ")
            return
        guest.name = text
        here = ", ".join(each.name for each in self._guests.values()) or "nobody else"
        self._guests[conn] = guest
        conn.send(f"* Welcome, {text}. Here: {here}.\n".encode())
        self._tell_all(f"* {text} has come.", conn)

    def _leave(self, conn: Connection, error: Exception | None) -> None:
        guest = self._guests.pop(conn, None)
        if guest is not None:
            reason = "fallen asleep" if isinstance(error, IdleTimeoutError) else "left"
            self._tell_all(f"* {guest.name} has {reason}.", conn)

    def _tell_all(self, line: str, but: Connection) -> None:
        data = line.encode() + b"\n"
        for conn, guest in self._guests.items():
            if conn is but or not conn.writable:
                continue
            if conn.write_buffer_size > conn.high_water:
                guest.missed += 1
            else:
                conn.send(data)

    def _catch_up(self, conn: Connection) -> None:
        guest = conn.context
        assert isinstance(guest, Guest)
        if guest.missed:
            conn.send(f"* You have missed {guest.missed} lines.\n".encode())
            guest.missed = 0


def main() -> None:
    """Open the room until Ctrl+C."""
    with Loop() as loop:
        server = Room(loop).server
        host, port = server.listen("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 7000)[0]
        print(f"chat on {host} {port}", flush=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: server.shutdown(2.0, lambda _aborted: loop.stop()))
        loop.run()


if __name__ == "__main__":
    main()
