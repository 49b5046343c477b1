"""The head of a response as bytes, and what may stand in it."""

from __future__ import annotations

from collections.abc import Iterable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from time import time
from typing import Final, final

from nimloop_http._framing import NOT_IN_TRAILERS
from nimloop_http._grammar import FIELD_VALUE, TOKEN
from nimloop_http.errors import InvalidHeaderError

# RFC 9110 §15.5 has given these new names, which older Pythons do not know.
_RENAMED: Final = {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}
REASONS: Final = {status.value: status.phrase for status in HTTPStatus} | _RENAMED
# RFC 9112 §4: the reason may be empty, the space before it may not.
STATUS_LINES: Final = [f"HTTP/1.1 {code} {REASONS.get(code, '')}\r\n" for code in range(600)]

# What frames the message or ends the connection is the server's to say.
_OWNED: Final = {
    "connection": "call close_connection()",
    "content-length": "it follows from the body, or from stream(length=...)",
    "date": "the server sends it",
    "keep-alive": "the server decides",
    "transfer-encoding": "it follows from how the body is sent",
}


NO_LENGTH: Final = -1
"""For `nimloop_http._encoder.encode`: no Content-Length."""


def is_bodyless(code: int) -> bool:
    """Tell whether a response with this status never has a body, and no Content-Length either.

    RFC 9110 §6.4.1, §15.3.5, §15.4.5; §8.6 allows a Content-Length in 304.
    """
    return code < 200 or code == 204 or code == 304


def check_status(code: int) -> int:
    """Return a final status code unchanged. Raises ValueError for anything else."""
    if not 200 <= code <= 599:
        raise ValueError(f"a response has a status between 200 and 599, not {code!r}")
    return code


@lru_cache(maxsize=512)
def check_name(name: str) -> str:
    """Return the name of a field in lower case.

    Raises `InvalidHeaderError` for one that is not a token, or that belongs to the server.
    """
    if not TOKEN.fullmatch(name):
        raise InvalidHeaderError(f"not the name of a header field: {name!r}")
    lower = name.lower()
    if lower in _OWNED:
        raise InvalidHeaderError(f"{name} is set by the server: {_OWNED[lower]}")
    return lower


def check_value(value: str) -> str:
    """Return the value of a field without white space around it.

    Raises `InvalidHeaderError` for one with control characters, which would split the response, or with characters
    that are not ISO 8859-1.
    """
    if not FIELD_VALUE.fullmatch(value):
        raise InvalidHeaderError(f"not the value of a header field: {value!r}")
    return value.strip(" \t")


def field_lines(fields: Iterable[tuple[str, str]]) -> str:
    """Return fields as lines. Raises `InvalidHeaderError`."""
    lines = ""
    for name, value in fields:
        check_name(name)
        lines += f"{name}: {check_value(value)}\r\n"
    return lines


def trailer_lines(fields: Iterable[tuple[str, str]]) -> str:
    """Return trailer fields as lines. Raises `InvalidHeaderError` also for those that may not come so late."""
    fields = list(fields)
    for name, _ in fields:
        if name.lower() in NOT_IN_TRAILERS:
            raise InvalidHeaderError(f"{name} frames, routes or explains the message and cannot be a trailer field")
    return field_lines(fields)


@final
class DateLine:
    """The Date field, made once a second.

    When the second ends is told by the loop's clock, which is read for every answer anyway. So where somebody sets the
    clock of the system, the field follows within a second.
    """

    __slots__ = ("_end_ns", "_line")

    def __init__(self) -> None:
        self._end_ns = -1
        self._line = ""

    def line(self, now_ns: int) -> str:
        """Return the field, as a line; `now_ns` is what the loop's clock shows."""
        if now_ns >= self._end_ns:
            now = time()
            second = int(now)
            self._end_ns = now_ns + int((second + 1 - now) * 1e9)
            self._line = f"Date: {formatdate(second, usegmt=True)}\r\n"
        return self._line
