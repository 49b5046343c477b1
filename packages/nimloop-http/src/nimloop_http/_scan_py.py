"""Scan the head of a request, and take chunks apart: the readable form of `_scan`, and its twin.

A head that nearly every client sends (HTTP/1.1, a path, one Host, no body) is one match of one pattern. Another one
is matched by a wider pattern, and the fields that decide about framing or connection are looked at one by one: each is
understood in the one form in which nearly everybody sends it. Where one has another form, comes twice or is missing,
the head is marked `CAREFUL`: it is well-formed, and `_framing` has the rules for the rest.
"""

from __future__ import annotations

from typing import Final

from nimloop_http._grammar import CONTROL_FIELDS, FIELDS, PLAIN_CHUNK, PLAIN_HEAD, PLAIN_HOST, REQUEST_HEAD, TOKEN

HTTP_1_1: Final = 1
"""The version is 1.1; without it 1.0."""
KEEP_ALIVE: Final = 2
"""The client lets the connection be used again."""
CHUNKED: Final = 4
"""The body comes in chunks."""
EXPECTS: Final = 8
"""The client waits for 100 Continue."""
CAREFUL: Final = 16
"""Neither the other flags but the version, nor the length, have been looked at."""

Data = bytes | bytearray
Scan = tuple[bytes, str, str, int, int, bytes | None]

MOST_PIECES: Final = 64
"""As many chunks are joined at a time: a body in crumbs must not keep everybody else waiting."""

_PLAIN_FLAGS: Final = HTTP_1_1 | KEEP_ALIVE
_SHORTEST_FIELD: Final = 4  # "a:" CR LF
_LONGEST_LENGTH: Final = 18  # digits that 63 bits surely hold
_METHODS: Final = {b"GET": "GET", b"HEAD": "HEAD", b"POST": "POST", b"PUT": "PUT", b"DELETE": "DELETE"}


def scan_request(data: Data, start: int, bounds: tuple[int, ...], /) -> Scan | None:
    """Take the head of a request apart; None when it is incomplete, malformed or larger than it may be.

    `bounds` are the limits of the request line, of the header section and of the number of fields. Gives the bytes of
    the head, method, target, flags, the length that is announced for the body or −1, and where the fields are: in
    `_scan`, as `Head.offsets` tells it; here None, since in Python it is quicker to look for them when they are wanted.
    """
    match = PLAIN_HEAD.match(data, start)
    plain = match is not None
    if match is None:
        match = REQUEST_HEAD.match(data, start)
        if match is None:
            return None
    end = match.end()
    most = end - start
    line, size, fields = bounds
    if most > line or most > size or most > fields * _SHORTEST_FIELD:
        length = data.find(b"\r\n", start) - start
        if length > line or most - length - 4 > size or data.count(b"\r\n", start, end) - 2 > fields:
            return None
    raw = data if type(data) is bytes and most == len(data) else bytes(data[start:end])
    if plain:
        name, target = match.groups()
        return raw, _METHODS.get(name) or name.decode(), target.decode(), _PLAIN_FLAGS, -1, None
    name, target, minor = match.groups()
    flags = KEEP_ALIVE | HTTP_1_1 if minor == b"1" else 0
    length = -1
    if target[:1] != b"/" or name == b"CONNECT":
        flags |= CAREFUL
    else:
        flags, length = _read_fields(CONTROL_FIELDS.findall(data, start, end), flags)
    if flags & CAREFUL:
        flags &= CAREFUL | HTTP_1_1
        length = -1
    return raw, name.decode(), target.decode(), flags, length, None


def _read_fields(fields: list[tuple[bytes, bytes]], flags: int) -> tuple[int, int]:
    """Add what the fields say to the flags; gives the length, too."""
    length = -1
    seen: set[int] = set()
    option = b""  # of Connection, which may say the same several times
    for name, value in fields:
        value = value.rstrip(b" \t")  # noqa: PLW2901 - what the field is about
        size = len(name)
        if size in seen and size != 10:
            return CAREFUL | flags, -1
        seen.add(size)
        if size == 4:
            good = PLAIN_HOST.fullmatch(value) is not None
        elif size == 14:
            good = value.isdigit() and len(value) <= _LONGEST_LENGTH
            length = int(value) if good else -1
        elif size == 10:
            good = not option or option == value.lower()
            option = value.lower()
            good = good and (option == b"keep-alive" or option == b"close")
            flags = flags | KEEP_ALIVE if option == b"keep-alive" else flags & ~KEEP_ALIVE
        elif size == 17:
            good = value.lower() == b"chunked" and flags & HTTP_1_1 != 0
            flags |= CHUNKED
        elif size == 6:
            good = value.lower() == b"100-continue"
            flags |= EXPECTS if flags & HTTP_1_1 else 0  # RFC 9110 §10.1.1: from HTTP/1.0 it must be ignored
        else:
            good = False
        if not good:
            return CAREFUL | flags, -1
    if (4 not in seen and flags & HTTP_1_1) or (length >= 0 and flags & CHUNKED):
        flags |= CAREFUL
    return flags, length


def join_chunks(data: Data, start: int, left: int, room: int, line: int, /) -> tuple[int, int, int, bytes]:
    """Undo the coding of the chunks that are there, up to `MOST_PIECES`, with nothing but a size in their lines.

    `left` bytes of a chunk are to come; at 0 the CR LF behind it is, and at −1 the line with the size of the next.
    `room` and `line` are the limits of all sizes and of the bytes in such a line. Gives where the first byte is that is
    missing, or has to be looked at with care; `left` as it is there; the sizes of the chunks that were begun; the data.
    """
    size = 0
    pieces: list[bytes | bytearray] = []
    while len(pieces) < MOST_PIECES:
        if left == 0 and data[start : start + 2] == b"\r\n":
            start += 2
            left = -1
        if left < 0:
            match = PLAIN_CHUNK.match(data, start)
            if match is None or match.end() - start - 2 > line:
                break
            found = int(match.group(1), 16)
            if found == 0 or found > room - size:
                break
            start = match.end()
            size += found
            left = found
        piece = data[start : start + left]
        if not piece:
            break
        pieces.append(piece)
        start += len(piece)
        left -= len(piece)
    return start, left, size, bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)


def split_fields(head: Data, _offsets: bytes | None, lower: bool, /) -> list[tuple[str, str]]:  # noqa: FBT001
    """Return the names and values of the fields behind the first line of a head that was checked before.

    Names are as they are spelt or, `lower`, in lower case.
    """
    fields = FIELDS.findall(head.decode("latin-1"))
    if lower:
        return [(name.lower(), value.rstrip(" \t")) for name, value in fields]
    return [(name, value.rstrip(" \t")) for name, value in fields]


def find_value(head: Data, _offsets: bytes | None, name: str, /) -> str | None:
    """Return the value of the fields of that name, with commas between them if there are several, or None."""
    if TOKEN.fullmatch(name) is None:
        return None
    start_of_line = b"\r\n%b:" % name.lower().encode()
    lower = head.lower()
    at = lower.find(start_of_line)
    if at < 0:
        return None
    values = []
    while at >= 0:
        at += len(start_of_line)
        end = head.find(b"\r\n", at)
        values.append(head[at : end if end >= 0 else len(head)].strip(b" \t").decode("latin-1"))
        at = lower.find(start_of_line, at)
    return ", ".join(values)


def find_crlf(data: Data | memoryview, start: int = 0, end: int | None = None, /) -> int:
    """Return where the first CR LF begins, or −1 where there is none, between `start` and `end`."""
    if isinstance(data, memoryview):
        data = bytes(data)
    return data.find(b"\r\n", start, end)


def find_double_crlf(data: Data | memoryview, start: int = 0, end: int | None = None, /) -> int:
    """Return the place just behind the first CR LF CR LF, where a head ends, or −1, between `start` and `end`."""
    if isinstance(data, memoryview):
        data = bytes(data)
    found = data.find(b"\r\n\r\n", start, end)
    return found + 4 if found >= 0 else -1
