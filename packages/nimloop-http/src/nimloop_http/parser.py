"""An HTTP/1.1 request parser that knows no socket, no loop and no clock.

    parser = HttpParser()
    for event in parser.feed(data):
        match event:
            case Head():                 # method, target, headers, keep_alive …
            case Body(data=piece):       # bytes, chunked coding undone
            case Trailers(headers=...):  # only after a chunked body that has any
            case End():                  # the message is over; the next one may follow

The events of a message depend on its bytes alone, not on how they were cut (only the pieces of a body do). Events are
made when they are asked for: leave the loop and the rest stays in the parser, which is how pipelining is slowed down.
A `ProtocolError` ends it: framing is lost, so answer with its `status` and close.

The states, and what moves on to which:

=============  ================================================  ==============================
state          what is read                                      next
=============  ================================================  ==============================
HEAD           a head                                            FIXED, CHUNK_LINE or MESSAGE_END
FIXED          a body with a Content-Length                      MESSAGE_END
CHUNK_LINE     a chunk's size and extensions                     CHUNK_DATA or TRAILERS
CHUNK_DATA     a chunk                                           CHUNK_END
CHUNK_END      the CRLF after a chunk                            CHUNK_LINE
TRAILERS       trailer fields and the empty line                 MESSAGE_END
MESSAGE_END    nothing: gives `End`                              HEAD
FAILED         nothing any more
=============  ================================================  ==============================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, final

from nimloop_http._framing import NOT_IN_TRAILERS, STANDARD_METHODS, Head, apply_control_fields, check_target
from nimloop_http._grammar import BARE_LINE_END, CHUNK_LINE, TOKEN_BYTES
from nimloop_http._headers import Headers
from nimloop_http._scan_py import (
    CHUNKED,
    EXPECT_CONTINUE,
    HAS_LENGTH,
    KEEP_ALIVE,
    diagnose,
    diagnose_fields,
    take_apart,
)
from nimloop_http._scanner import scan_head
from nimloop_http.errors import (
    BadRequestError,
    BodyTooLargeError,
    ChunkLineTooLongError,
    IncompleteMessageError,
    ParserStateError,
    ProtocolError,
    TrailersTooLargeError,
    UnknownExpectationError,
    UnknownMethodError,
)
from nimloop_http.limits import DEFAULT_LIMITS, Limits

_HEAD: Final = 0
_FIXED: Final = 1
_CHUNK_LINE: Final = 2
_CHUNK_DATA: Final = 3
_CHUNK_END: Final = 4
_TRAILERS: Final = 5
_MESSAGE_END: Final = 6
_FAILED: Final = 7


@final
class Body:
    """A piece of the body."""

    __slots__ = ("data",)
    __match_args__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data: Final = data


@final
class Trailers:
    """The trailer fields, without those that may not come so late."""

    __slots__ = ("headers",)
    __match_args__ = ("headers",)

    def __init__(self, headers: Headers) -> None:
        self.headers: Final = headers


@final
class End:
    """The message is complete."""

    __slots__ = ()


_END: Final = End()

Event = Head | Body | Trailers | End


@final
class HttpParser:
    """Turns the bytes of one connection into the events of its requests.

    `methods` are the ones implemented; another raises `UnknownMethodError`. None lets every token pass. Without
    `empty_ends`, a message whose head says `has_body` is false consists of that one event: no `End` follows it. Without
    `expectations`, an unknown one raises nothing and is found in ``head.unknown_expectation``.
    """

    def __init__(
        self,
        limits: Limits = DEFAULT_LIMITS,
        *,
        methods: frozenset[str] | None = STANDARD_METHODS,
        empty_ends: bool = True,
        expectations: bool = True,
    ) -> None:
        self.limits: Final = limits
        self.methods: Final = methods
        self._expectations: Final = expectations
        self._after_head: Final = _MESSAGE_END if empty_ends else _HEAD
        self._most_line: Final = limits.request_line
        self._most_bytes: Final = limits.header_bytes
        self._most_fields: Final = limits.headers
        self._most_body: Final = limits.body
        self._data: bytes | bytearray = b""
        self._position = 0  # of the first byte that has not been used
        self._searched = 0  # bytes before this one hold no end of what is being read
        self._line = -1  # length of the request line of an incomplete head, once that is known
        self._state = _HEAD
        self._blank_line = False  # the one empty line before a request was skipped
        self._left = 0  # bytes to come of a body with a length, or of a chunk
        self._size = 0  # bytes of a chunked body so far

    # Feeding --------------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> Iterator[Event]:
        """Add bytes and return an iterator over the events that are complete now.

        What is not asked for stays in the parser. Iterating raises `ProtocolError`.
        """
        self.push(data)
        return self

    def push(self, data: bytes) -> None:
        """Add bytes without looking at them. Raises `ParserStateError` after an error."""
        if self._state == _FAILED:
            raise ParserStateError("the parser has failed before; framing is lost")
        rest = self._data
        if self._position == len(rest):
            self._data = data
        else:
            if type(rest) is bytearray:
                del rest[: self._position]
            else:
                rest = bytearray(rest[self._position :])
                self._data = rest
            self._searched = max(0, self._searched - self._position)
            rest += data
            self._position = 0
            return
        self._position = self._searched = 0

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        event = self.next_event()
        if event is None:
            raise StopIteration
        return event

    def next_event(self) -> Event | None:
        """Return the next event, or None when more bytes are needed.

        Raises `ProtocolError`, and `ParserStateError` ever after.
        """
        state = self._state
        try:
            if state == _HEAD:
                return None if self._position == len(self._data) else self._read_head()
            return _READERS[state](self)
        except ProtocolError:
            self._state = _FAILED
            raise

    def end(self) -> None:
        """Take note that the peer sends no more; ask for all events first.

        Raises `IncompleteMessageError` in the middle of a message, and `ParserStateError` after an error.
        """
        if self._state == _FAILED:
            raise ParserStateError("the parser has failed before; framing is lost")
        if not self.idle:
            self._state = _FAILED
            raise IncompleteMessageError("the peer ended its side in the middle of a request")

    # What it holds --------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether it stands between two messages, with nothing of the next one."""
        return self._state == _HEAD and self._position == len(self._data)

    @property
    def in_body(self) -> bool:
        """Whether a head was returned and the end of its message was not."""
        return self._state not in {_HEAD, _FAILED}

    def remaining_data(self) -> bytes:
        """Take out every byte that has not been used: what comes after an upgrade belongs to the next protocol."""
        rest = bytes(self._data[self._position :])
        self._data = b""
        self._position = self._searched = 0
        return rest

    # Reading a head -------------------------------------------------------------------------------------------

    def _read_head(self) -> Event | None:
        data = self._data
        start = self._position
        if self._searched <= start:  # else it was not complete before, and scanning from its beginning may cost much
            scan = scan_head(data, start, self._most_line, self._most_bytes, self._most_fields)
            if scan is not None:
                end, method, target, host, length, flags = scan
                if (self.methods is None or method in self.methods) and length <= self._most_body:
                    raw = data[start:end]
                    head = Head(raw if type(raw) is bytes else bytes(raw), method, target, 1)
                    head.host = host
                    self._position = self._searched = end
                    self._blank_line = False
                    if flags == KEEP_ALIVE:
                        self._state = self._after_head
                    else:
                        self._apply(head, length, flags)
                    return head
        return self._read_unusual_head(data, start)

    def _apply(self, head: Head, length: int, flags: int) -> None:
        """Take over what the scan has found out about the body and the connection."""
        head.keep_alive = flags & KEEP_ALIVE != 0
        head.expect_continue = flags & EXPECT_CONTINUE != 0
        if flags & CHUNKED:
            head.chunked = head.has_body = True
        elif flags & HAS_LENGTH:
            head.content_length = length
            head.has_body = True
        self._expect_body(head)

    def _read_unusual_head(self, data: bytes | bytearray, start: int) -> Event | None:
        if data[start] == 0x0D and not self._blank_line:
            # RFC 9112 §2.2: ignore one empty line before a request; old clients send it after a body.
            if start + 1 == len(data):
                return None
            if data[start + 1] == 0x0A:
                self._blank_line = True
                self._position = start + 2
                return self.next_event()
        searched = self._searched - 3
        end = data.find(b"\r\n\r\n", searched if searched > start else start)
        if end < 0:
            self._check_incomplete_head(data, start)
            return None
        end += 4
        raw = bytes(data[start:end])
        self._position = self._searched = end
        self._blank_line = False
        parts = take_apart(raw.decode("latin-1"), self.limits)
        if parts is None:
            raise diagnose(raw, self.limits) or BadRequestError("malformed request")
        method, target, minor, fields = parts
        if self.methods is not None and method not in self.methods:
            raise UnknownMethodError(f"the method {method[:30]!r} is not implemented")
        head = Head(raw, method, target, 1 if minor == "1" else 0)
        if target[0] != "/" or method == "CONNECT":
            check_target(method, target, head)
        apply_control_fields(head, fields, self.limits)
        if head.unknown_expectation and self._expectations:
            raise UnknownExpectationError(f"unknown expectation: {head.unknown_expectation[:60]!r}")
        self._expect_body(head)
        return head

    def _expect_body(self, head: Head) -> None:
        """Go on to what follows the head."""
        if head.chunked:
            self._size = 0
            self._state = _CHUNK_LINE
        elif head.content_length:
            self._left = head.content_length
            self._state = _FIXED
        else:
            self._state = _MESSAGE_END if head.has_body else self._after_head

    def _check_incomplete_head(self, data: bytes | bytearray, start: int) -> None:
        """Refuse early what cannot become a request; each byte is looked at once, however slowly they come."""
        searched = max(start, self._searched - 1)
        if self._searched <= start:
            self._line = -1
        if self._line < 0:
            line_end = data.find(b"\r\n", searched)
            if line_end >= 0:
                self._line = line_end - start
        self._searched = len(data)
        limits = self.limits
        size = len(data) - start
        if (
            data[start] not in TOKEN_BYTES
            or BARE_LINE_END.search(data, searched) is not None
            or (size if self._line < 0 else self._line) > limits.request_line
            or (self._line >= 0 and size - self._line - 2 > limits.header_bytes)
        ):
            error = diagnose(bytes(data[start:]), limits)
            if error is not None:
                raise error

    # Reading a body -------------------------------------------------------------------------------------------

    def _read_fixed(self) -> Event | None:
        piece = self._take(self._left)
        if not piece:
            return None
        self._left -= len(piece)
        if self._left == 0:
            self._state = _MESSAGE_END
        return Body(piece)

    def _read_chunk_line(self) -> Event | None:
        data = self._data
        start = self._position
        most = self.limits.chunk_line
        end = data.find(b"\r\n", max(start, self._searched - 1), start + most + 2)
        line_feed = data.find(b"\n", max(start, self._searched), start + most + 1 if end < 0 else end)
        if line_feed >= 0 and data[line_feed - 1 : line_feed] != b"\r":
            raise BadRequestError("the line with a chunk's size must end with CRLF")
        if end < 0:
            self._searched = len(data)
            if len(data) - start > most + 1:
                raise ChunkLineTooLongError(f"the line with a chunk's size has more than {most} bytes")
            return None
        match = CHUNK_LINE.fullmatch(bytes(data[start:end]))
        if match is None:
            raise BadRequestError(f"not a chunk's size: {bytes(data[start : min(end, start + 60)])!r}")
        self._position = self._searched = end + 2
        self._left = int(match.group(1), 16)
        self._size += self._left
        if self._size > self.limits.body:
            raise BodyTooLargeError(f"the body has more than {self.limits.body} bytes")
        self._state = _CHUNK_DATA if self._left else _TRAILERS
        return self.next_event()

    def _read_chunk_data(self) -> Event | None:
        piece = self._take(self._left)
        if not piece:
            return None
        self._left -= len(piece)
        if self._left == 0:
            self._state = _CHUNK_END
        return Body(piece)

    def _read_chunk_end(self) -> Event | None:
        data = self._data
        start = self._position
        ending = data[start : start + 2]
        if ending != b"\r\n"[: len(ending)]:
            raise BadRequestError("a chunk is longer than its size: CRLF expected after it")
        if len(ending) < 2:
            return None
        self._position = start + 2
        self._searched = self._position
        self._state = _CHUNK_LINE
        return self.next_event()

    def _read_trailers(self) -> Event | None:
        data = self._data
        start = self._position
        limits = self.limits
        if data[start : start + 2] == b"\r\n":
            self._position = start + 2
            self._state = _MESSAGE_END
            return self.next_event()
        end = data.find(b"\r\n\r\n", max(start, self._searched - 3))
        too_large = TrailersTooLargeError(f"the trailer fields have more than {limits.trailer_bytes} bytes")
        if end < 0:
            searched = max(start, self._searched - 1)
            self._searched = len(data)
            if len(data) - start > limits.trailer_bytes or BARE_LINE_END.search(data, searched):
                error = diagnose_fields(
                    bytes(data[start:]), 0, limits.trailer_bytes, limits.headers, too_large=too_large
                )
                if error is not None:
                    raise error
            return None
        raw = bytes(data[start : end + 4])
        error = diagnose_fields(raw, 0, limits.trailer_bytes, limits.headers, too_large=too_large)
        if error is not None:
            raise error
        self._position = self._searched = end + 4
        self._state = _MESSAGE_END
        kept = [
            field
            for field in Headers.from_head("\r\n" + raw.decode("latin-1")).fields()
            if field[0].lower() not in NOT_IN_TRAILERS
        ]
        return Trailers(Headers(kept)) if kept else self.next_event()

    def _read_message_end(self) -> Event | None:
        self._state = _HEAD
        return _END

    def _read_failed(self) -> Event | None:
        raise ParserStateError("the parser has failed before; framing is lost")

    def _take(self, most: int) -> bytes:
        start = self._position
        piece = bytes(self._data[start : start + most])
        self._position = start + len(piece)
        return piece


_READERS: Final[tuple[Callable[[HttpParser], Event | None], ...]] = (
    HttpParser._read_head,
    HttpParser._read_fixed,
    HttpParser._read_chunk_line,
    HttpParser._read_chunk_data,
    HttpParser._read_chunk_end,
    HttpParser._read_trailers,
    HttpParser._read_message_end,
    HttpParser._read_failed,
)
