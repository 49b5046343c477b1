"""A response: once as a whole, once as a stream, or once as a file; now or later.

The states of a response: FRESH until something is sent, STREAMING between the head and the end of a stream, DONE.
`closed` says whether the client has gone, in any of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Final, Protocol, Self, final

from nimloop_http import _encode
from nimloop_http._framing import Head
from nimloop_http._stream import ResponseStream
from nimloop_http.errors import ResponseSentError, StaleResponseError
from nimloop_net import Connection

FRESH: Final = 0
STREAMING: Final = 1
DONE: Final = 2

_TEXT: Final = "Content-Type: text/plain; charset=utf-8\r\n"
_BINARY: Final = "Content-Type: application/octet-stream\r\n"

_JOIN_BYTES: Final = 65536  # a larger body is queued beside its head instead of being copied behind it


class Channel(Protocol):
    """What a response needs of the connection it belongs to: its turn."""

    @property
    def connection(self) -> Connection:
        """The connection."""

    def date_line(self) -> str:
        """Return the Date field."""

    def is_final(self, response: HttpResponse) -> bool:
        """Tell whether the connection ends with this answer."""

    def set_last(self, response: HttpResponse) -> None:
        """Let the connection end with this answer."""

    def make_room(self, size: int) -> None:
        """Let the connection take a whole answer of `size` bytes."""

    def write(self, response: HttpResponse, data: bytes) -> bool:
        """Send bytes when it is the response's turn; False when the client is behind."""

    def write_file(self, response: HttpResponse, fd: int, offset: int, count: int) -> bool:
        """Do the same for a range of a file."""

    def finish(self, response: HttpResponse) -> None:
        """Take note that the response is complete."""

    def break_off(self) -> None:
        """Cut the connection."""


@final
class HttpResponse:
    """The answer to one request. Send it from the handler or, as long as the client is there, from anywhere later.

    Answers of one connection leave in the order of their requests, whatever the order they are given in.
    """

    __slots__ = (
        "_channel",
        "_fields",
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
        "on_done",
    )

    def __init__(self, channel: Channel, head: Head | None) -> None:
        """Prepare the answer to the request with `head`; None where it could not be read."""
        self._channel = channel
        self.head: Final = head
        """The head of the request that this answers; None where it could not be read."""
        self._status = 200
        self._fields: list[str] | None = None
        self._type_line = ""
        self.closes = head is None or not head.keep_alive
        """Whether the connection ends with this response."""
        self._state = FRESH
        self.closed = False
        """Whether the connection has ended; nothing can be sent any more."""
        self.on_close: Callable[[], object] | None = None
        """Called when the client goes away before the response is complete."""
        self.on_done: Callable[[HttpResponse], object] | None = None
        """Called when the response was handed over to the connection as a whole; for logs and measurements."""
        self.bytes_sent = 0
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
    def connection(self) -> Connection:
        """The connection it goes to."""
        return self._channel.connection

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
        if _encode.check_name(name) == "content-type":
            self._type_line = f"Content-Type: {_encode.check_value(value)}\r\n"
        else:
            line = f"{name}: {_encode.check_value(value)}\r\n"
            if self._fields is None:
                self._fields = [line]
            else:
                self._fields.append(line)
        return self

    def close(self) -> Self:
        """End the connection after this response."""
        self._need_fresh()
        self.closes = True
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
            head = self._encode_head(len(data), _TEXT)
        else:
            data = body if type(body) is bytes else bytes(memoryview(body))  # bytes(5) would be five zeros
            head = self._encode_head(len(data), _BINARY if data else "")
        self._state = DONE
        channel = self._channel
        request = self.head
        if (request is not None and request.method == "HEAD") or self._status in _encode.BODYLESS:
            channel.write(self, head)
        else:
            self.bytes_sent = length = len(data)
            if length <= _JOIN_BYTES:
                channel.write(self, head + data)
            else:
                channel.make_room(len(head) + length)
                channel.write(self, head)
                channel.write(self, data)
        channel.finish(self)

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

    def send_file(self, fd: int, offset: int, count: int) -> None:
        """Send `count` bytes of an open file from `offset` on; the descriptor is taken over and closed in any case.

        The bytes go from the page cache to the socket where the system can do that. Raises ValueError for a negative
        number.
        """
        try:
            self._need_fresh()
            if offset < 0 or count < 0:
                raise ValueError(f"not a part of a file: {offset}, {count}")  # noqa: TRY301 - the file is closed below
            head = self._encode_head(count, _BINARY)
        except BaseException:
            os.close(fd)
            raise
        self._state = DONE
        channel = self._channel
        channel.write(self, head)
        if self._has_no_body():
            os.close(fd)
        else:
            self.bytes_sent = count
            channel.write_file(self, fd, offset, count)
        channel.finish(self)

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
            self, self._channel, chunked=chunked and not self._has_no_body(), length=length, mute=self._has_no_body()
        )
        head = self._encode_head(length, "", chunked=chunked)
        self._state = STREAMING
        self._stream = stream
        self._channel.write(self, head)
        return stream

    # Inside ---------------------------------------------------------------------------------------------------

    def hold(self, item: bytes | tuple[int, int, int]) -> None:
        """Keep bytes, or a range of a file, until the answers before this one are complete."""
        if self.held is None:
            self.held = []
        self.held.append(item)

    def replace_by_error(self, code: int, message: str = "", *, close: bool) -> None:
        """Forget what was prepared so far and send an error instead. For the session."""
        self._fields = None
        self._type_line = ""
        self.closes = self.closes or close
        self.send_error(code, message)

    def end_stream(self) -> None:
        """Called by the stream: nothing more follows."""
        self._state = DONE
        self._stream = None
        self._channel.finish(self)

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
            self._tell(self.on_close, from_loop=from_loop)
            if self._stream is not None:
                self._tell(self._stream.on_close, from_loop=from_loop)
                self._stream.forget()
                self._stream = None
        self.on_close = self.on_done = None

    def _tell(self, callback: Callable[[], object] | None, *, from_loop: bool) -> None:
        if callback is None:
            return
        loop = self._channel.connection.loop
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
        return (head is not None and head.method == "HEAD") or self._status in _encode.BODYLESS

    def _encode_head(self, length: int | None, default_type: str, *, chunked: bool = False) -> bytes:
        """Return the head; `default_type` is a whole line, for when no type was set."""
        status = self._status
        channel = self._channel
        kind = self._type_line or default_type
        if status in _encode.BODYLESS:
            if length and status != 304:
                raise ValueError(f"a response with status {status} has no body")
            framing = ""
            kind = self._type_line
        elif length is not None:
            framing = f"Content-Length: {length}\r\n"
        else:
            framing = "Transfer-Encoding: chunked\r\n" if chunked else ""
        connection = ""
        if self.closes or channel.is_final(self):
            self.closes = True
            channel.set_last(self)
            connection = "Connection: close\r\n"
        elif self.head is not None and self.head.minor == 0:
            # RFC 9112 §9.3: HTTP/1.0 clients have to be told that the connection stays.
            connection = "Connection: keep-alive\r\n"
        fields = "" if self._fields is None else "".join(self._fields)
        return (f"{_encode.STATUS_LINES[status]}{channel.date_line()}{framing}{kind}{connection}{fields}\r\n").encode(
            "latin-1"
        )

    def __repr__(self) -> str:
        return f"<HttpResponse {self._status} {('fresh', 'streaming', 'done')[self._state]}>"
