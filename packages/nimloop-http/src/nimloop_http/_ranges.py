"""Byte ranges of RFC 9110 §14, one or several.

A request for several ranges asks for more answers than one, so it is where a small request can be made expensive:
thousands of ranges, all of them the whole file. What bounds the cost (§14.2 and §15.3.7.2 allow all of it):

* a field with more than `MOST_RANGES` ranges is ignored, and the file sent once
* ranges that overlap or touch become one, so that no byte is sent twice
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from nimloop_http.errors import RangeNotSatisfiableError

# §14.1.1: ranges-specifier = range-unit "=" range-set; units are case-insensitive.
_SPECIFIER: Final = re.compile(r"bytes=(.+)", re.IGNORECASE | re.ASCII)
# §14.1.2: int-range = first-pos "-" [ last-pos ], suffix-range = "-" suffix-length. Twenty digits exceed any file.
_RANGE: Final = re.compile(r"[ \t]*(?:([0-9]{1,20})-([0-9]{0,20})|-([0-9]{1,20}))[ \t]*")

MOST_RANGES: Final = 32  # readers of PDF ask for a dozen or two


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
    ranges = None if "," in header else parse_ranges(header, size)
    return ranges[0] if ranges else None


def parse_ranges(header: str, size: int) -> list[ByteRange]:
    """Read a Range field with any number of ranges, for a file of `size` bytes.

    Returns the parts to send, in the order they were asked for, those that overlap or touch joined; an empty list
    where the field is to be ignored and the whole file sent: another unit, malformed, or more than `MOST_RANGES`
    ranges. Raises `RangeNotSatisfiableError` (416) when all of them begin behind the end.
    """
    specifier = _SPECIFIER.fullmatch(header.strip(" \t"))
    if specifier is None or specifier.group(1).count(",") >= MOST_RANGES:
        return []
    found: list[ByteRange] = []
    outside = False
    for spec in specifier.group(1).split(","):
        match = _RANGE.fullmatch(spec)
        if match is None:
            if spec.strip(" \t"):
                return []
            continue  # §5.6.1.2: an empty element of a list is to be ignored
        first, last, suffix = match.groups()
        if suffix is not None:
            if size == 0 and int(suffix) > 0:
                return []  # §14.1.2: satisfiable, by nothing, for which Content-Range has no words
            length = min(int(suffix), size)
            start = size - length
        else:
            start = int(first)
            end = int(last) if last else size - 1
            if last and end < start:
                return []  # §14.1.1: invalid, so to be ignored
            length = min(end, size - 1) - start + 1
        if length > 0:
            found.append(ByteRange(start, length, size))
        else:
            outside = True
    if outside and not found:
        raise RangeNotSatisfiableError(f"the range {header!r} lies outside the {size} bytes", size)
    return _joined(found) if len(found) > 1 else found


def _joined(ranges: list[ByteRange]) -> list[ByteRange]:
    """Join what overlaps or touches; a joined part stands where the first of it was asked for."""
    size = ranges[0].size
    parts: list[tuple[int, int, int]] = []  # place, start, end
    for start, length, place in sorted((part.start, part.length, at) for at, part in enumerate(ranges)):
        if parts and start <= parts[-1][2]:
            before = parts[-1]
            parts[-1] = (min(before[0], place), before[1], max(before[2], start + length))
        else:
            parts.append((place, start, start + length))
    return [ByteRange(start, end - start, size) for _, start, end in sorted(parts)]
