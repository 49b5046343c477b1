"""Byte ranges: against slicing bytes one by one, and the cases that RFC 9110 spells out."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nimloop_http import ByteRange, parse_range, parse_ranges
from nimloop_http._ranges import MOST_RANGES
from nimloop_http.errors import RangeNotSatisfiableError

NUMBERS = st.integers(0, 40) | st.integers(0, 10**20 - 1)
BLANKS = st.sampled_from(["", " ", "\t", " \t "])
SIZES = st.integers(0, 30)


@given(size=SIZES, first=NUMBERS, last=st.none() | NUMBERS, before=BLANKS, after=BLANKS)
def test_a_range_selects_what_its_positions_say(
    size: int, first: int, last: int | None, before: str, after: str
) -> None:
    """The bytes between two positions, both included, as far as there are any; none at all is an error."""
    data = bytes(range(size))
    header = f"bytes={before}{first}-{'' if last is None else last}{after}"
    if last is not None and last < first:
        assert parse_range(header, size) is None
        return
    expected = bytes(byte for i, byte in enumerate(data) if first <= i and (last is None or i <= last))
    check(header, data, expected)


@given(size=SIZES, count=NUMBERS)
@example(size=0, count=0)
@example(size=0, count=1)
@example(size=5, count=5)
def test_a_suffix_selects_the_last_bytes(size: int, count: int) -> None:
    """The last bytes, all of them if there are fewer; of an empty file the whole, since its range has no name."""
    data = bytes(range(size))
    header = f"bytes=-{count}"
    if size == 0 and count > 0:
        assert parse_range(header, size) is None
        return
    check(header, data, bytes(byte for i, byte in enumerate(data) if size - i <= count))


def check(header: str, data: bytes, expected: bytes) -> None:
    """Compare a parsed range with the bytes it should select."""
    if not expected:
        with pytest.raises(RangeNotSatisfiableError) as caught:
            parse_range(header, len(data))
        assert caught.value.size == len(data)
        return
    part = parse_range(header, len(data))
    assert part is not None
    assert data[part.start : part.start + part.length] == expected
    assert part.length == len(expected)
    assert part.content_range == f"bytes {expected[0]}-{expected[-1]}/{len(data)}"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes= ",
        "bytes=a-b",
        "bytes=0",
        "bytes=0-1-2",
        "bytes=--1",
        "bytes=+0-1",
        "bytes=0x0-1",
        "bytes=0 -1",
        "bytes=0- 1",
        "bytes =0-1",
        "bytes:0-1",
        "bytes=\xb2-3",
        "bytes=1_0-20",
        "bytes=0-1;q=1",
        "bytes=0-1\n",
        "bytes=5-3",
        "bytes=999-998",
        "bytes=" + "9" * 21 + "-",
        "bytes=" + "9" * 5000 + "-",
        "items=0-1",
        "bytes=0-0,2-2",
        "bytes=0-0, -1",
        "bytes=,0-0",
        "bytes=" + "0-0," * 1000 + "0-0",
    ],
)
@pytest.mark.parametrize("size", [0, 10])
def test_what_is_no_single_range_is_ignored(header: str, size: int) -> None:
    """Another unit, something malformed, or several ranges: the file is sent as if nothing had been asked."""
    assert parse_range(header, size) is None


@pytest.mark.parametrize("header", ["bytes=2-4", "BYTES=2-4", "Bytes= 2-4 ", " bytes=2-4\t", "bytes=002-0004"])
def test_spellings_that_mean_the_same(header: str) -> None:
    """The unit's case and white space in its places make no difference (RFC 9110 §14.1)."""
    assert parse_range(header, 10) == ByteRange(2, 3, 10)


@pytest.mark.parametrize(
    ("header", "size", "expected"),
    [
        # RFC 9110 §14.1.2, the examples
        ("bytes=0-499", 10000, "bytes 0-499/10000"),
        ("bytes=500-999", 10000, "bytes 500-999/10000"),
        ("bytes=-500", 10000, "bytes 9500-9999/10000"),
        ("bytes=9500-", 10000, "bytes 9500-9999/10000"),
        ("bytes=4294967295-", 1 << 33, "bytes 4294967295-8589934591/8589934592"),
    ],
)
def test_examples_of_the_rfc(header: str, size: int, expected: str) -> None:
    """What the RFC shows, and a file beyond 32 bits."""
    part = parse_range(header, size)
    assert part is not None
    assert part.content_range == expected


@given(header=st.text(st.characters(codec="latin-1")) | st.from_regex(r"bytes=[-0-9, \t]{0,12}"), size=SIZES)
def test_whatever_comes_it_lies_in_the_file(header: str, size: int) -> None:
    """No field raises anything but the error for 416, or selects what is not there."""
    try:
        part = parse_range(header, size)
    except RangeNotSatisfiableError:
        return
    assert part is None or (0 <= part.start < part.start + part.length <= part.size == size)


# Several ranges -------------------------------------------------------------------------------------------------

SPECS = st.lists(st.tuples(st.none() | st.integers(0, 34), st.none() | st.integers(0, 34)), min_size=1, max_size=6)


@given(size=SIZES, specs=SPECS)
def test_several_ranges_select_what_each_of_them_does(size: int, specs: list[tuple[int | None, int | None]]) -> None:
    """Every byte that one of them selects comes, each of them once, in parts with a gap between them."""
    texts = [f"{'' if first is None else first}-{'' if last is None else last}" for first, last in specs]
    selected: set[int] = set()
    outside = False
    for text in texts:
        try:
            one = parse_range(f"bytes={text}", size)
        except RangeNotSatisfiableError:
            outside = True
            continue
        if one is None:  # one that is to be ignored spoils them all
            assert parse_ranges(f"bytes={', '.join(texts)}", size) == []
            return
        selected.update(range(one.start, one.start + one.length))
    header = f"bytes={', '.join(texts)}"
    if outside and not selected:
        with pytest.raises(RangeNotSatisfiableError):
            parse_ranges(header, size)
        return
    parts = parse_ranges(header, size)
    positions = [at for part in parts for at in range(part.start, part.start + part.length)]
    assert len(positions) == len(set(positions))
    assert set(positions) == selected
    edges = {part.start for part in parts}
    assert not any(part.start + part.length in edges for part in parts)
    assert all(part.size == size for part in parts)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-1,4-5", [(0, 2), (4, 2)]),
        ("bytes=8-9,0-1", [(8, 2), (0, 2)]),  # RFC 9110 §15.3.7.2: in the order they were asked for
        ("bytes=0-4,3-6", [(0, 7)]),
        ("bytes=0-1,2-3", [(0, 4)]),
        ("bytes=6-7,0-1,5-6", [(5, 3), (0, 2)]),
        ("bytes=0-,0-,0-,0-,5-", [(0, 10)]),
        ("bytes=-1,0-0", [(9, 1), (0, 1)]),
        ("bytes=0-0,100-", [(0, 1)]),
        ("bytes=,0-0,, ,2-2,", [(0, 1), (2, 1)]),
    ],
)
def test_parts(header: str, expected: list[tuple[int, int]]) -> None:
    """Joined where they touch, without those that lie outside, in order."""
    assert [(part.start, part.length) for part in parse_ranges(header, 10)] == expected


@pytest.mark.parametrize(
    "header", ["bytes=0-0,x", "bytes=0-0,5-3", "bytes=,", "bytes=, ,", "bytes=0-0;2-2", "items=0-0,2-2"]
)
def test_several_ranges_of_which_one_is_wrong(header: str) -> None:
    """The whole field is ignored."""
    assert parse_ranges(header, 10) == []


def test_a_range_bomb_is_ignored() -> None:
    """So many ranges are no request for parts; up to the bound they are, and then no byte comes twice."""
    size = 1 << 20
    disjoint = ",".join(f"{at}-{at}" for at in range(0, 2 * MOST_RANGES, 2))
    assert len(parse_ranges(f"bytes={disjoint}", size)) == MOST_RANGES
    assert parse_ranges(f"bytes={disjoint},999-999", size) == []
    assert parse_ranges("bytes=" + ",".join(["0-"] * 1300), size) == []
    assert parse_ranges("bytes=" + ",".join(f"{at}-" for at in range(MOST_RANGES)), size) == [ByteRange(0, size, size)]
