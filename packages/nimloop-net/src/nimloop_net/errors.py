"""Every exception that nimloop-net raises on its own account.

NimloopError
└── NetError (OSError)
    ├── ConnectionClosedError       the call needs an open connection
    ├── AddressError                a host, port or path that cannot be listened on, connected to or sent to
    ├── ResolveError (socket.gaierror)  the addresses of a host were not found out
    │   ├── HostNotFoundError       because there is no such host
    │   └── LookupTimeoutError (TimeoutError)  because it took too long
    ├── ConnectError (ConnectionError)  no address of the host could be connected to; `errors` tells why, for each
    │   ├── ConnectRefusedError (ConnectionRefusedError)  nobody listens on any of them
    │   └── ConnectTimeoutError (TimeoutError)  there was no answer in time
    ├── DatagramError               the network could not deliver a datagram; `address` tells which
    │   └── DatagramRefusedError (ConnectionRefusedError)  because nobody listens there
    ├── LimitError                  a bound of ours was reached
    │   ├── WriteBufferFullError    more unsent bytes than the connection may hold
    │   ├── DatagramTooLargeError   more bytes than one datagram can carry
    │   └── ResolverBusyError       too many names wait to be looked up
    ├── FileTruncatedError          a file ended before the range that was to be sent
    ├── StalledError (TimeoutError) the peer took nothing of what was left for the stall time
    ├── IdleTimeoutError (TimeoutError)  nothing has moved in either direction for the idle time
    ├── HandshakeTimeoutError (TimeoutError)  TLS was not agreed on in time
    └── TruncatedError (ConnectionError)  the peer ended TLS without saying so

What the kernel says (ConnectionResetError, BrokenPipeError …) and what TLS finds wrong (ssl.SSLError and its
ssl.SSLCertVerificationError, OSErrors too) is not wrapped.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from nimloop_core import NimloopError

__all__ = [
    "AddressError",
    "ConnectError",
    "ConnectRefusedError",
    "ConnectTimeoutError",
    "ConnectionClosedError",
    "DatagramError",
    "DatagramRefusedError",
    "DatagramTooLargeError",
    "FileTruncatedError",
    "HandshakeTimeoutError",
    "HostNotFoundError",
    "IdleTimeoutError",
    "LimitError",
    "LookupTimeoutError",
    "NetError",
    "ResolveError",
    "ResolverBusyError",
    "StalledError",
    "TruncatedError",
    "WriteBufferFullError",
]


class NetError(NimloopError, OSError):
    """The root of nimloop-net's exceptions."""


class ConnectionClosedError(NetError):
    """The connection is closed, or its sending side is: nothing can be sent any more."""


class AddressError(NetError):
    """The address cannot be listened on, connected to or sent to; the message says what is in the way."""


class ResolveError(NetError, socket.gaierror):
    """The addresses of a host could not be found out; `errno` is one of ``socket.EAI_*`` where the system said so."""


class HostNotFoundError(ResolveError):
    """There is no such host, or it has no address."""


class LookupTimeoutError(ResolveError, TimeoutError):
    """Looking a name up took longer than the caller would wait."""


class ConnectError(NetError, ConnectionError):
    """No connection came about.

    `errors` has what happened with each address that was tried, an OSError of the kernel's kind each; `errno` is theirs
    when all agree, else that of the first.
    """

    def __init__(self, number: int | None, message: str, errors: Sequence[OSError] = ()) -> None:
        super().__init__(number, message)
        self.errors: tuple[OSError, ...] = tuple(errors)
        """Why each address failed, in the order in which they were tried."""

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.errno, self.strerror, self.errors)


class ConnectRefusedError(ConnectError, ConnectionRefusedError):
    """Nobody listens on any address of the host."""


class ConnectTimeoutError(ConnectError, TimeoutError):
    """There was no connection within the time that was given for it."""


class DatagramError(NetError):
    """The network reports that an earlier datagram was not delivered.

    `address` is where it should have gone, as the socket module writes addresses, or None where the system did not say.
    """

    def __init__(
        self, number: int | None, message: str, address: tuple[str, int] | tuple[str, int, int, int] | None = None
    ) -> None:
        super().__init__(number, message)
        self.address = address

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.errno, self.strerror, self.address)


class DatagramRefusedError(DatagramError, ConnectionRefusedError):
    """Nobody listens at `address`."""


class LimitError(NetError):
    """A bound of this library was reached, not one of the system."""


class WriteBufferFullError(LimitError):
    """The peer reads too slowly: the unsent bytes passed the hard limit, so the connection was aborted."""


class DatagramTooLargeError(LimitError):
    """The datagram has more bytes than its protocol or the network's interface can carry in one."""


class ResolverBusyError(LimitError):
    """Too many names wait to be looked up already."""


class FileTruncatedError(NetError):
    """A file was shortened while it was being sent; the connection was aborted, because the peer cannot know."""


class StalledError(NetError, TimeoutError):
    """A closing connection made no progress for the stall time and was aborted."""


class IdleTimeoutError(NetError, TimeoutError):
    """Nothing has moved on the connection for its `idle_timeout`."""


class HandshakeTimeoutError(NetError, TimeoutError):
    """The peer did not finish the TLS handshake in time."""


class TruncatedError(NetError, ConnectionError):
    """The peer ended the stream without a close_notify alert: what came may not be all (RFC 8446 §6.1)."""
