"""One listening socket on the loop: accepting in moderation, and waiting where accepting is not possible.

There are two reasons to wait. The server has as many connections as it may have: then all its listeners rest until one
of them ends. Or the process, or the system, has no descriptor or no memory left: then the socket stays readable, and a
loop that only tried again would spin on it; so it rests for `BACK_OFF`, and says so in the log once, not ten times a
second. Peers wait in the backlog meanwhile, as listen(2) has it.

A server that would rather refuse has a descriptor in reserve: giving that up for a moment makes room to accept the peer
and to close the connection, so that the peer knows at once and can go elsewhere.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from typing import TYPE_CHECKING, Final, final

from nimloop_core import READ, Watcher
from nimloop_net._channel import Address, address_of
from nimloop_net._io import Accept, acceptor
from nimloop_net._sockets import LONGEST_BACKLOG, UnixListener

if TYPE_CHECKING:
    from nimloop_net._server import TcpServer

_log: Final = logging.getLogger("nimloop.net")

_ACCEPT_QUOTA: Final = 64  # per event, so that a burst of connections does not keep the others waiting
BACK_OFF: Final = 0.1  # seconds without accepting after the process ran out of descriptors or memory
# That one connection failed before it was accepted. accept(2): try the next one; EPERM is a firewall's.
_ONE_FAILED: Final = frozenset(
    {
        errno.ECONNABORTED,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
        errno.EPERM,
        errno.EPROTO,
    }
)
_NO_DESCRIPTOR: Final = frozenset({errno.EMFILE, errno.ENFILE})


@final
class Reserve:
    """A descriptor that is good for nothing but to be given up."""

    __slots__ = ("_fd",)

    def __init__(self) -> None:
        self._fd = -1

    def take(self) -> None:
        """Have one, if there is one to be had."""
        if self._fd < 0:
            try:
                self._fd = os.open(os.devnull, os.O_RDONLY)
            except OSError:
                pass  # the next time, perhaps

    def give_up(self) -> bool:
        """Make room for one descriptor; tell whether there was a reserve to do it with."""
        if self._fd < 0:
            return False
        os.close(self._fd)
        self._fd = -1
        return True


@final
class Listener:
    """A listening socket that hands what it accepts to its server."""

    __slots__ = (
        "_accept",
        "_complained",
        "_fd",
        "_resting",
        "_server",
        "_sock",
        "_unix_listener",
        "_watcher",
        "address",
    )

    def __init__(self, server: TcpServer, sock: socket.socket, unix: UnixListener | None = None) -> None:
        self.address: Final[Address] = address_of(sock.getsockname())
        self._server = server
        self._sock = sock
        self._fd = sock.fileno()
        self._accept: Accept = acceptor(sock)
        self._unix_listener = unix
        self._resting = False
        self._complained = False  # once until it works again
        self._watcher: Watcher = server.loop.register(sock, 0 if server._full else READ, self._on_readable)

    def accept_waiting(self) -> None:
        """Accept what is in the backlog, as far as the server has room."""
        self._accept_some(LONGEST_BACKLOG)

    def _on_readable(self, _events: int) -> None:
        self._accept_some(_ACCEPT_QUOTA)

    def _accept_some(self, quota: int) -> None:
        server = self._server
        for _ in range(quota):
            if server._full and not server.refuse:
                server._rest()
                return
            try:
                accepted = self._accept(self._sock, self._fd)
            except OSError as error:
                if error.errno in _ONE_FAILED or (error.errno in _NO_DESCRIPTOR and self._refuse_one()):
                    continue
                self._back_off(error)
                return
            if accepted is None:
                return
            self._complained = False
            sock, peer = accepted
            if server._full:
                server.refused += 1
                sock.close()
                continue
            server._on_accepted(sock, peer)
            if self._fd < 0:
                return  # closed by on_accept

    def _refuse_one(self) -> bool:
        """Turn a peer away with the descriptor in reserve; False when that is not wanted or not possible."""
        server = self._server
        if not server.refuse or not server._reserve.give_up():
            return False
        try:
            self._sock.accept()[0].close()
        except OSError:
            pass  # gone, or the descriptor is
        else:
            server.refused += 1
            self._complain("refusing a connection", OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
        server._reserve.take()
        return True

    def _back_off(self, error: OSError) -> None:
        self._complain(f"no connection is accepted for {BACK_OFF} seconds", error)
        self._resting = True
        self.update()
        self._server.loop.call_later(BACK_OFF, self._resume)

    def _complain(self, outcome: str, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            _log.warning("%s: %s (said once until it works again): %s", self.address, outcome, error)

    def _resume(self) -> None:
        self._resting = False
        self.update()

    def update(self) -> None:
        """Accept, or rest while one of the two reasons holds."""
        if self._watcher.active:
            self._watcher.modify(0 if self._resting or self._server._resting else READ)

    def close(self) -> None:
        """Close the socket, and remove its path if it has one."""
        self._watcher.unregister()
        self._fd = -1
        if self._unix_listener is not None:
            self._unix_listener.close()
        else:
            self._sock.close()
