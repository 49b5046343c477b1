"""atheris' target for the parser: `hatch run fuzz:parser`, and for chunked bodies alone `hatch run fuzz:chunks`.

The first bytes of an input choose limits, cuts and whether it is of requests or of responses; the rest is parsed whole,
in pieces, and with each twin of the scanner. Every way must give the same events, or the same error, and no other
exception than those the parser promises. What h11 takes too must have the same method, target and body. With
``--chunks`` the rest is what follows the head of a request with a chunked body, so that no run is lost on a bad head.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from types import ModuleType

import h11

atheris = importlib.import_module("atheris")  # not installed where types are checked

with atheris.instrument_imports(include=["nimloop_http"]):
    from nimloop_http import (
        Body,
        End,
        Head,
        Headers,
        HttpParser,
        Limits,
        ResponseHead,
        Trailers,
        _bodies,
        _headers,
        _heads,
        _scan_py,
    )
    from nimloop_http.errors import ProtocolError

try:
    from nimloop_http import _scan
except ImportError:
    TWINS: list[ModuleType] = [_scan_py]
else:
    TWINS = [_scan_py, _scan]

LIMITS = [
    Limits(),
    Limits(request_line=40, header_bytes=80, headers=4, body=30, chunk_line=8, trailer_bytes=20),
    Limits(request_line=17, header_bytes=12, headers=1, body=0, chunk_line=1, trailer_bytes=4),
]
METHODS = ["GET", "HEAD", "CONNECT", "POST"]
ROOMY_HEADS = [replace(limits, request_line=100, header_bytes=100, headers=9) for limits in LIMITS]
CHUNKS_ALONE = "--chunks" in sys.argv
CHUNKED = b"POST / HTTP/1.1\r\nHost:a\r\nTransfer-Encoding:chunked\r\n\r\n"


def fields_of(headers: Headers) -> tuple[object, ...]:
    """All that can be asked for, first of all one of them alone."""
    fields = headers.fields()
    return ([headers[name.swapcase()] for name, _ in fields], headers.get("missing"), fields, dict(headers))


def told(event: object) -> tuple[object, ...]:
    """Everything that an event says, but a body."""
    match event:
        case Head():
            return (
                event.raw, event.method, event.target, event.minor, event.host, event.content_length, event.chunked,
                event.has_body, event.keep_alive, event.expect_continue, event.upgrade, fields_of(event.headers),
            )  # fmt: skip
        case ResponseHead():
            return (
                event.raw, event.minor, event.status, event.reason, event.content_length, event.chunked, event.has_body,
                event.keep_alive, event.switches, event.upgrade, fields_of(event.headers),
            )  # fmt: skip
        case Trailers():
            return ("trailers", fields_of(event.headers))
    return ("end",)


def parse(pieces: list[bytes], limits: Limits, methods: list[str] | None) -> list[tuple[object, ...]]:
    """Write down what comes out, the pieces of a body joined."""
    parser = HttpParser(limits) if methods is None else HttpParser.for_responses(limits)
    for method in methods or []:
        parser.request_sent(method)
    found: list[tuple[object, ...]] = []
    body = b""
    try:
        for piece in pieces:
            for event in parser.feed(piece):
                if isinstance(event, Body):
                    assert event.data
                    body += event.data
                    assert len(body) <= limits.body
                    continue
                if body:
                    found.append(("body", body))
                    body = b""
                found.append(told(event))
        found.append(("held", parser.held, parser.idle, parser.in_body, parser.switched))
    except ProtocolError as error:
        found.append((type(error), error.status, str(error)))
    found.append(("body", body))
    return found


def by_h11(data: bytes) -> tuple[str, str, bytes] | None:
    """The first request as h11 reads it; None when it refuses it or waits for more."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    head, body = None, b""
    try:
        connection.receive_data(data)
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return head.method.decode("latin-1"), head.target.decode("latin-1"), body
            else:
                return None
    except h11.RemoteProtocolError:
        return None


def by_us(data: bytes) -> tuple[str, str, bytes] | None:
    """The first request as it is read here."""
    head, body = None, b""
    try:
        for event in HttpParser().feed(data):
            if isinstance(event, Head):
                head = event
            elif isinstance(event, Body):
                body += event.data
            elif isinstance(event, End) and head is not None:
                return head.method, head.target, body
    except ProtocolError:
        pass
    return None


def test_one_input(given: bytes) -> None:
    """Parse one input in several ways."""
    if len(given) < 4:
        return
    limits = LIMITS[given[0] % 3]
    methods = None if given[1] & 1 else [METHODS[given[1] >> shift & 3] for shift in (2, 4, 6)]
    data = given[4:]
    if CHUNKS_ALONE:
        limits = ROOMY_HEADS[given[0] % 3]
        methods, data = None, CHUNKED + data
    one, two = sorted((given[2] % (len(data) + 1), given[3] * 3 % (len(data) + 1)))
    ways = [[data], [data[:one], data[one:two], data[two:]], [data[i : i + 1] for i in range(len(data))]]
    results = []
    for twin in TWINS:
        vars(_heads)["scan_request"] = twin.scan_request
        vars(_bodies)["join_chunks"] = twin.join_chunks
        for module in (_bodies, _headers):
            vars(module)["split_fields"] = twin.split_fields
        vars(_headers)["find_value"] = twin.find_value
        results += [parse(pieces, limits, methods) for pieces in ways]
    assert all(result == results[0] for result in results), results
    if methods is None:
        mine, theirs = by_us(data), by_h11(data)
        assert mine is None or theirs is None or mine == theirs, (mine, theirs)


if __name__ == "__main__":
    atheris.Setup([each for each in sys.argv if each != "--chunks"], test_one_input)
    atheris.Fuzz()
