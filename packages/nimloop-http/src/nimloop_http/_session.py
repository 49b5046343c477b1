"""One HTTP connection: from bytes to requests, and, with what it is made of, to answers and back to bytes.

An `HttpSession` is made in four steps, each of which uses what is before it: how long a connection lives (`Lifetime`),
the order of its answers (`AnswerQueue`), who gets a request and its body (`Dispatcher`), and here, when it is read.

Reading stops while too many answers are open, while the client does not take what it asked for, and while a body is not
wanted, so that a connection costs a bounded amount.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from nimloop_http._dispatch import Dispatcher
from nimloop_http._framing import Head
from nimloop_http._incoming import RequestBody
from nimloop_http._lifetime import ENDED, FAREWELL, FOR_ANSWER, FOR_BODY, FOR_HEAD, LAST, NOTHING, SERVING, UNREAD
from nimloop_http.errors import (
    IncompleteMessageError,
    ProtocolError,
    RequestTimeoutError,
    StaleResponseError,
)
from nimloop_http.parser import Body, End
from nimloop_http.request import HttpRequest
from nimloop_http.response import HttpResponse
from nimloop_net import Connection, OnShutdown

if TYPE_CHECKING:
    from nimloop_http._source import Source
    from nimloop_http.server import HttpServer

_PER_TURN: Final = 64  # requests, or pieces of a body; then the other connections are served first


@final
class HttpSession(Dispatcher):
    """Everything the server knows about one connection."""

    __slots__ = ("_turn_over",)

    def __init__(self, server: HttpServer, connection: Connection, source: Source) -> None:
        super().__init__(server, connection, source)
        self._turn_over = False  # `_on_turn` is going to be called; until then the other connections are served
        self._timer = connection.loop.call_later(server.shortest, self._on_timer)
        connection.stall = server.timeouts.write
        connection.on_data = self.receive
        # A bound method each would be a fifth of what an idle connection takes: what is called seldom looks for it.
        connection.context = self
        connection.on_eof = _on_eof
        connection.on_drain = _on_drain
        connection.on_close = _on_close
        connection.on_shutdown = _on_shutdown

    # From bytes to requests -----------------------------------------------------------------------------------

    def receive(self, _connection: Connection, data: bytes) -> None:
        """Take bytes of the client."""
        if self._state == SERVING or self._receiving is not None:
            self._parser.push(data)
            self._advance()

    def _advance(self) -> None:
        """Handle the requests that are there, as many as may be handled now."""
        if self._advancing or self._turn_over:
            return
        if self._state != SERVING and (self._state == ENDED or (self._receiving is None and self._postponed is None)):
            return
        self._advancing = True
        self._now_ns = UNREAD
        try:
            self._handle_requests()
        except ProtocolError as error:
            # Its traceback would tie the error and the frames of the parser, hence this session, into a cycle.
            self._refuse(error.with_traceback(None))
        finally:
            self._advancing = False
        if self._state != ENDED:
            self._set_deadline(self._now_ns)

    def _end_turn(self) -> None:
        self._block()
        self._turn_over = True
        self.connection.loop.call_soon(self._on_turn)

    def _on_turn(self) -> None:
        self._turn_over = False
        self._advance()

    def _handle_requests(self) -> None:
        if self._blocked and not self._unblock():
            return
        parser = self._parser
        server = self._server
        methods = server.methods
        turn = _PER_TURN
        while True:
            event = parser.next_event()
            if event is None:
                return
            if isinstance(event, Head):
                response = HttpResponse(self, event)
                self._open(response)
                self._waiting_for = NOTHING  # a new message has time-outs of its own
                self._now_ns = UNREAD
                if not event.keep_alive:
                    self._state = LAST
                if (
                    event.has_body
                    or event.upgrade
                    or server.looks_first
                    or (methods is not None and event.method not in methods)
                    or event.unknown_expectation
                ):
                    most = server.limits.body
                    self._begin(response, event, RequestBody(self, response, event, most) if event.has_body else None)
                else:
                    self._dispatch(response, HttpRequest(event, self.source))
            elif isinstance(event, Body):
                self._take(event.data)
            elif isinstance(event, End):
                self._on_body_end()
            else:
                assert self._receiving is not None
                self._receiving.trailers = event.headers
                continue
            if self._receiving is None:
                if self._state != SERVING:
                    if self._postponed is not None:
                        self._block()  # until it is that request's turn
                    return
                if (self._first is not None or self._behind) and self._has_to_wait():
                    self._block()  # until an answer is complete, or on_drain
                    return
            elif self._receiving.paused:
                self._block()  # until it is resumed
                return
            turn -= 1
            if turn == 0:
                self._end_turn()
                return

    def _has_to_wait(self) -> bool:
        """Whether too many answers are open, or too little of them was taken, to read another request.

        Nor is one read while the connection may still change to another protocol.
        """
        upgrading = self._upgrading
        if upgrading is not None:
            if not upgrading.done:
                return True
            self._upgrading = None
        return self._behind or (self._first is not None and 1 + len(self._later or ()) >= self._server.limits.pipeline)

    def _block(self) -> None:
        self._blocked = True
        self.connection.pause_reading()

    def _unblock(self) -> bool:
        """Do what had to wait, if its time has come; tell whether to read on."""
        body = self._receiving
        if body is not None:
            if body.paused:
                return False
            if body.ended:
                self._complete(body)
        elif self._postponed is not None and self._first is not None and self._first is self._upgrading:
            request, self._postponed = self._postponed, None
            self._dispatch(self._first, request)
        if self._receiving is None and (self._state != SERVING or self._has_to_wait()):
            return False
        self._blocked = False
        self.connection.resume_reading()
        return True

    # What lets it go on ---------------------------------------------------------------------------------------

    def finish(self, response: HttpResponse) -> None:
        """Take note that a response is complete: others get their turn, and what had to wait for it goes on."""
        if self._pass_turn(response) and not self._advancing:
            self._advance()

    def on_drain(self) -> None:
        """The client has taken most of what was queued."""
        self._behind = False
        if self._first is not None:
            self._first.drained()
        self._advance()

    def body_resumed(self, body: RequestBody) -> None:
        """The sink of a body goes on after a pause, whose time is not the client's."""
        if self._receiving is not body:
            return
        self._extend_deadline(body.paused_at_ns)
        if not body.ended:
            self._ask_for(body)
        self._advance()

    def body_failed(self, body: RequestBody, error: Exception) -> None:
        """A body is not wanted as it is, say its sink or a deadline: answer that, and go on."""
        if self._receiving is body:
            self._fail_body(body, error)
            self._advance()

    # Ending ---------------------------------------------------------------------------------------------------

    def _refuse(self, error: ProtocolError) -> None:
        """The peer broke the framing: answer what the error says, after the answers before it, and close."""
        self._state = LAST
        body = self._receiving
        if body is None:
            response = HttpResponse(self, None)
            self._open(response)
        else:
            response = body.response
            self._abandon(error)
        self._waiting_for = NOTHING
        if response.done:
            if self._first is None:
                self._end(linger=None)
            return
        if response.sent:
            self.break_off()
            return
        if self._server.access_log:
            self._server.log_when_done(response)
        response.replace_by_error(error.status, str(error), close=True, mute=body is None and self._parser.is_head)

    def on_eof(self) -> None:
        """The client sends no more; what it has asked for it still gets.

        While requests wait in the parser nothing is read, the end neither. So what is incomplete now stays so.
        """
        if self._state == SERVING:
            self._state = LAST
        body = self._receiving
        if body is not None and not body.ended:
            response = body.response
            self._abandon(IncompleteMessageError("the client ended its side in the middle of the body"))
            if not response.done:
                if response.sent:
                    self.break_off()
                    return
                if self._first is response:
                    self._close_first()
                else:
                    assert self._later is not None
                    self._later.remove(response)
                response.lost(from_loop=True)
        if self._first is not None or self._receiving is not None:
            self._set_deadline(UNREAD)  # no longer for the body
        else:
            self._end(linger=0)

    def hand_over(self, data: bytes, on_shutdown: OnShutdown | None) -> bytes:
        """Send `data` and leave the connection to another protocol; return what was received for that one."""
        connection = self.connection
        if connection.state != "open":
            raise StaleResponseError("the client has ended the connection, or its side of it")
        connection.send(data)
        self._state = ENDED
        self._server.tally.add(101)
        self._timer.cancel()
        self._first = None
        connection.on_data = connection.on_eof = connection.on_drain = connection.on_close = None
        connection.context = None
        connection.on_shutdown = on_shutdown
        connection.resume_reading()
        if self._server.stopping:
            connection.loop.call_soon(connection.end_with_server)
        return self._parser.remaining_data()

    def on_close(self, error: Exception | None) -> None:
        """The connection is gone, and what is under way with it."""
        self._state = ENDED
        if self._receiving is not None:
            self._abandon(error or ConnectionResetError("the client has gone"))
        self._postponed = self._upgrading = None
        self._timer.cancel()
        self._server.count_sent(self.connection)
        response = self._first
        while response is not None:
            following = self._close_first()
            response.lost(from_loop=True)
            response = following

    # Deadlines ------------------------------------------------------------------------------------------------

    def _on_timer(self) -> None:
        if self._state == ENDED:
            return  # the connection sends what is queued, with a patience of its own, and `on_close` follows
        now = self._clock()
        if self._is_stalled(now):
            self.break_off()  # the client takes nothing of what it asked for
            return
        server = self._server
        left = self._time_left(now)
        if left <= 0:
            self._on_deadline()
            left = server.write_ns
            self._deadline_ns = now + left
        if self._state != ENDED:
            # Deadlines set meanwhile are at least the shortest time-out away, so this is never too late for them.
            if self._stalled_at_ns >= 0:
                left = min(left, self._stalled_at_ns + server.write_ns - now)
            self._timer.reschedule(min(left / 1e9, server.shortest))

    def _on_deadline(self) -> None:
        """What had to happen has not happened in time."""
        body = self._receiving
        if self._waiting_for == FOR_BODY and body is not None:
            if body.paused:
                seconds = self._server.timeouts.answer
                self.body_failed(body, TimeoutError(f"the body was not taken for {seconds:g} seconds"))
            else:
                self._refuse(RequestTimeoutError("the body of the request did not arrive in time"))
        elif self._waiting_for == FOR_HEAD and not self._parser.idle:
            self._refuse(RequestTimeoutError("the head of the request did not arrive in time"))
        elif self._first is None:
            if not self.connection.write_buffer_size:
                self._end(linger=FAREWELL)
        elif not self._first.sent and self._waiting_for == FOR_ANSWER:
            response = self._first
            seconds = self._server.timeouts.answer
            error = TimeoutError(f"{response.head!r} was not answered within {seconds:g} seconds")
            self.connection.loop.exception_handler(error, response)
            if not response.sent and not response.closed:
                response.replace_by_error(503, close=False)


def _session_of(connection: Connection) -> HttpSession:
    session = connection.context
    assert isinstance(session, HttpSession)
    return session


def _on_eof(connection: Connection) -> None:
    _session_of(connection).on_eof()


def _on_drain(connection: Connection) -> None:
    _session_of(connection).on_drain()


def _on_close(connection: Connection, error: Exception | None) -> None:
    session = _session_of(connection)
    connection.context = None  # a cycle, else
    session.on_close(error)


def _on_shutdown(connection: Connection) -> None:
    _session_of(connection).on_shutdown()
