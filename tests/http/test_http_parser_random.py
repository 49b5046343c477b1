"""Random messages: what was serialised comes back, and no cut makes a difference."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.http.generated import Message, all_limits, cuts, mutated, pipelines
from tests.http.parsing import bytewise, parsed, parsed_late, parsed_strictly
from tests.http.parsing import scanner as scanner

from nimloop_http import Body, End, Event, Head, HttpParser, Limits, Trailers
from nimloop_http.errors import (
    ProtocolError,
)


@given(sent=pipelines, data=st.data())
def test_what_was_serialised_comes_back(sent: list[Message], data: st.DataObject) -> None:
    """Whatever the cut, several valid requests in a row give their own parts, and leave nothing."""
    parser = HttpParser()
    events = parsed_strictly(parser, data.draw(cuts(b"".join(message.wire() for message in sent))))
    assert parser.idle
    assert not parser.in_body
    for message in sent:
        head = events.pop(0)
        assert isinstance(head, Head)
        assert (head.method, head.target, head.minor, head.host) == (
            message.method,
            message.target,
            message.minor,
            "example.com",
        )
        assert head.raw == message.head()
        assert head.headers.fields()[1 : 1 + len(message.fields)] == message.fields
        assert head.chunked == isinstance(message.body, list)
        assert head.content_length == (len(message.body) if isinstance(message.body, bytes) else None)
        assert head.has_body == (message.body is not None)
        assert head.keep_alive == (message.minor == 1 or "keep-alive" in message.connection.lower())
        content = b""
        while isinstance(events[0], Body):
            content += events[0].data
            del events[0]
        assert content == message.content
        if message.trailers:
            trailers = events.pop(0)
            assert isinstance(trailers, Trailers)
            assert trailers.headers.fields() == message.trailers
        assert isinstance(events.pop(0), End)
    assert not events


@settings(max_examples=4 * settings().max_examples)
@given(damaged=mutated(), limits=all_limits, data=st.data())
def test_the_cut_makes_no_difference(damaged: bytes, limits: Limits, data: st.DataObject) -> None:
    """Damaged or not, and whatever the limits: the same events, and of several errors the same one."""
    whole = parsed([damaged], limits)
    assert parsed(data.draw(cuts(damaged)), limits) == whole
    assert parsed(bytewise(damaged), limits) == whole
    assert parsed_late(bytewise(damaged), limits) == whole


@settings(max_examples=settings().max_examples // 2)
@given(damaged=mutated(), limits=all_limits)
def test_a_refused_beginning_stays_refused_and_what_was_told_stays_true(damaged: bytes, limits: Limits) -> None:
    """More bytes add events, they never change an error or an event told before."""
    longest = parsed([damaged], limits)
    for end in range(len(damaged)):
        shorter = parsed([damaged[:end]], limits)
        if shorter and shorter[-1].startswith("error "):
            assert shorter == longest
        elif shorter:
            *certain, last = [line for line in shorter if line != "wait"] or [""]
            assert longest[: len(certain)] == certain
            assert not last or longest[len(certain)].startswith(last)


def skipped_chunks(data: bytes, at: int) -> tuple[bytes, int]:
    """Read a chunked body that is in order as simply as possible; gives its content and where reading has to stop."""
    content = b""
    while True:
        line_end = data.find(b"\r\n", at)
        if line_end < 0:
            return content, at
        size = int(data[at:line_end].partition(b";")[0], 16)
        at = line_end + 2
        if size == 0:
            if data.startswith(b"\r\n", at):
                return content, at + 2
            end = data.find(b"\r\n\r\n", at)
            return content, at if end < 0 else end + 4
        content += data[at : at + size]
        if len(data) < at + size + 2:
            return content, min(len(data), at + size)
        at += size + 2


@settings(max_examples=3 * settings().max_examples)
@given(damaged=mutated(), data=st.data())
def test_no_byte_is_lost_or_made_up(damaged: bytes, data: st.DataObject) -> None:
    """Every byte is in a head, in a body, in the coding of a body, in the rest, or in the message that was refused."""
    parser = HttpParser()
    events: list[Event] = []
    failed = False
    pieces = data.draw(cuts(damaged))
    while pieces and not failed:
        try:
            events.extend(parser.feed(pieces.pop(0)))
        except ProtocolError:
            failed = True
    rest = parser.remaining_data()
    given = damaged[: len(damaged) - sum(map(len, pieces))]
    assert given.endswith(rest)
    at = 0
    waiting = list(events)
    while waiting:
        head = waiting.pop(0)
        assert isinstance(head, Head)
        text = head.raw
        at += 2 * damaged.startswith(b"\r\n", at)
        assert damaged.startswith(text, at)
        at += len(text)
        content = b""
        while waiting and not isinstance(waiting[0], Head):
            event = waiting.pop(0)
            content += event.data if isinstance(event, Body) else b""
        if head.chunked and failed and not waiting:
            return  # the fault is in the coding, and what was good before it is not told apart
        length = head.content_length or 0
        expected, end = (
            skipped_chunks(given, at) if head.chunked else (given[at : at + length], min(at + length, len(given)))
        )
        assert content == expected
        at = end
    if not failed:
        at += 2 * (given[at:] == b"\r\n" and not rest)
        assert given[at:].removeprefix(b"\r\n") == rest.removeprefix(b"\r\n")
