"""What frames are made of: opcodes, close codes, and how a frame is written. No socket, no loop, no clock.

`nimloop_ws.parser` reads them.
"""

from __future__ import annotations

import enum
import os
from typing import Final, final

from nimloop_ws import _codec
from nimloop_ws._frame_py import Buffer
from nimloop_ws.errors import CloseCodeError, FrameError, InvalidTextError

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "FIN",
    "MAX_CLOSE_REASON",
    "MAX_CONTROL_PAYLOAD",
    "PING",
    "PONG",
    "RSV1",
    "TEXT",
    "CloseCode",
    "MaskSource",
    "WsFrameKind",
    "decode_close",
    "encode_close",
    "encode_frame",
    "may_be_sent",
]

MAX_CONTROL_PAYLOAD: Final = 125  # RFC 6455 §5.5
MAX_CLOSE_REASON: Final = MAX_CONTROL_PAYLOAD - 2


class WsFrameKind(enum.IntEnum):
    """The opcodes (RFC 6455 §11.8)."""

    CONTINUATION = 0
    """A further piece of a message."""
    TEXT = 1
    """A text message, or its first piece."""
    BINARY = 2
    """A binary message, or its first piece."""
    CLOSE = 8
    """The end."""
    PING = 9
    """To be answered by a pong."""
    PONG = 10
    """The answer to a ping, or a sign of life."""


class CloseCode(enum.IntEnum):
    """Why a WebSocket was closed (RFC 6455 §7.4.1 and IANA's registry). 3000 to 4999 are for applications."""

    NORMAL = 1000
    """The purpose is fulfilled."""
    GOING_AWAY = 1001
    """The server is stopping, the peer was idle, or the page was left."""
    PROTOCOL_ERROR = 1002
    """The peer broke the protocol."""
    UNSUPPORTED_DATA = 1003
    """A kind of message that is not accepted, such as binary."""
    NO_STATUS = 1005
    """Never sent: the close frame had no code."""
    ABNORMAL = 1006
    """Never sent: the connection ended without a close frame."""
    INVALID_DATA = 1007
    """Text that is not UTF-8, or what cannot be inflated."""
    POLICY_VIOLATION = 1008
    """A message against the rules, where no other code fits."""
    MESSAGE_TOO_BIG = 1009
    """A message beyond the limit."""
    EXTENSION_MISSING = 1010
    """Sent by clients only: the server did not agree to an extension that is needed."""
    INTERNAL_ERROR = 1011
    """A callback raised, or the server cannot go on."""
    SERVICE_RESTART = 1012
    """Come back in a while."""
    TRY_AGAIN_LATER = 1013
    """Too busy."""
    BAD_GATEWAY = 1014
    """A server behind this one gave a bad answer."""
    TLS_FAILED = 1015
    """Never sent."""


FIN: Final = 0x80
RSV1: Final = 0x40

# As plain numbers: an IntEnum costs more than the frame it describes.
CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10


def may_be_sent(code: int) -> bool:
    """Tell whether a close frame may carry the code (RFC 6455 §7.4.2; 1012 to 1014 were registered later)."""
    return 3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in {1004, 1005, 1006})


def encode_close(code: int | None, reason: str = "") -> bytes:
    """Return the payload of a close frame; without a code it is empty. Raises `CloseCodeError`."""
    if code is None:
        if reason:
            raise CloseCodeError("a reason needs a code")
        return b""
    if not may_be_sent(code):
        raise CloseCodeError(f"{code} must not be sent in a close frame")
    payload = reason.encode()
    if len(payload) > MAX_CLOSE_REASON:
        raise CloseCodeError(f"the reason has {len(payload)} bytes; a close frame holds {MAX_CLOSE_REASON}")
    return code.to_bytes(2, "big") + payload


def decode_close(payload: bytes) -> tuple[int, str]:
    """Return code and reason of a close frame; 1005 and no reason when it is empty.

    Raises `FrameError` for a code that must not be sent, and `InvalidTextError` for a reason that is not UTF-8.
    """
    if not payload:
        return CloseCode.NO_STATUS, ""
    if len(payload) == 1:
        raise FrameError("a close frame with one byte has no code")
    code = int.from_bytes(payload[:2], "big")
    if not may_be_sent(code):
        raise FrameError(f"a close frame must not carry the code {code}")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise InvalidTextError("the reason of a close frame is not UTF-8") from None


def encode_frame(
    kind: int, payload: Buffer | str = b"", *, fin: bool = True, rsv1: bool = False, mask: bytes | None = None
) -> bytes:
    """Return a frame (RFC 6455 §5.2), masked with the four bytes of `mask` as those of a client have to be.

    Raises ValueError for what cannot be a frame.
    """
    opcode = WsFrameKind(kind)
    if opcode >= CLOSE:
        size = len(payload.encode()) if isinstance(payload, str) else len(payload)
        if not fin or rsv1 or size > MAX_CONTROL_PAYLOAD:
            raise ValueError(f"a control frame is whole, plain and has up to {MAX_CONTROL_PAYLOAD} bytes")
    first = opcode | (FIN if fin else 0) | (RSV1 if rsv1 else 0)
    return _codec.encode_frame(first, payload, mask)


@final
class MaskSource:
    """Masking keys of one connection, from the system's generator (RFC 6455 §10.3: they must not be predictable)."""

    __slots__ = ("_at", "_keys")

    def __init__(self) -> None:
        self._keys = b""
        self._at = 0

    def next(self) -> bytes:
        """Return four bytes that were never returned before."""
        at = self._at
        key = self._keys[at : at + 4]
        if not key:
            self._keys = os.urandom(256)  # a system call for 64 frames
            at = 0
            key = self._keys[:4]
        self._at = at + 4
        return key
