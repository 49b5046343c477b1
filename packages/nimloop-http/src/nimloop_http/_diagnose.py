"""Says what is wrong with a head: slowly, in words, and only when scanning it has failed.

It looks at the lines in order, so that the answer depends on the bytes and not on how they were cut into pieces:
whatever makes a shorter beginning unacceptable is reported first.
"""

from __future__ import annotations

from nimloop_http._grammar import BARE_LINE_END, FIELD_LINE, REQUEST_LINE, STATUS_LINE, TOKEN_BYTES
from nimloop_http.errors import (
    BadRequestError,
    HeadersTooLargeError,
    LimitError,
    ProtocolError,
    RequestLineTooLongError,
    TooManyHeadersError,
    VersionError,
)
from nimloop_http.limits import Limits


def diagnose(data: bytes, limits: Limits) -> ProtocolError | None:
    """Say what is wrong with the beginning of a request, complete or not; None when nothing is so far."""
    if data and data[0] not in TOKEN_BYTES:
        return BadRequestError(f"a request begins with a method, not with {data[:1]!r}")
    return _diagnose_head(data, limits, "request")


def begins_a_response(data: bytes | bytearray) -> bool:
    """Tell whether up to five bytes may be the first ones of a status line."""
    return data == b"HTTP/"[: len(data)]


def diagnose_response(data: bytes, limits: Limits) -> ProtocolError | None:
    """Say what is wrong with the beginning of a response, complete or not; None when nothing is so far."""
    if not begins_a_response(data[:5]):
        return BadRequestError("a response begins with a version of HTTP")
    return _diagnose_head(data, limits, "status")


def _diagnose_head(data: bytes, limits: Limits, kind: str) -> ProtocolError | None:
    line_end = data.find(b"\r\n")
    length = line_end if line_end >= 0 else len(data.removesuffix(b"\r"))
    if _bare_line_end(data, 0, min(length, limits.request_line)):
        return BadRequestError("CR and LF may only come as a pair, at the end of a line")
    if length > limits.request_line:
        return RequestLineTooLongError(f"the {kind} line is longer than {limits.request_line} bytes")
    if line_end < 0:
        return None
    diagnose_line = _diagnose_request_line if kind == "request" else _diagnose_status_line
    return diagnose_line(data[: line_end + 2]) or diagnose_fields(
        data,
        line_end + 2,
        limits.header_bytes,
        limits.headers,
        too_large=HeadersTooLargeError(f"the header fields have more than {limits.header_bytes} bytes"),
    )


def _diagnose_request_line(line: bytes) -> ProtocolError | None:
    match = REQUEST_LINE.fullmatch(line)
    if match is None:
        return BadRequestError(f"not a request line: {_excerpt(line)}")
    return _diagnose_version(*match.group(3, 4))


def _diagnose_status_line(line: bytes) -> ProtocolError | None:
    match = STATUS_LINE.fullmatch(line)
    if match is None:
        return BadRequestError(f"not a status line: {_excerpt(line)}")
    return _diagnose_version(*match.group(1, 2))


def _diagnose_version(major: bytes, minor: bytes) -> ProtocolError | None:
    if major != b"1" or minor not in {b"0", b"1"}:
        return VersionError(f"HTTP/{major.decode()}.{minor.decode()} is not supported; HTTP/1.1 and HTTP/1.0 are")
    return None


def diagnose_fields(
    data: bytes, start: int, most_bytes: int, most_fields: int, *, too_large: LimitError
) -> ProtocolError | None:
    """Say what is wrong with the field lines from `start` on, complete or not."""
    position = start
    number = 0
    while True:
        line_end = data.find(b"\r\n", position)
        end = line_end if line_end >= 0 else len(data)
        if _bare_line_end(data, position, min(end, start + most_bytes)):
            return BadRequestError("CR and LF may only come as a pair, at the end of a line")
        if data[position : position + 2] in {b"\r\n", b"\r"}:
            return None  # the empty line, or what may become it
        if end - start + 2 > most_bytes + (0 if line_end >= 0 else 2):
            return too_large
        if line_end < 0:
            return None
        number += 1
        if number > most_fields:
            return TooManyHeadersError(f"there are more than {most_fields} header fields")
        line = data[position : line_end + 2]
        if FIELD_LINE.fullmatch(line) is None:
            return BadRequestError(_field_trouble(line))
        position = line_end + 2


def _field_trouble(line: bytes) -> str:
    name, colon, value = line[:-2].partition(b":")
    if line[:1] in {b" ", b"\t"}:
        return "a header field must not be folded over several lines"
    if not colon:
        return f"a header field has no colon: {_excerpt(line)}"
    if not name:
        return f"a header field has no name: {_excerpt(line)}"
    if name.rstrip(b" \t") != name:
        return f"there is white space before the colon of a header field: {_excerpt(line)}"
    if any(byte not in TOKEN_BYTES for byte in name):
        return f"the name of a header field is not a token: {_excerpt(name)}"
    return f"the value of the header field {name.decode('ascii')} has a control character: {_excerpt(value)}"


def _bare_line_end(data: bytes, start: int, end: int) -> bool:
    """Tell whether a lone CR or LF begins before `end`."""
    # One byte more than `end`, because what follows a CR decides about it: `\Z` is where the search ends.
    match = BARE_LINE_END.search(data, start, end + 1)
    return match is not None and match.start() < end


def _excerpt(text: bytes) -> str:
    return repr(text[:60])[1:]
