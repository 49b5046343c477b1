"""Every exception that nimloop-net raises on its own account.

NimloopError
└── NetError (OSError)
    ├── ConnectionClosedError       the call needs an open connection
    ├── AddressError                a host, port or path that cannot be listened on
    ├── LimitError                  a bound of ours was reached
    │   └── WriteBufferFullError    more unsent bytes than the connection may hold
    ├── FileTruncatedError          a file ended before the range that was to be sent
    ├── StalledError (TimeoutError) the peer took nothing of what was left for the stall time
    ├── IdleTimeoutError (TimeoutError)  nothing has moved in either direction for the idle time
    ├── HandshakeTimeoutError (TimeoutError)  TLS was not agreed on in time
    └── TruncatedError (ConnectionError)  the peer ended TLS without saying so

What the kernel says (ConnectionResetError, BrokenPipeError …) and what TLS finds wrong (ssl.SSLError and its
ssl.SSLCertVerificationError, OSErrors too) is not wrapped.
"""

from __future__ import annotations

from nimloop_core import NimloopError


class NetError(NimloopError, OSError):
    """The root of nimloop-net's exceptions."""


class ConnectionClosedError(NetError):
    """The connection is closed, or its sending side is: nothing can be sent any more."""


class AddressError(NetError):
    """The address cannot be listened on; the message says what is in the way."""


class LimitError(NetError):
    """A bound of this library was reached, not one of the system."""


class WriteBufferFullError(LimitError):
    """The peer reads too slowly: the unsent bytes passed the hard limit, so the connection was aborted."""


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
