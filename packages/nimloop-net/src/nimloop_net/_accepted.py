"""A socket that was accepted, without the socket module's object around its descriptor.

Making, asking and closing a `socket.socket` costs more than serving one request does, and the C of `_io_c` needs the
descriptor only. So the object is made when something is asked that is not asked of every connection.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import warnings
from typing import Final, final

from nimloop_net import _io_c
from nimloop_net._channel import Address, Channel

_close: Final = os.close  # compiled, a function of another module is looked up for every call


@final
class AcceptedSocket:
    """The channel of a non-blocking descriptor that it owns; a dropped one closes it, with a ResourceWarning."""

    __slots__ = ("_fd", "_peer", "_sock")

    def __init__(self, fd: int, peer: bytes) -> None:
        """Take over what `_io_c.accept` has returned."""
        self._fd = fd
        self._peer = peer
        self._sock: socket.socket | None = None

    def fileno(self) -> int:
        """Return the descriptor, -1 when it is closed."""
        return self._fd

    def close(self) -> None:
        """Close the descriptor. Harmless when repeated."""
        fd, self._fd = self._fd, -1
        if self._sock is not None:
            self._sock.close()
        elif fd >= 0:
            _close(fd)

    def release(self) -> socket.socket:
        """Return the socket, which is the caller's from now on."""
        sock = self._made()
        self._fd = -1
        self._sock = None
        return sock

    def getpeername(self) -> object:
        """Return who was accepted, also when that one has gone since."""
        return _io_c.address(self._peer)

    def recv_into(self, buffer: memoryview, /) -> int:
        """Receive as a socket does."""
        return self._made().recv_into(buffer)

    def send(self, data: bytes | memoryview, flags: int = 0, /) -> int:
        """Send as a socket does."""
        return self._made().send(data, flags)

    def sendmsg(self, pieces: list[bytes | memoryview], ancillary: tuple[()] = (), flags: int = 0, /) -> int:
        """Send several pieces as a socket does."""
        if sys.platform != "win32":
            return self._made().sendmsg(pieces, ancillary, flags)
        raise NotImplementedError("nothing is accepted in C on Windows")

    def shutdown(self, how: int, /) -> None:
        """End a direction as a socket does."""
        self._made().shutdown(how)

    def getsockopt(self, level: int, option: int, /) -> int:
        """Ask as a socket does."""
        return self._made().getsockopt(level, option)

    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None:
        """Tell as a socket does."""
        self._made().setsockopt(level, option, value)

    def getsockname(self) -> object:
        """Return our own address."""
        name: object = self._made().getsockname()
        return name

    def _made(self) -> socket.socket:
        sock = self._sock
        if sock is None:
            if self._fd < 0:  # of which the socket module would make a new socket
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            sock = self._sock = socket.socket(fileno=self._fd)
            sock.setblocking(False)  # it is; this is for the object
        return sock

    def __del__(self) -> None:
        if self._fd >= 0 and self._sock is None:  # the socket warns for itself
            try:
                warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            finally:  # also where warnings are errors
                _close(self._fd)

    def __repr__(self) -> str:
        return f"<AcceptedSocket fd={self._fd}>"


def accept(listener: socket.socket, fd: int, /) -> tuple[Channel, Address | None] | None:
    """Return the next connection; its peer's address is made when somebody asks for it. None for nobody."""
    found = _io_c.accept(listener, fd)
    return None if found is None else (AcceptedSocket(found[0], found[1]), None)
