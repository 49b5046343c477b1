"""One request on its way through a WSGI application, block by block.

Two sides meet here. The application's side runs in a thread of a pool, or in the loop's own; it is a generator that
stops after each block. What touches the response runs in the loop's thread, in the order in which it was said.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Generator, Iterable
from functools import partial
from types import TracebackType
from typing import Final, final
from wsgiref.types import WSGIApplication

from nimloop_core import NimloopError
from nimloop_http import _encode
from nimloop_http._environ import FileWrapper, regular_file
from nimloop_http._stream import ResponseStream
from nimloop_http.errors import ContentLengthError, WsgiError
from nimloop_http.request import HttpRequest
from nimloop_http.response import HttpResponse

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]

_STATUS: Final = re.compile(r"([2-5][0-9]{2})(?: [^\x00-\x1f\x7f]*)?", re.ASCII)
_DIGITS: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
# RFC 2616 §13.5.1, to which PEP 3333 refers: they are about this connection, of which the application knows nothing.
_HOP_BY_HOP: Final = frozenset(
    {"keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailers", "transfer-encoding", "upgrade"}
)
_MOST_BYTES: Final = 1 << 20  # of a block that are handed over at once: a connection has a limit for what is unsent
_AHEAD_BYTES: Final = 65536  # that an application in a thread may be ahead of the loop
_PIECE_BYTES: Final = 256  # what keeping a piece costs besides its bytes
_PER_TURN: Final = 64  # pieces of an application in the loop's thread; then others are served
_LOOK_SECONDS: Final = 1.0  # how often a thread that waits looks whether the loop is still there


class _Gone(Exception):
    """There is nobody left to write for."""


@final
class WsgiCall:
    """One request on its way through the application. What touches the response is done by the loop's thread."""

    __slots__ = (
        "_app",
        "_begun",
        "_behind",
        "_changed",
        "_environ",
        "_fields",
        "_gone",
        "_input",
        "_left",
        "_length",
        "_loop",
        "_muted",
        "_pending",
        "_req",
        "_res",
        "_status",
        "_steps",
        "_stream",
        "_threaded",
    )

    def __init__(
        self, app: WSGIApplication, environ: dict[str, object], req: HttpRequest, res: HttpResponse, *, threaded: bool
    ) -> None:
        self._app: Final[WSGIApplication] = app
        self._environ: Final = environ
        self._input: Final = environ["wsgi.input"]  # whatever the application puts in its place
        self._req: Final = req
        self._res: Final = res
        self._loop: Final = req.connection.loop
        self._threaded: Final = threaded
        self._steps: Final = self._go_through()
        # The application's side: what it has said so far.
        self._status = 0
        self._fields: list[tuple[str, str]] = []
        self._length: int | None = None
        self._left = 0  # of the length
        self._muted = False  # no body is sent, whatever the application has
        self._begun = False  # the head is on its way: it can no longer be another one
        # The loop's side.
        self._stream: ResponseStream | None = None
        # Between the two; guarded by the condition.
        self._changed: Final = threading.Condition()
        self._pending = 0  # bytes that wait to be taken over by the loop
        self._behind = False  # on_drain follows
        self._gone = False
        res.on_close = self._on_close
        res.at_end(self._on_end)

    # Turning the crank ----------------------------------------------------------------------------------------

    def run(self) -> None:
        """Go through with it, in a thread of the pool."""
        if self._gone:
            self._close(self._input)
            return
        for _ in self._steps:
            if not self._wait():
                self._steps.close()

    def advance(self) -> None:
        """Go on with it in the loop's thread, until the client is behind."""
        for _ in range(_PER_TURN):
            if self._gone:
                self._steps.close()
                return
            if next(self._steps, self) is self:
                return
            if self._behind:
                return
        self._loop.call_soon(self.advance)

    def give_up(self) -> None:
        """Do not begin: there is no thread for it."""
        self._res.on_close = None
        self._close(self._input)

    def _go_through(self) -> Generator[None]:
        """Run the application; yields where the client may have to catch up."""
        result: Iterable[bytes] | None = None
        try:
            result = self._app(self._environ, self._start_response)
            if not self._send_at_once(result):
                for data in result:
                    for piece in _pieces(data):
                        self._send(piece)
                        yield
                    if self._muted or (self._length is not None and not self._left):
                        break  # PEP 3333: a server should stop iterating when enough has been sent
                self._finish()
        except _Gone:
            pass
        except Exception as error:
            self._fail(error)
        except (SystemExit, KeyboardInterrupt) as error:
            self._fail(error)
            if not self._threaded:
                raise
        finally:
            self._close(result)
            self._close(self._input)

    def _close(self, result: object) -> None:
        close = getattr(result, "close", None)
        if close is not None:
            try:
                close()
            except Exception as error:
                self._in_loop(partial(self._loop.exception_handler, error, self._req))

    # What the application says --------------------------------------------------------------------------------

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: _ExcInfo | None = None, /
    ) -> Callable[[bytes], object]:
        if exc_info is not None:
            try:
                if self._begun and exc_info[1] is not None:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # a cycle through the traceback's frames
        elif self._status:
            raise WsgiError("start_response was called again, without exc_info")
        match = _STATUS.fullmatch(status)
        if match is None:
            raise WsgiError(f"not the status of a response: {status!r}")
        length: int | None = None
        fields: list[tuple[str, str]] = []
        for name, value in headers:
            lower = name.lower()
            if lower == "content-length":
                if not _DIGITS.fullmatch(value):
                    raise WsgiError(f"not a Content-Length: {value!r}")
                length = int(value)
            elif lower in _HOP_BY_HOP:
                raise WsgiError(f"{name} is the server's business")
            elif lower == "connection":
                if value.lower() == "close":
                    fields.append(("connection", "close"))
            elif lower != "date":  # the server sends its own
                _encode.check_name(name)
                _encode.check_value(value)
                fields.append((name, value))
        self._status = int(match[1])
        self._fields = fields
        self._length = length
        self._left = length or 0
        self._muted = self._req.method == "HEAD" or _encode.is_bodyless(self._status)
        return self._write

    def _write(self, data: bytes) -> None:
        """PEP 3333, "The write() Callable": send at once, and return when there is room for more."""
        if self._length is not None and not self._muted and len(data) > self._left:
            raise ContentLengthError(f"{len(data) - self._left} bytes more than the Content-Length")
        for piece in _pieces(data):
            self._send(piece)
            if self._threaded and not self._wait():
                raise _Gone

    # Sending --------------------------------------------------------------------------------------------------

    def _send_at_once(self, result: Iterable[bytes]) -> bool:
        """Send a result of which everything is known already: a list, or a file. False for any other one."""
        if not self._status or self._begun:
            return False
        if isinstance(result, FileWrapper) and not self._muted:
            part = regular_file(result)
            if part is None:
                return False
            descriptor, position, rest = part
            if self._length is not None and self._length > rest:
                os.close(descriptor)
                return False
            count = rest if self._length is None else self._length
            self._begun = True
            self._in_loop(lambda: self._send_file(descriptor, position, count), or_else=lambda: os.close(descriptor))
            return True
        if isinstance(result, (list, tuple)):
            body = b"".join(result)
            if self._length is not None and not self._muted:
                if len(body) < self._length:
                    return False  # it will come to the same end as with any other result
                body = body[: self._length]
            self._begun = True
            self._in_loop(lambda: self._send_whole(body))
            return True
        return False

    def _send(self, data: bytes) -> None:
        """Have a block sent, with the head before the first one; PEP 3333 sends no head before it has a block."""
        if not self._status:
            raise WsgiError("the application has sent a body, and not called start_response")
        if self._muted or not data:
            return
        if self._length is not None:
            data = data[: self._left]
            self._left -= len(data)
            if not data:
                return
        self._begun = True
        with self._changed:
            self._pending += len(data) + _PIECE_BYTES
        self._in_loop(lambda: self._send_piece(data))

    def _finish(self) -> None:
        if not self._status:
            raise WsgiError("the application has returned, and not called start_response")
        if self._length is not None and self._left and not self._muted:
            raise ContentLengthError(f"{self._left} bytes less than the Content-Length")
        if self._begun:
            self._in_loop(self._end)
        else:
            self._begun = True
            self._in_loop(lambda: self._send_whole(b""))

    def _fail(self, error: BaseException) -> None:
        begun = self._begun
        self._begun = True
        problem = error if isinstance(error, Exception) else WsgiError(f"the application wanted to end: {error!r}")
        self._in_loop(lambda: self._answer_failure(problem, begun=begun))

    def _wait(self) -> bool:
        """Wait until there is room for more; False when nobody wants it any more."""
        with self._changed:
            while not self._gone and (self._behind or self._pending > _AHEAD_BYTES):
                self._changed.wait(_LOOK_SECONDS)
                if self._loop.closed:
                    self._gone = True
            return not self._gone

    def _in_loop(self, what: Callable[[], object], or_else: Callable[[], object] | None = None) -> None:
        """Have something done by the loop's thread, in order; `or_else` if that has ended."""
        if not self._threaded:
            what()
            return
        try:
            self._loop.call_soon_threadsafe(what)
        except NimloopError:
            self._gone = True
            if or_else is not None:
                or_else()

    # In the loop's thread -------------------------------------------------------------------------------------

    def _head(self) -> HttpResponse:
        res = self._res.status(self._status)
        for name, value in self._fields:
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
            with self._changed:
                self._gone = True
                self._changed.notify()
        return self._gone

    def _send_whole(self, body: bytes) -> None:
        if self._is_too_late():
            return
        res = self._head()
        if _encode.is_bodyless(self._status):
            res.send()
        elif self._muted and (self._length is not None or not body):
            res.stream("", length=self._length).end()  # HEAD: as long as the application says, or nobody knows
        else:
            res.send(body)

    def _send_file(self, descriptor: int, position: int, count: int) -> None:
        if self._is_too_late():
            os.close(descriptor)
        else:
            self._head().send_file(descriptor, position, count)

    def _send_piece(self, data: bytes) -> None:
        room = True
        try:
            if not self._is_too_late():
                if self._stream is None:
                    self._stream = self._head().stream("", length=self._length)
                    self._stream.on_drain = self._on_drain
                room = self._stream.write(data)
        finally:
            with self._changed:
                self._pending -= len(data) + _PIECE_BYTES
                self._behind = not room
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
            self._behind = False
            self._changed.notify()
        if not self._threaded:
            self.advance()

    def _on_end(self) -> None:
        if not self._begun:
            self._on_close()

    def _on_close(self) -> None:
        with self._changed:
            self._gone = True
            self._changed.notify()
        if not self._threaded:
            self._steps.close()


def _pieces(data: bytes) -> Iterable[bytes]:
    """Return a block in pieces that a connection has room for."""
    if not isinstance(data, bytes):
        raise TypeError(f"the body of a response is bytes, not {type(data).__name__}")
    if len(data) <= _MOST_BYTES:
        return (data,)
    return (data[at : at + _MOST_BYTES] for at in range(0, len(data), _MOST_BYTES))
