"""A response: once as a whole, once as a stream, or once as a file; now or later.

The states of a response: FRESH until something is sent, STREAMING between the head and the end of a stream, DONE.
`closed` says whether the client has gone, in any of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Self, final

from nimloop_http import _encode
from nimloop_http._encode import NO_LENGTH, STATUS_LINES, is_bodyless
from nimloop_http._encoder import encode as encode_response
from nimloop_http._ending import Ending
from nimloop_http._framing import Head
from nimloop_http._stream import ResponseStream
from nimloop_http._upgrade import encode_switch, offers
from nimloop_http.errors import ResponseSentError, StaleResponseError, UpgradeError
from nimloop_net import Connection, OnShutdown

if TYPE_CHECKING:
    from nimloop_core.abc import HasFileno
    from nimloop_http._session import HttpSession
    from nimloop_http._workers import WorkerPool

__all__ = ["HttpResponse"]

FRESH: Final = 0
STREAMING: Final = 1
DONE: Final = 2

_TEXT: Final = "Content-Type: text/plain; charset=utf-8\r\n"
_BINARY: Final = "Content-Type: application/octet-stream\r\n"

_encode_response: Final = encode_response  # a name of this module's own: that of another is looked up for each call

_JOIN_BYTES: Final = 65536  # a larger body is queued beside its head instead of being copied behind it


@final
class HttpResponse:
    """The answer to one request. Send it from the handler or, as long as the client is there, from anywhere later.

    Answers of one connection leave in the order of their requests, whatever the order they are given in.
    """

    __slots__ = (
        "_ending",
        "_fields",
        "_session",
        "_state",
        "_status",
        "_stream",
        "_type_line",
        "bytes_sent",
        "closed",
        "closes",
        "head",
        "held",
        "on_close",
    )

    def __init__(self, session: HttpSession, head: Head | None) -> None:
        """Prepare the answer to the request with `head`; None where it could not be read."""
        self._session: Final = session
        self.head: Final = head
        """The head of the request that this answers; None where it could not be read."""
        self._status = 200
        self._fields = ""  # whole lines
        self._type_line = ""
        self.closes: bool = head is None or not head.keep_alive
        """Whether the connection ends with this response."""
        self._state = FRESH
        self.closed: bool = False
        """Whether the connection has ended; nothing can be sent any more."""
        self.on_close: Callable[[], object] | None = None
        """Called when the client goes away before the response is complete."""
        self._ending: Ending | None = None
        self.bytes_sent: int = 0
        """Bytes of the body so far."""
        self.held: list[bytes | tuple[int, int, int]] | None = None  # what waits for the answers before it
        self._stream: ResponseStream | None = None

    # What it is going to be -----------------------------------------------------------------------------------

    @property
    def status_code(self) -> int:
        """The status as it is set now."""
        return self._status

    @property
    def sent(self) -> bool:
        """Whether the head is out: status and fields can no longer be changed."""
        return self._state != FRESH

    @property
    def done(self) -> bool:
        """Whether the response is complete."""
        return self._state == DONE

    @property
    def on_done(self) -> Callable[[HttpResponse], object] | None:
        """Called when the response was handed over to the connection as a whole; for logs and measurements."""
        return None if self._ending is None else self._ending.on_done

    @on_done.setter
    def on_done(self, callback: Callable[[HttpResponse], object] | None) -> None:
        self.ending.on_done = callback

    @property
    def connection(self) -> Connection:
        """The connection it goes to."""
        return self._session.connection

    @property
    def workers(self) -> WorkerPool:
        """The server's threads for files."""
        return self._session.workers

    @property
    def client_ip(self) -> str:
        """The address of the client, as that of the request; ``""`` for a Unix socket."""
        source = self._session.source
        if source.proxies is None or self.head is None:
            return source.ip()
        return source.client(self.head).ip

    def status(self, code: int) -> Self:
        """Set the status, 200 to 599."""
        self._need_fresh()
        self._status = _encode.check_status(code)
        return self

    def header(self, name: str, value: str) -> Self:
        """Add a field; Content-Type replaces the one before.

        Raises `InvalidHeaderError` for what would break the response apart, and for the fields that the server owns:
        Content-Length, Transfer-Encoding, Connection, Keep-Alive, Date.
        """
        self._need_fresh()
        lower = _encode.check_name(name)
        if lower == "content-type":
            self._type_line = f"Content-Type: {_encode.check_value(value)}\r\n"
        else:
            if lower == "upgrade":
                self._fields += "Connection: upgrade\r\n"  # RFC 9110 §7.8 wants the one with the other
            self._fields += f"{name}: {_encode.check_value(value)}\r\n"
        return self

    def add_lines(self, lines: str, type_line: str) -> None:
        """Called by this package: add fields as whole lines, which were checked when they were made."""
        self._need_fresh()
        self._fields += lines
        self._type_line = type_line

    def close_connection(self) -> Self:
        """End the connection after this response, which says ``Connection: close``."""
        self._need_fresh()
        self.closes = True
        return self

    def inform(self, code: int = 103, headers: Iterable[tuple[str, str]] = ()) -> Self:
        """Send an informational answer now, the real one follows: 103 Early Hints with Link fields (RFC 8297), 102.

        An HTTP/1.0 client gets none, as it would take it for the real one (RFC 9110 §15.2). Raises ValueError for a
        status that is not informational, or that the server sends itself: 100 and 101; and `InvalidHeaderError`.
        """
        self._need_fresh()
        if not 102 <= code <= 199:
            raise ValueError(f"an informational answer has a status between 102 and 199, not {code!r}")
        data = _encode_response(STATUS_LINES[code], "", NO_LENGTH, _encode.field_lines(headers))
        if self.head is not None and self.head.minor == 1:
            self._session.write(self, data)
        return self

    # Sending --------------------------------------------------------------------------------------------------

    def send(self, body: str | bytes | bytearray | memoryview = b"") -> None:
        """Send the response with this body: text as UTF-8, or bytes.

        The type is ``text/plain; charset=utf-8`` or ``application/octet-stream`` unless it was set. HEAD, 204 and 304
        send no body. Raises `ResponseSentError` the second time, `StaleResponseError` when the client has gone.
        """
        if self._state != FRESH or self.closed:
            self._need_fresh()
        if isinstance(body, str):
            data = body.encode()
            kind = _TEXT
        else:
            data = body if type(body) is bytes else bytes(memoryview(body))  # bytes(5) would be five zeros
            kind = _BINARY if data else ""
        status = self._status
        length = len(data)
        if is_bodyless(status):
            if length and status != 304:
                raise ValueError(f"a response with status {status} has no body")
            length, kind, data = NO_LENGTH, "", b""
        session = self._session
        request = self.head
        if self.closes or request is None or request.minor == 0 or not session.goes_on:
            lines = self._lines(kind)
        else:  # nearly always
            lines = self._type_line or kind
            if self._fields:
                lines += self._fields
        if request is not None and request.method == "HEAD":
            data = b""
        self._state = DONE
        self.bytes_sent = len(data)
        if len(data) <= _JOIN_BYTES:
            session.write(self, _encode_response(STATUS_LINES[status], session.date_line(), length, lines, data))
        else:
            head = _encode_response(STATUS_LINES[status], session.date_line(), length, lines)
            session.make_room(len(head) + length)
            session.write(self, head)
            session.write(self, data)
        session.finish(self)

    def send_json(self, value: object) -> None:
        """Send a value as JSON, type ``application/json``. Raises TypeError or ValueError for what JSON cannot hold."""
        body = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        if not self._type_line:
            self._type_line = "Content-Type: application/json\r\n"
        self.send(body)

    def send_error(self, code: int, message: str = "") -> None:
        """Send a plain text with the status' name and a message. The connection goes on if it can."""
        self.status(code)
        reason = _encode.REASONS.get(code, "")
        self.send(f"{code} {reason}: {message}\n" if message else f"{code} {reason}\n")

    def redirect(self, location: str, code: int = 302) -> None:
        """Send the client elsewhere; the location has to be percent-encoded already."""
        self.status(code).header("Location", location).send(b"")

    def send_file(self, file: int | HasFileno, offset: int = 0, count: int | None = None) -> None:
        """Send `count` bytes of an open file from `offset` on, by default all that follow.

        A descriptor is taken over and closed in any case; a file object stays the caller's and may be closed at once.
        The bytes go from the page cache to the socket where the system can do that. A file that ends early cuts the
        connection. Raises ValueError for a negative offset or count.
        """
        fd = file if isinstance(file, int) else os.dup(file.fileno())
        try:
            self._need_fresh()
            if count is None:
                count = max(0, os.fstat(fd).st_size - offset)
            if offset < 0 or count < 0:
                raise ValueError(f"offset and count must not be negative: {offset}, {count}")  # noqa: TRY301
            head = self._head(count, _BINARY)
        except BaseException:
            os.close(fd)
            raise
        self._state = DONE
        session = self._session
        session.write(self, head)
        if self._has_no_body():
            os.close(fd)
        else:
            self.bytes_sent = count
            session.write_file(self, fd, offset, count)
        session.finish(self)

    def stream(self, content_type: str = "application/octet-stream", *, length: int | None = None) -> ResponseStream:
        """Send the head now and the body piece by piece.

        With a `length` in bytes the client knows it in advance; without, the body is chunked, and for HTTP/1.0 ends
        with the connection. Raises ValueError for a negative length.
        """
        self._need_fresh()
        if length is not None and length < 0:
            raise ValueError(f"the length must not be negative: {length}")
        if not self._type_line:
            self._type_line = f"Content-Type: {_encode.check_value(content_type)}\r\n"
        chunked = length is None and self.head is not None and self.head.minor == 1
        if length is None and not chunked:
            self.closes = True
        stream = ResponseStream(
            self, self._session, chunked=chunked and not self._has_no_body(), length=length, mute=self._has_no_body()
        )
        head = self._head(length, "", "Transfer-Encoding: chunked\r\n" if chunked else "")
        self._state = STREAMING
        self._stream = stream
        self._session.write(self, head)
        return stream

    def upgrade(
        self, protocol: str, *, headers: Iterable[tuple[str, str]] = (), on_shutdown: OnShutdown | None = None
    ) -> tuple[Connection, bytes]:
        """Answer 101 and take the connection out of HTTP: it speaks `protocol` from here on (RFC 9110 §7.8).

        Returns the connection, whose callbacks are free to be set and which knows no deadline, and what has been
        received behind the request, which is the beginning of the new protocol. The answers before it have all left,
        because a request that offers an upgrade is handled only then, and nothing behind it is read as HTTP until it
        is answered. ``on_shutdown(connection)`` is called when the server is asked to stop: say goodbye and end.
        Without it the connection closes once everything is sent. What is left after the grace is cut off.

        Raises `UpgradeError` when the client did not offer it (``req.wants_upgrade``), `InvalidHeaderError`,
        `ResponseSentError`, and `StaleResponseError` when the client has gone or has ended its side.
        """
        self._need_fresh()
        head = self.head
        if head is None or not offers(head, protocol):
            raise UpgradeError(f"the client does not offer to change to {protocol!r}")
        data = encode_switch(protocol, self._session.date_line(), self._fields, headers)
        rest = self._session.hand_over(data, on_shutdown)
        self._status = 101
        self._state = DONE
        self.tell_end(complete=True)
        return self._session.connection, rest

    # Inside -----------------------------------------------------------------------------------------------------

    @property
    def ending(self) -> Ending:
        """For whoever has to be told of the end."""
        if self._ending is None:
            self._ending = Ending()
        return self._ending

    def at_end(self, cleanup: Callable[[], object]) -> None:
        """Call back when the response is complete or lost. Raises `ResponseSentError` when it is complete already."""
        if self._state == DONE:
            raise ResponseSentError("the request is over")
        self.ending.cleanups.append(cleanup)

    def tell_end(self, *, complete: bool) -> None:
        """Called by the session: tell who waits for the end."""
        if self._ending is not None:
            self._ending.tell(self, self._session.connection.loop, complete=complete)
            self._ending = None

    def hold(self, item: bytes | tuple[int, int, int]) -> None:
        """Keep bytes, or a range of a file, until the answers before this one are complete."""
        if self.held is None:
            self.held = []
        self.held.append(item)

    def replace_by_error(self, code: int, message: str = "", *, close: bool, mute: bool = False) -> None:
        """Forget what was prepared so far and send an error instead, `mute` without a body. For the session."""
        self._fields = ""
        self._type_line = ""
        self.closes = self.closes or close
        if mute:
            head = self.status(code)._head(None, "")
            self._state = DONE
            self._session.write(self, head)
            self._session.finish(self)
            return
        self.send_error(code, message)

    def end_stream(self) -> None:
        """Called by the stream: nothing more follows."""
        self._state = DONE
        self._stream = None
        self._session.finish(self)

    def cut_short(self) -> None:
        """Called by its stream, which nobody gets: whoever writes it is told, and the answer is over."""
        callbacks = [self.on_close]
        if self._stream is not None:
            callbacks.append(self._stream.on_close)
            self._stream.forget()
        self.end_stream()
        for callback in callbacks:
            self._tell(callback, from_loop=True)

    def drained(self) -> None:
        """Called by the session: the client has caught up."""
        if self._stream is not None:
            self._stream.drained()

    def lost(self, *, from_loop: bool = False) -> None:
        """Called by the session: the client has gone.

        Called from the loop, `on_close` follows at once: a timer that it cancels must not come in between. Elsewhere
        some handler is at work, and it has to wait.
        """
        self.closed = True
        for item in self.held or ():
            if isinstance(item, tuple):
                os.close(item[0])
        self.held = None
        if self._state != DONE:
            self._session.count_lost()
            self._tell(self.on_close, from_loop=from_loop)
            if self._stream is not None:
                self._tell(self._stream.on_close, from_loop=from_loop)
                self._stream.forget()
                self._stream = None
        self.on_close = None
        self.tell_end(complete=False)

    def _tell(self, callback: Callable[[], object] | None, *, from_loop: bool) -> None:
        if callback is None:
            return
        loop = self._session.connection.loop
        if not from_loop:
            loop.call_soon(callback)
            return
        try:
            callback()
        except Exception as error:
            loop.exception_handler(error, self)

    def _need_fresh(self) -> None:
        if self._state != FRESH:
            raise ResponseSentError("the response was sent already")
        if self.closed:
            raise StaleResponseError("the client has gone; look at res.closed before answering late")

    def _has_no_body(self) -> bool:
        head = self.head
        return (head is not None and head.method == "HEAD") or is_bodyless(self._status)

    def _head(self, length: int | None, kind: str, coding: str = "") -> bytes:
        if is_bodyless(self._status):
            if length and self._status != 304:
                raise ValueError(f"a response with status {self._status} has no body")
            length, kind, coding = None, "", ""
        framing = NO_LENGTH if length is None else length
        return _encode_response(
            STATUS_LINES[self._status], self._session.date_line(), framing, coding + self._lines(kind)
        )

    def _lines(self, kind: str) -> str:
        """Return the lines that do not come with every response; `kind` is the one that tells the type by default."""
        session = self._session
        lines = self._type_line or kind
        if self.closes or session.is_final(self):
            self.closes = True
            session.set_last(self)
            lines += "Connection: close\r\n"
        elif self.head is not None and self.head.minor == 0:
            # RFC 9112 §9.3: HTTP/1.0 clients have to be told that the connection stays.
            lines += "Connection: keep-alive\r\n"
        return lines + self._fields

    def __repr__(self) -> str:
        return f"<HttpResponse {self._status} {('fresh', 'streaming', 'done')[self._state]}>"
