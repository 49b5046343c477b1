"""The open answers of one connection, and how they become bytes in the order of their requests.

The answers that are open stand in a queue. Only the first one writes to the connection; the others hold what they have
until it is their turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nimloop_http._lifetime import ENDED, LAST, NOTHING, SERVING, UNREAD, Lifetime
from nimloop_net import Connection, ConnectionClosedError

if TYPE_CHECKING:
    from nimloop_http._source import Source
    from nimloop_http._workers import WorkerPool
    from nimloop_http.request import HttpRequest
    from nimloop_http.response import HttpResponse
    from nimloop_http.server import HttpServer


class AnswerQueue(Lifetime):
    """What a response knows of its connection: its turn."""

    __slots__ = ("_behind", "_date", "_later", "_now_ns", "_postponed", "_send", "_upgrading", "source")

    def __init__(self, server: HttpServer, connection: Connection, source: Source) -> None:
        super().__init__(server, connection, source)
        self.source: Final = source
        self._date: Final = server.date
        self._send: Final = connection.send
        self._now_ns = UNREAD  # when the last answer was given, as long as the requests that are there are handled
        self._later: list[HttpResponse] | None = None  # behind the first; of pipelined requests, hence mostly none
        self._upgrading: HttpResponse | None = None  # answers a request that offered another protocol
        self._postponed: HttpRequest | None = None  # that request, until the answers before it are complete
        self._behind = False  # the connection is above its high-water mark: on_drain follows

    @property
    def workers(self) -> WorkerPool:
        """The server's threads for files."""
        return self._server.workers

    def date_line(self) -> str:
        """Return the Date field of an answer that is given now, as a line."""
        now_ns = self._now_ns = self._clock()
        return self._date.line(now_ns)

    def _open(self, response: HttpResponse) -> None:
        """A request was read: its answer is the last of those that are open."""
        if self._first is None:
            self._first = response
        elif self._later is None:
            self._later = [response]
        else:
            self._later.append(response)

    def _close_first(self) -> HttpResponse | None:
        """The first of the open answers is done with; return the next one."""
        self._first = self._later.pop(0) if self._later else None
        return self._first

    @property
    def goes_on(self) -> bool:
        """Whether no answer can be the last one, unless it says so itself."""
        return self._state == SERVING and self._receiving is None

    def is_final(self, response: HttpResponse) -> bool:
        """Tell whether the connection ends with this answer."""
        body = self._receiving
        if body is not None and body.response is response and body.is_too_much_to_skip():
            return True
        return self._state == LAST and (self._later[-1] if self._later else self._first) is response

    def set_last(self, response: HttpResponse) -> None:
        """Let the connection end with this answer: requests after it are not handled, or their answers are lost."""
        if self._state == SERVING:
            self._state = LAST
        queue = self._later or []
        while queue and queue[-1] is not response:
            later = queue.pop()
            if self._receiving is not None and later is self._receiving.response:
                self._abandon(ConnectionAbortedError("the connection ends with an answer before this one"))
            elif later is self._upgrading:
                self._postponed = None
            later.lost()

    def make_room(self, size: int) -> None:
        """Let the connection take a whole answer of `size` bytes: its limit is for streams that never stop writing."""
        connection = self.connection
        connection.max_buffer = max(connection.max_buffer, connection.write_buffer_size + size)

    def write(self, response: HttpResponse, data: bytes) -> bool:
        """Send a piece of a response, or keep it until the answers before it are complete."""
        if self._first is not response:
            response.hold(data)
            return False
        try:
            if self._send(data):
                return True
            if not self.connection.closed:
                self._behind = True
                return False
        except ConnectionClosedError:
            pass
        self._state = ENDED  # the response will be told, by on_close
        return False

    def write_file(self, response: HttpResponse, fd: int, offset: int, count: int) -> bool:
        """Do the same for a range of a file."""
        if self._first is not response:
            response.hold((fd, offset, count))
            return False
        try:
            if self.connection.send_file(fd, offset, count):
                return True
            self._behind = True
        except ConnectionClosedError:
            self._state = ENDED
        return False

    def _pass_turn(self, response: HttpResponse) -> bool:
        """A response is complete: if it is the first, the next ones get their turn. Tell whether others may begin."""
        response.on_close = None  # often leads back here: a cycle
        if response._ending is not None:
            response.tell_end(complete=True)
        self._server.tally.add(response._status)
        if self._first is not response:
            return False
        while True:
            following = self._close_first()
            if response.closes:
                self._end_with(response)
                return False
            if following is None:
                if self._state == LAST:
                    self._end(linger=None)
                return True
            response = following
            self._release(response)
            if not response.done:
                self._waiting_for = NOTHING  # its time begins now
                self._set_deadline(UNREAD)
                return True

    def _release(self, response: HttpResponse) -> None:
        """It is this response's turn: send what it holds."""
        held, response.held = response.held, None
        if held is None:
            return
        if response.done:
            self.make_room(sum(len(item) for item in held if not isinstance(item, tuple)))
        room = True
        for item in held:
            room = self.write_file(response, *item) if isinstance(item, tuple) else self.write(response, item)
        if room:
            self.connection.loop.call_soon(response.drained)

    def count_lost(self) -> None:
        """Take note that a client has gone before its answer was complete."""
        self._server.lost += 1
