"""Opening datagram sockets: bound to an address of this machine, or connected to one peer."""

from __future__ import annotations

import errno
import socket

from nimloop_net._literals import SockAddress, parse_literal
from nimloop_net._resolve import literals
from nimloop_net._sockets import share_port
from nimloop_net.errors import AddressError


def open_bound(host: str | None, port: int, *, reuse_address: bool, reuse_port: bool) -> socket.socket:
    """Return a socket bound to an address of this machine, to all of them for None."""
    family, address = _address_to_bind(host, port)
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(bool(host)))
        if reuse_address:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            share_port(sock)
        _bind(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def open_connected(host: str, port: int, local_address: tuple[str, int] | None) -> socket.socket:
    """Return a socket connected to a literal address."""
    family, address = literal_address(host, port)
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if local_address is not None:
            _bind(sock, literal_address(*local_address)[1])
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def literal_address(host: str, port: int) -> tuple[int, SockAddress]:
    """Return the family and address that a literal stands for; raises `AddressError` for a name."""
    literal = parse_literal(host, port)
    if literal is None:
        raise AddressError(f"{host!r} is a name, not an address: look it up first, with resolve()")
    return literal


def _address_to_bind(host: str | None, port: int) -> tuple[int, SockAddress]:
    if not host:
        if socket.has_dualstack_ipv6():
            return literal_address("::", port)
        return literal_address("0.0.0.0", port)  # noqa: S104 - what the caller asks for
    literal = parse_literal(host, port)
    if literal is not None:
        return literal
    try:
        return literal_address(literals(socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM))[0], port)
    except UnicodeError:
        raise AddressError(f"{host!r} cannot be the name of a host") from None


def _bind(sock: socket.socket, address: SockAddress) -> None:
    try:
        sock.bind(address)
    except OSError as error:
        raise OSError(error.errno, f"cannot bind {address[0]} port {address[1]}: {error.strerror}") from None


def peer_of(sock: socket.socket) -> SockAddress | None:
    """Return the address that a socket is connected to; None when it is not."""
    try:
        peer: SockAddress = sock.getpeername()
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise
        return None
    return peer
