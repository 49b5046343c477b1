"""One request on its way through a WSGI application, block by block.

The application runs in a thread of a pool, or in the loop's own; it is a generator that stops after each block. What it
says goes to a `WsgiAnswer`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Iterable
from types import TracebackType
from typing import Final, final
from wsgiref.types import WSGIApplication

from nimloop_http._encode import check_name, check_value, is_bodyless
from nimloop_http._environ import FileWrapper, regular_file
from nimloop_http._wsgianswer import AnswerHead, WsgiAnswer
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
_PER_TURN: Final = 64  # pieces of an application in the loop's thread; then others are served


class _Gone(Exception):
    """There is nobody left to write for."""


@final
class WsgiCall:
    """One request on its way through the application."""

    __slots__ = ("_answer", "_app", "_environ", "_head", "_input", "_left", "_loop", "_method", "_steps", "_threaded")

    def __init__(
        self, app: WSGIApplication, environ: dict[str, object], req: HttpRequest, res: HttpResponse, *, threaded: bool
    ) -> None:
        self._app: Final[WSGIApplication] = app
        self._environ: Final = environ
        self._input: Final = environ["wsgi.input"]  # whatever the application puts in its place
        self._method: Final = req.method
        self._loop: Final = req.connection.loop
        self._threaded: Final = threaded
        self._steps: Final = self._go_through()
        self._head: AnswerHead | None = None  # what start_response was called with
        self._left = 0  # of the length
        self._answer: Final = WsgiAnswer(req, res, threaded=threaded)
        if not threaded:
            self._answer.on_room = self.advance
            self._answer.on_gone = self._steps.close

    # Turning the crank ----------------------------------------------------------------------------------------

    def run(self) -> None:
        """Go through with it, in a thread of the pool."""
        if self._answer.gone:
            self._close(self._input)
            return
        for _ in self._steps:
            if not self._answer.wait():
                self._steps.close()

    def advance(self) -> None:
        """Go on with it in the loop's thread, until the client is behind."""
        for _ in range(_PER_TURN):
            if self._answer.gone:
                self._steps.close()
                return
            if next(self._steps, self) is self:
                return
            if self._answer.behind:
                return
        self._loop.call_soon(self.advance)

    def give_up(self) -> None:
        """Do not begin: there is no thread for it."""
        self._answer.give_up()
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
                    if self._has_enough():
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
                self._answer.report(error)

    # What the application says --------------------------------------------------------------------------------

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: _ExcInfo | None = None, /
    ) -> Callable[[bytes], object]:
        if exc_info is not None:
            try:
                if self._answer.begun and exc_info[1] is not None:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # a cycle through the traceback's frames
        elif self._head is not None:
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
                check_name(name)
                check_value(value)
                fields.append((name, value))
        code = int(match[1])
        self._head = AnswerHead(code, fields, length, muted=self._method == "HEAD" or is_bodyless(code))
        self._left = length or 0
        return self._write

    def _write(self, data: bytes) -> None:
        """PEP 3333, "The write() Callable": send at once, and return when there is room for more."""
        head = self._said()
        if head.length is not None and not head.muted and len(data) > self._left:
            raise ContentLengthError(f"{len(data) - self._left} bytes more than the Content-Length")
        for piece in _pieces(data):
            self._send(piece)
            if self._threaded and not self._answer.wait():
                raise _Gone

    def _said(self) -> AnswerHead:
        if self._head is None:
            raise WsgiError("the application has sent a body or returned, and not called start_response")
        return self._head

    # What becomes of it ---------------------------------------------------------------------------------------

    def _send_at_once(self, result: Iterable[bytes]) -> bool:
        """Send a result of which everything is known already: a list, or a file. False for any other one."""
        head = self._head
        if head is None or self._answer.begun:
            return False
        if isinstance(result, FileWrapper) and not head.muted:
            part = regular_file(result)
            if part is None:
                return False
            descriptor, position, rest = part
            if head.length is not None and head.length > rest:
                os.close(descriptor)
                return False
            self._answer.say_file(head, descriptor, position, rest if head.length is None else head.length)
            return True
        if isinstance(result, (list, tuple)):
            body = b"".join(result)
            if head.length is not None and not head.muted:
                if len(body) < head.length:
                    return False  # it will come to the same end as with any other result
                body = body[: head.length]
            self._answer.say_whole(head, body)
            return True
        return False

    def _send(self, data: bytes) -> None:
        """Have a block sent; PEP 3333 sends no head before it has one that is not empty."""
        head = self._said()
        if head.muted:
            return
        if head.length is not None:
            data = data[: self._left]
            self._left -= len(data)
        if data:
            self._answer.say_piece(head, data)

    def _has_enough(self) -> bool:
        head = self._said()
        return head.muted or (head.length is not None and not self._left)

    def _finish(self) -> None:
        head = self._said()
        if head.length is not None and self._left and not head.muted:
            raise ContentLengthError(f"{self._left} bytes less than the Content-Length")
        if self._answer.begun:
            self._answer.say_end()
        else:
            self._answer.say_whole(head, b"")

    def _fail(self, error: BaseException) -> None:
        problem = error if isinstance(error, Exception) else WsgiError(f"the application wanted to end: {error!r}")
        self._answer.say_failure(problem)


def _pieces(data: bytes) -> Iterable[bytes]:
    """Return a block in pieces that a connection has room for."""
    if not isinstance(data, bytes):
        raise TypeError(f"the body of a response is bytes, not {type(data).__name__}")
    if len(data) <= _MOST_BYTES:
        return (data,)
    return (data[at : at + _MOST_BYTES] for at in range(0, len(data), _MOST_BYTES))
