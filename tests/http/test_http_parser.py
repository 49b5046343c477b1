"""The parser: golden cases, every way to cut the bytes, random messages, other parsers, and the cost of each byte."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, SupportsIndex, final

import h11
import httptools
import pytest
from hypothesis import given, settings, strategies as st

import nimloop_http._scan_py as scan_module
import nimloop_http.parser as parser_module
from nimloop_http import STANDARD_METHODS, Body, End, Event, Head, Headers, HttpParser, Limits, Trailers
from nimloop_http.errors import (
    BadRequestError,
    HeadersTooLargeError,
    IncompleteMessageError,
    ParserStateError,
    ProtocolError,
    RequestLineTooLongError,
    TrailersTooLargeError,
    UnknownMethodError,
)

CASES = Path(__file__).with_name("cases")

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


def parsed_late(
    pieces: list[bytes], limits: Limits | None = None, methods: frozenset[str] | None = STANDARD_METHODS
) -> list[str]:
    """Push all pieces before taking the first event."""
    parser = HttpParser(limits or Limits(), methods=methods)
    for piece in pieces:
        parser.push(piece)
    events: list[Event] = []
    try:
        events.extend(parser)
    except ProtocolError as error:
        return [*written(events), f"error {error.status} {type(error).__name__}: {error}"]
    return written(events) + ["wait"] * (not parser.idle)


def bytewise(data: bytes) -> list[bytes]:
    """Cut into single bytes."""
    return [data[i : i + 1] for i in range(len(data))]


# Golden cases -----------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """One request of one section of a case file."""

    name: str
    data: bytes
    limits: Limits
    methods: frozenset[str] | None
    result: list[str]


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
        assert {"request", "result"} <= blocks.keys() <= {"request", "result", "each", "limits"}, title
        limits, methods = Limits(), STANDARD_METHODS
        any_method = False
        for line in blocks.get("limits", []):
            name, _, value = line.partition(" ")
            if name == "methods":
                any_method = True
            else:
                limits = replace(limits, **{name: int(value)})
        for number, each in enumerate(blocks.get("each", [""])):
            lines = [line.replace("{each}", each) for line in blocks["request"]]
            name = f"{path.stem}: {title}" + f" [{number}: {each}]" * ("each" in blocks)
            yield Case(name, wire(lines), limits, None if any_method else methods, blocks["result"])


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
    whole = parsed([data], case.limits, case.methods)
    assert agrees(whole, case.result), whole
    for cut in range(len(data) + 1):
        assert parsed([data[:cut], data[cut:]], case.limits, case.methods) == whole, f"cut before byte {cut}"
    assert parsed(bytewise(data), case.limits, case.methods) == whole
    assert parsed_late(bytewise(data), case.limits, case.methods) == whole


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
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b"\0", b"\x0b", b"\x7f", b"\xff", b":", b";", b",", b"=", b'"', b"\\",
    b"0", b"5", b"a", b"-", b"+", b"chunked", b"\r\nContent-Length: 5", b"\r\nTransfer-Encoding: chunked",
    b"\r\nHost: b", b"\r\nConnection: close", b"\r\nExpect: 100-continue", b"0\r\n\r\n", b"GET / HTTP/1.1\r\n",
    b"\r\n ", b"HTTP/1.0", b"%", b"#", b"/", b"*",
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
    events = [event for piece in data.draw(cuts(b"".join(m.wire() for m in sent))) for event in parser.feed(piece)]
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
        assert head.text.encode("latin-1") == message.head()
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


@settings(max_examples=400)
@given(damaged=mutated(), limits=all_limits, data=st.data())
def test_the_cut_makes_no_difference(damaged: bytes, limits: Limits, data: st.DataObject) -> None:
    """Damaged or not, and whatever the limits: the same events, and of several errors the same one."""
    whole = parsed([damaged], limits)
    assert parsed(data.draw(cuts(damaged)), limits) == whole
    assert parsed(bytewise(damaged), limits) == whole
    assert parsed_late(bytewise(damaged), limits) == whole


@settings(max_examples=60)
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


@settings(max_examples=300)
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
        text = head.text.encode("latin-1")
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
        """Say it in a few words: how often it takes a request, and with what body, before it refuses."""
        taken = [f"takes {reading.body!r}" for reading in self.readings]
        return ", ".join([*taken, *["refuses"] * self.refused]) or "waits"


def ours(data: bytes) -> Verdict:
    """Read with this project's parser."""
    readings: list[Reading] = []
    head: Head | None = None
    body = b""
    trailers: list[tuple[str, str]] = []
    try:
        for event in HttpParser(methods=None).feed(data):
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
                connection.send(h11.Response(status_code=200, headers=[(b"Content-Length", b"0")]))
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
    readings = ours(data)
    assert not readings.refused
    assert by_httptools(data) == readings
    # h11 never keeps a connection of HTTP/1.0, so it sees the requests up to the first of those.
    for mine, theirs in zip(readings.readings, by_h11(data).readings, strict=False):
        assert theirs == mine._replace(keep_alive=mine.keep_alive and mine.minor == 1)
