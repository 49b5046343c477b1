"""From an open file to a response: preconditions, ranges, and the bytes, without reading more than is sent."""

from __future__ import annotations

import os
import secrets
import stat
from collections import deque
from collections.abc import Callable
from typing import Final, final

from nimloop_http._conditional import Validators, evaluate, has_conditions, range_applies, validators_of
from nimloop_http._encode import check_value
from nimloop_http._files import read_at
from nimloop_http._headers import Headers
from nimloop_http._ranges import ByteRange, parse_ranges
from nimloop_http.errors import ContentLengthError, RangeNotSatisfiableError
from nimloop_http.request import HttpRequest
from nimloop_http.response import HttpResponse

_READ_BYTES: Final = 32768  # a smaller file is sent together with its head, which is cheaper than sendfile
_ALWAYS: Final = "Accept-Ranges: bytes\r\nX-Content-Type-Options: nosniff\r\n"
_PIECE_BYTES: Final = 65536  # of several parts: what is read between two writes


def field_line(name: str, value: str) -> str:
    """Return a field as a line of a response. Raises `InvalidHeaderError`."""
    return f"{name}: {check_value(value)}\r\n"


def send_open_file(
    req: HttpRequest,
    res: HttpResponse,
    descriptor: int,
    status: os.stat_result,
    type_line: str,
    *,
    lines: str = "",
    most: int = 0,
    keep: Callable[[str, bytes], object] | None = None,
) -> None:
    """Answer with an open file whose status is known; the descriptor is taken over and closed in any case.

    `type_line` and `lines` are field lines that come with the file and not with an error. With `most`, a request for a
    range gets its first so many bytes at most. ``keep(lines, data)`` gets what was sent if that was all of a small
    file, asked for without conditions.
    """
    try:
        if not stat.S_ISREG(status.st_mode):
            res.send_error(403)  # a pipe or a device: reading it could block, or never end
            return
        head = req.head
        validators = validators_of(status)
        outcome = 200
        parts: list[ByteRange] = []
        plain = not has_conditions(head.text)
        if not plain:
            outcome = evaluate(head.headers, validators)
            if outcome == 412:
                res.send_error(412)
                return
            # RFC 9110 §14.2: only GET has ranges, and preconditions come first.
            if outcome == 200 and head.method == "GET":
                parts = _ranges(head.headers, validators, status.st_size, most)
        lines = f"ETag: {validators.etag}\r\nLast-Modified: {validators.last_modified}\r\n{_ALWAYS}{lines}"
        if outcome == 304:
            res.add_lines(lines, "")
            res.status(304).send()
            return
        if len(parts) > 1:
            taken, descriptor = descriptor, -1
            _Parts(res, taken, parts, lines, type_line).pump()
            return
        res.add_lines(lines, type_line)
        if parts:
            res.status(206).header("Content-Range", parts[0].content_range)
        part = parts[0] if parts else ByteRange(0, status.st_size, status.st_size)
        if part.length <= _READ_BYTES and head.method == "GET":
            data = read_at(descriptor, part.start, part.length)
            if len(data) == part.length:
                res.send(data)
                if keep is not None and plain:
                    keep(lines, data)
                return
            # Shortened just now. What was promised cannot be kept, and the connection will break as it would for
            # any larger file.
        taken, descriptor = descriptor, -1
        res.send_file(taken, part.start, part.length)
    except RangeNotSatisfiableError as error:
        res.header("Content-Range", f"bytes */{error.size}").send_error(416, str(error))
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _ranges(headers: Headers, validators: Validators, size: int, most: int) -> list[ByteRange]:
    wanted = headers.get("range")
    if wanted is None or not range_applies(headers, validators):
        return []
    parts = parse_ranges(wanted, size)
    if most and parts:
        return [parts[0]._replace(length=min(parts[0].length, most))]
    return parts


@final
class _Parts:
    """Several ranges of a file as multipart/byteranges (RFC 9110 §14.6), read as fast as the client takes them."""

    __slots__ = ("_descriptor", "_pieces", "_stream")

    def __init__(self, res: HttpResponse, descriptor: int, parts: list[ByteRange], lines: str, type_line: str) -> None:
        """Take the descriptor over and send the head."""
        self._descriptor = descriptor
        boundary = secrets.token_hex(16)  # guessed by nobody, so in no file
        self._pieces: Final[deque[bytes | ByteRange]] = deque()
        length = 0
        line_end = ""
        for part in parts:
            head = f"{line_end}--{boundary}\r\n{type_line}Content-Range: {part.content_range}\r\n\r\n"
            line_end = "\r\n"
            self._pieces.extend((head.encode("latin-1"), part))
            length += len(head) + part.length
        end = f"\r\n--{boundary}--\r\n".encode()
        self._pieces.append(end)
        try:
            res.add_lines(lines, "")
            res.status(206)
            self._stream: Final = res.stream(f"multipart/byteranges; boundary={boundary}", length=length + len(end))
        except BaseException:
            os.close(descriptor)
            raise
        self._stream.on_drain = self.pump
        self._stream.on_close = self._close

    def pump(self) -> None:
        """Send until the client is behind; then `on_drain` goes on."""
        while self._pieces:
            piece = self._pieces.popleft()
            data = self._next(piece) if isinstance(piece, ByteRange) else piece
            if not data:
                break
            if not self._stream.write(data):
                return
        self._close()
        try:
            self._stream.end()
        except ContentLengthError:
            pass  # the file has become shorter, and the connection was cut, as it is for a single part

    def _next(self, part: ByteRange) -> bytes:
        """Read the next piece of a part and put back the rest; empty where the file ends early or cannot be read."""
        try:
            data = read_at(self._descriptor, part.start, min(part.length, _PIECE_BYTES))
        except OSError:
            return b""
        if len(data) < part.length:
            self._pieces.appendleft(ByteRange(part.start + len(data), part.length - len(data), part.size))
        return data

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
