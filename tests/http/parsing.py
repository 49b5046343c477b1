"""What the tests of the parser share: each twin of the scanner, what came out written down, small requests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.http.scanning import TWINS, use

from nimloop_http import STANDARD_METHODS, Body, End, Event, Head, HttpParser, Limits, ResponseHead, Trailers
from nimloop_http.errors import (
    ProtocolError,
)


@pytest.fixture(scope="module", params=TWINS, autouse=True)
def scanner(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let the parser scan with each of the twins."""
    with use(request.param):
        yield


_NAMES = {"\\": "\\\\", "\r": "\\r", "\n": "\\n", "\t": "\\t", "\0": "\\0"}


def shown(text: str | bytes) -> str:
    """Spell bytes, or text of bytes, as the case files do."""
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    return "".join(_NAMES.get(c, c if " " <= c <= "~" else f"\\x{ord(c):02X}") for c in text)


def written(events: list[Event]) -> list[str]:
    """Write events down as the case files do, the pieces of a body joined."""
    lines: list[str] = []
    for event in events:
        match event:
            case Head():
                lines.append(f"request {event.method} {shown(event.target)} HTTP/1.{event.minor}")
                lines += [f"  for {event.host}"] * bool(event.host)
                lines.append("  then keep-alive" if event.keep_alive else "  then close")
                lines += [f"  body of {event.content_length} bytes"] * (event.content_length is not None)
                lines += ["  body in chunks"] * event.chunked
                lines += ["  expects 100-continue"] * event.expect_continue
                lines += [f"  offers {event.upgrade}"] * bool(event.upgrade)
                lines += [f"  field {name}: {shown(value)}".rstrip() for name, value in event.headers.fields()]
            case ResponseHead():
                lines.append(f"response HTTP/1.{event.minor} {event.status} {shown(event.reason)}".rstrip())
                lines += ["  interim"] * event.interim
                lines += ["  switches"] * event.switches
                lines += ["  then keep-alive" if event.keep_alive else "  then close"] * (event.status >= 200)
                lines += [f"  length {event.content_length}"] * (event.content_length is not None)
                lines += ["  coding chunked"] * event.chunked
                lines += ["  with a body" if event.has_body else "  without a body"]
                lines += [f"  protocol {event.upgrade}"] * bool(event.upgrade)
                lines += [f"  field {name}: {shown(value)}".rstrip() for name, value in event.headers.fields()]
            case Body(data):
                assert data, "an empty piece of a body"
                if lines[-1].startswith("body "):
                    lines[-1] += shown(data)
                else:
                    lines.append(f"body {shown(data)}")
            case Trailers():
                lines += [f"trailer {name}: {shown(value)}".rstrip() for name, value in event.headers.fields()]
            case End():
                lines.append("end")
    return lines


def parsed(
    pieces: list[bytes], limits: Limits | None = None, methods: frozenset[str] | None = STANDARD_METHODS
) -> list[str]:
    """Feed pieces, taking all events after each, and write down what came out, the error and a message cut off too."""
    parser = HttpParser(limits or Limits(), methods=methods)
    events: list[Event] = []
    try:
        for piece in pieces:
            events.extend(parser.feed(piece))
    except ProtocolError as error:
        return [*written(events), f"error {error.status} {type(error).__name__}: {error}"]
    return written(events) + ["wait"] * (not parser.idle)


def taken(parser: HttpParser, pieces: list[bytes], *, late: bool, ends: bool) -> list[str]:
    """Feed pieces, taking all events after each or only when all are there; then end, or not. Write down what came."""
    events: list[Event] = []
    try:
        for piece in pieces:
            parser.push(piece)
            if not late:
                events.extend(parser)
        events.extend(parser)
        if ends:
            parser.end()
            events.extend(parser)
    except ProtocolError as error:
        return [*written(events), f"error {error.status} {type(error).__name__}: {error}"]
    if parser.switched:
        return [*written(events), f"rest {shown(parser.remaining_data())}"]
    return written(events) + ["wait"] * (not ends and not parser.idle)


def parsed_late(
    pieces: list[bytes], limits: Limits | None = None, methods: frozenset[str] | None = STANDARD_METHODS
) -> list[str]:
    """Push all pieces before taking the first event."""
    return taken(HttpParser(limits or Limits(), methods=methods), pieces, late=True, ends=False)


def parsed_strictly(parser: HttpParser, pieces: list[bytes]) -> list[Event]:
    """Feed pieces, taking all events after each, and let errors through."""
    return [event for piece in pieces for event in parser.feed(piece)]


def bytewise(data: bytes) -> list[bytes]:
    """Cut into single bytes."""
    return [data[i : i + 1] for i in range(len(data))]


def post(fields: str, body: str = "") -> bytes:
    """Make a request with fields of one's own."""
    return f"POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}".encode("latin-1")


def chunked(body: str) -> bytes:
    """Make a request with a chunked body of one's own."""
    return post("Transfer-Encoding: chunked\r\n", body)


def get(line: str = "GET / HTTP/1.1", fields: str = "Host: a\r\n") -> bytes:
    """Make a request with a request line of one's own."""
    return f"{line}\r\n{fields}\r\n".encode("latin-1")
