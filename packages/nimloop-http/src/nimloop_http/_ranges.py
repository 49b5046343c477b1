"""Byte ranges of RFC 9110 §14."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from nimloop_http.errors import RangeNotSatisfiableError

# §14.1.1: ranges-specifier = range-unit "=" range-set; units are case-insensitive.
_SPECIFIER: Final = re.compile(r"bytes=(.+)", re.IGNORECASE | re.ASCII)
# §14.1.2: int-range = first-pos "-" [ last-pos ], suffix-range = "-" suffix-length. Twenty digits exceed any file.
_RANGE: Final = re.compile(r"[ \t]*(?:([0-9]{1,20})-([0-9]{0,20})|-([0-9]{1,20}))[ \t]*")


class ByteRange(NamedTuple):
    """A part of a file."""

    start: int
    """Of the first byte, counted from 0."""
    length: int
    """Bytes, at least 1."""
    size: int
    """Of the whole file."""

    @property
    def content_range(self) -> str:
        """The value of the Content-Range field for this part."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{self.size}"


def parse_range(header: str, size: int) -> ByteRange | None:
    """Read a Range field for a file of `size` bytes.

    Returns None where the field is to be ignored and the whole file sent: another unit, malformed, or more than one
    range. Raises `RangeNotSatisfiableError` (416) for a range that begins behind the end.
    """
    specifier = _SPECIFIER.fullmatch(header.strip(" \t"))
    match = _RANGE.fullmatch(specifier.group(1)) if specifier is not None else None
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        if size == 0 and int(suffix) > 0:
            return None  # §14.1.2: satisfiable, by nothing, for which Content-Range has no words
        length = min(int(suffix), size)
        start = size - length
    else:
        start = int(first)
        end = int(last) if last else size - 1
        if last and end < start:
            return None  # §14.1.1: invalid, so to be ignored
        length = min(end, size - 1) - start + 1
    if length <= 0:
        raise RangeNotSatisfiableError(f"the range {header!r} lies outside the {size} bytes", size)
    return ByteRange(start, length, size)
