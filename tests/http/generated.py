"""Random messages: valid ones, damaged ones, every way to cut them, and limits."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from hypothesis import strategies as st

from nimloop_http import STANDARD_METHODS, Limits

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
