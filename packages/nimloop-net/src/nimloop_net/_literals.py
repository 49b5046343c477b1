"""Addresses written as numbers: told from names, which have to be looked up, and turned into what a socket takes."""

from __future__ import annotations

import socket
from typing import Final

from nimloop_net.errors import AddressError

SockAddress = tuple[str, int] | tuple[str, int, int, int]
"""What the socket module calls an address: ``(host, port)`` for IPv4, ``(host, port, flow, scope)`` for IPv6."""

Family = int

_HOST_BYTES: Final = 253  # RFC 1035 §2.3.4: 255 octets on the wire, a length and the root's zero among them
# Letters that IDNA 2008 keeps and IDNA 2003, which the standard library knows, turns into others or into nothing: the
# same text could lead to two hosts (RFC 5894 §7.2).
_AMBIGUOUS: Final = frozenset("\u00df\u03c2\u200c\u200d")


def parse_literal(host: str, port: int) -> tuple[Family, SockAddress] | None:
    """Return the family and address that a literal stands for; None for what may be a name.

    An IPv6 literal may have a zone behind a ``%``, as a number or as the name of an interface (RFC 4007 §11). Raises
    `AddressError` for a port that is none, for a zone that is not there, and for brackets, which belong to URLs.
    """
    check_port(port)
    if ":" not in host:
        return (socket.AF_INET, (host, port)) if _is(socket.AF_INET, host) else None
    if host.startswith("["):
        raise AddressError(f"an IPv6 address is written without brackets here: {host!r}")
    plain, percent, zone = host.partition("%")
    if not _is(socket.AF_INET6, plain):
        raise AddressError(f"{host!r} is neither an IPv6 address nor the name of a host")
    return socket.AF_INET6, (plain, port, 0, _scope(host, zone) if percent else 0)


def check_port(port: int) -> None:
    """Raise `AddressError` for a port that is none."""
    if not 0 <= port <= 65535:
        raise AddressError(f"a port is between 0 and 65535, not {port}")


def literal_of(address: SockAddress) -> str:
    """Return the host of an address as a literal, the zone included where there is one."""
    return f"{address[0]}%{address[3]}" if len(address) == 4 and address[3] else address[0]


def check_name(host: str) -> str:
    """Return the ASCII form of a host's name.

    What is not ASCII is converted by IDNA 2003 (RFC 3490). Raises `AddressError` for what cannot be a host's name.
    """
    if not host.isascii():
        if not _AMBIGUOUS.isdisjoint(host):
            raise AddressError(f"{host!r} is another name by IDNA 2003 than by IDNA 2008: give its ASCII form, xn--...")
        if len(host) > _HOST_BYTES:  # the codec takes quadratic time
            raise AddressError(f"the name of a host has at most {_HOST_BYTES} bytes, not {len(host)}")
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError as error:
            raise AddressError(f"{host!r} cannot be the name of a host: {error}") from None
    name = host.removesuffix(".")
    if len(name) > _HOST_BYTES:
        raise AddressError(f"the name of a host has at most {_HOST_BYTES} bytes, not {len(name)}")
    for label in name.split("."):
        if not 0 < len(label) <= 63:  # RFC 1035 §2.3.4
            raise AddressError(f"{host!r} cannot be the name of a host: a label has 1 to 63 bytes")
        if any(character <= " " or character in "/@[]%\x7f" for character in label):
            raise AddressError(f"{host!r} cannot be the name of a host")
    return host


def _is(family: Family, text: str) -> bool:
    try:
        socket.inet_pton(family, text)
    except (OSError, ValueError):  # ValueError for a NUL in it
        return False
    return True


def _scope(host: str, zone: str) -> int:
    if zone.isascii() and zone.isdecimal() and len(zone) < 10:
        return int(zone)
    try:
        return socket.if_nametoindex(zone)
    except (OSError, ValueError):
        raise AddressError(f"there is no network interface {zone!r}, which {host!r} names") from None
