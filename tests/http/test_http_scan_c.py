"""The quick scans of a head, in C and in Python: what they say is what the thorough one says, or nothing."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nimloop_http import HttpParser, Limits, _scan_py
from nimloop_http import parser as parser_module
from nimloop_http._framing import Head
from nimloop_http._scan_py import Scan
from nimloop_http.errors import ProtocolError

ScanHead = Callable[[bytes | bytearray, int, int, int, int], Scan | None]

TWINS: dict[str, ScanHead] = {"Python": _scan_py.scan_head}
try:
    from nimloop_http import _scan_c
except ImportError:
    pass
else:
    TWINS["C"] = _scan_c.scan_head

each = pytest.mark.parametrize("scan_head", TWINS.values(), ids=TWINS)


def nothing(_data: bytes | bytearray, _start: int, _line: int, _bytes: int, _fields: int) -> Scan | None:
    """Stand in for a scan that finds every head unusual."""
    return None


def told(head: Head) -> tuple[object, ...]:
    """Everything that a head says."""
    return (
        head.raw,
        head.method,
        head.target,
        head.minor,
        head.host,
        head.content_length,
        head.chunked,
        head.has_body,
        head.keep_alive,
        head.expect_continue,
        head.upgrade,
        head.headers.fields(),
    )


def parsed(scan_head: ScanHead, data: bytes, limits: Limits) -> tuple[object, ...] | None:
    """What the parser makes of a head with this scan: the head, the error, or None for an incomplete one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parser_module, "scan_head", scan_head)
        parser = HttpParser(limits, methods=None)
        parser.push(data)
        try:
            event = parser.next_event()
        except ProtocolError as error:
            return (type(error), str(error))
        return told(event) if isinstance(event, Head) else None


def usual(data: bytes, scan_head: ScanHead = TWINS["Python"]) -> Scan | None:
    """Scan with generous limits."""
    return scan_head(data, 0, 8192, 8192, 100)


TOKENS = st.text("!#$%&'*+-.^_`|~09AZaz", min_size=1, max_size=12)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=40)
CONTROL = st.sampled_from(
    [
        ("Host", "example.com"),
        ("host", "127.0.0.1:8000"),
        ("HOST", "[::1]:80"),
        ("Host", "a b"),
        ("Host", ""),
        ("Host", "a:123456"),
        ("Connection", "close"),
        ("connection", "Keep-Alive"),
        ("Connection", "keep-alive, upgrade"),
        ("Content-Length", "5"),
        ("content-length", "0"),
        ("Content-Length", "5, 5"),
        ("Content-Length", "1234567890123456789"),
        ("Content-Length", "+5"),
        ("Transfer-Encoding", "chunked"),
        ("transfer-encoding", "CHUNKED"),
        ("Transfer-Encoding", "gzip, chunked"),
        ("Expect", "100-continue"),
        ("Expect", "200-ok"),
        ("Upgrade", "websocket"),
        ("Xost", "h"),
        ("Hosts", "h"),
    ]
)
FIELDS = st.lists(CONTROL | st.tuples(TOKENS, VALUES), max_size=8)
LINES = st.sampled_from(
    [
        "GET / HTTP/1.1",
        "POST /a?b=c HTTP/1.1",
        "CONNECT /a HTTP/1.1",
        "connect / HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "GET http://a/ HTTP/1.1",
        "GET / HTTP/1.0",
        "GET / HTTP/2.0",
        "GET /# HTTP/1.1",
        "GET /\x80 HTTP/1.1",
        "GET  / HTTP/1.1",
        "BREW /pot HTTP/1.1",
    ]
)


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """Make heads, most of them good ones, some with a byte changed or cut off."""
    lines = [
        draw(LINES),
        *(f"{name}:{draw(st.sampled_from(['', ' ', '  ', chr(9)]))}{value}" for name, value in draw(FIELDS)),
    ]
    data = bytearray("\r\n".join([*lines, "", ""]).encode("latin-1"))
    if draw(st.booleans()):
        position = draw(st.integers(0, len(data) - 1))
        data[position : position + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(data)


@given(
    data=heads(),
    limits=st.sampled_from([Limits(), Limits(headers=3), Limits(header_bytes=60), Limits(request_line=16)]),
)
@example(data=b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n", limits=Limits(body=10))
def test_a_scan_says_what_the_thorough_one_says(data: bytes, limits: Limits) -> None:
    """Or it says nothing, and the thorough one is asked: the outcome is the same."""
    thorough = parsed(nothing, data, limits)
    for scan_head in TWINS.values():
        assert parsed(scan_head, data, limits) == thorough


@given(data=st.binary(max_size=60))
def test_garbage_is_left_to_the_thorough_one(data: bytes) -> None:
    """Nothing that is no head is taken for one."""
    for scan_head in TWINS.values():
        assert usual(data, scan_head) is None or b"\r\n\r\n" in data


@each
def test_the_usual_request_needs_no_second_look(scan_head: ScanHead) -> None:
    """Else there would be no gain, and no test would notice."""
    data = b"GET /a?b HTTP/1.1\r\nUser-Agent: x\r\nhost:\t a.example:80 \r\nAccept: */*\r\n\r\nrest"
    assert usual(data, scan_head) == (len(data) - 4, "GET", "/a?b", "a.example:80", -1, _scan_py.KEEP_ALIVE)
    assert scan_head(b"...." + data, 4, 8192, 8192, 100) == (len(data), "GET", "/a?b", "a.example:80", -1, 1)


@pytest.mark.skipif("C" not in TWINS, reason="not built")
@pytest.mark.parametrize(
    ("fields", "length", "flags"),
    [
        ("Content-Length: 7", 7, _scan_py.KEEP_ALIVE | _scan_py.HAS_LENGTH),
        ("Transfer-Encoding: Chunked", -1, _scan_py.KEEP_ALIVE | _scan_py.CHUNKED),
        ("Connection: close", -1, 0),
        ("Connection: Keep-Alive", -1, _scan_py.KEEP_ALIVE),
        (
            "Expect: 100-continue\r\nContent-Length: 7",
            7,
            _scan_py.KEEP_ALIVE | _scan_py.EXPECT_CONTINUE | _scan_py.HAS_LENGTH,
        ),
    ],
)
def test_the_c_knows_more_fields(fields: str, length: int, flags: int) -> None:
    """Uploads and browsers do not take the slow way."""
    data = f"POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n".encode()
    assert usual(data, TWINS["C"]) == (len(data), "POST", "/", "a", length, flags)


@each
@pytest.mark.parametrize("field", ["Host: b", "Content-Length: 1\r\nContent-Length: 1", "Upgrade: x", "Connection: x"])
def test_what_needs_judgement_is_left(scan_head: ScanHead, field: str) -> None:
    """Doubled fields, lists and changes of protocol."""
    assert usual(f"GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n".encode(), scan_head) is None


@each
def test_limits_are_exact_or_left(scan_head: ScanHead) -> None:
    """What is over a limit is never taken, whichever limit it is."""
    data = b"GET /abc HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\n"
    assert scan_head(data, 0, 16, 8192, 100) is None
    assert scan_head(data, 0, 8192, 14, 100) is None
    assert scan_head(data, 0, 8192, 8192, 1) is None
    if scan_head is not _scan_py.scan_head:
        assert scan_head(data, 0, 17, 15, 2) is not None


@pytest.mark.skipif("C" not in TWINS or not hasattr(mmap, "PROT_READ"), reason="needs the C and mprotect")
def test_no_byte_beyond_the_end_is_looked_at() -> None:
    """Every beginning of a head, and values of every length, lie right before a page that must not be touched."""
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 2 * page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(address + page), ctypes.c_size_t(page), 0) == 0
    whole = b"GET /index.html?a=b HTTP/1.1\r\nHost: localhost:8000\r\nContent-Length: 12\r\nX-Long: "
    try:
        for length in range(161):
            for text in ((whole + b"v" * 160)[:length], whole + b"v" * length, whole + b"v" * length + b"\r\n\r\n"):
                memory[page - len(text) : page] = text
                view = (ctypes.c_char * len(text)).from_address(address + page - len(text))
                scan = TWINS["C"](memoryview(view), 0, 8192, 8192, 100)  # type: ignore[arg-type]
                assert (scan is not None) == text.endswith(b"\r\n\r\n")
    finally:
        libc.mprotect(ctypes.c_void_p(address + page), ctypes.c_size_t(page), mmap.PROT_READ | mmap.PROT_WRITE)


def test_wrong_arguments_are_errors() -> None:
    """The C has no checks by a signature; it must not crash, wherever it is told to begin."""
    if "C" not in TWINS:
        pytest.skip("not built")
    scan_head = TWINS["C"]
    for arguments in ((b"",), (b"", "0", 1, 1, 1), ("text", 0, 1, 1, 1), (b"", None, 1, 1, 1)):
        with pytest.raises(TypeError):
            scan_head(*arguments)
    for start in (-1, 5, 1 << 40):
        assert scan_head(b"GET ", start, 1, 1, 1) is None
    assert scan_head(bytearray(b"GET "), 9, 1, 1, 1) is None
    with pytest.raises(OverflowError):
        scan_head(b"", 1 << 80, 1, 1, 1)


@pytest.mark.parametrize("wanted", ["off", "auto"])
def test_the_environment_chooses_the_twin(wanted: str) -> None:
    """``NIMLOOP_EXTENSION=off`` means the Python, also where the C is built."""
    output = subprocess.run(
        [sys.executable, "-c", "from nimloop_http._scanner import IMPLEMENTATION; print(IMPLEMENTATION)"],
        env=os.environ | {"NIMLOOP_EXTENSION": wanted},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    assert output == ("Python" if wanted == "off" or "C" not in TWINS else "C")
