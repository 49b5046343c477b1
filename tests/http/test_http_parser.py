"""The parser as an object: feeding, taking, handing over, resetting, ending."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.http.parsing import bytewise, chunked, get, parsed, post, written
from tests.http.parsing import scanner as scanner

from nimloop_http import STANDARD_METHODS, Body, End, Head, Headers, HttpParser, Limits, Trailers
from nimloop_http.errors import (
    BadRequestError,
    IncompleteMessageError,
    ParserStateError,
    ProtocolError,
    UnknownMethodError,
    VersionError,
)


def test_feeding_gives_an_iterator_that_may_be_left_and_taken_up_again() -> None:
    """Events are made when they are asked for, so that leaving the loop keeps the rest in the parser."""
    parser = HttpParser()
    for event in parser.feed(get("GET /1 HTTP/1.1") + get("GET /2 HTTP/1.1") + b"GET /3"):
        assert isinstance(event, Head)
        assert event.target == "/1"
        break
    assert (parser.in_body, parser.idle) == (True, False)
    assert isinstance(next(parser), End)
    assert (parser.in_body, parser.idle) == (False, False)
    parser.push(b" HTTP/1.1\r\n")
    assert written(list(parser)) == written(list(HttpParser().feed(get("GET /2 HTTP/1.1"))))
    assert parser.next_event() is None
    assert written(list(parser.feed(b"Host: a\r\n\r\n"))) == written(list(HttpParser().feed(get("GET /3 HTTP/1.1"))))
    assert parser.idle


def test_an_iterator_of_before_goes_on_with_what_is_pushed_later() -> None:
    """There is one stream of events, whichever iterator is asked."""
    parser = HttpParser()
    events = parser.feed(b"GET / HTTP/1.1\r\n")
    assert list(events) == []
    parser.push(b"Host: a\r\n\r\n")
    assert [type(event) for event in events] == [Head, End]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("GET /", BadRequestError),  # HTTP/0.9
        ("SSH-2.0-OpenSSH_9.6", BadRequestError),
        ("EHLO example.org", BadRequestError),
        ("GET / HTTP/1.1 x", BadRequestError),
        ("GET / HTTP/1.2", VersionError),
        ("PRI * HTTP/2.0", VersionError),
    ],
)
@pytest.mark.parametrize(
    "pieces", [bytewise, lambda data: [data], lambda data: [data[:-1], data[-1:]]], ids=["bytewise", "whole", "last"]
)
def test_a_line_that_begins_no_request_is_refused_as_soon_as_it_ends(
    line: str, error: type[ProtocolError], pieces: Callable[[bytes], list[bytes]]
) -> None:
    """Who speaks another protocol waits for an answer, and may never send an empty line."""
    parser = HttpParser()
    *before, last = pieces(f"{line}\r\n".encode())
    for piece in before:
        assert list(parser.feed(piece)) == []
    with pytest.raises(error) as early:
        list(parser.feed(last))
    with pytest.raises(error) as late:
        list(HttpParser().feed(f"{line}\r\nHost : a\r\n\r\n".encode()))
    assert str(early.value) == str(late.value)


@pytest.mark.parametrize(("line", "error"), [("HTTP/1.1 abc", BadRequestError), ("HTTP/2.0 200 OK", VersionError)])
def test_a_line_that_begins_no_response_is_refused_as_soon_as_it_ends(line: str, error: type[ProtocolError]) -> None:
    """The same for what a server sends."""
    for pieces in ([f"{line}\r\n".encode()], bytewise(f"{line}\r\n".encode())):
        parser = HttpParser.for_responses()
        for piece in pieces[:-1]:
            assert list(parser.feed(piece)) == []
        with pytest.raises(error):
            list(parser.feed(pieces[-1]))


def test_pieces_of_a_body_come_as_they_are() -> None:
    """Nothing waits for the rest of a body, and a piece that is all of what was fed is not copied."""
    parser = HttpParser()
    (head,) = parser.feed(post("Content-Length: 9\r\n"))
    assert isinstance(head, Head)
    assert parser.in_body
    piece = b"abc"
    (event,) = parser.feed(piece)
    assert isinstance(event, Body)
    assert event.data is piece
    assert [type(event) for event in parser.feed(b"defghi")] == [Body, End]


def test_a_fixed_body_as_long_as_the_limit_comes_through_whole() -> None:
    """Limits of the head do not bound the body."""
    body = b"a" * 100_000
    events = HttpParser().feed(post(f"Content-Length: {len(body)}\r\n", body.decode()))
    assert b"".join(event.data for event in events if isinstance(event, Body)) == body


@pytest.mark.parametrize("last", ["0\r\n\r\n", "00\r\n\r\n", "0;end\r\n\r\n", "0\r\nA: b\r\n\r\n"])
def test_behind_the_last_chunk_begins_the_next_request(last: str) -> None:
    """However the body ends, with an extension, with trailers or plainly: not one byte more or less belongs to it."""
    parser = HttpParser()
    parser.push(chunked(f"3\r\nabc\r\n{last}") + get("GET /next HTTP/1.1"))
    events = [parser.next_event() for _ in range(5 if "A:" in last else 4)]
    assert isinstance(events[-2], End)
    assert isinstance(events[-1], Head)
    assert events[-1].target == "/next"
    assert (type(parser.next_event()), parser.held) == (End, 0)


def test_more_requests_than_any_limit_of_the_head_come_in_one_piece() -> None:
    """A batch larger than a head may be is no large head."""
    many = get("GET /x HTTP/1.1") * 5000
    assert len(many) > 10 * Limits().header_bytes
    assert sum(isinstance(event, End) for event in HttpParser().feed(many)) == 5000


def test_remaining_data_takes_out_what_belongs_to_the_next_protocol() -> None:
    """After an upgrade nothing is lost, whatever came in one piece with the request."""
    request = get(fields="Host: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n")
    for pieces in ([request + b"\x81\x00rest"], [*bytewise(request), b"\x81\x00", b"rest"]):
        parser = HttpParser()
        for piece in pieces:
            parser.push(piece)
        head = parser.next_event()
        assert isinstance(head, Head)
        assert head.upgrade == "websocket"
        assert isinstance(parser.next_event(), End)
        rest = parser.remaining_data()
        assert type(rest) is bytes
        assert rest == b"\x81\x00rest"
        assert parser.held == 0
        assert parser.next_event() is None
        with pytest.raises(ParserStateError, match="another protocol"):
            parser.push(b"\x81\x00")
        assert parser.remaining_data() == b""
        parser.end()


def test_reset_lets_another_connection_begin() -> None:
    """Whatever was before: the middle of a head or of a body, a pause, an error, an upgrade."""
    parser = HttpParser()
    parser.remaining_data()
    parser.reset()
    beginnings = [
        b"\r\n",
        b"GET /1 HTTP/1.1\r\nHost: a\r\nX:",
        post("Content-Length: 9\r\n", "a"),
        chunked("1;a"),
        b"\0",
    ]
    for before in [*beginnings, get()]:
        parser.push(before)
        if before == b"\0":
            with pytest.raises(BadRequestError):
                parser.next_event()
        elif before == get():
            parser.pause()
        else:
            list(parser)
        parser.reset()
        assert parser.idle
        assert not parser.in_body
        assert not parser.paused
        assert parser.held == 0
        assert written(list(parser.feed(b"\r\n" + chunked("1\r\na\r\n0\r\n\r\n")))) == parsed(
            [chunked("1\r\na\r\n0\r\n\r\n")]
        )


def test_after_an_error_nothing_goes_on() -> None:
    """Framing is lost: feeding, pushing, asking and ending all say so; what was not looked at can still be had."""
    parser = HttpParser()
    with pytest.raises(BadRequestError):
        list(parser.feed(b"GET / HTTP/1.1\r\n\r\nrest"))
    assert not parser.idle
    assert not parser.in_body
    with pytest.raises(ParserStateError):
        parser.feed(get())
    with pytest.raises(ParserStateError):
        parser.push(b"")
    with pytest.raises(ParserStateError):
        parser.next_event()
    with pytest.raises(ParserStateError):
        next(parser)
    with pytest.raises(ParserStateError):
        parser.end()
    assert parser.remaining_data() == b"rest"


def test_requests_before_the_bad_one_are_told_first() -> None:
    """The error comes when its turn has come, and not with the push."""
    parser = HttpParser()
    parser.push(get() + b"\0")
    assert isinstance(parser.next_event(), Head)
    assert isinstance(parser.next_event(), End)
    with pytest.raises(BadRequestError):
        parser.next_event()


@pytest.mark.parametrize("before", [b"", b"\r\n", get(), post("Content-Length: 1\r\n", "a"), chunked("0\r\n\r\n")])
def test_an_end_between_messages_is_no_error(before: bytes) -> None:
    """That is how connections end; the empty line that may come first is nothing yet."""
    parser = HttpParser()
    list(parser.feed(before))
    parser.end()
    assert parser.idle


@pytest.mark.parametrize(
    "before",
    [
        b"\r",
        b"G",
        b"GET / HTTP/1.1\r\n",
        post("Content-Length: 1\r\n"),
        chunked(""),
        chunked("1\r\n"),
        chunked("1\r\na"),
        chunked("1\r\na\r"),
        chunked("0\r\n"),
        chunked("0\r\nX: y\r\n\r"),
    ],
)
def test_an_end_in_the_middle_of_a_message_is_an_error(before: bytes) -> None:
    """RFC 9112 §8: an incomplete message must not be taken for a complete one."""
    parser = HttpParser()
    list(parser.feed(before))
    with pytest.raises(IncompleteMessageError) as caught:
        parser.end()
    assert caught.value.status == 400
    with pytest.raises(ParserStateError):
        parser.end()


def test_every_place_to_end_is_either_between_messages_or_in_one() -> None:
    """`idle` after each byte of a stream tells the ends of its messages, and `in_body` its bodies."""
    messages_ = [get(), post("Content-Length: 3\r\n", "abc"), chunked("1\r\na\r\n0\r\nX: y\r\n\r\n")]
    parser = HttpParser()
    for message in messages_:
        body_begins = message.index(b"\r\n\r\n") + 4
        for at, byte in enumerate(bytewise(message), 1):
            list(parser.feed(byte))
            assert parser.idle == (at == len(message))
            assert parser.in_body == (body_begins <= at < len(message))


def test_feeding_nothing_changes_nothing() -> None:
    """An empty piece is neither an end nor a beginning."""
    parser = HttpParser()
    assert list(parser.feed(b"")) == []
    assert parser.idle
    found = parsed([b"", b"GET / HTTP/1.1\r\n", b"", b"Host: a\r\n\r", b"", b"\n", b""])
    assert found == parsed([get()])


def test_methods_are_the_ones_given() -> None:
    """A server may implement fewer, or more; None lets every token pass, and checks the target all the same."""
    with pytest.raises(UnknownMethodError, match="'POST'"):
        list(HttpParser(methods=frozenset({"GET"})).feed(post("")))
    parser = HttpParser(methods=frozenset({"PURGE"}))
    assert len(list(parser.feed(get("PURGE / HTTP/1.1")))) == 2
    with pytest.raises(BadRequestError):
        list(HttpParser(methods=None).feed(get("PURGE * HTTP/1.1")))


def test_limits_are_told() -> None:
    """What was given can be read back."""
    limits = Limits(body=7)
    assert HttpParser(limits).limits is limits
    assert HttpParser().limits == Limits()
    assert HttpParser().methods is STANDARD_METHODS


def test_events_can_be_matched_by_position() -> None:
    """`case Body(data)` and `case Trailers(headers)` work as the documentation shows."""
    match Body(b"x"):
        case Body(data):
            assert data == b"x"
    match Trailers(Headers([("X", "y")])):
        case Trailers(headers):
            assert headers["x"] == "y"


@pytest.mark.parametrize("pad", range(81))
def test_the_end_of_a_head_is_found_at_every_offset(pad: int) -> None:
    """Whole, and cut anywhere inside the four bytes that end the head."""
    data = get(f"GET /{'a' * pad} HTTP/1.1")
    whole = parsed([data])
    assert whole[-1] == "end"
    for cut in range(len(data) - 5, len(data)):
        assert parsed([data[:cut], data[cut:]]) == whole
