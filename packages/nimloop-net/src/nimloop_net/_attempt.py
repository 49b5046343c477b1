"""One attempt to connect: a socket on its way to an address."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from typing import TYPE_CHECKING, Final, final

from nimloop_core import WRITE, Timer, Watcher
from nimloop_net._literals import SockAddress, literal_of

if TYPE_CHECKING:
    from nimloop_net._connector import Connector

UNIX: Final[int] = getattr(socket, "AF_UNIX", -1)
_RETRY: Final = 0.01  # seconds until a Unix server's full queue is tried again
_BIND_ADDRESS_NO_PORT: Final = 24  # from <linux/in.h>; socket has the name since Python 3.12

# connect(2): it goes on by itself, also when a signal came in between. Windows calls it EWOULDBLOCK, which elsewhere is
# EAGAIN: no local port is free.
_UNDER_WAY: Final = frozenset({errno.EINPROGRESS, errno.EINTR, errno.EWOULDBLOCK} - {errno.EAGAIN})


@final
class Attempt:
    """Closes its socket, unless the connection came about: then the connector has it."""

    __slots__ = ("_address", "_connector", "_family", "_sock", "_timer", "_watcher")

    def __init__(self, connector: Connector, family: int, address: SockAddress | str) -> None:
        self._connector = connector
        self._family = family
        self._address = address
        self._sock: socket.socket | None = None
        self._watcher: Watcher | None = None
        self._timer: Timer | None = None

    def start(self) -> None:
        """Begin; raises OSError when it fails right here."""
        sock = self._sock = socket.socket(self._family, socket.SOCK_STREAM)
        sock.setblocking(False)
        if self._family != UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        local = self._connector.local
        if local is not None:
            if local[1] == 0 and sys.platform == "linux":
                # ip(7): the port is chosen with the connection, among all that are free for this one peer.
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
            sock.bind(local)
        self._connect(sock)

    def _connect(self, sock: socket.socket) -> None:
        number = sock.connect_ex(self._address)
        loop = self._connector.loop
        if number == errno.EAGAIN and self._family == UNIX:
            # connect(2): the server's queue is full, and nothing will tell when there is room.
            self._timer = loop.call_later(_RETRY, self._again)
        elif number in _UNDER_WAY:
            self._watcher = loop.register(sock, WRITE, self._on_events)
            if self._connector.attempt_timeout is not None:
                self._timer = loop.call_later(self._connector.attempt_timeout, self._expired)
        elif number:
            raise OSError(number, os.strerror(number))
        else:
            self._succeeded(sock)

    def _again(self) -> None:
        assert self._sock is not None
        try:
            self._connect(self._sock)
        except OSError as error:
            self._connector.on_failed(self, error)

    def _on_events(self, _events: int) -> None:
        sock = self._sock
        assert sock is not None
        try:
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            # Nobody listens on a port of this machine, and the kernel may have chosen that very port for our end: TCP
            # then connects the socket to itself (RFC 9293 §3.5, simultaneous open).
            if number == 0 and sock.getsockname() == sock.getpeername():
                number = errno.ECONNREFUSED
            if number:
                raise OSError(number, os.strerror(number))  # noqa: TRY301 - joins those of the calls above
        except OSError as error:
            self._connector.on_failed(self, error)
        else:
            self._succeeded(sock)

    def _expired(self) -> None:
        seconds = self._connector.attempt_timeout
        self._connector.on_failed(self, TimeoutError(errno.ETIMEDOUT, f"no answer within {seconds} seconds"))

    def _succeeded(self, sock: socket.socket) -> None:
        self._sock = None
        self.close()
        self._connector.on_connected(self, sock, self._address)

    def describe(self, error: OSError) -> OSError:
        """Return the error with the address that it is about."""
        where = self._address if isinstance(self._address, str) else literal_of(self._address)
        return OSError(error.errno or errno.EINVAL, f"{where}: {error.strerror or error}")

    def close(self) -> None:
        """Let go of whatever it still has."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._watcher is not None:
            self._watcher.unregister()
            self._watcher = None
        if self._sock is not None:
            self._sock.close()
            self._sock = None
