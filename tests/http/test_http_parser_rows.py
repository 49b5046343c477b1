"""What went wrong in parsers before this one, row by row: each has a test here that would fail if it came back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.http.scanning import TWINS, use

from nimloop_http import Body, End, Event, Head, HttpParser, Limits, Trailers
from nimloop_http.errors import (
    BacklogError,
    BadRequestError,
    BodyTooLargeError,
    ChunkLineTooLongError,
    ParserStateError,
    ProtocolError,
    UnknownExpectationError,
    UnknownMethodError,
)

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(params=TWINS, autouse=True)
def scanner(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let the parser scan with each of the twins."""
    with use(request.param):
        yield


def post(*fields: bytes, body: bytes = b"", minor: int = 1) -> bytes:
    """Make a request with fields of one's own."""
    head = b"".join(field + b"\r\n" for field in [b"POST / HTTP/1.%d" % minor, b"Host: a", *fields])
    return head + b"\r\n" + body


def chunked(body: bytes) -> bytes:
    """Make a request with a chunked body of one's own."""
    return post(b"Transfer-Encoding: chunked", body=body)


def events_of(data: bytes, limits: Limits | None = None) -> list[Event]:
    """Parse it whole; cut in two anywhere, and byte by byte, must give the same or raise the same."""
    outcomes = []
    for pieces in [[data], *([data[:cut], data[cut:]] for cut in range(len(data))), [bytes([b]) for b in data]]:
        parser = HttpParser(limits or Limits())
        events: list[Event] = []
        error: ProtocolError | None = None
        try:
            for piece in pieces:
                events.extend(parser.feed(piece))
        except ProtocolError as raised:
            error = raised
        content = [
            (type(event), event.target if isinstance(event, Head) else "")
            for event in events
            if not isinstance(event, Body)
        ]
        body = b"".join(event.data for event in events if isinstance(event, Body))
        outcomes.append((events, error, (content, body, type(error), str(error))))
    assert len({repr(outcome[2]) for outcome in outcomes}) == 1
    events, error, _ = outcomes[0]
    if error is not None:
        raise error
    return events


def refused(data: bytes, error: type[ProtocolError] = BadRequestError) -> None:
    """Parse what must be refused, and must not let the request behind it through."""
    with pytest.raises(error) as caught:
        events_of(data + SMUGGLED)
    assert caught.value.status == error.status


@pytest.mark.parametrize("coding", [b"gzip", b"identity", b"chunked, gzip", b"xchunked", b"chunked;a=b", b""])
def test_p1_a_last_coding_that_is_not_chunked_is_no_request_without_a_body(coding: bytes) -> None:
    """RFC 9112 §6.3: nobody can tell where it ends."""
    refused(post(b"Transfer-Encoding: " + coding, body=b"0\r\n\r\n"))


@pytest.mark.parametrize("space", [b" ", b"\t", b" \t", b"\r\n "])
@pytest.mark.parametrize("field", [b"Content-Length", b"Transfer-Encoding", b"Host", b"X"])
def test_p2_white_space_before_the_colon_is_refused(field: bytes, space: bytes) -> None:
    """RFC 9112 §5.1."""
    refused(post(field + space + b": 5", body=b"hello"))


@pytest.mark.parametrize("name", [b"Content\rLength", b"Transfer\rEncoding", b"Content-Length\x1a"])
def test_p3_only_letters_have_a_case(name: bytes) -> None:
    """Folding by one bit would make a hyphen of CR, and a colon of SUB."""
    refused(post(name + b": 5", body=b"hello"))
    refused(post(b"X: a\0b"))
    refused(post(b"X: a\rb"))
    refused(post(b"X\0: b"))


@pytest.mark.parametrize(
    "fields",
    [
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"],
        [b"Transfer-Encoding: identity", b"Transfer-Encoding: x"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked, chunked"],
    ],
)
def test_p4_codings_of_several_fields_are_one_list(fields: list[bytes]) -> None:
    """Chunked is the last one, once, or it is refused; and HTTP/1.0 has no codings."""
    refused(post(*fields, body=b"0\r\n\r\n"))
    refused(post(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n", minor=0))


@pytest.mark.parametrize("body", [b"0\r\n\n", b"0\n\r\n", b"5 junk\r\nhello\r\n0\r\n\r\n", b"5\nhello\r\n0\r\n\r\n"])
def test_p5_chunks_end_with_both_bytes_and_sizes_are_digits(body: bytes) -> None:
    """Wherever they are cut."""
    refused(chunked(body))


@pytest.mark.parametrize("length", [1, 9, 10, 11, 30])
def test_p5_the_limit_of_extensions_does_not_depend_on_the_cut(length: int) -> None:
    """Ten bytes for the line: eight of extension behind "1;"."""
    data = chunked(b"1;" + b"a" * length + b"\r\nx\r\n0\r\n\r\n")
    limits = Limits(chunk_line=10)
    if length > 8:
        with pytest.raises(ChunkLineTooLongError):
            events_of(data, limits)
    else:
        assert isinstance(events_of(data, limits)[-1], End)


def test_p6_trailers_are_read_bounded_and_sifted() -> None:
    """They do not make the request hang; what frames or routes a message is not taken from them."""
    data = chunked(b"1\r\nx\r\n0\r\nContent-Length: 9\r\nHost: b\r\nDigest: c\r\n\r\n")
    head, body, trailers, end = events_of(data)
    assert isinstance(head, Head)
    assert isinstance(body, Body)
    assert isinstance(trailers, Trailers)
    assert isinstance(end, End)
    assert trailers.headers.fields() == [("Digest", "c")]
    assert head.headers["host"] == "a"
    with pytest.raises(ProtocolError, match="trailer fields have more than 20"):
        events_of(chunked(b"0\r\n" + b"X: y\r\n" * 5 + b"\r\n"), Limits(trailer_bytes=20))


@pytest.mark.parametrize(
    "fields", [b"", b"Host: a\r\nHost: a\r\n", b"Host: a b\r\n", b"Host: a, b\r\n", b"Host: a/b\r\n"]
)
def test_p7_there_is_exactly_one_valid_host(fields: bytes) -> None:
    """RFC 9112 §3.2."""
    refused(b"GET / HTTP/1.1\r\n" + fields + b"\r\n")


@pytest.mark.parametrize("byte", [*range(0x20), 0x7F, 0x80, 0xFF, ord("#")])
def test_p8_a_target_is_visible_ascii(byte: int) -> None:
    """And no bare line end is in any line."""
    refused(b"GET /a%sb HTTP/1.1\r\nHost: a\r\n\r\n" % bytes([byte]))


@pytest.mark.parametrize(
    ("minor", "value", "alive"),
    [
        (1, b"closed", True),
        (1, b"close-notify", True),
        (1, b"keep-alive, close", False),
        (1, b"x, CLOSE", False),
        (1, b"", True),
        (0, b"", False),
        (0, b"x", False),
        (0, b"Keep-Alive", True),
        (0, b"keep-alive, close", False),
    ],
)
def test_p9_connection_is_a_list_of_tokens(minor: int, value: bytes, *, alive: bool) -> None:
    """RFC 9112 §9.3; HTTP/1.0 closes unless it is asked not to."""
    head = events_of(post(b"Connection: " + value, minor=minor))[0]
    assert isinstance(head, Head)
    assert head.keep_alive == alive


def test_p10_an_unknown_method_is_not_malformed() -> None:
    """501, or passed through; one empty line comes before a request; an expectation is compared as a whole."""
    refused(b"PURGE / HTTP/1.1\r\nHost: a\r\n\r\n", UnknownMethodError)
    refused(b"get / HTTP/1.1\r\nHost: a\r\n\r\n", UnknownMethodError)
    parser = HttpParser(methods=None)
    (head, _) = parser.feed(b"PURGE / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert isinstance(head, Head)
    assert head.method == "PURGE"
    assert len(events_of(b"\r\n" + post())) == 2
    refused(b"\r\n\r\n" + post())
    refused(post(b"Expect: 100-continued", b"Content-Length: 0"), UnknownExpectationError)
    head = events_of(post(b"Expect: 100-CONTINUE", b"Content-Length: 0"))[0]
    assert isinstance(head, Head)
    assert head.expect_continue


@pytest.mark.parametrize("count", [1, 1000])
def test_p11_a_batch_of_requests_gives_the_same_as_each_alone(count: int) -> None:
    """However much comes at once, and whatever is left over from the batch before."""
    one = b"GET /%d HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100 + b"\r\n\r\n"
    stream = b"".join(one % number for number in range(count))
    for size in (len(stream), 20_000, 4097, 4096):
        parser = HttpParser()
        targets = []
        for at in range(0, len(stream), size):
            targets += [event.target for event in parser.feed(stream[at : at + size]) if isinstance(event, Head)]
        assert targets == [f"/{number}" for number in range(count)]
        assert parser.idle


# P12, that no cut makes a difference, is in test_http_parser_cases.py and test_http_parser_random.py.


def test_p13_no_byte_is_dropped_however_late_events_are_asked_for() -> None:
    """What is fed while a request waits is kept, up to a bound, and then refused without being half taken."""
    data = post(b"Content-Length: 5", body=b"hello") * 3
    parser = HttpParser(backlog=len(data))
    for byte in data:
        parser.push(bytes([byte]))
    assert parser.held == len(data)
    with pytest.raises(BacklogError):
        parser.push(b"!")
    assert parser.held == len(data)
    assert len(list(parser)) == 9
    parser.push(data)
    parser.pause()
    assert list(parser) == []
    parser.resume()
    assert len(list(parser)) == 9
    with pytest.raises(BadRequestError):
        list(parser.feed(b"\0"))
    with pytest.raises(ParserStateError):
        parser.push(b"not silently dropped")


def test_p14_what_was_mended_stays_mended() -> None:
    """Overflows, doubled lengths, sizes beyond reason, and the end of a chunked body."""
    refused(post(b"Content-Length: " + b"9" * 30), BodyTooLargeError)
    refused(post(b"Content-Length: 18446744073709551621", body=b"hello"), BodyTooLargeError)
    refused(post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello"))
    refused(post(b"Content-Length: -5"))
    refused(chunked(b"ffffffffffffffff\r\n"), BodyTooLargeError)
    refused(chunked(b"10000000000000005\r\nhello\r\n0\r\n\r\n"))
    same = events_of(post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"))
    assert [type(event) for event in same] == [Head, Body, End]
    parser = HttpParser()
    events = list(parser.feed(chunked(b"5\r\nhello\r\n0\r\n\r\n") + b"G"))
    assert [type(event) for event in events] == [Head, Body, End]
    assert parser.held == 1


def test_p15_bodies_have_a_bound_from_the_start() -> None:
    """A finite default; announced too much is refused with the head; chunks come as they are, and nothing is kept."""
    assert Limits().body < 1 << 30
    with pytest.raises(BodyTooLargeError):
        list(HttpParser(Limits(body=4)).feed(post(b"Content-Length: 5")))
    parser = HttpParser()
    list(parser.feed(post(b"Transfer-Encoding: chunked")))
    for _ in range(100):
        (event,) = parser.feed(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        assert isinstance(event, Body)
        assert parser.held == 0


# P16, that a byte costs the same however many came before it, is in test_http_parser_cost.py, which counts the steps;
# P17, that line ends are found at every offset, is in test_http_scan.py.
