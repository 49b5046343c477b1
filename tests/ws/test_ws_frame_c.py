"""The functions that touch every byte, in C and in Python: the same results, and no byte beyond what they are given."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.twins import implementation

from nimloop_ws import _codec, _frame_py

try:
    from nimloop_ws import _frame_c
except ImportError:
    TWINS: list[ModuleType] = [_frame_py]
else:
    TWINS = [_frame_c, _frame_py]

each_twin = pytest.mark.parametrize("twin", TWINS, ids=lambda module: module.__name__)
both = pytest.mark.skipif(len(TWINS) < 2, reason="the C part was not built")
KEY = b"\x01\x80\xfe\x3c"


def simple_mask(data: bytes, key: bytes) -> bytes:
    """RFC 6455 §5.3, to the letter."""
    return bytes(byte ^ key[i % 4] for i, byte in enumerate(data))


@pytest.fixture(scope="module")
def edge() -> Iterator[memoryview]:
    """A page of memory behind which nothing may be read."""
    if not sys.platform.startswith("linux"):
        pytest.skip("needs mprotect(2)")
    size = mmap.PAGESIZE
    pages = mmap.mmap(-1, 2 * size)
    view = memoryview(pages)
    address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(address + size), ctypes.c_size_t(size), 0) == 0
    yield view[:size]
    assert libc.mprotect(ctypes.c_void_p(address + size), ctypes.c_size_t(size), 3) == 0


@each_twin
def test_every_length_and_alignment_up_to_a_forbidden_page(twin: ModuleType, edge: memoryview) -> None:
    """Lengths 0 to 300 at all alignments within 32 bytes; each part ends where reading would be fatal, or before."""
    data = bytes(os.urandom(len(edge)))
    edge[:] = data
    for length in range(301):
        for before_the_end in (0, *range(1, 32, 1 if length < 80 else 7)):
            end = len(edge) - before_the_end
            start = end - length
            assert twin.apply_mask(edge, KEY, start, end) == simple_mask(data[start:end], KEY)


@each_twin
def test_frames_up_to_a_forbidden_page(twin: ModuleType, edge: memoryview) -> None:
    """A frame, and every beginning of one, at the end of what may be read."""
    for payload in (b"", b"x", b"x" * 125, b"x" * 126, b"x" * 300):
        for key in (None, KEY):
            frame = _frame_py.encode_frame(0x82, payload, key)
            for size in range(len(frame) + 1):
                start = len(edge) - size
                edge[start:] = frame[:size]
                found = twin.read_frame(edge, start, key is not None, 1 << 20)
                assert found == ((0x82, payload, len(edge)) if size == len(frame) else None)


@each_twin
@given(st.binary(max_size=200), st.binary(min_size=4, max_size=4), st.integers(0, 8), st.integers(0, 8))
def test_masking_a_part(twin: ModuleType, data: bytes, key: bytes, left: int, right: int) -> None:
    """The key counts from the beginning of the part; twice is not at all."""
    start, end = min(left, len(data)), max(min(left, len(data)), len(data) - right)
    masked = twin.apply_mask(data, key, start, end)
    assert masked == simple_mask(data[start:end], key)
    assert twin.apply_mask(bytearray(masked), key, 0, len(masked)) == data[start:end]


@each_twin
def test_long_data(twin: ModuleType) -> None:
    """Beyond what fits into one step of the widest kind."""
    data = os.urandom(100_003)
    assert twin.apply_mask(data, KEY, 1, 100_002) == simple_mask(data[1:100_002], KEY)


@each_twin
@given(st.lists(st.binary(max_size=70), max_size=5), st.integers(0, 80), st.integers(0, 360), st.booleans())
def test_gathering_pieces(twin: ModuleType, pieces: list[bytes], start: int, size: int, masked: bool) -> None:  # noqa: FBT001
    """The pieces are as good as one, whatever their lengths do to the turn of the key."""
    key = KEY if masked else None
    mixed = [bytearray(piece) if i % 2 else piece for i, piece in enumerate(pieces)]
    expected = b"".join(pieces)[start : start + size]
    if len(expected) < size:
        with pytest.raises(ValueError, match=f"^{size - len(expected)} bytes are not there$"):
            twin.gather(mixed, start, size, key)
        return
    assert twin.gather(mixed, start, size, key) == (simple_mask(expected, KEY) if masked else expected)


@each_twin
def test_gathering_up_to_a_forbidden_page(twin: ModuleType, edge: memoryview) -> None:
    """Pieces that end where reading on would be fatal, at all turns of the key."""
    edge[:] = data = os.urandom(len(edge))
    for size in range(70):
        first, last = edge[:100], edge[len(edge) - size :]
        for start in range(8):
            expected = data[start:100] + (data[-size:] if size else b"")
            assert twin.gather([first, last], start, 100 - start + size, KEY) == simple_mask(expected, KEY)


@each_twin
@given(st.integers(0, 255), st.one_of(st.text(), st.binary()), st.none() | st.binary(min_size=4, max_size=4))
def test_round_trip(twin: ModuleType, first: int, payload: str | bytes, key: bytes | None) -> None:
    """What is written is read; text comes back as text where it is a whole message."""
    frame = twin.encode_frame(first, payload, key)
    found = twin.read_frame(b"##" + frame + b"rest", 2, key is not None, 1 << 20)
    raw = payload.encode() if isinstance(payload, str) else payload
    if first == 0x81:
        try:
            expected: str | bytes = raw.decode()
        except UnicodeDecodeError:
            assert found is None
            return
    else:
        expected = raw
    assert found == (first, expected, 2 + len(frame))
    assert twin.read_frame(frame, 0, key is None, 1 << 20) is None, "masked where it must not be, or the reverse"


@both
@given(st.binary(max_size=40), st.integers(0, 40), st.booleans(), st.integers(0, 60))
def test_rubbish_means_the_same_to_both(data: bytes, start: int, masked: bool, limit: int) -> None:  # noqa: FBT001
    """Random bytes: both find the same frame, or none."""
    start = min(start, len(data))
    assert len({repr(twin.read_frame(data, start, masked, limit)) for twin in TWINS}) == 1


@each_twin
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 4095, 4096, 4097, 65535, 65536, 70000])
def test_sizes_at_the_borders(twin: ModuleType, size: int) -> None:
    """Lengths at which the form of the header, or the way of the payload, changes."""
    for key in (None, KEY):
        for payload in (b"z" * size, "z" * size):
            first = 0x81 if isinstance(payload, str) else 0x82
            frame = twin.encode_frame(first, payload, key)
            assert frame == _frame_py.encode_frame(first, payload, key)
            assert twin.read_frame(frame, 0, key is not None, size) == (first, payload, len(frame))
            assert size == 0 or twin.read_frame(frame, 0, key is not None, size - 1) is None


@each_twin
def test_lengths_must_be_told_shortly(twin: ModuleType) -> None:
    """A length in more bytes than it takes is none of a frame that can be taken."""
    assert twin.read_frame(b"\x82\x7e\x00\x7d" + b"x" * 125, 0, False, 1 << 20) is None
    assert twin.read_frame(b"\x82\x7f" + (65535).to_bytes(8, "big") + b"x" * 65535, 0, False, 1 << 20) is None
    assert twin.read_frame(b"\x82\x7f" + b"\xff" * 8, 0, False, sys.maxsize) is None


@each_twin
def test_wrong_arguments(twin: ModuleType) -> None:
    """They raise, whatever they are."""
    with pytest.raises(ValueError):
        twin.apply_mask(b"abc", b"123", 0, 3)
    for start, end in ((-1, 2), (2, 1), (0, 4)):
        with pytest.raises(ValueError):
            twin.apply_mask(b"abc", KEY, start, end)
    for start, size, key in ((-1, 1, None), (0, -1, None), (0, 1, b"123")):
        with pytest.raises(ValueError):
            twin.gather([b"abc"], start, size, key)
    with pytest.raises(TypeError):
        twin.gather(["abc"], 0, 1, KEY)
    with pytest.raises(ValueError):
        twin.read_frame(b"abc", 4, False, 10)
    with pytest.raises(ValueError):
        twin.read_frame(b"abc", -1, False, 10)
    with pytest.raises(ValueError):
        twin.encode_frame(256, b"", None)
    with pytest.raises(UnicodeEncodeError):
        twin.encode_frame(0x81, "\ud800", None)
    with pytest.raises(TypeError):
        twin.apply_mask("text", KEY, 0, 1)


@each_twin
def test_text_that_is_none(twin: ModuleType) -> None:
    """Left to the careful reader, which tells where it goes wrong; as binary, or with an RSV bit, it is anything."""
    for wrong in (b"\xff", b"ok \xc3", b"\xed\xa0\x80", b"x" * 5000 + b"\x80"):
        for key in (None, KEY):
            assert twin.read_frame(twin.encode_frame(0x81, wrong, key), 0, key is not None, 1 << 20) is None
            for first in (0x82, 0xC1):
                frame = twin.encode_frame(first, wrong, key)
                assert twin.read_frame(frame, 0, key is not None, 1 << 20) == (first, wrong, len(frame))


def test_the_fastest_is_picked() -> None:
    """C where it was built, unless it is forbidden, and it says which."""
    if os.environ.get("NIMLOOP_EXTENSION") != "off":
        assert _codec.apply_mask is TWINS[0].apply_mask
    assert implementation("nimloop_ws._codec", "off") == "Python"


def test_where_it_was_not_built() -> None:
    """The Python does it all."""
    code = (
        "import sys; sys.modules['nimloop_ws._frame_c'] = None\n"
        "from nimloop_ws import _codec, _frame_py\n"
        "assert _codec.read_frame is _frame_py.read_frame\n"
        "print(_codec.IMPLEMENTATION)"
    )
    said = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert said.stdout == "Python\n"
