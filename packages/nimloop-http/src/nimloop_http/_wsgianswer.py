"""The loop's side of a WSGI application: what it says becomes a response.

The application may run in a thread of a pool. What touches the response is done by the loop's thread, in the order in
which it was said. How much may be said before it is sent has a bound: whoever says more waits for room.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Final, NamedTuple, final

from nimloop_core import NimloopError
from nimloop_http._encode import is_bodyless
from nimloop_http._stream import ResponseStream
from nimloop_http.request import HttpRequest
from nimloop_http.response import HttpResponse

_AHEAD_BYTES: Final = 65536  # that an application in a thread may be ahead of the loop
_PIECE_BYTES: Final = 256  # what keeping a piece costs besides its bytes
_LOOK_SECONDS: Final = 1.0  # how often a thread that waits looks whether the loop is still there


class AnswerHead(NamedTuple):
    """What the application has said in `start_response`."""

    status: int
    fields: list[tuple[str, str]]
    length: int | None
    muted: bool
    """Whether no body is sent, whatever the application has."""


@final
class WsgiAnswer:
    """The answer to one request. An application that is not `threaded` runs in the loop's thread, and never waits."""

    __slots__ = (
        "_changed",
        "_loop",
        "_pending",
        "_req",
        "_res",
        "_stream",
        "_threaded",
        "begun",
        "behind",
        "gone",
        "on_gone",
        "on_room",
    )

    def __init__(self, req: HttpRequest, res: HttpResponse, *, threaded: bool) -> None:
        self._req: Final = req
        self._res: Final = res
        self._loop: Final = req.connection.loop
        self._threaded: Final = threaded
        self._stream: ResponseStream | None = None
        # For an application in the loop's thread.
        self.on_room: Callable[[], object] | None = None
        self.on_gone: Callable[[], object] | None = None
        self.begun = False  # the head is on its way: it can no longer be another one
        # Between the two sides; guarded by the condition.
        self._changed: Final = threading.Condition()
        self._pending = 0  # bytes that wait to be taken over by the loop
        self.behind = False  # the client is: on_drain follows
        self.gone = False  # there is nobody left to write for
        res.on_close = self._on_close
        res.at_end(self._on_end)

    # What the application says, in its thread -----------------------------------------------------------------

    def say_whole(self, head: AnswerHead, body: bytes) -> None:
        """Have everything sent at once."""
        self.begun = True
        self._in_loop(lambda: self._send_whole(head, body))

    def say_file(self, head: AnswerHead, fd: int, position: int, count: int) -> None:
        """Have a range of a file sent; the descriptor is taken over."""
        self.begun = True
        self._in_loop(lambda: self._send_file(head, fd, position, count), or_else=lambda: os.close(fd))

    def say_piece(self, head: AnswerHead, data: bytes) -> None:
        """Have a piece sent, with the head before the first one; others may follow when there is room."""
        self.begun = True
        with self._changed:
            self._pending += len(data) + _PIECE_BYTES
        self._in_loop(lambda: self._send_piece(head, data))

    def say_end(self) -> None:
        """The last piece was said."""
        self._in_loop(self._end)

    def say_failure(self, error: Exception) -> None:
        """Have an error reported, and answered if nothing was said before."""
        begun, self.begun = self.begun, True
        self._in_loop(lambda: self._answer_failure(error, begun=begun))

    def report(self, error: Exception) -> None:
        """Have an error reported that changes nothing any more."""
        self._in_loop(lambda: self._loop.exception_handler(error, self._req))

    def wait(self) -> bool:
        """Wait until there is room for more; False when nobody wants it any more."""
        with self._changed:
            while not self.gone and (self.behind or self._pending > _AHEAD_BYTES):
                self._changed.wait(_LOOK_SECONDS)
                if self._loop.closed:
                    self.gone = True
            return not self.gone

    def _in_loop(self, what: Callable[[], object], or_else: Callable[[], object] | None = None) -> None:
        """Have something done by the loop's thread, in order; `or_else` if that has ended."""
        if not self._threaded:
            what()
            return
        try:
            self._loop.call_soon_threadsafe(what)
        except NimloopError:
            self.gone = True
            if or_else is not None:
                or_else()

    # In the loop's thread -------------------------------------------------------------------------------------

    def give_up(self) -> None:
        """The application has not begun, and will not: somebody else answers."""
        self._res.on_close = None

    def _with_head(self, head: AnswerHead) -> HttpResponse:
        res = self._res.status(head.status)
        for name, value in head.fields:
            if name == "connection":
                res.close_connection()
            else:
                res.header(name, value)
        return res

    def _is_too_late(self) -> bool:
        """Tell whether the client has gone, or was answered in the place of an application that took too long."""
        if self._res.closed:
            return True
        if self._stream is None and self._res.sent:
            self._go()
        return self.gone

    def _send_whole(self, head: AnswerHead, body: bytes) -> None:
        if self._is_too_late():
            return
        res = self._with_head(head)
        if is_bodyless(head.status):
            res.send()
        elif head.muted and (head.length is not None or not body):
            res.stream("", length=head.length).end()  # HEAD: as long as the application says, or nobody knows
        else:
            res.send(body)

    def _send_file(self, head: AnswerHead, fd: int, position: int, count: int) -> None:
        if self._is_too_late():
            os.close(fd)
        else:
            self._with_head(head).send_file(fd, position, count)

    def _send_piece(self, head: AnswerHead, data: bytes) -> None:
        room = True
        try:
            if not self._is_too_late():
                if self._stream is None:
                    self._stream = self._with_head(head).stream("", length=head.length)
                    self._stream.on_drain = self._on_drain
                room = self._stream.write(data)
        finally:
            with self._changed:
                self._pending -= len(data) + _PIECE_BYTES
                self.behind = not room
                self._changed.notify()

    def _end(self) -> None:
        if self._stream is not None and not self._stream.closed:
            self._stream.end()

    def _answer_failure(self, error: Exception, *, begun: bool) -> None:
        self._loop.exception_handler(error, self._req)
        if self._res.closed or self._res.done:
            return
        if begun:
            self._res.connection.abort()  # the client must not take it for complete
        else:
            self._res.replace_by_error(500, close=False)

    def _on_drain(self) -> None:
        with self._changed:
            self.behind = False
            self._changed.notify()
        if self.on_room is not None:
            self.on_room()

    def _on_end(self) -> None:
        if not self.begun:
            self._on_close()
        elif self._res.done:  # else it is lost, and `_on_close` was called or follows
            self.on_room = self.on_gone = None  # they lead back here: a cycle

    def _on_close(self) -> None:
        self._go()
        on_gone = self.on_gone
        self.on_room = self.on_gone = None
        if on_gone is not None:
            on_gone()

    def _go(self) -> None:
        with self._changed:
            self.gone = True
            self._changed.notify()
