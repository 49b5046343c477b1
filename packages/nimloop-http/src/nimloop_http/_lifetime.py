"""How long a connection lives: what it waits for and until when, and how it ends.

The states: SERVING, while new requests may begin; LAST, when none may any more and what is under way is answered (the
client or the server has asked for the end, or framing is lost); ENDED, when the connection is closing.

A deadline is an absolute time, set when the wait for something begins. One timer per connection is re-armed only when
it fires: what a request costs is a clock reading, not a timer. That is the idea of `nimloop_core.Deadline`, written out
here, because a call for each request would cost as much again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nimloop_http.parser import HttpParser
from nimloop_net import Connection

if TYPE_CHECKING:
    from nimloop_core import Timer
    from nimloop_http._incoming import RequestBody
    from nimloop_http._source import Source
    from nimloop_http.response import HttpResponse
    from nimloop_http.server import HttpServer

SERVING: Final = 0
LAST: Final = 1
ENDED: Final = 2

# What the deadline is for. NOTHING: the next wait has a deadline of its own.
NOTHING: Final = -1
FOR_REQUEST: Final = 0
FOR_HEAD: Final = 1
FOR_BODY: Final = 2
FOR_ANSWER: Final = 3

UNREAD: Final = -1
"""In place of a time: the clock has to be read."""

# Seconds that an idle client has to end its side too: time to take the last answer off the network, and not so long
# that stopping a server has to wait for browsers.
FAREWELL: Final = 0.5


class Lifetime:
    """The state of one connection, and its deadline. The beginning of an `HttpSession`."""

    __slots__ = (
        "_advancing",
        "_blocked",
        "_clock",
        "_deadline_ns",
        "_first",
        "_parser",
        "_receiving",
        "_sent_before",
        "_server",
        "_stalled_at_ns",
        "_state",
        "_timer",
        "_waiting_for",
        "connection",
    )

    _timer: Timer  # armed where it is known what to do when it is due

    def __init__(self, server: HttpServer, connection: Connection, source: Source) -> None:
        self.connection: Connection = connection
        self._server: Final = server
        self._clock: Final = connection.loop.clock
        self._parser: Final = HttpParser(
            server.parser_limits, methods=None, empty_ends=False, expectations=False, secure=source.may_be_secure()
        )
        self._state = SERVING
        self._receiving: RequestBody | None = None
        self._first: HttpResponse | None = None  # of the answers that are open
        self._advancing = False  # requests are being handled
        self._blocked = False  # the parser may hold requests that have to wait for answers to leave
        self._waiting_for = FOR_HEAD
        self._deadline_ns = self._clock() + server.head_ns
        self._stalled_at_ns = -1  # since when the client takes nothing of what is queued, as far as the timer has seen
        self._sent_before = 0  # bytes that had left then

    # Deadlines ------------------------------------------------------------------------------------------------

    def _set_deadline(self, now_ns: int) -> None:
        """Note until when what comes next has to happen; a byte now and then does not extend that."""
        server = self._server
        if self._receiving is not None:
            waiting_for = FOR_BODY
            wait_ns = server.body_ns
        elif self._first is not None or self._blocked:
            waiting_for = FOR_ANSWER
            wait_ns = server.answer_ns
        elif not self._parser.idle:
            waiting_for = FOR_HEAD
            wait_ns = server.head_ns
        else:
            waiting_for = FOR_REQUEST
            wait_ns = server.idle_ns
        if waiting_for != self._waiting_for or waiting_for == FOR_REQUEST:
            self._waiting_for = waiting_for
            self._deadline_ns = (self._clock() if now_ns == UNREAD else now_ns) + wait_ns

    def _extend_deadline(self, since_ns: int) -> None:
        """Give the client the time since then back."""
        if self._waiting_for == FOR_BODY:
            self._deadline_ns += self._clock() - since_ns

    def _time_left(self, now_ns: int) -> int:
        """Return the nanoseconds until the deadline."""
        body = self._receiving
        if body is None or self._waiting_for != FOR_BODY:
            return self._deadline_ns - now_ns
        if body.paused:  # the time is the server's own
            return body.paused_at_ns + self._server.answer_ns - now_ns
        return self._deadline_ns - now_ns + int(body.received * 1e9 / self._server.limits.body_rate)

    def _is_stalled(self, now_ns: int) -> bool:
        """Tell whether the client has taken nothing of what is queued for too long."""
        connection = self.connection
        if connection.write_buffer_size == 0:
            self._stalled_at_ns = -1
        elif self._stalled_at_ns < 0 or connection.bytes_sent != self._sent_before:
            self._stalled_at_ns = now_ns
            self._sent_before = connection.bytes_sent
        return self._stalled_at_ns >= 0 and now_ns - self._stalled_at_ns >= self._server.write_ns

    # Ending ---------------------------------------------------------------------------------------------------

    def on_shutdown(self) -> None:
        """The server is stopping: end soon if nothing is under way, else after the answers that are.

        One last request is still answered: of a new connection, and of one in the middle of a head, for a moment,
        because the client could not know; of an idle one when it is in the kernel already.
        """
        if self._state != SERVING:
            return
        if self._first is not None or self._receiving is not None or self._advancing:
            self._state = LAST
            if self._first is None:
                self._end(linger=FAREWELL)
        elif self._waiting_for == FOR_HEAD:
            self._end_soon()
        else:
            loop = self.connection.loop
            loop.call_soon(lambda: loop.call_soon(self._end_idle))  # the loop looks for events in between

    def _end_idle(self) -> None:
        if self._state == SERVING and self._first is None and self._receiving is None:
            if self._parser.idle:
                self._end(linger=FAREWELL)
            else:
                self._end_soon()

    def _end_soon(self) -> None:
        self._deadline_ns = min(self._deadline_ns, self._clock() + int(FAREWELL * 1e9))
        self._timer.reschedule(FAREWELL)

    def _end_with(self, response: HttpResponse) -> None:
        """The last answer is complete."""
        head = response.head
        # A client that has said it will send no more needs no patience after the last byte.
        self._end(linger=0 if head is not None and not head.keep_alive and self._parser.idle else None)

    def _end(self, linger: float | None) -> None:
        """Close the connection after what is queued."""
        self._state = ENDED
        if self._receiving is not None:
            self._abandon(ConnectionAbortedError("the connection ends with the answer that was given"))
        self.connection.close_after_drain(linger)

    def break_off(self) -> None:
        """Cut the connection in the middle of a response, so that nobody takes it for complete."""
        self._state = ENDED
        self._abandon(ConnectionAbortedError("the connection was cut"))
        self.connection.abort()

    def _abandon(self, error: Exception) -> None:
        """The rest of a body will never come, or will not be read."""
        body, self._receiving = self._receiving, None
        if body is not None:
            body.abandon(error)
