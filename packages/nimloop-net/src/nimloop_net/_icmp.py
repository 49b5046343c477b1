"""What became of datagrams: the errors that routers and peers report by ICMP, and how to get at them.

A connected socket is told by the next call. One that is not has sent to many, and an errno alone would not say about
whom: so kernels keep quiet, unless Linux is asked to queue the reports with the address they are about (IP_RECVERR,
ip(7)).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from typing import Final

from nimloop_net._literals import SockAddress
from nimloop_net.errors import DatagramError, DatagramRefusedError

# What the network, or a firewall (EPERM), says about a datagram; the caller has done nothing wrong.
NETWORK: Final = frozenset(
    {
        errno.ECONNREFUSED,
        errno.ECONNRESET,  # what Windows calls the former
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.ENETUNREACH,
        errno.ENOPROTOOPT,
        errno.EPERM,
        errno.EPROTO,
        errno.ETIMEDOUT,
    }
)

# From <linux/in.h>, <linux/in6.h> and <linux/errqueue.h>; the socket module has none of them before Python 3.14.
_IP_RECVERR: Final = 11
_IPV6_RECVERR: Final = 25
_REPORTS: Final = frozenset({(socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR)})
_EXTENDED_ERROR: Final = struct.Struct("@IBBBBII")  # errno, origin, type, code, padding, info, data
_FROM_ICMP: Final = frozenset({2, 3})  # SO_EE_ORIGIN_ICMP and _ICMP6; what is of local origin, the call has said itself


def describe(number: int, address: SockAddress | None) -> DatagramError:
    """Return the error that tells of a report."""
    kind = DatagramRefusedError if number in {errno.ECONNREFUSED, errno.ECONNRESET} else DatagramError
    where = "a datagram" if address is None else f"a datagram to {address[0]} port {address[1]}"
    return kind(number, f"{where} was not delivered: {os.strerror(number)}", address)


def enable_reports(sock: socket.socket) -> bool:
    """Have reports queued for a socket that is not connected; tell whether the system can do that."""
    if sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
    return sys.platform == "linux"


def next_report(sock: socket.socket) -> DatagramError | None:
    """Take the next report from the queue, None for one of no interest; raises BlockingIOError when it is empty."""
    if sys.platform == "linux":
        _, ancillary, _, address = sock.recvmsg(0, 256, socket.MSG_ERRQUEUE)
        for level, kind, data in ancillary:
            if (level, kind) in _REPORTS:
                number, origin = _EXTENDED_ERROR.unpack_from(data)[:2]
                if origin in _FROM_ICMP:
                    return describe(number, address)
    return None
