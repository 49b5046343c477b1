"""The twins of the scanner: what they say of a head, that they always agree, and that the C stays within its bounds."""

from __future__ import annotations

import ctypes
import gc
import mmap
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.http.scanning import TWINS, Told, Twin, offsets_in, told
from tests.http.scanning import twin as twin
from tests.support.twins import implementation

from nimloop_http import _scan_py, find_crlf, find_double_crlf
from nimloop_http._grammar import REQUEST_HEAD
from nimloop_http._scan_py import CAREFUL, CHUNKED, EXPECTS, HTTP_1_1, KEEP_ALIVE

USUAL = HTTP_1_1 | KEEP_ALIVE
needs_c = pytest.mark.skipif("C" not in TWINS, reason="not built")


def scanned(data: bytes | bytearray, twin: Twin, start: int = 0) -> Told | None:
    """Scan with generous limits."""
    return told(twin.scan_request(data, start, (8192, 8192, 100)))


def flags_of(twin: Twin, *fields: str, line: str = "POST / HTTP/1.1") -> tuple[int, int]:
    """Scan a head with these fields: its flags, and the length of its body."""
    data = "".join(f"{each}\r\n" for each in [line, *fields, ""]).encode("latin-1")
    result = scanned(data, twin)
    assert result is not None
    assert result[0] == data
    return result[3:]


# What they say ----------------------------------------------------------------------------------------------------


def test_each_flag_is_a_bit_of_its_own() -> None:
    """The same numbers stand in the C."""
    assert [HTTP_1_1, KEEP_ALIVE, CHUNKED, EXPECTS, CAREFUL] == [1, 2, 4, 8, 16]


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_the_usual_request(twin: Twin, kind: type[bytes | bytearray]) -> None:
    """From anywhere in a buffer: where it ends, its bytes, method, target, flags, and no length."""
    head = b"GET /a?b HTTP/1.1\r\nHost:\t a.example:80 \r\nUser-Agent: x\r\nAccept: */*\r\n\r\n"
    assert scanned(kind(head + b"rest"), twin) == (head, "GET", "/a?b", USUAL, -1)
    assert scanned(kind(b"...." + head), twin, 4) == (head, "GET", "/a?b", USUAL, -1)
    assert scanned(kind(head), twin, 1) == (head[1:], "ET", "/a?b", USUAL, -1)
    result = scanned(kind(head), twin)
    assert result is not None
    assert type(result[0]) is bytes
    assert (result[0] is head) == (kind is bytes)  # what is all of it already is not copied
    assert scanned(kind(head[:-1]), twin) is None


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "get", "M-~1"])
def test_a_method_is_any_token(twin: Twin, method: str) -> None:
    """Known ones are told apart by their first byte, the others are as good."""
    for text in (method, method + "X", method[:-1] or "x"):
        result = scanned(f"{text} / HTTP/1.1\r\nHost: a\r\n\r\n".encode(), twin)
        assert result is not None
        assert result[1:4] == (text, "/", USUAL)


HOST = "Host: a"
UNDERSTOOD: list[tuple[list[str], int, int]] = [
    ([HOST], USUAL, -1),
    (["HOST: a.b-c_~!$&'()*+,;=1:80"], USUAL, -1),
    (["Host:"], USUAL, -1),
    (["Host: a:"], USUAL, -1),
    ([HOST, "Content-Length: 7"], USUAL, 7),
    ([HOST, "content-LENGTH: \t007 "], USUAL, 7),
    (["Content-Length: 0", HOST], USUAL, 0),
    ([HOST, f"Content-Length: {'9' * 18}"], USUAL, 10**18 - 1),
    ([HOST, "Transfer-Encoding: Chunked"], USUAL | CHUNKED, -1),
    ([HOST, "Connection: close"], HTTP_1_1, -1),
    ([HOST, "Connection: close", "Transfer-Encoding: chunked"], HTTP_1_1 | CHUNKED, -1),
    ([HOST, "Connection: Keep-Alive"], USUAL, -1),
    ([HOST, "Connection: keep-alive", "connection:KEEP-ALIVE"], USUAL, -1),
    ([HOST, "Connection: CLOSE", "Connection: close"], HTTP_1_1, -1),
    ([HOST, "Expect: 100-Continue", "Content-Length: 7"], USUAL | EXPECTS, 7),
    ([HOST, "Hosts: b", "Xost: c", "Content-Lengths: x", "Upgrades: d", "Connectioo: e", "Te: f"], USUAL, -1),
    ([HOST, "Content-Type: a", "Upgrade-Insecure-Requests: 1", "Cookie: b", "Expires: c", "Transfer: d"], USUAL, -1),
]


@pytest.mark.parametrize(("fields", "flags", "length"), UNDERSTOOD)
def test_what_is_understood_at_once(twin: Twin, fields: list[str], flags: int, length: int) -> None:
    """Each field that counts in the form that nearly everybody sends."""
    assert flags_of(twin, *fields) == (flags, length)


@pytest.mark.parametrize(
    ("fields", "flags", "length"),
    [
        ([], 0, -1),
        ([HOST], 0, -1),
        (["Connection: keep-alive"], KEEP_ALIVE, -1),
        (["Connection: close"], 0, -1),
        (["Expect: 100-continue", "Content-Length: 5"], 0, 5),
    ],
)
def test_the_older_version_is_understood_too(twin: Twin, fields: list[str], flags: int, length: int) -> None:
    """It needs no Host, and closes unless it is asked not to."""
    assert flags_of(twin, *fields, line="GET / HTTP/1.0") == (flags, length)


@pytest.mark.parametrize("fields", [[], ["Connection: keep-alive"], ["Connection: close"]])
def test_the_older_version_has_no_chunks(twin: Twin, fields: list[str]) -> None:
    """RFC 9112 §6.1: whoever sends them in 1.0 has broken framing, and somebody else judges that."""
    assert flags_of(twin, *fields, "Transfer-Encoding: chunked", line="POST / HTTP/1.0") == (CAREFUL, -1)


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [HOST, HOST],
        ["Host: [::1]"],
        ["Host: %41"],
        ["Host: a b"],
        ["Host: a:123456"],
        ["Host: a:8x"],
        [HOST, "Content-Length: 1", "Content-Length: 1"],
        [HOST, "Content-Length: 1, 1"],
        [HOST, "Content-Length:"],
        [HOST, "Content-Length: +1"],
        [HOST, "Content-Length: 1 1"],
        [HOST, "Content-Length: \xb2"],
        [HOST, f"Content-Length: {'1' * 19}"],
        [HOST, "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        [HOST, "Transfer-Encoding: gzip, chunked"],
        [HOST, "Transfer-Encoding: chunked", "Content-Length: 1"],
        [HOST, "Content-Length: 1", "Transfer-Encoding: chunked"],
        [HOST, "Transfer-Encoding: chunke\xe4"],
        [HOST, "Connection: close", "Connection: keep-alive"],
        [HOST, "Connection: keep-alive, close"],
        [HOST, "Connection:"],
        [HOST, "Expect: 100-continue", "Expect: 100-continue"],
        [HOST, "Expect: x"],
        [HOST, "Upgrade: websocket"],
    ],
)
def test_what_needs_judgement_is_left(twin: Twin, fields: list[str]) -> None:
    """Lists, doubled and missing fields, changes of protocol: the head is good, and nothing is said about it."""
    assert flags_of(twin, *fields) == (HTTP_1_1 | CAREFUL, -1)


@pytest.mark.parametrize(
    "line", ["CONNECT a:1 HTTP/1.1", "CONNECT / HTTP/1.1", "OPTIONS * HTTP/1.1", "GET http://a/ HTTP/1.1"]
)
def test_targets_that_need_judgement(twin: Twin, line: str) -> None:
    """All but those that begin with a slash."""
    assert flags_of(twin, HOST, line=line) == (HTTP_1_1 | CAREFUL, -1)


@pytest.mark.parametrize("code", range(256))
def test_every_byte_in_every_place(twin: Twin, code: int) -> None:
    """In method, target, name and value: allowed or not, as the patterns of the grammar have it."""
    byte = bytes([code])
    for data in (
        b"G%sT / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /%sabcdefghijklmnopq HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /abcdefghijklmnopqrs%s HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX%sY: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: %sabcdefghijklmnopqrstuvw\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: abcdefghijklmnopqrstuvw%s\r\n\r\n",
        b"GET / HTTP/1.1\r\nHos%s: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a%sb\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent%sLength: 5\r\n\r\n",  # no trick with the bit that makes letters small
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer%sEncoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunke%s\r\n\r\n",
    ):
        filled = data % byte
        assert scanned(filled, twin) == scanned(filled, TWINS["Python"])
        match = REQUEST_HEAD.match(filled)
        assert (scanned(filled, twin) is not None) == (match is not None)


def test_limits_are_exact(twin: Twin) -> None:
    """Just so much is good, one more is not."""
    data = b"GET /abc HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\n"
    exact = (17, 15, 2)
    assert twin.scan_request(data, 0, exact) is not None
    for which in range(3):
        less = tuple(limit - (number == which) for number, limit in enumerate(exact))
        assert twin.scan_request(data, 0, less) is None


@pytest.mark.parametrize("fields", [1, 3])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_each_limit_counts_where_the_others_are_wide(twin: Twin, which: int, fields: int) -> None:
    """The line, the header section or the number of fields alone is enough to refuse a head, from any place."""
    line, section = b"GET /?qq HTTP/1.0", b"a:\r\n" * fields
    data = b"..." + line + b"\r\n" + section + b"\r\n"
    limits = [8192, 8192, 8192]
    limits[which] = (len(line), len(section), fields)[which]
    assert twin.scan_request(data, 3, tuple(limits)) is not None
    limits[which] -= 1
    assert twin.scan_request(data, 3, tuple(limits)) is None


# That they agree --------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(
    ["Host", "Connection", "Content-Length", "Transfer-Encoding", "Expect", "Upgrade", "X", "Cookie", "Te", "Hosu"]
) | st.text("!#$%&'*+-.^_`|~09AZaz", min_size=1, max_size=20)
VALUES = st.sampled_from(
    ["", "a", "a:80", "[::1]", "close", "keep-alive", "Keep-Alive", "5", "05", "5, 5", "chunked", "100-continue", "x y"]
) | st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=40)
LINES = st.sampled_from(
    [
        "GET / HTTP/1.1", "GET / HTTP/1.1", "POST /a?b=c HTTP/1.1", "CONNECT /a HTTP/1.1", "connect / HTTP/1.1",
        "OPTIONS * HTTP/1.1", "GET http://a/ HTTP/1.1", "GET / HTTP/1.0", "GET / HTTP/2.0", "GET /# HTTP/1.1",
        "GET  / HTTP/1.1", "BREW /pot HTTP/1.1",
    ]
)  # fmt: skip
KNOWN = ["Host", "User-Agent", "Accept", "Cookie", "Sec-Fetch-User", "X-Forwarded-For", "TE", "DNT", "traceparent"]
SPACES = st.sampled_from(["", " ", " ", "  ", "\t "])


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """Make heads, most of them good ones, some with a byte changed or cut off."""
    lines = [draw(LINES)]
    if draw(st.booleans()):
        lines.append("Host: a")
    for _ in range(draw(st.integers(0, 6))):
        name = draw(NAMES)
        spelt = draw(st.sampled_from([name, name.lower(), name.upper()]))
        lines.append(f"{spelt}:{draw(SPACES)}{draw(VALUES)}{draw(SPACES)}")
    data = bytearray("\r\n".join([*lines, "", ""]).encode("latin-1"))
    if draw(st.integers(0, 3)) == 0:
        position = draw(st.integers(0, len(data) - 1))
        data[position : position + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(data)


limits_of_any_size = st.just((8192, 8192, 100)) | st.tuples(st.integers(0, 40), st.integers(0, 90), st.integers(0, 8))


@settings(max_examples=10 * settings().max_examples)
@given(data=heads(), limits=limits_of_any_size)
@example(data=b"GET / HTTP/1.1\r\nhost:a\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n", limits=(99, 99, 9))
def test_the_twins_agree(data: bytes, limits: tuple[int, int, int]) -> None:
    """On heads that are good, on those that are not, and about the fields in them."""
    scans = [twin.scan_request(data, 0, limits) for twin in TWINS.values()]
    assert told(scans[0]) == told(scans[-1])
    if (scan := scans[-1]) is not None:
        head, offsets = scan[0], scan[5]
        for lower in (False, True):
            wanted = TWINS["Python"].split_fields(head, None, lower)
            for twin in TWINS.values():
                assert twin.split_fields(head, offsets, lower) == twin.split_fields(head, None, lower) == wanted
        for name in {name.swapcase() for name, _ in wanted} | {"missing"}:
            values = [value for other, value in wanted if other == name.lower()]
            for twin in TWINS.values():
                found = twin.find_value(head, offsets, name)
                assert found == twin.find_value(head, None, name) == (", ".join(values) if values else None)


@given(data=st.binary(max_size=80) | st.text("\r\n: ab\0", max_size=60).map(str.encode), start=st.integers(0, 90))
def test_the_twins_agree_on_garbage(data: bytes, start: int) -> None:
    """Nothing that is no head is taken for one, from wherever it is looked at."""
    assert len({scanned(data, twin, start) for twin in TWINS.values()}) == 1


def test_fields_are_taken_apart(twin: Twin) -> None:
    """In order, as they were spelt, without the white space around them."""
    head = b"GET /a:b HTTP/1.1\r\nHost:a\r\nX: \t b:c\t d \t\r\nY:\r\nZ: \t\r\n\xe9: \xff\r\n\r\n"
    wanted = [("Host", "a"), ("X", "b:c\t d"), ("Y", ""), ("Z", ""), ("\xe9", "\xff")]
    assert twin.split_fields(head, None, False) == wanted
    assert twin.split_fields(bytearray(head), None, False) == wanted
    assert twin.split_fields(b"GET / HTTP/1.0\r\n\r\n", None, False) == []
    assert twin.split_fields(b"", None, False) == []


@needs_c
@given(lines=st.lists(st.tuples(NAMES, SPACES, VALUES, SPACES), max_size=140), target=st.text("/ab?", max_size=20))
def test_the_offsets_are_where_the_fields_are(lines: list[tuple[str, str, str, str]], target: str) -> None:
    """What lies there is what was written, white space apart, and nothing of the head is left over."""
    written = [(name, before + value + after) for name, before, value, after in lines]
    text = "".join(f"{name}:{value}\r\n" for name, value in written)
    head = f"GET /{target} HTTP/1.1\r\n{text}\r\n"
    offsets = offsets_in(head.encode("latin-1"), TWINS["C"])
    if len(lines) > 128:
        assert offsets is None  # as many are remembered; of more nobody has heard
        return
    assert offsets is not None
    assert [(head[a:b], head[c:d]) for a, b, c, d in offsets] == [(name, value.strip(" \t")) for name, value in written]
    places = [place for field in offsets for place in field]
    assert places == sorted(places)


@needs_c
@given(name=st.sampled_from(KNOWN) | NAMES, lower=st.booleans(), spelling=st.integers(0, 3))
def test_names_that_everybody_knows_are_made_once(name: str, lower: bool, spelling: int) -> None:  # noqa: FBT001
    """As in an RFC or in lower case; another spelling of them comes out as good."""
    spelt = (name, name.lower(), name.upper(), name.swapcase())[spelling]
    head = f"GET / HTTP/1.1\r\n{spelt}: a\r\n\r\n".encode()
    ((one, _),) = TWINS["C"].split_fields(head, None, lower)
    ((two, _),) = TWINS["C"].split_fields(head, None, lower)
    assert one == (spelt.lower() if lower else spelt)
    if name in KNOWN and (lower or spelling <= 1):
        assert one is two is sys.intern(one)


# Finding line ends ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("filling", [b"a", b"\r", b"\n", b"\n\r", b"a\r"])
def test_line_ends_are_found_at_every_offset_in_every_length(twin: Twin, filling: bytes) -> None:
    """As a slow search says: block by block there is no place that is overlooked."""
    for length in range(81):
        for offset in range(length + 1):
            for wanted in (b"\r\n", b"\r\n\r\n"):
                data = (filling * 81)[:offset] + wanted + (filling * 81)[: length - offset]
                slow = next((at for at in range(len(data)) if data[at : at + 2] == b"\r\n"), -1)
                assert twin.find_crlf(data) == slow
                ends = [at + 4 for at in range(len(data)) if data[at : at + 4] == b"\r\n\r\n"]
                assert twin.find_double_crlf(data) == (ends[0] if ends else -1)


@given(
    data=st.text("\r\n\r\nab", max_size=60).map(str.encode),
    start=st.integers(-70, 70),
    end=st.none() | st.integers(-70, 70),
)
def test_a_part_of_the_data_may_be_searched(data: bytes, start: int, end: int | None) -> None:
    """`start` and `end` mean what they mean to bytes.find; a pair that is cut by them is none."""
    for each in TWINS.values():
        for kind in (bytes, bytearray, memoryview):
            assert each.find_crlf(kind(data), start, end) == data.find(b"\r\n", start, end)
            found = data.find(b"\r\n\r\n", start, end)
            assert each.find_double_crlf(kind(data), start, end) == (found + 4 if found >= 0 else -1)


def test_the_search_is_public() -> None:
    """From the package, whichever it is."""
    data = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody"
    assert find_crlf(data) == 14
    assert find_crlf(data, 15) == 23
    assert find_double_crlf(data) == len(data) - 4
    assert find_double_crlf(data, 0, len(data) - 5) == -1


# The C and its bounds ---------------------------------------------------------------------------------------------


class Guarded(NamedTuple):
    """Memory before a page that must not be touched."""

    memory: mmap.mmap
    address: int

    def view(self, text: bytes) -> memoryview:
        """Put text right before that page."""
        self.memory[mmap.PAGESIZE - len(text) : mmap.PAGESIZE] = text
        return memoryview((ctypes.c_char * len(text)).from_address(self.address + mmap.PAGESIZE - len(text))).cast("B")


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    """Map two pages and forbid the second."""
    if not hasattr(mmap, "PROT_READ"):
        pytest.skip("needs mprotect")
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 2 * page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    assert protect(ctypes.c_void_p(address + page), ctypes.c_size_t(page), 0) == 0
    yield Guarded(memory, address)
    protect(ctypes.c_void_p(address + page), ctypes.c_size_t(page), mmap.PROT_READ | mmap.PROT_WRITE)
    gc.collect()
    memory.close()


@needs_c
@pytest.mark.parametrize("byte", [b"v", b"\r", b"\n", b" ", b"\t", b":", b"\0"])
def test_no_byte_behind_the_end_is_looked_at(guarded: Guarded, byte: bytes) -> None:
    """Heads cut anywhere, and methods, targets, names and values of every length, end where reading is forbidden."""
    c = TWINS["C"]
    whole = b"GET /index.html?a=b HTTP/1.1\r\nHost: localhost:8000\r\nContent-Length: 12\r\nX-Long: "
    for length in range(161):
        run = byte * length
        for text in (
            (whole + byte * 160)[:length],
            whole + run,
            whole + run + b"\r\n\r\n",
            run,
            b"GET /" + run,
            b"GET / HTTP/1.1\r\n" + run,
            run + b"\r\n",
            run + b"\r\n\r",
        ):
            view = guarded.view(text)
            scan = c.scan_request(view, 0, (8192, 8192, 100))  # type: ignore[arg-type]
            assert told(scan) == scanned(text, TWINS["Python"])
            for chunks, left in ((text, 0), (text, -1), (text, len(text) // 2), (b"9\r\n" + text, -1)):
                joined = _scan_py.join_chunks(chunks, 0, left, 1 << 40, 16)
                assert c.join_chunks(guarded.view(chunks), 0, left, 1 << 40, 16) == joined  # type: ignore[arg-type]
            view = guarded.view(text)
            assert c.find_crlf(view) == text.find(b"\r\n")
            assert c.find_double_crlf(view) == _scan_py.find_double_crlf(text)
            for offsets in (None, None if scan is None else scan[5]):
                assert isinstance(c.split_fields(view, offsets, False), list)  # type: ignore[arg-type]
                c.find_value(view, offsets, "x-long")  # type: ignore[arg-type]


@needs_c
def test_wrong_arguments_are_errors() -> None:
    """The C has no checks by a signature; it must not crash, wherever it is told to begin."""
    c = TWINS["C"]
    wrong: list[tuple[object, ...]] = [
        (),
        (b"",),
        (b"", "0", (1, 1, 1)),
        ("text", 0, (1, 1, 1)),
        (b"", None, (1, 1, 1)),
    ]
    wrong += [(b"", 0, [1, 1, 1]), (b"", 0, (1, 1)), (b"", 0, (1, 1, 1, 1)), (b"", 0, (1, "1", 1))]
    for arguments in wrong:
        with pytest.raises(TypeError):
            c.scan_request(*arguments)  # type: ignore[arg-type]
    for start in (-1, 5, 1 << 40, 1 << 80):
        assert c.scan_request(b"GET ", start, (1, 1, 1)) is None
    assert c.scan_request(bytearray(b"GET "), 9, (1, 1, 1)) is None
    for arguments in [(), ("text", 0, 0, 1, 1), (b"", "0", 0, 1, 1), (b"", 0, 0, 1, None), (b"", 0, 0, 1)]:
        with pytest.raises(TypeError):
            c.join_chunks(*arguments)  # type: ignore[arg-type]
    for start, room, line in ((-1, 1, 1), (4, 1, 1), (1 << 80, 1, 1), (0, -1, 1), (0, 1, -1)):
        with pytest.raises(ValueError, match="a place within the data, and limits of 0 at least"):
            c.join_chunks(b"1\r\n", start, -1, room, line)
    for find in (c.find_crlf, c.find_double_crlf):
        for arguments in [(), ("text",), (b"", "0"), (b"", 0, "1"), (b"", 0, 1, 2)]:
            with pytest.raises(TypeError):
                find(*arguments)  # type: ignore[arg-type]
        assert find(b"\r\n\r\n", -(1 << 80), 1 << 80) >= 0
        assert find(b"\r\n\r\n", 1 << 80) == -1
    for arguments in [(), (b"",), ("text", None, False), (b"", "offsets", False), (b"", b"odd", False), (b"", None)]:
        with pytest.raises(TypeError):
            c.split_fields(*arguments)  # type: ignore[arg-type]
    for arguments in [(), (b"", None), (b"", None, b"host"), ("text", None, "host"), (b"", b"odd", "host")]:
        with pytest.raises(TypeError):
            c.find_value(*arguments)  # type: ignore[arg-type]


@needs_c
def test_no_reference_is_lost_or_kept() -> None:
    """Scanning again and again leaves the interpreter as it was."""
    c = TWINS["C"]
    chunks = b"1\r\na\r\n10\r\n0123456789"
    data = bytearray(b"BREW /pot HTTP/1.1\r\nHost: a\r\nX: y\r\nx: z\r\nHOST: b\r\nrare: a\r\n\r\n")
    scan = c.scan_request(data, 0, (8192, 8192, 100))
    assert scan is not None

    def work() -> None:
        for _ in range(1000):
            c.scan_request(data, 0, (8192, 8192, 100))
            c.scan_request(data, 1, (1, 1, 1))
            c.join_chunks(data, 2, 3, 1000, 10)
            c.join_chunks(chunks, 0, -1, 1000, 10)
            for offsets in (None, scan[5]):
                c.split_fields(data, offsets, False)
                c.split_fields(data, offsets, True)
                c.find_value(data, offsets, "x")
                c.find_value(data, offsets, "missing")
                with pytest.raises(ValueError, match="not those of this head"):
                    c.split_fields(b"", scan[5], False)
                with pytest.raises(ValueError, match="not those of this head"):
                    c.find_value(b"", scan[5], "x")
            c.find_crlf(data)

    work()
    before = sys.getallocatedblocks()
    work()
    assert sys.getallocatedblocks() - before < 50
    data.clear()  # would raise if the buffer were still held


@needs_c
@pytest.mark.interpreted
def test_the_module_can_be_loaded_anew() -> None:
    """No state is shared between two of it: a second one has strings of its own, and goes away with them."""
    _scan = sys.modules[TWINS["C"].find_crlf.__module__]
    spec = _scan.__spec__
    assert spec is not None
    assert spec.loader is not None
    head = b"GET / HTTP/1.0\r\n\r\n"
    again = spec.loader.create_module(spec)
    assert again is not None
    spec.loader.exec_module(again)
    assert again is not _scan
    assert again.scan_request(head, 0, (99, 99, 9)) == (head, "GET", "/", 0, -1, b"")
    assert again.SIMD_NAME == _scan.SIMD_NAME
    del again
    gc.collect()
    assert scanned(head, TWINS["C"]) == (head, "GET", "/", 0, -1)


@pytest.mark.parametrize("wanted", ["off", "auto"])
def test_the_environment_chooses_the_twin(wanted: str) -> None:
    """``NIMLOOP_EXTENSION=off`` means the Python, also where the C is built."""
    output = implementation("nimloop_http._scanner", wanted)
    if wanted == "off" or "C" not in TWINS:
        assert output == "Python"
    else:
        assert output.startswith("C (")


def test_the_python_is_taken_where_the_c_is_not_built() -> None:
    """Without being asked to."""
    assert (
        implementation("nimloop_http._scanner", "auto", "import sys; sys.modules['nimloop_http._scan'] = None; ")
        == "Python"
    )
