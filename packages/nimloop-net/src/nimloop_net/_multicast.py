"""Group membership and the other options of datagram sockets, for both families of addresses (ip(7), ipv6(7))."""

from __future__ import annotations

import socket
import struct
import sys

from nimloop_net._literals import parse_literal
from nimloop_net.errors import AddressError

Interface = str | int | None
"""A network interface by its name, number, or (IPv4 only) an address of this machine; None lets the system choose."""


def change_membership(sock: socket.socket, group: str, interface: Interface, *, join: bool) -> None:
    """Join or leave a multicast group; raises `AddressError` for what is no group of the socket's family."""
    literal = parse_literal(group, 0)
    if literal is None or literal[0] != sock.family:
        raise AddressError(f"{group!r} is no address of the socket's family")
    family, address = literal
    packed = socket.inet_pton(family, address[0])
    if family == socket.AF_INET6:
        if packed[0] != 0xFF:  # RFC 4291 §2.7
            raise AddressError(f"{group!r} is no multicast group")
        index = address[3] if len(address) == 4 and interface is None else interface_index(interface)
        option = socket.IPV6_JOIN_GROUP if join else socket.IPV6_LEAVE_GROUP
        sock.setsockopt(socket.IPPROTO_IPV6, option, packed + struct.pack("@I", index))
    else:
        if packed[0] >> 4 != 0xE:  # RFC 5771 §3
            raise AddressError(f"{group!r} is no multicast group")
        option = socket.IP_ADD_MEMBERSHIP if join else socket.IP_DROP_MEMBERSHIP
        sock.setsockopt(socket.IPPROTO_IP, option, packed + _interface_of_ipv4(interface))


def choose_interface(sock: socket.socket, interface: Interface) -> None:
    """Send multicast datagrams through this interface."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, interface_index(interface))
    else:
        value = _interface_of_ipv4(interface)
        # struct ip_mreqn begins with a group, which does not matter here; struct in_addr is all there is otherwise.
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, value if len(value) == 4 else bytes(4) + value)


def interface_index(interface: Interface) -> int:
    """Return the number of an interface, 0 for the system's choice; raises `AddressError`."""
    if interface is None:
        return 0
    if isinstance(interface, int):
        return interface
    try:
        return socket.if_nametoindex(interface)
    except (OSError, ValueError):
        raise AddressError(f"there is no network interface {interface!r}") from None


def _interface_of_ipv4(interface: Interface) -> bytes:
    """Return what follows the group in ``struct ip_mreq``, an address, or in ``ip_mreqn``, an address and a number."""
    if interface is None:
        return bytes(4)
    if isinstance(interface, str):
        literal = parse_literal(interface, 0) if ":" not in interface else None
        if literal is not None:
            return socket.inet_pton(socket.AF_INET, literal[1][0])
    index = interface_index(interface)
    # Windows takes an address under 1.0.0.0 for a number.
    return struct.pack("!I", index) if sys.platform == "win32" else bytes(4) + struct.pack("@i", index)


def set_hops(sock: socket.socket, hops: int, *, multicast: bool) -> None:
    """Set the time to live of what is sent."""
    if not 0 <= hops <= 255:
        raise ValueError(f"a datagram lives for 0 to 255 hops, not {hops}")
    if sock.family == socket.AF_INET6:
        option = socket.IPV6_MULTICAST_HOPS if multicast else socket.IPV6_UNICAST_HOPS
        sock.setsockopt(socket.IPPROTO_IPV6, option, hops)
    else:
        # Linux takes an int for both, the BSDs a byte for multicast: a byte is what all of them take there.
        value = struct.pack("B", hops) if multicast else hops
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL if multicast else socket.IP_TTL, value)


def get_hops(sock: socket.socket, *, multicast: bool) -> int:
    """Return the time to live of what is sent."""
    if sock.family == socket.AF_INET6:
        option = socket.IPV6_MULTICAST_HOPS if multicast else socket.IPV6_UNICAST_HOPS
        return sock.getsockopt(socket.IPPROTO_IPV6, option)
    if not multicast:
        return sock.getsockopt(socket.IPPROTO_IP, socket.IP_TTL)
    return sock.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)[0]


def set_loopback(sock: socket.socket, *, on: bool) -> None:
    """Choose whether what is sent to a group comes back to members on this machine."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, int(on))
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, struct.pack("B", on))


def get_loopback(sock: socket.socket) -> bool:
    """Tell whether what is sent to a group comes back to members on this machine."""
    if sock.family == socket.AF_INET6:
        return sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP) != 0
    return sock.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1) != b"\0"
