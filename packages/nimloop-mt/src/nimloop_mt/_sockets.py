"""The listening sockets. They are the supervisor's for as long as the server lives, whoever accepts from them.

A connection that is complete waits in the queue of one listening socket until somebody accepts it. With SO_REUSEPORT
each socket has a queue of its own, and closing the last descriptor of a socket resets all that waits there: a worker
that opened its own would lose connections whenever it is replaced. So there is one socket for each place, and the
workers that hold the place one after the other get duplicates of it.
"""

from __future__ import annotations

import socket
import sys
from typing import Final, final

from nimloop_net import Address, UnixListener, address_of, listen_tcp

# socket(7): Linux spreads connections over the sockets of a port since 3.9. FreeBSD has another option; others
# let the last one that was opened have them all.
BALANCES: Final = sys.platform.startswith("linux") and hasattr(socket, "SO_REUSEPORT")
# unix(7): descriptors travel beside a message. Windows has nothing that is alike and that Python knows.
HANDS_OVER: Final = hasattr(socket, "send_fds")


@final
class Sockets:
    """What a server with several workers listens on: sockets for each place, and some that all places share."""

    def __init__(self, places: int, *, balances: bool) -> None:
        self._balances: Final = balances
        self._own: Final[list[list[socket.socket]]] = [[] for _ in range(places)]
        self._unix: Final[list[UnixListener]] = []
        self.shared: Final[list[socket.socket]] = []
        self.addresses: list[Address] = []
        """Where they listen. Kept, for whoever asks while another thread closes them."""

    def of(self, place: int) -> list[socket.socket]:
        """Return the sockets of one place, without those that all share."""
        return self._own[place]

    def everything(self) -> list[socket.socket]:
        """Return all sockets of all places."""
        return [*self.shared, *(sock for own in self._own for sock in own)]

    def listen(self, host: str | None, port: int, *, backlog: int) -> list[tuple[str, int]]:
        """Listen on every address of `host`, in each place; port 0 takes a free one, the same everywhere."""
        # Sockets that share a port can be joined by any other that says so, a forgotten server's too. Not this one.
        opened = listen_tcp(host, port, backlog=backlog, reuse_port=False)
        names = [(str(name[0]), int(name[1])) for name in (sock.getsockname() for sock in opened)]
        if not self._balances:
            self.shared.extend(opened)
            self.addresses.extend(names)
            return names
        for sock in opened:
            sock.close()
        made: list[list[socket.socket]] = []
        try:
            for _ in self._own:
                made.append(listen_tcp(host, names[0][1], backlog=backlog, reuse_port=True))  # noqa: PERF401 - kept
        except BaseException:
            for sockets in made:
                for sock in sockets:
                    sock.close()
            raise
        for own, sockets in zip(self._own, made, strict=True):
            own.extend(sockets)
        self.addresses.extend(names)
        return names

    def listen_unix(self, path: str, mode: int, *, backlog: int) -> None:
        """Listen on a Unix socket, which all places share."""
        unix = UnixListener(path, mode=mode, backlog=backlog)
        self._unix.append(unix)
        self._share(unix.sock)

    def adopt(self, sock: socket.socket) -> None:
        """Take over a socket that listens already; all places share it."""
        sock.setblocking(False)
        self._share(sock)

    def close(self) -> None:
        """Close all, and remove the paths. Harmless when repeated."""
        self.addresses = []
        for unix in self._unix:
            unix.close()
        for sock in self.everything():
            sock.close()
        self.shared.clear()
        for own in self._own:
            own.clear()

    def _share(self, sock: socket.socket) -> None:
        self.shared.append(sock)
        self.addresses.append(address_of(sock.getsockname()))
