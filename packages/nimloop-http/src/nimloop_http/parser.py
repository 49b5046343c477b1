"""An HTTP/1.1 parser that knows no socket, no loop and no clock.

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

`HttpParser.for_responses()` reads what a server sends; its heads are of `ResponseHead`. The states and the moves
between them are in `_parser_state`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Self, final

from nimloop_http._events import Body as Body
from nimloop_http._events import End as End
from nimloop_http._events import Event as Event
from nimloop_http._events import Trailers as Trailers
from nimloop_http._framing import STANDARD_METHODS
from nimloop_http._heads import HeadReader
from nimloop_http._parser_state import (
    FAILED,
    HEAD,
    LAST_END,
    MESSAGE_END,
    OVER,
    PAUSED,
    SWITCHED,
    UNTIL_END,
)
from nimloop_http.errors import BacklogError, IncompleteMessageError, ParserStateError, ProtocolError
from nimloop_http.limits import DEFAULT_LIMITS, Limits

__all__ = ["Body", "End", "Event", "HttpParser", "Trailers"]

_BACKLOG: Final = 16 << 20  # some hundred times what one read of a socket brings


@final
class HttpParser(HeadReader):
    """Turns the bytes of one connection into the events of its requests.

    `methods` are the ones implemented; another raises `UnknownMethodError`. None lets every token pass. Without
    `empty_ends`, a request whose head says `has_body` is false consists of that one event: no `End` follows it. Without
    `expectations`, an unknown one raises nothing and is found in ``head.unknown_expectation``. Unless `secure`, an
    absolute target of https raises `MisdirectedError`. No more than `backlog` bytes are kept for later.
    """

    __slots__ = ("_answers", "_paused", "_readers", "backlog")

    def __init__(
        self,
        limits: Limits = DEFAULT_LIMITS,
        *,
        methods: frozenset[str] | None = STANDARD_METHODS,
        empty_ends: bool = True,
        expectations: bool = True,
        secure: bool = True,
        backlog: int = _BACKLOG,
        responses: bool = False,
    ) -> None:
        super().__init__(limits, methods=methods, empty_ends=empty_ends, expectations=expectations, secure=secure)
        self.backlog: Final = backlog
        self._answers: Final = responses
        self._readers: Final = _RESPONSE_READERS if responses else _READERS
        self._paused = HEAD  # where `resume` goes back to

    @classmethod
    def for_responses(cls, limits: Limits = DEFAULT_LIMITS, *, backlog: int = _BACKLOG) -> Self:
        """Return a parser of what a server sends: tell it each request with `request_sent`."""
        return cls(limits, backlog=backlog, responses=True)

    # Feeding --------------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> Iterator[Event]:
        """Add bytes and return an iterator over the events that are complete now.

        What is not asked for stays in the parser. Iterating raises `ProtocolError`.
        """
        self.push(data)
        return self

    def push(self, data: bytes) -> None:
        """Add bytes without looking at them.

        Raises `ParserStateError` after an error and when the connection is another's, and `BacklogError` where too much
        waits already; then nothing was added.
        """
        if self._state >= OVER:
            raise ParserStateError(_WHY_NOT[self._state])
        rest = self._data
        if self._position == len(rest):
            self._data = data
            self._position = self._searched = 0
            return
        if len(rest) - self._position + len(data) > self.backlog:
            raise BacklogError(f"more than {self.backlog} bytes wait: take events before pushing more")
        if type(rest) is bytearray:
            del rest[: self._position]
        else:
            rest = bytearray(rest[self._position :])
            self._data = rest
        self._searched = max(0, self._searched - self._position)
        self._position = 0
        rest += data

    def request_sent(self, method: str) -> None:
        """Take note of a request that was sent, of which the answer is read here.

        An answer to HEAD has no body whatever it says, and one to CONNECT may be the last (RFC 9112 §6.3). An answer
        to a request that nobody told of is taken for one to GET.
        """
        if self._requests is None:
            self._requests = []
        self._requests.append(method)

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
        if state == MESSAGE_END:  # this and a head in the fewest steps: they come with every request
            return self._read_message_end()
        try:
            if state == HEAD:
                if self._position == len(self._data):
                    return None
                if not self._answers:
                    return self._read_request()
            return self._readers[state](self)
        except ProtocolError:
            self._state = FAILED
            raise

    def end(self) -> None:
        """Take note that the peer sends no more; ask for all events first.

        The `End` of a response that lasts until now follows. Raises `IncompleteMessageError` in the middle of a
        message, and `ParserStateError` after an error.
        """
        state = self._reading
        if state == FAILED:
            raise ParserStateError(_WHY_NOT[FAILED])
        if state == UNTIL_END and self._position == len(self._data):
            self._state = LAST_END
        elif state not in {SWITCHED, OVER, LAST_END} and not self.idle:
            self._state = FAILED
            raise IncompleteMessageError("the peer ended its side in the middle of a message")

    # Pausing and handing over ---------------------------------------------------------------------------------

    def pause(self) -> None:
        """From now on there are no events; bytes that are pushed are kept."""
        if self._state < PAUSED:
            self._paused = self._state
            self._state = PAUSED

    def resume(self) -> None:
        """Events go on where they were stopped: ask for them."""
        if self._state == PAUSED:
            self._state = self._paused

    @property
    def paused(self) -> bool:
        """Whether `pause` was called, and not `resume`."""
        return self._state == PAUSED

    @property
    def switched(self) -> bool:
        """Whether a response has changed the protocol: what follows is had from `remaining_data`."""
        return self._state == SWITCHED

    def remaining_data(self) -> bytes:
        """Take out every byte that has not been used: what comes after an upgrade belongs to the next protocol.

        With that the parser is over: pushing raises `ParserStateError`.
        """
        rest = bytes(self._data[self._position :])
        self._data = b""
        self._position = self._searched = 0
        if self._state != FAILED:
            self._state = OVER
        return rest

    def reset(self) -> None:
        """Forget everything, bytes and errors included: the next byte is the first of another connection."""
        self._data = b""
        self._position = self._searched = self._left = self._size = 0
        self._line = -1
        self._state = self._paused = HEAD
        self._blank_line = self.is_head = False
        self._requests = None

    # What it holds --------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether it stands between two messages, with nothing of the next one."""
        return self._position == len(self._data) and self._reading == HEAD

    @property
    def in_body(self) -> bool:
        """Whether a head was returned and the end of its message was not."""
        return HEAD < self._reading < PAUSED

    @property
    def held(self) -> int:
        """How many bytes wait to be used."""
        return len(self._data) - self._position

    @property
    def _reading(self) -> int:
        """The state, or when paused the one to go back to."""
        return self._paused if self._state == PAUSED else self._state

    # Not reading -----------------------------------------------------------------------------------------------

    def _read_nothing(self) -> Event | None:
        return None

    def _read_failed(self) -> Event | None:
        raise ParserStateError(_WHY_NOT[FAILED])


_WHY_NOT: Final = {
    OVER: "the connection belongs to another protocol, or has ended",
    FAILED: "the parser has failed before; framing is lost",
}

_READERS: Final[tuple[Callable[[HttpParser], Event | None], ...]] = (
    HttpParser._read_request,
    HttpParser._read_fixed,
    HttpParser._read_chunks,
    HttpParser._read_trailers,
    HttpParser._read_until_end,
    HttpParser._read_message_end,
    HttpParser._read_last_end,
    HttpParser._read_nothing,  # PAUSED
    HttpParser._read_nothing,  # SWITCHED
    HttpParser._read_nothing,  # OVER
    HttpParser._read_failed,
)
_RESPONSE_READERS: Final[tuple[Callable[[HttpParser], Event | None], ...]] = (
    HttpParser._read_response,
    *_READERS[1:],
)
