"""Undoing the chunked coding in one step: what the twins take, where they stop, and that they agree."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.http.scanning import TWINS, Twin
from tests.http.scanning import twin as twin

from nimloop_http._scan_py import MOST_PIECES

LINE = -1  # a line with a size is next
ROOM = 1 << 40


@pytest.mark.parametrize("kind", [bytes, bytearray])
@pytest.mark.parametrize(
    ("data", "left", "wanted"),
    [
        # all there is, up to the chunk that ends the body
        (b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n", LINE, (14, LINE, 4, b"abcd")),
        (b"00A\r\n0123456789\r\n", LINE, (17, LINE, 10, b"0123456789")),
        # cut anywhere, it stops before what is missing
        (b"", LINE, (0, LINE, 0, b"")),
        (b"3", LINE, (0, LINE, 0, b"")),
        (b"3\r", LINE, (0, LINE, 0, b"")),
        (b"3\r\n", LINE, (3, 3, 3, b"")),
        (b"3\r\nab", LINE, (5, 1, 3, b"ab")),
        (b"3\r\nabc", LINE, (6, 0, 3, b"abc")),
        (b"3\r\nabc\r", LINE, (6, 0, 3, b"abc")),
        (b"3\r\nabc\r\n1", LINE, (8, LINE, 3, b"abc")),
        # and goes on there
        (b"c\r\n1\r\nd", 1, (7, 0, 1, b"cd")),
        (b"\r\n1\r\nd", 0, (6, 0, 1, b"d")),
        (b"\n1\r\nd", 0, (0, 0, 0, b"")),
        # what has to be looked at with care is left
        (b"1\r\na\r\n1;x=y\r\nb\r\n", LINE, (6, LINE, 1, b"a")),
        (b"1\r\na\r\n1 \r\nb\r\n", LINE, (6, LINE, 1, b"a")),
        (b"1\r\na\r\n\r\nb\r\n", LINE, (6, LINE, 1, b"a")),
        (b"1\r\na\r\n1\nb\r\n", LINE, (6, LINE, 1, b"a")),
        (b"1\r\na\r\n-1\r\nb\r\n", LINE, (6, LINE, 1, b"a")),
        (b"1\r\na\r\n0x1\r\nb\r\n", LINE, (6, LINE, 1, b"a")),
        (b"1\r\nab\r\n1\r\nc\r\n", LINE, (4, 0, 1, b"a")),
        (b"000\r\n", LINE, (0, LINE, 0, b"")),
        (b"00000000000000001\r\na", LINE, (0, LINE, 0, b"")),
        (b"ffffffffffffffff\r\na", LINE, (0, LINE, 0, b"")),
    ],
)
def test_as_many_chunks_as_there_are(
    twin: Twin, kind: type[bytes | bytearray], data: bytes, left: int, wanted: tuple[int, int, int, bytes]
) -> None:
    """It gives where it stopped, what is to come there, the sizes of the chunks that were begun, and their data."""
    found = twin.join_chunks(kind(data), 0, left, ROOM, 16)
    assert found == wanted
    assert type(found[3]) is bytes
    place, *rest = twin.join_chunks(kind(b"...." + data), 4, left, ROOM, 16)
    assert (place - 4, *rest) == wanted


@pytest.mark.parametrize("digit", range(256))
def test_digits_are_hexadecimal_and_nothing_else(twin: Twin, digit: int) -> None:
    """In either case."""
    data = b"%c\r\n" % digit + b"x" * 20
    good = chr(digit) in "123456789abcdefABCDEF"
    assert (twin.join_chunks(data, 0, LINE, ROOM, 16)[0] > 0) == good


def test_limits_are_exact(twin: Twin) -> None:
    """Of all sizes together, and of the bytes in a line."""
    data = b"2\r\nab\r\n02\r\ncd\r\n"
    assert twin.join_chunks(data, 0, LINE, 4, 2) == (15, LINE, 4, b"abcd")
    assert twin.join_chunks(data, 0, LINE, 3, 2) == (7, LINE, 2, b"ab")
    assert twin.join_chunks(data, 0, LINE, 4, 1) == (7, LINE, 2, b"ab")
    assert twin.join_chunks(data, 0, LINE, 1, 2) == (0, LINE, 0, b"")
    assert twin.join_chunks(data, 0, LINE, 4, 0) == (0, LINE, 0, b"")


def test_crumbs_come_so_many_at_a_time(twin: Twin) -> None:
    """A body in crumbs costs no more in one go than `MOST_PIECES` of them, wherever it was begun."""
    data = b"1\r\nx\r\n" * (2 * MOST_PIECES + 5)
    place, left, size, body = twin.join_chunks(data, 3, 1, ROOM, 16)
    assert (left, size, body) == (0, MOST_PIECES - 1, b"x" * MOST_PIECES)
    place, left, size, body = twin.join_chunks(data, place, left, ROOM, 16)
    assert (left, size, body) == (0, MOST_PIECES, b"x" * MOST_PIECES)
    assert twin.join_chunks(data, place, left, ROOM, 16) == (len(data), LINE, 5, b"x" * 5)


BROKEN = ["\r\n", "\r", "\n", "0\r\n\r\n", "1;a\r\nb\r\n", "ffffffffffffffff\r\n", " ", "g", "5\r\nabc"]


@st.composite
def chunks(draw: st.DrawFn) -> bytes:
    """Chunks, most of them good, cut off somewhere."""
    parts = draw(st.lists(st.binary(min_size=1, max_size=20) | st.sampled_from(BROKEN), max_size=8))
    data = b"".join(part.encode() if isinstance(part, str) else b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data


@settings(max_examples=5 * settings().max_examples)
@given(
    data=chunks() | st.binary(max_size=30) | st.text("\r\n01a;", max_size=30).map(str.encode),
    start=st.integers(0, 9),
    left=st.integers(-1, 30),
    room=st.integers(0, 90) | st.just(ROOM),
    line=st.integers(0, 20),
)
def test_the_twins_agree(data: bytes, start: int, left: int, room: int, line: int) -> None:
    """Wherever they begin and whatever they meet; and what they tell is true of the data."""
    start = min(start, len(data))
    results = {twin.join_chunks(data, start, left, room, line) for twin in TWINS.values()}
    assert len(results) == 1
    place, missing, size, body = results.pop()
    assert start <= place <= len(data)
    assert size <= room
    assert len(body) == max(left, 0) + size - max(missing, 0)
    assert place == len(data) or missing <= 0


@given(data=chunks(), cut=st.integers(0, 200), room=st.integers(0, 90) | st.just(ROOM))
def test_in_two_steps_it_is_the_same(data: bytes, cut: int, room: int) -> None:
    """What stops at the end of the first piece goes on with the second."""
    for each in TWINS.values():
        place, left, size, body = each.join_chunks(data[:cut], 0, LINE, room, 16)
        last, missing, more, rest = each.join_chunks(data, place, left, room - size, 16)
        assert (last, missing, size + more, body + rest) == each.join_chunks(data, 0, LINE, room, 16)
