"""A reader of WebSocket frames and messages that knows no socket, no loop and no clock.

    parser = WsParser(SERVER)
    for event in parser.feed(data):
        match event:
            case str() | bytes():           # a message: text or binary, fragments together, inflated
            case Ping(payload=payload):     # answer with a pong of the same payload
            case Pong(payload=payload):
            case Close(code=code, reason=reason):    # the last event
            case Fragment(data=data, last=last):     # with fragments=True, in place of whole messages

The events depend on the bytes alone, not on how they were cut; only the pieces of a fragment do, and which fault of a
compressed message that has several is noticed. They are made when they are asked for: leave the loop and the rest stays
in the parser. A `ProtocolError` ends it: close with its `code`.

Wrong is noticed with the first byte that is: a reserved bit in the first byte of a frame, a length as soon as it is
told, a text with the byte that makes it something else than UTF-8.

The states: a FRAME begins, or its payload is being read, that of a DATA frame or of a CONTROL frame; CLOSED after a
close frame, behind which nothing counts; FAILED. Whether a message is open is a matter of its own (`_kind`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, final

from nimloop_ws._codec import read_frame
from nimloop_ws._events import Close, Event, Fragment, Ping, Pong
from nimloop_ws._frame_reader import FrameReader
from nimloop_ws._message import SMALL, BinaryPieces, TextPieces
from nimloop_ws.deflate import Agreement, Inflater
from nimloop_ws.errors import (
    FrameTooBigError,
    InvalidTextError,
    MessageTooBigError,
    ParserStateError,
    ProtocolError,
)
from nimloop_ws.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    PONG,
    RSV1,
    TEXT,
    decode_close,
)
from nimloop_ws.settings import DEFAULT_LIMITS, WsLimits

__all__ = ["CLIENT", "SERVER", "WsParser"]

SERVER: Final = True
"""The role that gets masked frames."""
CLIENT: Final = False
"""The role that gets frames without masks."""

_FRAME: Final = 0
_DATA: Final = 1
_CONTROL: Final = 2
_CLOSED: Final = 3
_FAILED: Final = 4

_FRAGMENTS: Final = 1024  # without an event, before the caller may have something better to do

# The first byte of a frame that is a whole message by itself.
_WHOLE_TEXT: Final = FIN | TEXT
_WHOLE_BINARY: Final = FIN | BINARY
_DEFLATED_TEXT: Final = FIN | RSV1 | TEXT
_DEFLATED_BINARY: Final = FIN | RSV1 | BINARY


@final
class WsParser:
    """Turns the bytes that one side of a WebSocket gets into messages and control frames.

    `role` is the reading side: `SERVER` insists on masked frames, `CLIENT` on frames that are not. With an `agreement`
    on permessage-deflate, compressed messages are inflated. With `fragments`, a message is handed out piece by piece.
    """

    __slots__ = (
        "_compressed",
        "_fragments",
        "_frames",
        "_inflater",
        "_kind",
        "_message_limit",
        "_pieces",
        "_size",
        "_state",
        "_whole_limit",
        "interrupted",
        "limits",
    )

    def __init__(
        self,
        role: bool,  # noqa: FBT001 - SERVER or CLIENT
        limits: WsLimits = DEFAULT_LIMITS,
        *,
        agreement: Agreement | None = None,
        fragments: bool = False,
    ) -> None:
        self.limits: Final = limits
        self.interrupted: bool = False
        """Whether `next_event` has returned None although there are bytes left to look at: ask again."""
        self._fragments: Final = fragments
        self._inflater: Final = None if agreement is None else Inflater(agreement)
        self._message_limit: Final = limits.message
        self._whole_limit: Final = min(limits.frame, limits.message)
        self._frames: Final = FrameReader(masked=role)
        self._state = _FRAME
        # The message that is open:
        self._kind = 0  # TEXT or BINARY, 0: none
        self._compressed = False
        self._size = 0  # bytes of it so far, inflated
        self._pieces: TextPieces | BinaryPieces | None = None

    # Feeding --------------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> Iterator[Event]:
        """Add bytes and return an iterator over the events that are complete now.

        What is not asked for stays in the parser. Iterating raises `ProtocolError`.
        """
        self._frames.push(data)
        return self

    def push(self, data: bytes) -> None:
        """Add bytes without looking at them."""
        self._frames.push(data)

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        event = self.next_event()
        while event is None and self.interrupted:
            event = self.next_event()
        if event is None:
            raise StopIteration
        return event

    def next_event(self) -> Event | None:
        """Return the next event, or None when more bytes are needed.

        After many fragments without an event it returns None as well, and is `interrupted`. Raises `ProtocolError`,
        and `ParserStateError` ever after.
        """
        frames = self._frames
        position = frames.position
        data = frames.data
        if self._state == _FRAME and position == len(data):
            frames.data = b""  # as `drop`, without the call
            frames.position = 0
            return None
        try:
            if self._state == _FRAME and self._kind == 0 and not self._fragments:
                # Nearly always: a whole message in one frame, all of it there.
                frame = read_frame(data, position, frames.masked, self._whole_limit)
                if frame is not None:
                    first, payload, end = frame
                    if first == _WHOLE_BINARY or first == _WHOLE_TEXT:  # noqa: SIM109 - quicker
                        frames.position = end
                        return payload
                    if first in {_DEFLATED_TEXT, _DEFLATED_BINARY} and self._inflater is not None:
                        assert isinstance(payload, bytes)
                        frames.position = end
                        self._kind = first & 15
                        return self._complete(self._inflater.inflate(payload, self._message_limit, last=True))
            return self._read()
        except ProtocolError:
            self._state = _FAILED
            self._pieces = None
            frames.drop()
            raise

    def reset(self) -> None:
        """Forget everything, as if the connection began anew; what was agreed on stays, inflated windows included."""
        self._frames.drop()
        self._state = _FRAME
        self._end_message()

    @property
    def drained(self) -> bool:
        """Whether every byte was used; events may follow only when more are pushed."""
        frames = self._frames
        return frames.position == len(frames.data)

    @property
    def idle(self) -> bool:
        """Whether it stands between two messages, with nothing of the next frame."""
        return self._state == _FRAME and self._kind == 0 and self.drained

    # Frames ---------------------------------------------------------------------------------------------------

    def _read(self) -> Event | None:
        self.interrupted = False
        fragments = 0
        while True:
            if self._state == _FRAME:
                if not self._begin():
                    return None
            elif self._state == _DATA:
                event = self._read_data()
                if event is not None or self._state == _DATA:
                    return event
                fragments += 1
                if fragments == _FRAGMENTS:
                    self.interrupted = True
                    return None
            elif self._state == _CONTROL:
                return self._read_control()
            elif self._state == _CLOSED:
                self._frames.drop()
                return None
            else:
                raise ParserStateError("the parser has failed before")

    def _begin(self) -> bool:
        """Begin a frame, once its header is there."""
        frames = self._frames
        if not frames.read_header(in_message=self._kind != 0, compression=self._inflater is not None):
            return False
        first = frames.first
        opcode = first & 15
        compressed = self._compressed if opcode == CONTINUATION else first & RSV1 != 0
        if opcode < CLOSE:
            self._check_limits(frames.left, compressed=compressed)
        if not frames.enter():
            return False
        if opcode >= CLOSE:
            self._state = _CONTROL
            return True
        self._state = _DATA
        if opcode != CONTINUATION:
            self._kind = opcode
            self._compressed = compressed
        return True

    def _check_limits(self, length: int, *, compressed: bool) -> None:
        limits = self.limits
        if length > limits.frame:
            raise FrameTooBigError(f"a frame has {length} bytes; the limit is {limits.frame}")
        if not compressed and self._size + length > limits.message:
            raise MessageTooBigError(f"the message has more than {limits.message} bytes")

    def _read_control(self) -> Event | None:
        frames = self._frames
        if frames.there < frames.left:
            return None
        payload = frames.take_payload()
        opcode = frames.first & 15
        self._state = _FRAME
        if opcode == PING:
            return Ping(payload)
        if opcode == PONG:
            return Pong(payload)
        code, reason = decode_close(payload)
        self._state = _CLOSED
        self._end_message()
        return Close(code, reason)

    # Messages -------------------------------------------------------------------------------------------------

    def _read_data(self) -> Event | None:
        """Take what is there of a data frame; return the message, or the piece of it, that it completes."""
        frames = self._frames
        there = frames.there
        if there < frames.left:
            if there == 0:
                return None
            if there >= SMALL and self._kind == BINARY and not self._compressed and not self._fragments:
                frames.keep()
                return None
        piece = frames.take_payload()
        frame_ended = frames.left == 0
        if frame_ended:
            self._state = _FRAME
        last = frame_ended and frames.first >= FIN
        if self._compressed:
            assert self._inflater is not None
            piece = self._inflater.inflate(piece, self._message_limit - self._size, last=last)
        self._size += len(piece)
        if self._fragments:
            return self._fragment(piece, last=last)
        if last:
            return self._complete(piece)
        if piece:
            pieces = self._pieces
            if pieces is None:
                pieces = self._pieces = TextPieces() if self._kind == TEXT else BinaryPieces()
            pieces.add(piece)
        return None

    def _complete(self, piece: bytes) -> str | bytes:
        """Return the message that ends with this piece."""
        kind = self._kind
        pieces = self._pieces
        self._end_message()
        if pieces is not None:
            if piece:
                pieces.add(piece)
            return pieces.join()
        if kind == BINARY:
            return piece
        try:
            return piece.decode()
        except UnicodeDecodeError:
            raise InvalidTextError("a text message is not UTF-8") from None

    def _fragment(self, piece: bytes, *, last: bool) -> Fragment | None:
        if self._kind == BINARY:
            event = Fragment(piece, last) if piece or last else None
        else:
            pieces = self._pieces
            if pieces is None:
                pieces = self._pieces = TextPieces()
            assert isinstance(pieces, TextPieces)
            text = pieces.decode(piece, final=last)
            event = Fragment(text, last) if text or last else None
        if last:
            self._end_message()
        return event

    def _end_message(self) -> None:
        self._kind = self._size = 0
        self._compressed = False
        self._pieces = None
