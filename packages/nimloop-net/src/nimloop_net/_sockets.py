"""Listening sockets: which addresses a name stands for, and Unix paths that are nobody else's."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, final

from nimloop_net._channel import Address, address_of, format_address
from nimloop_net._literals import check_port
from nimloop_net.errors import AddressError

BACKLOG: Final = 2048
LONGEST_BACKLOG: Final = 4096
"""How many connections may wait in a backlog: what net.core.somaxconn allows, unless raised (listen(2))."""
_PORT_ATTEMPTS: Final = 8  # a port that is free for the first address may be taken for the next
_UNIX_PATH_BYTES: Final = 107  # unix(7): 108 with the NUL at the end; others have less and say so themselves


def listen_tcp(host: str | None, port: int, *, backlog: int, reuse_port: bool) -> list[socket.socket]:
    """Listen on every address that `host` stands for; None or ``""`` means all of this machine.

    Port 0 takes a free one, the same for all addresses. All or nothing: when one address fails, none stays open.
    Raises OSError as the system says it, with the address in the message.
    """
    check_port(port)
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except UnicodeError:
        raise AddressError(f"{host!r} cannot be the name of a host") from None
    # Two lines of /etc/hosts may give one address twice.
    addresses = dict.fromkeys((family, kind, protocol, address) for family, kind, protocol, _, address in found)
    attempts_left = _PORT_ATTEMPTS if port == 0 else 1
    while True:
        attempts_left -= 1
        try:
            sockets = _listen_on_all(addresses, port, backlog=backlog, reuse_port=reuse_port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or attempts_left == 0:
                raise
        else:
            break
    if len(sockets) == 0:
        raise AddressError(f"{host!r} has no address that can be listened on")
    return sockets


@contextlib.contextmanager
def borrowed(sock: socket.socket | int) -> Iterator[socket.socket]:
    """Give a descriptor the form of a socket; whoever goes on without an error owns it."""
    if not isinstance(sock, int):
        yield sock
        return
    try:
        made = socket.socket(fileno=sock)
    except OSError as error:
        raise AddressError(f"descriptor {sock} is no socket: {error.strerror}") from None
    try:
        yield made
    except BaseException:
        made.detach()
        raise


def adopt_listening(sock: socket.socket) -> None:
    """Make a listening socket that somebody else has opened like one of ours; raises `AddressError` for any other."""
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise AddressError(f"the socket does not listen: {sock!r}")
    _make_ours(sock)


def adopt_connected(sock: socket.socket) -> Address:
    """Make a connected socket like one that we have accepted, and return its peer; raises `AddressError` for others."""
    try:
        peer = address_of(sock.getpeername())
    except OSError as error:
        raise AddressError(f"the socket is not connected: {error.strerror}") from None
    if sock.type != socket.SOCK_STREAM:
        raise AddressError(f"not a stream socket: {sock!r}")
    _make_ours(sock)
    return peer


def _make_ours(sock: socket.socket) -> None:
    sock.setblocking(False)
    if sock.family in {socket.AF_INET, socket.AF_INET6}:
        _no_delay(sock)


_AddressInfo = tuple[int, int, int, tuple[str | int | bytes, ...]]


def _listen_on_all(
    addresses: Collection[_AddressInfo], port: int, *, backlog: int, reuse_port: bool
) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, address in addresses:
            sock = _open(family, kind, protocol)
            if sock is None:
                continue
            sockets.append(sock)
            same_port = sockets[0].getsockname()[1] if port == 0 and len(sockets) > 1 else port
            try:
                _listen(sock, (address[0], same_port, *address[2:]), backlog=backlog, reuse_port=reuse_port)
            except OSError as error:
                if family != socket.AF_INET6 or error.errno != errno.EADDRNOTAVAIL or len(addresses) == 1:
                    raise
                sockets.pop().close()  # IPv6 is switched off, and /etc/hosts still has ::1 for localhost
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _open(family: int, kind: int, protocol: int) -> socket.socket | None:
    try:
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        if error.errno in {errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT}:
            return None  # a system without IPv6 still resolves names to it
        raise
    sock.setblocking(False)
    if sys.platform != "win32":  # there it would let two programs share a port
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # IPv4 has a socket of its own
    _no_delay(sock)
    return sock


def _no_delay(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it


def share_port(sock: socket.socket) -> None:
    """Let other sockets, also of other processes, bind the same port; raises `AddressError` where that is unknown."""
    if not hasattr(socket, "SO_REUSEPORT"):
        raise AddressError("this system has no SO_REUSEPORT")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _listen(sock: socket.socket, address: tuple[object, ...], *, backlog: int, reuse_port: bool) -> None:
    if reuse_port:
        share_port(sock)
    try:
        sock.bind(address)
        sock.listen(backlog)  # it, too, can find that another socket was faster
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {address[0]} port {address[1]}: {error.strerror}") from None


@final
class UnixListener:
    """A listening Unix socket and its path, which is removed with it if it is still the same file."""

    __slots__ = ("_identity", "path", "sock")

    path: str | None
    _identity: tuple[int, int] | None

    def __init__(self, path: str, *, mode: int, backlog: int) -> None:
        """Listen on `path` with permissions `mode` from the moment it exists.

        The path of a socket that nobody listens on any more is taken over. Raises `AddressError` when the path is
        too long, a living server's, or not a socket at all. An abstract name has neither permissions nor a file.
        """
        if len(os.fsencode(path)) > _UNIX_PATH_BYTES:
            raise AddressError(f"a Unix socket's path has at most {_UNIX_PATH_BYTES} bytes: {path!r}")
        if path.startswith("\0") and len(path) > 1 and sys.platform == "linux":
            self.path = self._identity = None
            self.sock: socket.socket = _listen_abstract(path, backlog)
            return
        if not path or "\0" in path:  # unix(7): an empty name would be a random abstract one
            raise AddressError(f"a Unix socket's path is not empty and holds no NUL: {path!r}")
        self.path = os.path.abspath(path)  # to be found again after a chdir
        _remove_stale(path)
        self.sock = _unix_socket()
        try:
            self.sock.setblocking(False)
            # The mode that bind gives is 0777 less the umask; a chmod afterwards would come too late.
            umask = os.umask(0o777 & ~mode)
            try:
                self.sock.bind(path)
            finally:
                os.umask(umask)
            self.sock.listen(backlog)
            self._identity = _identity(self.path)
        except BaseException:
            self.sock.close()
            raise

    def close(self) -> None:
        """Remove the path and close the socket. Harmless when repeated."""
        if self.sock.fileno() < 0:
            return
        # In this order: a path without a listener may be taken over, and an open socket keeps its inode number from
        # being given to its successor.
        if self.path is not None:
            with contextlib.suppress(OSError):
                if self._identity == _identity(self.path):
                    Path(self.path).unlink()
        self.sock.close()

    def __repr__(self) -> str:
        if self.sock.fileno() < 0:
            return "<UnixListener closed>"
        return f"<UnixListener listening on {format_address(address_of(self.sock.getsockname()))}>"


def _unix_socket() -> socket.socket:
    family: int = getattr(socket, "AF_UNIX", -1)  # Windows has it, but Python there has not
    if family < 0:
        raise AddressError("this system has no Unix sockets")
    return socket.socket(family, socket.SOCK_STREAM)


def _listen_abstract(name: str, backlog: int) -> socket.socket:
    sock = _unix_socket()
    try:
        sock.setblocking(False)
        sock.bind(os.fsencode(name))
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {name!r}: {error.strerror}") from None
    return sock


def _identity(path: str) -> tuple[int, int]:
    status = Path(path).lstat()
    return status.st_dev, status.st_ino


def _remove_stale(path: str) -> None:
    """Remove the socket that a dead server has left behind, and nothing else."""
    try:
        status = Path(path).lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise AddressError(f"{path!r} exists and is not a socket")
    with _unix_socket() as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            now = Path(path).lstat()
            if (now.st_ino, now.st_ctime_ns) == (status.st_ino, status.st_ctime_ns):
                Path(path).unlink()
            return  # otherwise somebody else has just taken it over, and bind will say so
        except OSError as error:
            raise AddressError(f"{path!r} is in use or out of reach: {error.strerror}") from None
    raise AddressError(f"a server is listening on {path!r} already")
