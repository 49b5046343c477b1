"""What the diagnosis says of bad heads, and that it never disagrees with the scanners."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.http.scanning import TWINS, Told, told

from nimloop_http import Limits
from nimloop_http._diagnose import diagnose, diagnose_fields
from nimloop_http.errors import (
    BadRequestError,
    HeadersTooLargeError,
    ProtocolError,
    RequestLineTooLongError,
    TooManyHeadersError,
    TrailersTooLargeError,
    VersionError,
)

LIMITS = Limits()


def scanned(head: str, limits: Limits) -> Told | None:
    """Scan a whole head with each twin; they agree."""
    data = head.encode("latin-1")
    bounds = (limits.request_line, limits.header_bytes, limits.headers)
    results = {told(twin.scan_request(data, 0, bounds)) for twin in TWINS.values()}
    (result,) = results
    return result


# Each is a request with one thing wrong: the beginning that is good, the byte or bytes that spoil it, and the error.
WRONG: list[tuple[str, str, type[ProtocolError]]] = [
    ("", " GET / HTTP/1.1\r\n", BadRequestError),
    ("GET / HTTP/1.1", "\n", BadRequestError),
    ("GET / HTTP/1.1\r", "\r\n", BadRequestError),
    ("GET /  HTTP/1.1\r", "\n", BadRequestError),
    ("GET / HTTP/1.2\r", "\n", VersionError),
    ("GET / HTTP/2.0\r", "\n", VersionError),
    ("GET / HTTP/1.1\r\nX\r", "\n", BadRequestError),
    ("GET / HTTP/1.1\r\nX:y", "\n", BadRequestError),
    ("GET / HTTP/1.1\r\nX:y\r", "x", BadRequestError),
    ("GET / HTTP/1.1\r\nX:y\r\n z\r", "\n", BadRequestError),
    ("GET / HTTP/1.1\r\n:y\r", "\n", BadRequestError),
    ("GET / HTTP/1.1\r\nX :y\r", "\n", BadRequestError),
    ("GET / HTTP/1.1\r\n(X):y\r", "\n", BadRequestError),
    ("GET / HTTP/1.1\r\nX:\0\r", "\n", BadRequestError),
    ("GET / HTTP/1.1\r\nX:y\r\n\r", "\r", BadRequestError),
    ("GET / HTTP/1.1\r\nX:y\r\n", "\n", BadRequestError),
]


@pytest.mark.parametrize(("good", "spoilt", "error"), WRONG)
def test_the_diagnosis_comes_with_the_byte_that_spoils_it(good: str, spoilt: str, error: type[ProtocolError]) -> None:
    """Not before it, and whatever follows it does not matter."""
    for end in range(len(good) + 1):
        assert diagnose(good[:end].encode(), LIMITS) is None
    for more in ("", "\r\n\r\n", "\0", "\n"):
        found = diagnose((good + spoilt + more).encode(), LIMITS)
        assert type(found) is error
    assert scanned(good + spoilt + "\r\n\r\n", LIMITS) is None


LINE = "GET / HTTP/1.1"
HEAD = f"{LINE}\r\nX: y\r\nZ:\r\n\r\n"
EXACT = Limits(request_line=len(LINE), header_bytes=len("X: y\r\nZ:\r\n"), headers=2)


@pytest.mark.parametrize(
    ("limit", "error"),
    [
        ("request_line", RequestLineTooLongError),
        ("header_bytes", HeadersTooLargeError),
        ("headers", TooManyHeadersError),
    ],
)
def test_limits_are_exact(limit: str, error: type[ProtocolError]) -> None:
    """Just as much is taken, one more is not; all limits or one of them tight."""
    for limits in (EXACT, replace(LIMITS, **{limit: getattr(EXACT, limit)})):
        assert scanned(HEAD, limits) is not None
        assert diagnose(HEAD.encode(), limits) is None
    for limits in (EXACT, LIMITS):
        tight = replace(limits, **{limit: getattr(EXACT, limit) - 1})
        assert scanned(HEAD, tight) is None
        assert type(diagnose(HEAD.encode(), tight)) is error


def test_the_smallest_head_passes_the_smallest_limits() -> None:
    """The quick check, whether limits have to be looked at, is never wrong."""
    limits = Limits(request_line=len("G / HTTP/1.1"), header_bytes=3 * 4, headers=3)
    assert scanned("G / HTTP/1.1\r\na:\r\nb:\r\nc:\r\n\r\n", limits) is not None
    assert scanned("G / HTTP/1.1\r\na:\r\nb:\r\nc:\r\n\r\n", replace(limits, headers=2)) is None
    assert scanned("G / HTTP/1.1\r\n\r\n", replace(limits, header_bytes=1, headers=1)) is not None
    for count in (1, 2, 3, 10, 100):
        limits = replace(LIMITS, headers=count)
        assert scanned("G / HTTP/1.1\r\n" + "a:\r\n" * count + "\r\n", limits) is not None
        assert scanned("G / HTTP/1.1\r\n" + "a:\r\n" * (count + 1) + "\r\n", limits) is None


def test_messages_say_what_and_where() -> None:
    """Enough of the line to find it, and no more than that."""

    def message(head: str) -> str:
        return str(diagnose(head.encode("latin-1"), LIMITS))

    assert message("\x16\x03\x01") == "a request begins with a method, not with b'\\x16'"
    assert message("GET /\xe9 HTTP/1.1\r\n") == "not a request line: 'GET /\\xe9 HTTP/1.1\\r\\n'"
    assert message("GET / HTTP/3.0\r\n") == "HTTP/3.0 is not supported; HTTP/1.1 and HTTP/1.0 are"
    field = "GET / HTTP/1.1\r\n{}\r\n"
    assert message(field.format(" a")) == "a header field must not be folded over several lines"
    assert message(field.format("abc")) == "a header field has no colon: 'abc\\r\\n'"
    assert message(field.format(": a")) == "a header field has no name: ': a\\r\\n'"
    assert message(field.format("a : b")) == "there is white space before the colon of a header field: 'a : b\\r\\n'"
    assert message(field.format("a b: c")) == "the name of a header field is not a token: 'a b'"
    assert message(field.format("a: \0")) == "the value of the header field a has a control character: ' \\x00'"
    assert len(message(field.format("a: \0" + "x" * 5000))) < 400


def test_the_fields_alone_may_be_diagnosed_from_anywhere() -> None:
    """As trailers are, with an error of their own."""
    too_large = TrailersTooLargeError("too large")
    data = b"\0\0X: y\r\n\r\n\0"
    assert diagnose_fields(data, 2, 6, 1, too_large=too_large) is None
    assert diagnose_fields(data, 2, 5, 1, too_large=too_large) is too_large
    assert type(diagnose_fields(data, 2, 6, 0, too_large=too_large)) is TooManyHeadersError
    assert type(diagnose_fields(data, 1, 100, 1, too_large=too_large)) is BadRequestError
    for end in range(2, len(data)):
        assert diagnose_fields(data[:end], 2, 6, 1, too_large=too_large) is None


# Two tellings of one grammar --------------------------------------------------------------------------------------

pieces = st.sampled_from(
    [
        "GET", "/", " ", " / ", "HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "GET / HTTP/1.1\r\n", "\r\n", "\r",
        "\n", ":", "a", "a:", "a:b\r\n", "Host: a\r\n", "\t", "\0", "\x7f", "\xe9", "#", "a b", " :", "c:\r\n",
        "d: e f\r\n",
    ]
)  # fmt: skip
heads = st.tuples(st.sampled_from(["", "GET / HTTP/1.1\r\nHost: a\r\n"]), st.lists(pieces, max_size=12)).map(
    lambda parts: f"{parts[0]}{''.join(parts[1])}\r\n\r\n".partition("\r\n\r\n")[0] + "\r\n\r\n"
)
limits_of_any_size = st.builds(
    Limits, request_line=st.integers(1, 40), header_bytes=st.integers(1, 60), headers=st.integers(1, 8)
) | st.just(LIMITS)


@settings(max_examples=5 * settings().max_examples)
@given(head=heads, limits=limits_of_any_size)
def test_a_head_is_taken_just_when_the_diagnosis_finds_nothing(head: str, limits: Limits) -> None:
    """One pattern for speed, and one careful walk for words: the same language."""
    assert (scanned(head, limits) is None) == (diagnose(head.encode("latin-1"), limits) is not None)


@settings(max_examples=3 * settings().max_examples)
@given(head=heads, limits=limits_of_any_size)
def test_the_first_complaint_stays(head: str, limits: Limits) -> None:
    """Once a beginning is unacceptable, all that follows it gets the same error; so the cut cannot matter."""
    data = head.encode("latin-1")
    first: ProtocolError | None = None
    for end in range(len(data) + 1):
        found = diagnose(data[:end], limits)
        if first is None:
            first = found
        else:
            assert type(found) is type(first)
            assert str(found) == str(first)


@pytest.mark.parametrize("ending", ["\r\n", "\r\n\r\n"])
@pytest.mark.parametrize("length", range(81))
def test_the_end_of_a_line_is_found_at_every_offset(ending: str, length: int) -> None:
    """With anything before it that only looks like one: as a slow search says."""
    for filling in ("a", "a\r", "\ra", "\na", "a\n"):
        before = (filling * 81)[:length]
        data = f"X{before}{ending}a:b\r\n\r\n".encode()
        bare = data.replace(b"\r\n", b"").strip(b"Xab:") != b""
        found = diagnose(data, LIMITS)
        assert isinstance(found, BadRequestError)
        assert ("CR and LF" in str(found)) == bare
