"""The patterns: each against a set or a slow reading of its production, and against input made to slow it down."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimloop_http import _grammar as grammar

EVERY_BYTE = [chr(code) for code in range(256)]
TCHAR = frozenset("!#$%&'*+-.^_`|~" + string.digits + string.ascii_letters)
VCHAR = frozenset(map(chr, range(0x21, 0x7F)))
OBS_TEXT = frozenset(map(chr, range(0x80, 0x100)))


@pytest.mark.parametrize("char", EVERY_BYTE, ids=lambda char: f"{ord(char):02X}")
def test_every_byte_is_allowed_just_where_the_rfc_allows_it(char: str) -> None:
    """In names, values, targets and everything that contains them: alone, first, last and in the middle."""
    token = char in TCHAR
    value = char in VCHAR | OBS_TEXT | {" ", "\t"}
    target = char in VCHAR - {"#"}
    for text in (char, f"{char}a", f"a{char}", f"a{char}b"):
        line = text.encode("latin-1")
        assert bool(grammar.TOKEN.fullmatch(text)) == token
        assert bool(grammar.FIELD_VALUE.fullmatch(text)) == value
        assert bool(grammar.FIELD_LINE.fullmatch(b"X:%s\r\n" % line)) == value
        # With a colon in it, a name ends there, and the rest is the value.
        assert bool(grammar.FIELD_LINE.fullmatch(b"%s:x\r\n" % line)) == (token or text in {"a:", "a:b"})
        head = b"%s %s HTTP/1.1\r\nHost:a\r\nX:%s\r\n\r\n"
        assert bool(grammar.REQUEST_HEAD.fullmatch(head % (line, b"/", b""))) == token
        assert bool(grammar.REQUEST_HEAD.fullmatch(head % (b"GET", line, b""))) == target
        for pattern in (grammar.REQUEST_HEAD, grammar.PLAIN_HEAD):
            assert bool(pattern.fullmatch(head % (b"GET", b"/" + line, b""))) == target
            assert bool(pattern.fullmatch(head % (b"GET", b"/", line))) == value
            name = b"GET / HTTP/1.1\r\nHost:a\r\n%s:b\r\n\r\n"
            assert bool(pattern.fullmatch(name % line)) == (token or text in {"a:", "a:b"})
        assert bool(grammar.RESPONSE_HEAD.fullmatch(b"HTTP/1.1 200 %s\r\nX:%s\r\n\r\n" % (line, line))) == value
        assert bool(grammar.REQUEST_LINE.fullmatch(b"%s / HTTP/1.1\r\n" % line)) == token
        assert bool(grammar.REQUEST_LINE.fullmatch(b"GET %s HTTP/1.1\r\n" % line)) == target
    assert (ord(char) in grammar.TOKEN_BYTES) == token


@pytest.mark.parametrize("char", EVERY_BYTE, ids=lambda char: f"{ord(char):02X}")
def test_every_byte_in_a_chunk_line(char: str) -> None:
    """As a size, in an extension's name, in its value and in its quoted value."""
    byte = char.encode("latin-1")

    def matches(line: bytes) -> bool:
        return grammar.CHUNK_LINE.fullmatch(line) is not None

    assert matches(byte) == (char in string.hexdigits)
    assert matches(b"1;a%sb" % byte) == (char in TCHAR | {"=", ";"})
    assert matches(b"1;a=b%sc" % byte) == (char in TCHAR | {";"})
    assert matches(b'1;a="b%sc"' % byte) == (char in (VCHAR - {'"'}) | OBS_TEXT | {" ", "\t"})
    assert matches(b'1;a="b\\%sc"' % byte) == (char in VCHAR | OBS_TEXT | {" ", "\t"})
    assert matches(b'1;a="b%s' % byte) == (char == '"')
    assert matches(b'1;a="b\\%s' % byte) is False


@pytest.mark.parametrize("char", EVERY_BYTE, ids=lambda char: f"{ord(char):02X}")
def test_every_byte_in_a_host(char: str) -> None:
    """RFC 3986 §3.2.2: unreserved and sub-delims; a percent sign only before two hexadecimal digits."""
    named = char in frozenset("-._~!$&'()*+,;=" + string.digits + string.ascii_letters)
    for text in (f"a{char}b.example", f"a{char}b.example:80"):
        assert bool(grammar.HOST.fullmatch(text)) == named
    assert bool(grammar.HOST.fullmatch(f"a:8{char}")) == (char in string.digits)
    assert bool(grammar.HOST.fullmatch(f"a%4{char}")) == (char in string.hexdigits)
    assert bool(grammar.HOST.fullmatch(f"[{char}]")) == (char in string.hexdigits + ":.vV")


def test_the_version_is_two_digits_of_ascii() -> None:
    """A digit in some other script is no digit here."""
    for char in EVERY_BYTE:
        digit = char in string.digits
        byte = char.encode("latin-1")
        assert bool(grammar.REQUEST_LINE.fullmatch(b"GET / HTTP/1.%s\r\n" % byte)) == digit
        assert bool(grammar.REQUEST_LINE.fullmatch(b"GET / HTTP/%s.1\r\n" % byte)) == digit
        assert bool(grammar.REQUEST_HEAD.fullmatch(b"GET / HTTP/1.%s\r\n\r\n" % byte)) == (char in "01")
        assert bool(grammar.DIGITS.fullmatch(char)) == digit
        assert bool(grammar.CONTENT_LENGTH.fullmatch(char)) == digit


def test_numbers_that_could_be_made_huge_are_bounded() -> None:
    """So that int() is cheap, and no chunk is larger than 64 bits can say."""
    assert grammar.CONTENT_LENGTH.fullmatch("9" * 19)
    assert not grammar.CONTENT_LENGTH.fullmatch("9" * 20)
    assert grammar.DIGITS.fullmatch("9" * 1000)
    assert grammar.CHUNK_LINE.fullmatch(b"f" * 16)
    assert not grammar.CHUNK_LINE.fullmatch(b"f" * 17)
    assert grammar.HOST.fullmatch("a:12345")
    assert not grammar.HOST.fullmatch("a:123456")


def test_the_forms_of_a_target() -> None:
    """RFC 9112 §3.2: what each takes apart."""
    absolute = grammar.ABSOLUTE_FORM.fullmatch("HTTP://a.example:80/path?query")
    assert absolute is not None
    assert absolute.group(1) == "a.example:80"
    assert not grammar.ABSOLUTE_FORM.fullmatch("http://")
    assert not grammar.ABSOLUTE_FORM.fullmatch("http://:80/")
    assert not grammar.ABSOLUTE_FORM.fullmatch("httpſ://a/")  # a long s is no s, even without case
    authority = grammar.AUTHORITY_FORM.fullmatch("[::1]:443")
    assert authority is not None
    assert authority.group(1) == "443"
    assert not grammar.AUTHORITY_FORM.fullmatch("a")
    assert not grammar.AUTHORITY_FORM.fullmatch(":443")


def test_control_fields_are_found_by_their_whole_name_at_the_beginning_of_a_line() -> None:
    """With their values as they stand but for white space before them."""
    head = (
        b"GET / HTTP/1.1\r\nHost: a \r\nX-Host: b\r\nHosts: c\r\nX: Host: d\r\nEXPECT:\t e\r\ncontent-length:\r\n"
        b"Transfer-Encoding: f\r\nconnection:g\r\nUpgrade: h\r\nContent_Length: i\r\nho\xb2t: j\r\n\r\n"
    )
    assert grammar.CONTROL_FIELDS.findall(head) == [
        (b"Host", b"a "),
        (b"EXPECT", b"e"),
        (b"content-length", b""),
        (b"Transfer-Encoding", b"f"),
        (b"connection", b"g"),
        (b"Upgrade", b"h"),
    ]


@given(st.text("\r\nab", max_size=12).map(str.encode))
def test_a_bare_line_end_is_what_is_left_without_the_pairs(data: bytes) -> None:
    """A CR at the very end is not bare yet."""
    left = data.replace(b"\r\n", b"  ")
    bare = [at for at, byte in enumerate(left) if byte == 0x0A or (byte == 0x0D and at < len(left) - 1)]
    match = grammar.BARE_LINE_END.search(data)
    assert (match.start() if match else None) == (bare[0] if bare else None)


N = 200_000  # squared it would be minutes, and doubled again and again it would be for ever
SLOW: list[tuple[re.Pattern[str] | re.Pattern[bytes], str | bytes]] = [
    (grammar.REQUEST_HEAD, b"A" * N),
    (grammar.REQUEST_HEAD, b"GET " + b"/" * N),
    (grammar.REQUEST_HEAD, b"GET /" + b" HTTP/1.1" * N),
    (grammar.REQUEST_HEAD, b"GET / HTTP/1.1\r\n" + b"a" * N),
    (grammar.REQUEST_HEAD, b"GET / HTTP/1.1\r\nX:" + b" " * N),
    (grammar.REQUEST_HEAD, b"GET / HTTP/1.1\r\nX:" + b" a" * N + b"\0\r\n\r\n"),
    (grammar.REQUEST_HEAD, b"GET / HTTP/1.1\r\n" + b"a:\r\n" * N),
    (grammar.REQUEST_HEAD, b"GET / HTTP/1.1\r\n" + b"a:::\r\n" * N + b"\0\r\n\r\n"),
    (grammar.REQUEST_HEAD, b"GET / HTTP/1.1\r\nX:" + b":" * N),
    (grammar.PLAIN_HEAD, b"A" * N),
    (grammar.PLAIN_HEAD, b"GET /" + b" HTTP/1.1" * N),
    (grammar.PLAIN_HEAD, b"GET / HTTP/1.1\r\nHost:" + b" " * N),
    (grammar.PLAIN_HEAD, b"GET / HTTP/1.1\r\nHost:" + b"a" * N),
    (grammar.PLAIN_HEAD, b"GET / HTTP/1.1\r\nHost:a\r\n" + b"c:\r\n" * N),
    (grammar.PLAIN_HEAD, b"GET / HTTP/1.1\r\nHost:a\r\n" + b"connection: keep-alive\r\n" * N),
    (grammar.PLAIN_HEAD, b"GET / HTTP/1.1\r\nHost:a\r\n" + b"content-type:" + b" " * N),
    (grammar.PLAIN_HEAD, b"GET / HTTP/1.1\r\nHost:a\r\n" + b"u" * N),
    (grammar.RESPONSE_HEAD, b"HTTP/1.1 200 " + b" " * N),
    (grammar.RESPONSE_HEAD, b"HTTP/1.1 200\r\n" + b"a:\r\n" * N),
    (grammar.STATUS_LINE, b"HTTP/1.1 200 " + b"a" * N),
    (grammar.PLAIN_HOST, b"a." * N + b"/"),
    (grammar.CHUNK_LINE, b"1" * N),
    (grammar.CHUNK_LINE, b"1" + b" " * N),
    (grammar.CHUNK_LINE, b"1;a" + b" " * N),
    (grammar.CHUNK_LINE, b"1;a=" + b" " * N),
    (grammar.CHUNK_LINE, b"1" + b" ;a" * N + b" "),
    (grammar.CHUNK_LINE, b"1" + b";a=b" * N + b"="),
    (grammar.CHUNK_LINE, b"1;" + b"a" * N + b"("),
    (grammar.CHUNK_LINE, b"1;a=" + b"b" * N + b"("),
    (grammar.CHUNK_LINE, b'1;a="' + b"b" * N),
    (grammar.CHUNK_LINE, b'1;a="' + b'\\"' * N),
    (grammar.CHUNK_LINE, b'1;a="' + b"\\\\" * N + b"\\"),
    (grammar.CHUNK_LINE, b'1;a="' + b" \t" * N),
    (grammar.CHUNK_LINE, b"1" + b';a="b"' * N + b'"'),
    (grammar.CHUNK_LINE, b"1" + b'; a = "b" ' * N + b";"),
    (grammar.HOST, "a" * N + "/"),
    (grammar.HOST, "%41" * N + "%"),
    (grammar.HOST, "a." * N + "\0"),
    (grammar.HOST, "[" + ":" * N),
    (grammar.HOST, "[" + "::" * N + "]:" + "1" * N),
    (grammar.ABSOLUTE_FORM, "http://" + "a" * N + "@"),
    (grammar.ABSOLUTE_FORM, "http://a/" + "/" * N + "\n"),
    (grammar.AUTHORITY_FORM, "a" * N),
    (grammar.AUTHORITY_FORM, "[" + ":" * N),
    (grammar.AUTHORITY_FORM, "%41" * N + ":"),
    (grammar.FIELD_LINE, b"a" * N),
    (grammar.FIELD_LINE, b"a:" + b" " * N + b"\0"),
    (grammar.REQUEST_LINE, b"GET " + b"/" * N + b" HTTP/1.1"),
    (grammar.FIELD_VALUE, " " * N + "\0"),
    (grammar.TOKEN, "a" * N + " "),
    (grammar.DIGITS, "1" * N + "x"),
]


@pytest.mark.parametrize(("pattern", "text"), SLOW, ids=[str(number) for number in range(len(SLOW))])
def test_no_input_makes_a_pattern_go_back_and_forth(
    pattern: re.Pattern[str] | re.Pattern[bytes], text: str | bytes
) -> None:
    """What takes one pass is over at once; what takes a pass for each byte would not be over before the time-out."""
    if isinstance(text, str):
        assert isinstance(pattern.pattern, str)
        assert re.compile(pattern.pattern, pattern.flags).fullmatch(text) is None
    else:
        assert isinstance(pattern.pattern, bytes)
        assert re.compile(pattern.pattern, pattern.flags).fullmatch(text) is None


@pytest.mark.parametrize(
    ("pattern", "text", "count"),
    [
        (grammar.CONTROL_FIELDS, b"\r\nhost:" + b" " * N + b"\r", 1),
        (grammar.CONTROL_FIELDS, b"\r\nhos" * N, 0),
        (grammar.CONTROL_FIELDS, b"\r\ncontent-length: " * N, N),
        (grammar.FIELDS, "\r\na:" + " \t" * N, 1),
        (grammar.FIELDS, "\r\n" + "a" * N, 0),
        (grammar.FIELDS, "\r\n" + ":" * N, 0),
    ],
    ids=["spaces", "names", "fields", "white space", "name", "colons"],
)
def test_no_head_makes_a_search_go_back_and_forth(
    pattern: re.Pattern[str] | re.Pattern[bytes], text: str | bytes, count: int
) -> None:
    """The same for the patterns that search."""
    assert len(re.findall(pattern, text)) == count  # type: ignore[arg-type]
