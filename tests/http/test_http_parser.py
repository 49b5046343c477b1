"""The parser: golden cases, every way to cut the bytes, random messages, other parsers, and the cost of each byte."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Self, SupportsIndex, TypeAlias, final

import h11
import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.http.scanning import TWINS, use

import nimloop_http._diagnose as diagnose_module
import nimloop_http.parser as parser_module
from nimloop_http import STANDARD_METHODS, Body, End, Event, Head, Headers, HttpParser, Limits, ResponseHead, Trailers
from nimloop_http._grammar import BARE_LINE_END
from nimloop_http.errors import (
    BadRequestError,
    ChunkLineTooLongError,
    HeadersTooLargeError,
    IncompleteMessageError,
    ParserStateError,
    ProtocolError,
    RequestLineTooLongError,
    TrailersTooLargeError,
    UnknownMethodError,
)

CASES = Path(__file__).with_name("cases")


@pytest.fixture(scope="module", params=TWINS, autouse=True)
def scanner(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let the parser scan with each of the twins."""
    with use(request.param):
        yield


# Writing down what came out ---------------------------------------------------------------------------------------

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


# Golden cases -----------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """One request of one section of a case file, or one response to the requests that were sent."""

    name: str
    data: bytes
    limits: Limits
    methods: frozenset[str] | None
    sent: list[str] | None
    ends: bool
    result: list[str]

    def parsed(self, pieces: list[bytes], *, late: bool = False) -> list[str]:
        """Parse the data in these pieces."""
        if self.sent is None:
            parser = HttpParser(self.limits, methods=self.methods)
        else:
            parser = HttpParser.for_responses(self.limits)
            for method in self.sent:
                parser.request_sent(method)
        return taken(parser, pieces, late=late, ends=self.ends)


def unescaped(text: str) -> bytes:
    """Undo the escapes of the case files."""

    def byte(match: re.Match[bytes]) -> bytes:
        code = match.group(1)
        return bytes([int(code[1:], 16)]) if code[:1] == b"x" else b"\r\n\t\0 \\"[b"rnt0s\\".index(code) :][:1]

    return re.sub(rb"\\(x[0-9A-F]{2}|[rnt0s\\])", byte, text.encode())


def wire(lines: list[str]) -> bytes:
    """Put the line ends in that the lines of a case file stand for."""
    data = b""
    for line in lines:
        kept = line.removesuffix("\\")
        backslashes = len(line) - len(line.rstrip("\\"))
        data += unescaped(kept) if backslashes % 2 else unescaped(line) + b"\r\n"
    return data


def read_cases(path: Path) -> Iterator[Case]:
    """Take a case file apart."""
    for section in path.read_text().split("\n## ")[1:]:
        title = section.partition("\n")[0]
        blocks = {name: text.splitlines() for name, text in re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL)}
        assert {"result"} < blocks.keys() <= {"request", "response", "sent", "result", "each", "limits"}, title
        assert ("request" in blocks) != ("response" in blocks), title
        limits, methods = Limits(), STANDARD_METHODS
        any_method = False
        for line in blocks.get("limits", []):
            name, _, value = line.partition(" ")
            if name == "methods":
                any_method = True
            else:
                limits = replace(limits, **{name: int(value)})
        sent = None if "request" in blocks else blocks.get("sent", ["GET"])
        for number, each in enumerate(blocks.get("each", [""])):
            lines = [line.replace("{each}", each) for line in blocks.get("request", blocks.get("response", []))]
            ends = lines[-1:] == ["(end)"]
            data = wire(lines[:-1] if ends else lines)
            name = f"{path.stem}: {title}" + f" [{number}: {each}]" * ("each" in blocks)
            yield Case(name, data, limits, None if any_method else methods, sent, ends, blocks["result"])


ALL_CASES = [case for path in sorted(CASES.glob("*.md")) if path.name != "README.md" for case in read_cases(path)]


def agrees(found: list[str], expected: list[str]) -> bool:
    """Compare with a case's result, which may leave out the fields and some words of an error's message."""
    if not any(line.startswith("  field ") for line in expected):
        found = [line for line in found if not line.startswith("  field ")]
    if not (found and expected and expected[-1].startswith("error ")):
        return found == expected
    wanted_kind, _, words = expected[-1].partition(": ")
    kind, _, message = found[-1].partition(": ")
    return found[:-1] == expected[:-1] and kind == wanted_kind and words in message


@pytest.mark.parametrize("case", ALL_CASES, ids=lambda case: case.name)
def test_a_case_gives_its_result_however_it_is_cut(case: Case) -> None:
    """Whole, in two pieces cut at every place, byte by byte, and pushed before anything is taken."""
    data = case.data
    whole = case.parsed([data])
    assert agrees(whole, case.result), whole
    for cut in range(len(data) + 1):
        assert case.parsed([data[:cut], data[cut:]]) == whole, f"cut before byte {cut}"
    assert case.parsed(bytewise(data)) == whole
    assert case.parsed(bytewise(data), late=True) == whole


def test_every_case_file_has_cases_and_no_two_share_a_name() -> None:
    """A heading that the reader of the files overlooks would be a promise that nobody checks."""
    assert len({case.name for case in ALL_CASES}) == len(ALL_CASES)
    for path in CASES.glob("*.md"):
        headings = path.read_text().count("\n## ")
        found = {case.name.partition(" [")[0] for case in ALL_CASES if case.name.startswith(f"{path.stem}: ")}
        assert len(found) == headings


# Random messages --------------------------------------------------------------------------------------------------

TCHAR = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
OBS_TEXT = "".join(map(chr, range(0x80, 0x100)))


@dataclass
class Chunk:
    """One chunk and what stands after its size."""

    data: bytes
    extension: str = ""


@dataclass
class Message:
    """A valid request."""

    method: str
    target: str
    minor: int = 1
    fields: list[tuple[str, str]] = field(default_factory=list)
    connection: str = ""
    body: bytes | list[Chunk] | None = None
    trailers: list[tuple[str, str]] = field(default_factory=list)

    def head(self) -> bytes:
        """Serialise the head."""
        fields = [("Host", "example.com"), *self.fields]
        if self.connection:
            fields.append(("Connection", self.connection))
        if isinstance(self.body, bytes):
            fields.append(("Content-Length", str(len(self.body))))
        elif self.body is not None:
            fields.append(("Transfer-Encoding", "chunked"))
        lines = [f"{self.method} {self.target} HTTP/1.{self.minor}", *(f"{name}: {value}" for name, value in fields)]
        return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")

    def wire(self) -> bytes:
        """Serialise all of it."""
        if self.body is None:
            return self.head()
        if isinstance(self.body, bytes):
            return self.head() + self.body
        chunks = [
            b"%x%s\r\n%s\r\n" % (len(each.data), each.extension.encode("latin-1"), each.data) for each in self.body
        ]
        trailers = "".join(f"{name}: {value}\r\n" for name, value in self.trailers).encode("latin-1")
        return self.head() + b"".join(chunks) + b"0\r\n" + trailers + b"\r\n"

    @property
    def content(self) -> bytes:
        """The body without its coding."""
        if isinstance(self.body, list):
            return b"".join(each.data for each in self.body)
        return self.body or b""


names = st.text(TCHAR, min_size=1, max_size=8).map(lambda name: f"X-{name}")
values = st.text(VISIBLE + OBS_TEXT + " \t", max_size=20).map(lambda value: value.strip(" \t"))
field_lists = st.lists(st.tuples(names, values), max_size=5)
extensions = st.sampled_from(["", "", ";a", ";a=b", ';a="b;c"', ";a=1;b=2"])
chunk_lists = st.lists(st.builds(Chunk, st.binary(min_size=1, max_size=40), extensions), max_size=4)
targets = st.text(VISIBLE.replace("#", ""), max_size=20).map(lambda path: f"/{path}")
methods_without_connect = st.sampled_from(sorted(STANDARD_METHODS - {"CONNECT"}))


@st.composite
def messages(draw: st.DrawFn) -> Message:
    """Make valid requests, those of HTTP/1.0 without chunks."""
    minor = draw(st.sampled_from([1, 1, 1, 0]))
    bodies: st.SearchStrategy[bytes | list[Chunk] | None] = st.none() | st.binary(max_size=60)
    message = Message(
        method=draw(methods_without_connect),
        target=draw(targets),
        minor=minor,
        fields=draw(field_lists),
        connection=draw(st.sampled_from(["", "", "keep-alive", "TE, Keep-Alive"])),
        body=draw(bodies if minor == 0 else bodies | chunk_lists),
    )
    if isinstance(message.body, list):
        message.trailers = draw(field_lists)
    return message


pipelines = st.lists(messages(), min_size=1, max_size=4)


@st.composite
def cuts(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """Cut data into random pieces, some of them empty."""
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [data[a:b] for a, b in itertools.pairwise([0, *places, len(data)])]


# Where a mutation hurts: line ends, white space, what stands between things, and what begins a field that counts.
SPLINTERS = [
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b"\0", b"\x0b", b"\x7f", b"\xff", b":", b";", b",", b"=",
    b'"', b"\\", b"0", b"5", b"a", b"-", b"+", b"chunked", b"\r\nContent-Length: 5",
    b"\r\nTransfer-Encoding: chunked", b"\r\nHost: b", b"\r\nConnection: close", b"\r\nExpect: 100-continue",
    b"0\r\n\r\n", b"GET / HTTP/1.1\r\n", b"\r\n ", b"HTTP/1.0", b"%", b"#", b"/", b"*",
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Serialise valid requests and damage them a little."""
    data = b"".join(message.wire() for message in draw(pipelines))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 0, 1, 1, 2, 8])))
        data = data[:start] + draw(st.sampled_from(SPLINTERS) | st.binary(max_size=2)) + data[end:]
    return data


tight_limits = st.builds(
    Limits,
    request_line=st.integers(1, 60),
    header_bytes=st.integers(1, 150),
    headers=st.integers(1, 6),
    body=st.integers(0, 60),
    chunk_line=st.integers(1, 12),
    trailer_bytes=st.integers(1, 60),
)
all_limits = st.just(Limits()) | tight_limits


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


# Other parsers ----------------------------------------------------------------------------------------------------


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


def post(fields: str, body: str = "") -> bytes:
    """Make a request with fields of one's own."""
    return f"POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}".encode("latin-1")


def chunked(body: str) -> bytes:
    """Make a request with a chunked body of one's own."""
    return post("Transfer-Encoding: chunked\r\n", body)


def get(line: str = "GET / HTTP/1.1", fields: str = "Host: a\r\n") -> bytes:
    """Make a request with a request line of one's own."""
    return f"{line}\r\n{fields}\r\n".encode("latin-1")


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


# What each byte costs ---------------------------------------------------------------------------------------------


@final
class Cost:
    """Counts the bytes that are looked at or copied."""

    steps = 0


Slice: TypeAlias = "slice[int | None, int | None, None]"


@final
class CountedBuffer(bytearray):
    """The parser's buffer, telling the cost of what is done with it."""

    def __init__(self, content: bytes = b"") -> None:
        super().__init__(content)
        Cost.steps += len(content)

    def __getitem__(self, key: SupportsIndex | Slice) -> int | bytearray:  # type: ignore[override]
        piece = super().__getitem__(key)
        Cost.steps += len(piece) if isinstance(piece, bytearray) else 1
        return piece

    def __iadd__(self, more: bytes) -> Self:  # type: ignore[override, misc]
        Cost.steps += len(more)
        return super().__iadd__(more)

    def find(self, what: bytes, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]
        """Count up to what is found, or to the end."""
        found = super().find(what, start, end)
        last = min(len(self), len(self) if end is None else end)
        Cost.steps += max(1, (last if found < 0 else found + len(what)) - start)
        return found


@final
class CountedPattern:
    """A pattern that looks at each byte once, telling how many those are."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self._pattern = pattern

    def search(self, data: bytes, start: int = 0, end: int | None = None) -> re.Match[bytes] | None:
        """Count up to what is found, or to the end."""
        end = len(data) if end is None else min(end, len(data))
        match = self._pattern.search(data, start, end)
        Cost.steps += max(1, (match.end() if match else end) - start)
        return match


@pytest.fixture
def cost_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes, Limits], int]:
    """Give the function that feeds byte by byte and counts."""
    monkeypatch.setattr(parser_module, "bytearray", CountedBuffer, raising=False)
    for module in (parser_module, diagnose_module):
        monkeypatch.setattr(module, "BARE_LINE_END", CountedPattern(BARE_LINE_END))

    def cost(data: bytes, limits: Limits) -> int:
        Cost.steps = 0
        found = parsed(bytewise(data), limits)
        assert not found[-1].startswith("error ")
        return Cost.steps

    return cost


HUGE = 1 << 30
ROOMY = Limits(request_line=HUGE, header_bytes=HUGE, headers=HUGE, body=HUGE, chunk_line=HUGE, trailer_bytes=HUGE)
LONG_MESSAGES: dict[str, Callable[[int], bytes]] = {
    "request line": lambda n: get(f"GET /{'a' * n} HTTP/1.1"),
    "field": lambda n: get(fields=f"Host: a\r\nX: {'a' * n}\r\n"),
    "fields": lambda n: get(fields="Host: a\r\n" + "X:\r\n" * (n // 4)),
    "line and fields": lambda n: get(f"GET /{'a' * n} HTTP/1.1", "Host: a\r\n" + "X: y\r\n" * (n // 6)),
    "list": lambda n: get(fields=f"Host: a\r\nConnection: {'a ,' * (n // 3)}a\r\n"),
    "body": lambda n: post(f"Content-Length: {n}\r\n", "a" * n),
    "chunk": lambda n: chunked(f"{n:x}\r\n{'a' * n}\r\n0\r\n\r\n"),
    "chunks": lambda n: chunked("1\r\na\r\n" * (n // 6) + "0\r\n\r\n"),
    "extension": lambda n: chunked(f"0;a={'a' * n}\r\n\r\n"),
    "trailer": lambda n: chunked(f"0\r\nX: {'a' * n}\r\n\r\n"),
    "trailers": lambda n: chunked("0\r\n" + "X:\r\n" * (n // 4) + "\r\n"),
    "pipeline": lambda n: get() * (n // 25),
}


@pytest.mark.interpreted
@pytest.mark.parametrize("shape", LONG_MESSAGES)
@pytest.mark.parametrize("tight", [False, True], ids=["roomy", "exact"])
def test_a_byte_costs_the_same_however_many_came_before(
    shape: str, cost_of: Callable[[bytes, Limits], int], *, tight: bool
) -> None:
    """Byte by byte, a message of four times the size takes four times the steps, near its limits, too."""

    def cost(size: int) -> int:
        data = LONG_MESSAGES[shape](size)
        if not tight:
            return cost_of(data, ROOMY)
        head, _, rest = data.partition(b"\r\n\r\n")
        line, _, fields = head.partition(b"\r\n")
        trailers = rest.removeprefix(b"0\r\n") if shape.startswith("trailer") else b"X:\r\n\r\n"
        limits = replace(ROOMY, request_line=len(line), header_bytes=len(fields) + 2, trailer_bytes=len(trailers) - 2)
        return cost_of(data, limits)

    small, large = cost(1500), cost(6000)
    assert large < 4.2 * small
    assert large < 20 * len(LONG_MESSAGES[shape](6000))


@pytest.mark.interpreted
@pytest.mark.parametrize(("line_limit", "field_limit"), [(HUGE, 1), (HUGE, 8192), (8192, HUGE)])
def test_a_limit_that_is_passed_elsewhere_costs_nothing(
    line_limit: int, field_limit: int, cost_of: Callable[[bytes, Limits], int]
) -> None:
    """A long request line does not suffer from a small limit of the fields, and not the other way round."""
    limits = replace(ROOMY, request_line=line_limit, header_bytes=field_limit)
    small, large = (
        cost_of(b"GET /" + b"a" * size if line_limit == HUGE else b"GET / HTTP/1.1\r\nX: " + b"a" * size, limits)
        for size in (10_000, 40_000)
    )
    assert large < 4.2 * small


def test_requests_that_wait_are_not_copied_again_and_again(cost_of: Callable[[bytes, Limits], int]) -> None:
    """With the reader a hundred requests behind, a byte costs what it costs otherwise."""
    parser = HttpParser()
    for _ in range(100):
        parser.push(get())
    Cost.steps = 0
    for _ in range(200):
        for piece in bytewise(get()):
            parser.push(piece)
        assert isinstance(parser.next_event(), Head)
        assert isinstance(parser.next_event(), End)
    assert Cost.steps < 10 * 200 * len(get())


# Limits, to the byte ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("beginning", "endless", "limit", "error"),
    [
        (b"", b"a", 100, RequestLineTooLongError),
        (b"", b"a b ", 100, RequestLineTooLongError),
        (get(), b"a", 100, RequestLineTooLongError),
        (chunked("0\r\nX: y\r\n\r\n"), b"a", 100, RequestLineTooLongError),
        (b"GET / HTTP/1.1\r\n", b"a", 200, HeadersTooLargeError),
        (b"GET / HTTP/1.1\r\n", b"a:\r\n", 200, HeadersTooLargeError),
        (chunked(""), b"0", 50, ChunkLineTooLongError),
        (chunked("0\r\n"), b"a", 300, TrailersTooLargeError),
        (chunked("0\r\n"), b"a: b\r\n", 300, TrailersTooLargeError),
    ],
)
def test_what_has_no_end_is_refused_at_the_limit(
    beginning: bytes, endless: bytes, limit: int, error: type[ProtocolError]
) -> None:
    """No more is kept than may be good yet: the limit and a line end."""
    parser = HttpParser(Limits(request_line=100, header_bytes=200, trailer_bytes=300, chunk_line=50))
    parsed_strictly(parser, bytewise(beginning))
    sent = bytewise(endless * (limit + 2))
    parsed_strictly(parser, sent[: limit - 2])
    with pytest.raises(error):
        parsed_strictly(parser, sent[limit - 2 : limit + 2])


LIMIT_ERRORS = {
    "": "",
    "request_line": "414 RequestLineTooLongError",
    "header_bytes": "431 HeadersTooLargeError",
    "headers": "431 TooManyHeadersError",
    "body": "413 BodyTooLargeError",
    "trailer_bytes": "431 TrailersTooLargeError",
    "chunk_line": "400 ChunkLineTooLongError",
}


@given(over=st.sampled_from(sorted(LIMIT_ERRORS)), data=st.data())
def test_each_limit_is_exact(over: str, data: st.DataObject) -> None:
    """A message of just the size of every limit is good; with one of them smaller by one, that one is told."""
    some = st.integers(1, 40).map(lambda count: "a" * count)
    line = f"GET /{data.draw(some)} HTTP/1.1"
    fields = f"Host: a\r\nTransfer-Encoding: chunked\r\nX:{data.draw(some)}\r\n"
    body = data.draw(some)
    chunk_line = f"{len(body):x};a={data.draw(some)}"
    last_line = f"0;{'a' * (len(chunk_line) - 2)}"
    trailers = f"X:{data.draw(some)}\r\n"
    sent = f"{line}\r\n{fields}\r\n{chunk_line}\r\n{body}\r\n{last_line}\r\n{trailers}\r\n".encode()
    limits = Limits(
        request_line=len(line),
        header_bytes=len(fields),
        headers=3,
        body=len(body),
        chunk_line=len(chunk_line),
        trailer_bytes=len(trailers),
    )
    pieces = data.draw(cuts(sent))
    assert parsed(pieces, limits)[-1] == "end"
    if over:
        limits = replace(limits, **{over: getattr(limits, over) - 1})
        assert parsed(pieces, limits)[-1].startswith(f"error {LIMIT_ERRORS[over]}")


# The parser as an object ------------------------------------------------------------------------------------------


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
    found = by_us(post(f"Content-Length: {len(body)}\r\n", body.decode()))
    assert [reading.body for reading in found.readings] == [body]


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
