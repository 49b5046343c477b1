"""The encrypted side of TLS: what comes from the socket for OpenSSL, and what OpenSSL has for the socket.

Between the two are the standard library's memory buffers. This side knows nothing of what is inside: `_tls` does.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Final, final

from nimloop_core import ERROR, HUP, READ
from nimloop_net.errors import WriteBufferFullError

RAW: Final = 68 << 10  # bytes per read from the socket: what 64 KiB are when they are encrypted
_MAX_ANSWERS: Final = 1 << 18  # bytes of our answers to a peer that provokes them and takes none

# Our side: FIN was not asked for, follows what is pending, or is out.
_OPEN: Final = 0
_ENDING: Final = 1
_ENDED: Final = 2


@final
class TlsRecords:
    """The two buffers of one connection, and what is known of the socket that they are filled from and emptied to."""

    __slots__ = ("_end", "_hung_up", "_sock", "broken", "drained", "incoming", "outgoing", "pending")

    def __init__(self, sock: socket.socket, received: bytes) -> None:
        """Begin with what was read from the socket already."""
        self._sock: Final = sock
        self.incoming: Final = ssl.MemoryBIO()
        self.outgoing: Final = ssl.MemoryBIO()
        self.incoming.write(received)
        self.pending: bytes | memoryview = b""  # goes to the kernel before anything else
        self.broken: OSError | None = None  # the socket takes nothing more; what it has is read first
        self.drained = False  # the last read has shown that the socket is empty
        self._hung_up = False  # short reads show nothing any more
        self._end = _OPEN

    def on_events(self, events: int) -> None:
        """Take note of what an event tells of the socket, and use the room that it may have."""
        if events & (READ | HUP | ERROR):
            self.drained = False
            self._hung_up = self._hung_up or events & (HUP | ERROR) != 0
        if self.pending:
            self.answer()

    def receive(self) -> bool:
        """Hand what the socket has to OpenSSL; tell whether there was anything, if only the end."""
        try:
            data = self._sock.recv(RAW)
        except BlockingIOError:
            self.drained = True
            return False
        if data:
            self.drained = len(data) < RAW and not self._hung_up
            self.incoming.write(data)
        else:
            self.drained = True
            self.incoming.write_eof()
        return True

    def answer(self) -> None:
        """Send what TLS says on its own account. A failure waits until everything that came before it was read."""
        if self.broken is None:
            try:
                self.push()
            except OSError as error:
                self.broken = error

    def push(self) -> int:
        """Hand what is encrypted to the kernel, and tell how much it took; the rest is pending."""
        taken = 0
        if self._end == _ENDED:
            self.outgoing.read()  # OpenSSL still has a word for a peer that ends without close_notify
            return taken
        while True:
            if not self.pending:
                if not self.outgoing.pending:
                    break
                self.pending = self.outgoing.read()
            try:
                sent = self._sock.send(self.pending)
            except BlockingIOError:
                waiting = self.outgoing.pending
                if waiting > _MAX_ANSWERS:
                    raise WriteBufferFullError(
                        f"{waiting} bytes of TLS' own answers, which the peer asks for and does not take, exceed the "
                        f"limit of {_MAX_ANSWERS}"
                    ) from None
                return taken
            taken += sent
            self.pending = memoryview(self.pending)[sent:] if sent < len(self.pending) else b""
        if self._end == _ENDING:
            self._end = _ENDED
            with contextlib.suppress(OSError):  # the peer is gone; reading will find out why
                self._sock.shutdown(socket.SHUT_WR)
        return taken

    def finish(self) -> None:
        """Let FIN follow what is encrypted: now, or as soon as there is room."""
        if self._end == _OPEN:
            self._end = _ENDING
            self.answer()
