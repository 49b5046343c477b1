"""Responses: written by others and read here, cut anywhere; and what a parser of them can be told and asked."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimloop_http import Body, End, Event, HttpParser, ResponseHead, Trailers
from nimloop_http.errors import BadRequestError, IncompleteMessageError, ParserStateError

TOKEN = st.text("abcXYZ09-_.", min_size=1, max_size=8).map(lambda name: f"X-{name}")
VALUE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=12)


@dataclass
class Answer:
    """A valid response, and the method of its request."""

    method: str
    status: int
    reason: str = ""
    interim: int = 0
    fields: list[tuple[str, str]] = field(default_factory=list)
    body: bytes | list[bytes] | None = None

    @property
    def bodyless(self) -> bool:
        """Whether there is no body whatever is announced."""
        return self.method == "HEAD" or self.status in {204, 304}

    def wire(self) -> bytes:
        """Serialise all of it."""
        lines = [f"HTTP/1.1 {self.status} {self.reason}", *(f"{name}: {value}" for name, value in self.fields)]
        content = b""
        if isinstance(self.body, list):
            if self.status != 204:
                lines.append("Transfer-Encoding: chunked")
                content = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in self.body) + b"0\r\n\r\n"
            else:
                lines.append("X: no coding here")
        else:
            content = self.body or b""
            lines.append(f"Content-Length: {len(content)}")
        before = b"HTTP/1.1 100 Continue\r\n\r\n" * self.interim
        head = "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")
        return before + head + (b"" if self.bodyless else content)

    @property
    def content(self) -> bytes:
        """The body that comes."""
        if self.bodyless:
            return b""
        return b"".join(self.body) if isinstance(self.body, list) else self.body or b""


answers = st.builds(
    Answer,
    method=st.sampled_from(["GET", "HEAD", "POST"]),
    status=st.sampled_from([200, 201, 204, 304, 404, 599]),
    reason=st.text("OK fine", max_size=6).map(str.strip),
    interim=st.integers(0, 2),
    fields=st.lists(st.tuples(TOKEN, VALUE), max_size=3),
    body=st.none() | st.binary(max_size=30) | st.lists(st.binary(min_size=1, max_size=10), max_size=3),
)


def read(pieces: list[bytes], methods: list[str]) -> list[Event]:
    """Parse responses to requests of these methods."""
    parser = HttpParser.for_responses()
    for method in methods:
        parser.request_sent(method)
    events = [event for piece in pieces for event in parser.feed(piece)]
    assert parser.idle
    return events


@given(sent=st.lists(answers, min_size=1, max_size=4), data=st.data())
def test_what_was_serialised_comes_back(sent: list[Answer], data: st.DataObject) -> None:
    """Whatever the cut, several responses in a row give their own parts."""
    stream = b"".join(answer.wire() for answer in sent)
    places = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in itertools.pairwise([0, *places, len(stream)])]
    events = read(pieces, [answer.method for answer in sent])
    for answer in sent:
        for _ in range(answer.interim):
            interim = events.pop(0)
            assert isinstance(interim, ResponseHead)
            assert interim.interim
        head = events.pop(0)
        assert isinstance(head, ResponseHead)
        assert (head.status, head.reason, head.minor) == (answer.status, answer.reason, 1)
        assert head.headers.fields()[: len(answer.fields)] == answer.fields
        assert head.has_body != answer.bodyless
        content = b""
        while isinstance(events[0], Body):
            content += events[0].data
            del events[0]
        assert content == answer.content
        assert isinstance(events.pop(0), End)
    assert not events


def by_h11(stream: bytes, method: str) -> tuple[int, bytes] | None:
    """Read one response with h11: status and body, or None for an error."""
    connection = h11.Connection(h11.CLIENT)
    target = "a:1" if method == "CONNECT" else "/"
    connection.send(h11.Request(method=method, target=target, headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    try:
        connection.receive_data(stream)
        connection.receive_data(b"")
        status, body = 0, b""
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return status, body
    except h11.RemoteProtocolError:
        return None


@given(answer=answers, close=st.booleans())
def test_valid_responses_are_read_as_h11_reads_them(answer: Answer, *, close: bool) -> None:
    """Status and body, also where that lasts until the end."""
    stream = answer.wire()
    if close and isinstance(answer.body, bytes) and not answer.bodyless:
        stream = stream.replace(f"Content-Length: {len(answer.body)}\r\n".encode(), b"")
    parser = HttpParser.for_responses()
    parser.request_sent(answer.method)
    events = list(parser.feed(stream))
    parser.end()
    events += list(parser)
    status = next(event.status for event in events if isinstance(event, ResponseHead) and not event.interim)
    body = b"".join(event.data for event in events if isinstance(event, Body))
    assert (status, body) == by_h11(stream, answer.method)


@pytest.mark.parametrize(
    ("method", "head", "has_body", "keep_alive", "switches"),
    [
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close", True, False, False),
        ("GET", "HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: Keep-Alive", True, True, False),
        ("GET", "HTTP/1.1 204 No Content", False, True, False),
        ("HEAD", "HTTP/1.1 200 OK", False, True, False),
        ("GET", "HTTP/1.1 199 Soon", False, True, False),
        ("CONNECT", "HTTP/1.1 199 Soon", False, True, False),
        ("CONNECT", "HTTP/1.1 200 OK", False, True, True),
        ("ACL", "HTTP/1.1 200 OK\r\nContent-Length: 1", True, True, False),
    ],
)
def test_what_a_head_says_of_body_and_connection(
    method: str, head: str, *, has_body: bool, keep_alive: bool, switches: bool
) -> None:
    """RFC 9112 §6.3 and §9.3: a body that lasts until the end takes the connection with it, no body does not."""
    parser = HttpParser.for_responses()
    parser.request_sent(method)
    found = next(iter(parser.feed(f"{head}\r\n\r\n".encode())))
    assert isinstance(found, ResponseHead)
    assert (found.has_body, found.keep_alive, found.switches) == (has_body, keep_alive, switches)


def test_the_end_of_a_body_without_length_comes_with_the_end_of_the_connection() -> None:
    """And after that the parser takes nothing more, until it is reset."""
    parser = HttpParser.for_responses()
    head, body = parser.feed(b"HTTP/1.1 200 OK\r\n\r\nhello")
    assert isinstance(head, ResponseHead)
    assert (head.has_body, head.keep_alive) == (True, False)
    assert isinstance(body, Body)
    assert parser.in_body
    parser.end()
    (end,) = parser
    assert isinstance(end, End)
    assert list(parser) == []
    with pytest.raises(ParserStateError, match="ended"):
        parser.push(b"more")
    parser.reset()
    assert len(list(parser.feed(b"HTTP/1.1 204 No Content\r\n\r\n"))) == 2


def test_an_end_while_bytes_wait_loses_none() -> None:
    """Ask for all events first: so it is an error to forget that, not a shorter body."""
    parser = HttpParser.for_responses()
    parser.push(b"HTTP/1.1 200 OK\r\n\r\nhello")
    assert isinstance(parser.next_event(), ResponseHead)
    with pytest.raises(IncompleteMessageError):
        parser.end()


def test_paused_in_the_middle_of_a_body() -> None:
    """Nothing comes until it is resumed, then everything; the end may come in between."""
    parser = HttpParser.for_responses()
    assert len(list(parser.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe"))) == 2
    parser.pause()
    parser.pause()
    parser.push(b"llo")
    assert (parser.paused, parser.in_body, parser.idle) == (True, True, False)
    assert list(parser) == []
    parser.resume()
    parser.resume()
    assert not parser.paused
    body, end = parser
    assert isinstance(body, Body)
    assert body.data == b"llo"
    assert isinstance(end, End)
    parser.pause()
    assert parser.idle
    parser.end()


def test_a_switch_keeps_every_byte_for_the_other_protocol() -> None:
    """Those that came with the head and those that come later, until they are taken; then it is over."""
    parser = HttpParser.for_responses()
    (head,) = parser.feed(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81")
    assert isinstance(head, ResponseHead)
    assert (head.switches, head.interim, head.upgrade) == (True, False, "websocket")
    assert [parser.switched] == [True]
    parser.pause()
    parser.resume()
    parser.push(b"\x05hello")
    assert list(parser) == []
    parser.end()
    assert parser.remaining_data() == b"\x81\x05hello"
    assert not parser.switched
    with pytest.raises(ParserStateError, match="another protocol"):
        parser.push(b"more")


def test_trailers_of_a_response() -> None:
    """As those of a request."""
    events = read([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\nSet-Cookie: c\r\n\r\n"], ["GET"])
    assert isinstance(events[1], Trailers)
    assert events[1].headers.fields() == [("A", "b")]


def test_an_error_in_a_response_is_final() -> None:
    """Framing is lost."""
    parser = HttpParser.for_responses()
    with pytest.raises(BadRequestError):
        list(parser.feed(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"))
    with pytest.raises(ParserStateError):
        parser.next_event()
    assert repr(read([b"HTTP/1.0 200 Fine\r\nContent-Length: 0\r\n\r\n"], [])[0]) == "<ResponseHead HTTP/1.0 200 Fine>"
