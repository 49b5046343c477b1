"""Every exception that nimloop-ws raises or reports on its own account.

NimloopError
└── WsError
    ├── ProtocolError                    the peer broke the protocol; carries the `code` to close with
    │   ├── FrameError             1002  a frame that RFC 6455 does not allow, or not here
    │   ├── InvalidTextError       1007  text, or the reason of a close, that is not UTF-8
    │   ├── InvalidDataError       1007  a message that cannot be inflated
    │   └── LimitError             1009  a setting in `WsLimits` was exceeded
    │       ├── FrameTooBigError         one frame
    │       └── MessageTooBigError       a message, fragments together, inflated
    ├── HandshakeError                   there will be no WebSocket
    │   ├── BadHandshakeError            the client's request; carries the `status` and `headers` to answer
    │   ├── BadResponseError             the server's answer is not one to this handshake
    │   ├── HandshakeRefusedError        the server answered with another status; `status`, `headers`, `body`
    │   └── HandshakeTimeoutError (TimeoutError)
    ├── ConnectionLostError (ConnectionError)  the connection ended without a close frame
    ├── PongTimeoutError (TimeoutError)  the peer gives no sign of life
    └── MisuseError (RuntimeError)       this program used the library wrongly
        ├── WebSocketClosedError         nothing can be sent any more
        ├── CloseCodeError (ValueError)  a code or reason that must not be sent
        ├── InvalidUrlError (ValueError)
        ├── FragmentError                a message was begun or sent while another one is being streamed
        └── ParserStateError             the parser was used after an error
"""

from __future__ import annotations

from nimloop_core import NimloopError

__all__ = [
    "BadHandshakeError",
    "BadResponseError",
    "CloseCodeError",
    "ConnectionLostError",
    "FragmentError",
    "FrameError",
    "FrameTooBigError",
    "HandshakeError",
    "HandshakeRefusedError",
    "HandshakeTimeoutError",
    "InvalidDataError",
    "InvalidTextError",
    "InvalidUrlError",
    "LimitError",
    "MessageTooBigError",
    "MisuseError",
    "ParserStateError",
    "PongTimeoutError",
    "ProtocolError",
    "WebSocketClosedError",
    "WsError",
]


class WsError(NimloopError):
    """The root of nimloop-ws's exceptions."""


class ProtocolError(WsError):
    """The peer broke the protocol. `code` is what to close the WebSocket with (RFC 6455 §7.4.1)."""

    code: int = 1002


class FrameError(ProtocolError):
    """A frame that RFC 6455 does not allow, or not at this point; the message says what."""


class InvalidTextError(ProtocolError):
    """Text that is not UTF-8 (RFC 6455 §8.1)."""

    code = 1007


class InvalidDataError(ProtocolError):
    """A compressed message that is none (RFC 7692 §7.2.2)."""

    code = 1007


class LimitError(ProtocolError):
    """A limit of this side was exceeded; the message names it."""

    code = 1009


class FrameTooBigError(LimitError):
    """A frame is announced with more than ``WsLimits.frame`` bytes."""


class MessageTooBigError(LimitError):
    """A message has more than ``WsLimits.message`` bytes; a compressed one was not inflated further than that."""


class HandshakeError(WsError):
    """The opening handshake failed."""


class BadHandshakeError(HandshakeError):
    """The request does not open a WebSocket. `status` and `headers` are what to answer."""

    def __init__(self, message: str, status: int = 400, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


class BadResponseError(HandshakeError):
    """The server's answer breaks HTTP or RFC 6455 §4.1, or agrees to what was not offered."""


class HandshakeRefusedError(HandshakeError):
    """The server answered something else than 101. `headers` has lower-case names; `body` is the beginning of it."""

    def __init__(self, status: int, reason: str, headers: dict[str, str], body: bytes) -> None:
        super().__init__(f"the server refused the WebSocket: {status} {reason}".rstrip())
        self.status = status
        self.headers = headers
        self.body = body


class HandshakeTimeoutError(HandshakeError, TimeoutError):
    """The server did not answer the handshake in time."""


class ConnectionLostError(WsError, ConnectionError):
    """The connection ended without a close frame (close code 1006); the cause, if known, is ``__cause__``."""


class PongTimeoutError(WsError, TimeoutError):
    """The peer did not answer a ping in time, nor took or sent anything worth mentioning; it was cut off."""


class MisuseError(WsError, RuntimeError):
    """This program used the library wrongly."""


class WebSocketClosedError(MisuseError):
    """The WebSocket is closing or closed: nothing can be sent any more."""


class CloseCodeError(MisuseError, ValueError):
    """The code must not be sent (RFC 6455 §7.4), or the reason has more than 123 bytes."""


class InvalidUrlError(MisuseError, ValueError):
    """Not a ``ws://`` or ``wss://`` URL (RFC 6455 §3)."""


class FragmentError(MisuseError):
    """A message is being streamed: end it before another one is sent. Or it has ended, and got another piece."""


class ParserStateError(MisuseError):
    """The parser has raised a `ProtocolError` before and cannot go on."""
