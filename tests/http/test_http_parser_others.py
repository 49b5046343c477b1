"""Other parsers: where they agree with this one, and a table of where they do not."""

from __future__ import annotations

import re
from typing import NamedTuple, final

import h11
import httptools
import pytest
from hypothesis import given, settings
from tests.http.generated import Message, mutated, pipelines
from tests.http.golden import ALL_CASES, Case
from tests.http.parsing import chunked, get, post
from tests.http.parsing import scanner as scanner

from nimloop_http import STANDARD_METHODS, Body, End, Head, HttpParser, Limits, Trailers
from nimloop_http.errors import (
    ProtocolError,
)


class Reading(NamedTuple):
    """A request as some parser has read it."""

    method: str
    target: str
    minor: int
    fields: list[tuple[str, str]]
    body: bytes
    trailers: list[tuple[str, str]]
    keep_alive: bool

    @property
    def framing(self) -> tuple[str, str, bytes]:
        """What must never differ."""
        return self.method, self.target, self.body


class Verdict(NamedTuple):
    """The requests that a parser reads up to the first that ends the connection, and whether it then complains."""

    readings: list[Reading]
    refused: bool

    def __str__(self) -> str:
        """Say it in a few words: the bodies of the requests it takes, and whether it then refuses the next."""
        bodies = [reading.body.decode("latin-1") or "-" for reading in self.readings]
        return " ".join([*bodies, *["refused"] * self.refused]) or "waits"


def by_us(data: bytes, methods: frozenset[str] | None = STANDARD_METHODS) -> Verdict:
    """Read with this project's parser."""
    readings: list[Reading] = []
    head: Head | None = None
    body = b""
    trailers: list[tuple[str, str]] = []
    try:
        for event in HttpParser(methods=methods).feed(data):
            match event:
                case Head():
                    head, body, trailers = event, b"", []
                case Body(piece):
                    body += piece
                case Trailers(headers):
                    trailers = [(name.lower(), value) for name, value in headers.fields()]
                case End():
                    assert head is not None
                    fields = [(name.lower(), value) for name, value in head.headers.fields()]
                    readings.append(
                        Reading(head.method, head.target, head.minor, fields, body, trailers, head.keep_alive)
                    )
                    if not head.keep_alive:
                        return Verdict(readings, refused=False)
    except ProtocolError:
        return Verdict(readings, refused=True)
    return Verdict(readings, refused=False)


def text_pairs(pairs: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Turn fields of bytes into fields of text."""
    return [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in pairs]


def by_h11(data: bytes) -> Verdict:
    """Read with h11, which wants each request answered before it goes on."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    readings: list[Reading] = []
    request: h11.Request | None = None
    body = b""
    try:
        connection.receive_data(data)
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                request, body = event, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert request is not None
                keep_alive = connection.their_state is not h11.MUST_CLOSE
                readings.append(
                    Reading(
                        request.method.decode(),
                        request.target.decode(),
                        int(request.http_version[2:]),
                        text_pairs(list(request.headers)),
                        body,
                        text_pairs(list(event.headers)),
                        keep_alive,
                    )
                )
                connection.send(h11.Response(status_code=404, headers=[(b"Content-Length", b"0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    return Verdict(readings, refused=False)
                connection.start_next_cycle()
            else:
                return Verdict(readings, refused=False)
    except h11.RemoteProtocolError:
        return Verdict(readings, refused=True)


@final
class Collector:
    """Takes down what httptools calls out."""

    def __init__(self) -> None:
        self.readings: list[Reading] = []
        self.parser = httptools.HttpRequestParser(self)
        self._begin()

    def _begin(self) -> None:
        self.target = b""
        self.body = b""
        self.sections: list[list[tuple[bytes, bytes]]] = [[], []]
        self.section = 0

    def on_message_begin(self) -> None:
        """Begin anew."""
        self._begin()

    def on_url(self, url: bytes) -> None:
        """Add to the target."""
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a field, before the body or after it."""
        self.sections[self.section].append((name, value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """Expect no fields but trailers."""
        self.section = 1

    def on_body(self, body: bytes) -> None:
        """Add to the body."""
        self.body += body

    def on_message_complete(self) -> None:
        """Keep the reading."""
        minor = int(self.parser.get_http_version()[2:])
        fields, trailers = map(text_pairs, self.sections)
        self.readings.append(
            Reading(
                self.parser.get_method().decode(),
                self.target.decode("latin-1"),
                minor,
                fields,
                self.body,
                trailers,
                self.parser.should_keep_alive(),
            )
        )


def by_httptools(data: bytes) -> Verdict:
    """Read with httptools, which is llhttp."""
    collector = Collector()
    refused = False
    try:
        collector.parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        refused = True
    readings = collector.readings
    for number, reading in enumerate(readings, 1):
        if not reading.keep_alive:
            return Verdict(readings[:number], refused=False)
    return Verdict(readings, refused)


@given(sent=pipelines)
def test_valid_requests_are_read_as_others_read_them(sent: list[Message]) -> None:
    """Method, target, fields, body, trailers, and whether the connection goes on."""
    data = b"".join(message.wire() for message in sent)
    readings = by_us(data)
    assert not readings.refused
    assert by_httptools(data) == readings
    # h11 never keeps a connection of HTTP/1.0, so it sees the requests up to the first of those.
    for mine, theirs in zip(readings.readings, by_h11(data).readings, strict=False):
        assert theirs == mine._replace(keep_alive=mine.keep_alive and mine.minor == 1)


# Where the three do not agree: what each makes of it (the bodies it takes, "-" for an empty one), and why we do so.
DIFFERENCES: list[tuple[str, bytes, str, str, str, str]] = [
    # what                         request                        ours   h11    httptools
    # Framing: in these one of the others, or both, take what we refuse.
    ("both lengths", post("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
     "refused", "-", "refused", "RFC 9112 §6.3: Transfer-Encoding may win, or the request be refused: safer"),
    ("chunked on HTTP/1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     "refused", "-", "-", "§6.1: its framing must be treated as faulty"),
    ("gzip, chunked", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
     "refused", "refused", "-", "httptools leaves gzip to its user; we implement chunked alone and say 501"),
    ("coding with a parameter", post("Transfer-Encoding: x;y=1, chunked\r\n", "0\r\n\r\n"),
     "refused", "refused", "-", "as before, but 400: no coding that is implemented has parameters"),
    ("empty element before chunked", post("Transfer-Encoding: ,chunked\r\n", "0\r\n\r\n"),
     "refused", "refused", "-", "RFC 9110 §5.6.1 would have it ignored; it is a way to hide chunked"),
    ("LF for CR LF", b"GET / HTTP/1.1\nHost: a\n\n",
     "refused", "-", "refused", "RFC 9112 §2.2 lets it pass; whoever stands in front may not"),
    ("LF for the last CR LF", b"GET / HTTP/1.1\r\nHost: a\r\n\n",
     "refused", "-", "refused", "as before"),
    ("LF after the last chunk", chunked("0\r\n\n"),
     "refused", "-", "refused", "as before"),
    ("LF in a field of the trailers", chunked("0\r\nX: y\n\r\n"),
     "refused", "-", "refused", "as before"),
    ("CR in a chunk extension", chunked("1;\rx\r\na\r\n0\r\n\r\n"),
     "refused", "a", "refused", "a control character; some take CR for a line end"),
    ("space after a chunk size", chunked("1 \r\na\r\n0\r\n\r\n"),
     "refused", "a", "refused", "no rule allows it, and padded sizes have been used for smuggling"),
    ("nonsense for an extension", chunked("1;=\r\na\r\n0\r\n\r\n"),
     "refused", "a", "a", "§7.1.1 has a grammar for extensions"),
    ("17 digits of chunk size", chunked("00000000000000001\r\na\r\n0\r\n\r\n"),
     "refused", "a", "a", "digits are bounded to 64 bits before they are made a number; h11 stops at 20"),
    ("folded field", post("X: y\r\n z\r\n"),
     "refused", "-", "refused", "§5.2: refuse, or replace by spaces; the two are two readings"),
    ("folded Content-Length", post("Content-Length:\r\n 1\r\n", "a"),
     "refused", "a", "refused", "as before"),
    # Framing: in these one of the others, or both, refuse what we take.
    ("equal lengths", post("Content-Length: 1, 1\r\n", "a"),
     "a", "a", "refused", "§6.3 allows it, and there is only one way to read it"),
    ("equal lengths in two fields", post("Content-Length: 1\r\nContent-Length: 1\r\n", "a"),
     "a", "a", "refused", "as before"),
    ("white space after chunked", post("Transfer-Encoding: chunked\t\r\n", "0\r\n\r\n"),
     "-", "-", "refused", "§5: white space around a value is not part of it"),
    ("white space in an extension", chunked("1; a = b\r\na\r\n0\r\n\r\n"),
     "a", "a", "refused", "§7.1.1 has BWS there, which a recipient must take (RFC 9110 §5.6.3)"),
    ("tab before an extension", chunked("1\t;a\r\na\r\n0\r\n\r\n"),
     "a", "refused", "refused", "as before: BWS is tabs as well as spaces"),
    ("Content-Length in the trailers", chunked("0\r\nContent-Length: 9\r\n\r\n"),
     "-", "-", "refused", "RFC 9110 §6.5.1: ignored, since a trailer cannot frame the message it ends"),
    ("bad length in the trailers", chunked("0\r\nContent-Length: x\r\n\r\n"),
     "-", "refused", "refused", "as before: not even looked at"),
    ("coding in the trailers", chunked("0\r\nTransfer-Encoding: x\r\n\r\n"),
     "-", "refused", "refused", "as before"),
    # Everything else.
    ("an empty line first", b"\r\n" + get(),
     "-", "refused", "-", "§2.2: at least one should be ignored"),
    ("two empty lines first", b"\r\n\r\n" + get(),
     "refused", "refused", "-", "at least one; without an end it would be a way to keep a server busy"),
    ("a bare LF first", b"\n" + get(),
     "refused", "refused", "-", "§2.2 is about CR LF"),
    ("an unknown method", get("PET / HTTP/1.1"),
     "refused", "-", "refused", "501; with methods=None we take it"),
    ("HTTP/0.9 written out", get("GET / HTTP/0.9"),
     "refused", "-", "-", "505: there is no such message"),
    ("HTTP/1.2", get("GET / HTTP/1.2"),
     "refused", "-", "refused", "505; RFC 9110 §2.5 would read it as 1.1, but it does not exist"),
    ("HTTP/2.0", get("GET / HTTP/2.0"),
     "refused", "-", "-", "505, as RFC 9110 §15.6.6 has it"),
    ("no version", get("GET /"),
     "refused", "refused", "-", "that was HTTP/0.9, and had no fields"),
    ("two spaces", get("GET  / HTTP/1.1"),
     "refused", "refused", "-", "RFC 9112 §3: one space"),
    ("a fragment in the target", get("GET /#a HTTP/1.1"),
     "refused", "-", "-", "no form of a target has one"),
    ("a target without a form", get("GET path HTTP/1.1"),
     "refused", "-", "refused", "§3.2 has four forms"),
    ("an asterisk for GET", get("GET * HTTP/1.1"),
     "refused", "-", "-", "§3.2.4: for OPTIONS only"),
    ("a user in the target", get("GET http://u@a/ HTTP/1.1"),
     "refused", "-", "-", "RFC 9110 §4.2.4: to be treated as an error"),
    ("CONNECT without a port", get("CONNECT a HTTP/1.1"),
     "refused", "-", "-", "RFC 9110 §9.3.6"),
    ("no Host", get(fields="X: y\r\n"),
     "refused", "refused", "-", "RFC 9112 §3.2: 400"),
    ("two Hosts", get(fields="Host: a\r\nHost: b\r\n"),
     "refused", "refused", "-", "RFC 9112 §3.2: 400"),
    ("a Host that is none", get(fields="Host: a/b\r\n"),
     "refused", "-", "-", "RFC 9112 §3.2: 400"),
    ("Connection that is no list", get(fields="Host: a\r\nConnection: close;x\r\n"),
     "refused", "-", "-", "tokens only: some would read close, some would not"),
    ("an unknown expectation", get(fields="Host: a\r\nExpect: x\r\n"),
     "refused", "-", "-", "417, RFC 9110 §10.1.1"),
    ("a control character in a value", get(fields="Host: a\r\nX: \x01\r\n"),
     "refused", "-", "refused", "RFC 9110 §5.5"),
]  # fmt: skip


@pytest.mark.parametrize("row", DIFFERENCES, ids=[row[0] for row in DIFFERENCES])
def test_the_table_of_differences_is_true(row: tuple[str, bytes, str, str, str, str]) -> None:
    """A row that no longer holds, because somebody has changed his mind, has to be argued anew."""
    _, data, *verdicts, why = row
    assert why
    assert [str(by_us(data)), str(by_h11(data)), str(by_httptools(data))] == verdicts


# What we take although both others may refuse it, each for a reason of its own: see the table.
LENIENT = re.compile(
    rb"(?:^|\r\n\r\n|\n0\r\n)\r\n"  # an empty line first
    rb"|\r\n[0-9a-f]+[\t ]*;[^\r]*[\t ]"  # white space in an extension
    rb"|content-length:[^\r]*(?:,|\r\n(?:[^\r]+\r\n)*content-length:)"  # equal lengths
    rb"|transfer-encoding:[^\r]*[\t ]\r"  # white space after chunked
    rb"|\r\n0[^\r]*\r\n(?:[^\r]+\r\n)*(?:content-length|transfer-encoding):",  # in the trailers
    re.IGNORECASE,
)


@settings(max_examples=4 * settings().max_examples)
@given(damaged=mutated())
def test_nobody_reads_another_request(damaged: bytes) -> None:
    """What two parsers both take, they frame alike; what both others refuse, we refuse, but for the table above.

    So nothing can be smuggled past this parser by a front end that is one of the others, nor the other way round.
    """
    mine, others = by_us(damaged), [by_h11(damaged), by_httptools(damaged)]
    for theirs in others:
        for my_reading, their_reading in zip(mine.readings, theirs.readings, strict=False):
            assert my_reading.framing == their_reading.framing
    if all(theirs.refused and len(theirs.readings) < len(mine.readings) for theirs in others):
        assert LENIENT.search(damaged)


COMPARABLE = [case for case in ALL_CASES if case.limits == Limits() and case.sent is None]


@pytest.mark.parametrize("case", COMPARABLE, ids=lambda case: case.name)
def test_nobody_reads_another_request_in_the_cases(case: Case) -> None:
    """The same for the golden cases: an independent opinion of what may be taken."""
    mine, others = by_us(case.data), [by_h11(case.data), by_httptools(case.data)]
    for theirs in others:
        for my_reading, their_reading in zip(mine.readings, theirs.readings, strict=False):
            assert my_reading.framing == their_reading.framing
    if all(theirs.refused and len(theirs.readings) < len(mine.readings) for theirs in others):
        assert LENIENT.search(case.data)
