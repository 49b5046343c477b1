"""Forms: what clients send, cut anywhere, against another parser, beyond every limit, and what becomes of files."""

from __future__ import annotations

import errno
import io
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.parser import BytesParser
from email.policy import HTTP
from itertools import pairwise
from pathlib import Path
from typing import final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support.turning import PATIENCE

from nimloop_core import Loop
from nimloop_http import Form, FormLimits, _formspool, parse_form
from nimloop_http._spool import SpoolWriter
from nimloop_http._workers import WorkerPool
from nimloop_http.errors import (
    FieldsTooLargeError,
    FieldTooLargeError,
    FileTooLargeError,
    FormError,
    NotAFormError,
    PartHeaderTooLongError,
    ProtocolError,
    TooManyFilesError,
    TooManyPartHeadersError,
    TooManyPartsError,
)
from nimloop_http.forms import FormReader

pytest.importorskip("multipart")

TYPE = "multipart/form-data; boundary=B"
Seen = list[tuple[str, str | None, str, bytes]]


def multipart(*parts: tuple[str, bytes], boundary: str = "B") -> bytes:
    """Spell a form from header blocks and bodies."""
    pieces = [f"--{boundary}\r\n{head}\r\n\r\n".encode() + body + b"\r\n" for head, body in parts]
    return b"".join(pieces) + f"--{boundary}--\r\n".encode()


def field(name: str, value: bytes) -> tuple[str, bytes]:
    """Spell a field."""
    return f'Content-Disposition: form-data; name="{name}"', value


def file(name: str, filename: str, content: bytes, kind: str = "text/plain") -> tuple[str, bytes]:
    """Spell a file."""
    return f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\nContent-Type: {kind}', content


def seen(form: Form) -> Seen:
    """What can be asked about a form."""
    return [(part.name, part.filename, part.content_type, part.data) for part in form.parts]


def read(body: bytes, *cuts: int, limits: FormLimits | None = None, kind: str = TYPE) -> Seen:
    """Read a form that is cut at these places."""
    reader = FormReader(kind, limits=limits or FormLimits())
    places = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    for begin, end in pairwise(places):
        reader.write(body[begin:end])
    reader.end()
    return seen(reader.form)


def outcome(body: bytes, *cuts: int, limits: FormLimits | None = None) -> object:
    """What comes of it, be it an error."""
    try:
        return read(body, *cuts, limits=limits)
    except ProtocolError as error:
        return type(error)


# What clients send ----------------------------------------------------------------------------------------------


def test_a_form() -> None:
    """Fields are text, files have names, and several may have one name."""
    body = multipart(
        field("title", "Käse".encode()),
        file("photo", "cat.jpg", b"\xff\xd8\r\n--Bx"[:4] + bytes(range(256)), "Image/JPEG; q=1"),
        field("tag", b"a"),
        field("tag", b""),
    )
    form = parse_form(TYPE, body)
    assert list(form) == ["title", "photo", "tag"]
    assert form["title"].text == "Käse"
    assert not form["title"].is_file
    photo = form["photo"]
    assert (photo.filename, photo.content_type, photo.size) == ("cat.jpg", "image/jpeg", 260)
    assert photo.is_file
    assert photo.headers["content-type"] == "Image/JPEG; q=1"
    assert [part.text for part in form.get_all("tag")] == ["a", ""]
    assert form.get_text("tag") == "a"
    assert form.get_text("photo", "none") == "none"
    assert form.get_text("other") == ""
    assert form.get_all("other") == []
    with pytest.raises(KeyError):
        form["other"]
    assert "photo" in repr(form)


@pytest.mark.parametrize(
    ("kind", "boundary"),
    [
        ("multipart/form-data; boundary=B", "B"),
        ("Multipart/Form-Data;BOUNDARY=B", "B"),
        ('multipart/form-data; boundary="B"', "B"),
        ('multipart/form-data; boundary="a b:c"', "a b:c"),
        ('multipart/form-data; charset=utf-8; boundary="B"; x=y', "B"),
        ('multipart/form-data; x="; boundary=no"; boundary=B', "B"),
        ('multipart/form-data; boundary="\\B"', "B"),
        (
            "multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
            "----WebKitFormBoundary7MA4YWxkTrZu0gW",
        ),
        (f"multipart/form-data; boundary={'x' * 70}", "x" * 70),
    ],
)
def test_boundaries(kind: str, boundary: str) -> None:
    """H20: quoted or not, among other parameters (RFC 2045 §5.1, RFC 2046 §5.1.1)."""
    assert read(multipart(field("a", b"1"), boundary=boundary), kind=kind) == [("a", None, "", b"1")]


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("", NotAFormError),
        ("text/plain", NotAFormError),
        ("multipart/mixed; boundary=B", NotAFormError),
        ("multipart/form-datax; boundary=B", NotAFormError),
        ("multipart/form-data", FormError),
        ("multipart/form-data; boundary=", FormError),
        ('multipart/form-data; boundary=""', FormError),
        ("multipart/form-data; boundary=a; boundary=b", FormError),
        (f"multipart/form-data; boundary={'x' * 71}", FormError),
        ('multipart/form-data; boundary="a "', FormError),
        ('multipart/form-data; boundary="a\x00"', FormError),
        ('multipart/form-data; boundary="\xe4"', FormError),
    ],
)
def test_what_is_no_form(kind: str, error: type[ProtocolError]) -> None:
    """Another type is 415, and a boundary that cannot be is 400."""
    with pytest.raises(error) as caught:
        FormReader(kind)
    assert caught.value.status == (415 if error is NotAFormError else 400)
    with pytest.raises(FormError):
        parse_form(kind, b"")


@pytest.mark.parametrize(
    ("disposition", "filename"),
    [
        ('form-data; name="a"', None),
        ('form-data; name="a"; filename="x.txt"', "x.txt"),
        ("form-data; name=a; filename=x.txt", "x.txt"),
        ('form-data; name="a"; filename=""', ""),
        ('form-data; name="a"; filename="../../etc/passwd"', "passwd"),
        ('form-data; name="a"; filename="C:\\\\dir\\\\x.txt"', "x.txt"),
        ('form-data; name="a"; filename=".."', ""),
        ('form-data; name="a"; filename="x\x01\x7fy.txt"', "xy.txt"),
        ('form-data; name="a"; filename="x\u202egpj.exe"', "xgpj.exe"),
        ('form-data; name="a"; filename="100%22.txt"', '100".txt'),
        ('form-data; name="a"; filename="a;b.txt"', "a;b.txt"),
        ('form-data; name="a"; filename="naïve.txt"', "naïve.txt"),
        ("form-data; name=\"a\"; filename*=UTF-8''na%C3%AFve.txt", "naïve.txt"),
        ("form-data; name=\"a\"; filename*=iso-8859-1'en'na%EFve%2F..%2Fx.txt", "x.txt"),
        ('form-data; name="a"; filename="plain.txt"; filename*=UTF-8\'\'other.txt', "plain.txt"),
    ],
)
def test_names_of_files(disposition: str, filename: str | None) -> None:
    """H20: a part is a file when it has a filename, and for no other reason; the name leads nowhere."""
    (part,) = read(multipart((f"Content-Disposition: {disposition}", b"content")))
    assert part == ("a", filename, "", b"content")


def test_a_field_with_a_type_is_a_field_and_a_file_without_one_a_file() -> None:
    """H20: upstream took the number of header fields for the difference."""
    body = multipart(
        ('Content-Disposition: form-data; name="json"\r\nContent-Type: application/json', b"{}"),
        ('Content-Disposition: form-data; name="raw"; filename="raw"', b"x"),
    )
    assert read(body) == [("json", None, "application/json", b"{}"), ("raw", "raw", "", b"x")]


@pytest.mark.parametrize(
    ("charset", "data", "text"),
    [
        ("iso-8859-1", b"K\xe4se", "Käse"),
        ("utf-8", b"K\xe4se", "K\ufffdse"),
        ("nonsense", "Käse".encode(), "Käse"),
        ("hex", b"41", "41"),
        ("idna", b"xn--a", "xn--a"),
    ],
)
def test_character_sets(charset: str, data: bytes, text: str) -> None:
    """As the part says, if that is a character set at all."""
    head = f'Content-Disposition: form-data; name="a"\r\nContent-Type: text/plain; charset={charset}'
    assert parse_form(TYPE, multipart((head, data)))["a"].text == text


A = b"--B\r\nContent-Disposition: form-data; name=a\r\n"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"--B--\r\n", []),
        (b"--B--", []),
        (b"\r\n--B--", []),
        (b"a text for people\r\n--B--", []),
        (A + b"\r\n\r\n--B--", [("a", None, "", b"")]),
        (
            b"--B\r\ncontent-disposition: form-data; name=a\r\n\r\nx\r\n--B--epilogue\r\n--B\r\n",
            [("a", None, "", b"x")],
        ),
        (
            A + b"\r\n\r\n\r\n--\r\n--\r\n-\r\n--B--",
            [("a", None, "", b"\r\n\r\n--\r\n--\r\n-")],
        ),
        (A + b"\r\n--Bx\n--B\r\n--B--", [("a", None, "", b"--Bx\n--B")]),
        (
            A + b"Content-Length: 2\r\n\r\nxy\r\n--B--",
            [("a", None, "", b"xy")],
        ),
    ],
)
def test_odd_but_right(body: bytes, expected: Seen) -> None:
    """Nothing in it, texts around it, and bytes that nearly are a boundary."""
    assert read(body) == expected
    assert read(body, *range(len(body))) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b"--B",
        b"--B\r\n",
        b"--Bx\r\n--B--",
        b"--B\n--B--",
        b"x--B--",
        A + b"\r\nx",
        A + b"\r\nx\r\n--B",
        A + b"\r\nx\r\n--B\r\n",
        A + b"\r\nx\r\n--Bx",
        b"--B\r\nContent-Disposition: form-data; name=a\n\nx\r\n--B--",
        b"--B\r\nContent-Disposition: form-data; name=a\nX: y\r\n\r\nx\r\n--B--",
        b"--B\r\nContent-Disposition: form-data; name=a\0\r\n\r\nx\r\n--B--",
        b"--B\r\nContent-Disposition: attachment; name=a\r\n\r\nx\r\n--B--",
        b"--B\r\n\r\nx\r\n--B--",
        b"--B\r\nContent-Type: text/plain\r\n\r\nx\r\n--B--",
        b"--B\r\nContent-Disposition\r\n\r\nx\r\n--B--",
        A + b"X Y: z\r\n\r\nx\r\n--B--",
        A + b"X: y\nz\r\n\r\nx\r\n--B--",
        A + b"X: y\rz\r\n\r\nx\r\n--B--",
        A + b"X: y\0z\r\n\r\nx\r\n--B--",
        b"--B\r\nContent-Disposition: form-data; name=\xff\r\n\r\nx\r\n--B--",
        A + b"Content-Length: 1\r\n\r\nxy\r\n--B--",
        A + b"Content-Length: 3\r\n\r\nxy\r\n--B--",
        A + b"Content-Length: -1\r\n\r\nxy\r\n--B--",
    ],
)
def test_malformed(body: bytes) -> None:
    """H19: 400, however it is cut."""
    assert outcome(body) is FormError
    assert outcome(body, *range(len(body))) is FormError
    for cut in range(len(body)):
        assert outcome(body, cut) is FormError, cut


def test_what_is_malformed_is_told_in_words() -> None:
    """And not in what the parser says to itself."""
    with pytest.raises(FormError) as caught:
        read(b"--B\r\nContent-Disposition: form-data; name=\xff\r\n\r\nx\r\n--B--")
    assert str(caught.value) == "the form is malformed: Segment header failed to decode"


# However it is cut ----------------------------------------------------------------------------------------------

NASTY = st.lists(
    st.sampled_from(
        [
            b"\r",
            b"\n",
            b"\r\n",
            b"-",
            b"--",
            b"B",
            b"--B",
            b"\r\n--",
            b"\r\n--B",
            b"\r\n--B\r\n",
            b"\r\n--B--",
            b"x",
            b"\0",
        ]
    ),
    max_size=12,
).map(b"".join)
HEADS = st.sampled_from(
    [
        'Content-Disposition: form-data; name="a"',
        'Content-Disposition: form-data; name="a"; filename="f"',
        'Content-Disposition: form-data; name="a"\r\nContent-Length: 4',
        'Content-Disposition: form-data; name="a"\r\n folded',
        "Content-Disposition: form-data; name=a\nb",
        "X: " + "y" * 58,
        "X: " + "y" * 59,
        "X: " + "y" * 60,
        "A: 1\r\nB: 2\r\nC: 3\r\nContent-Disposition: form-data; name=a",
        "",
    ]
)
BODIES = st.lists(st.tuples(HEADS, NASTY), max_size=4).map(lambda parts: multipart(*parts))
TIGHT = FormLimits(parts=3, files=2, field=9, fields=14, file=11, headers=3, header_bytes=60)


@settings(max_examples=300)
@given(
    body=BODIES | NASTY | st.tuples(NASTY, BODIES, NASTY).map(b"".join),
    cuts=st.lists(st.integers(0, 400), max_size=6),
    limits=st.sampled_from([None, TIGHT]),
)
@example(body=b"xx--B--", cuts=[2], limits=None)
@example(body=multipart(("X: " + "y" * 58, b"")), cuts=[66], limits=TIGHT)
def test_the_same_however_it_is_cut(body: bytes, cuts: list[int], limits: FormLimits | None) -> None:
    """H20: in one piece, at any places, or byte by byte. Of two things that are wrong, one or the other is told."""
    whole = outcome(body, limits=limits)
    for places in (cuts, range(len(body))):
        cut = outcome(body, *places, limits=limits)
        assert cut == whole or (isinstance(cut, type) and isinstance(whole, type))


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=5),
            st.none() | st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=8),
            NASTY.filter(lambda data: b"--B" not in data),
        ),
        max_size=5,
    )
)
def test_as_another_parser_reads_it(parts: list[tuple[str, str | None, bytes]]) -> None:
    """The standard library's e-mail parser is no relative of ours."""
    spelt = [field(name, body) if filename is None else file(name, filename, body) for name, filename, body in parts]
    body = multipart(*spelt)
    message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {TYPE}\r\n\r\n".encode() + body)
    found = [
        (part.get_param("name", header="content-disposition"), part.get_filename()) for part in message.iter_parts()
    ]
    assert [(name, filename) for name, filename, _, _ in read(body)] == found
    assert [content for _, _, _, content in read(body)] == [content for _, _, content in parts]


# Limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "body", "error", "status"),
    [
        (FormLimits(parts=2), multipart(*[field("a", b"")] * 3), TooManyPartsError, 413),
        (FormLimits(files=1), multipart(*[file("a", "f", b"")] * 2), TooManyFilesError, 413),
        (FormLimits(files=0), multipart(file("a", "f", b"")), TooManyFilesError, 413),
        (FormLimits(field=5), multipart(field("a", b"123456")), FieldTooLargeError, 413),
        (FormLimits(fields=5), multipart(field("a", b"123"), field("b", b"456")), FieldsTooLargeError, 413),
        (FormLimits(file=5), multipart(file("a", "f", b"123456")), FileTooLargeError, 413),
        (
            FormLimits(file=5),
            multipart(("Content-Length: 6\r\n" + file("a", "f", b"")[0], b"")),
            FileTooLargeError,
            413,
        ),
        (FormLimits(headers=2), multipart(("X: y\r\n" + file("a", "f", b"")[0], b"")), TooManyPartHeadersError, 431),
        (FormLimits(header_bytes=50), multipart(field("a" * 20, b"")), PartHeaderTooLongError, 431),
    ],
)
def test_beyond_each_limit(limits: FormLimits, body: bytes, error: type[ProtocolError], status: int) -> None:
    """H19, H20: each has an error of its own, with the limit in it; and none of it depends on the cuts."""
    for cuts in ((), range(len(body))):
        with pytest.raises(error, match=r"\d") as caught:
            read(body, *cuts, limits=limits)
        assert caught.value.status == status


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_the_limit_that_comes_first_is_named(step: int) -> None:
    """A field that is beyond two limits is beyond the same one, however it is cut."""
    body = multipart(field("a", b"12345678"), field("b", b"123456789"))
    for limits, error in [
        (FormLimits(field=8, fields=12), FieldsTooLargeError),
        (FormLimits(field=8, fields=16), FieldTooLargeError),
        (FormLimits(field=8, fields=20), FieldTooLargeError),
    ]:
        with pytest.raises(error):
            read(body, *range(step, len(body), step), limits=limits)


def test_at_each_limit() -> None:
    """What is just allowed is allowed."""
    limits = FormLimits(parts=3, files=1, field=5, fields=8, file=5, headers=2, header_bytes=60)
    body = multipart(field("a", b"12345"), field("b", b"123"), file("c", "f", b"12345"))
    assert len(read(body, *range(len(body)), limits=limits)) == 3


def feed(reader: FormReader, body: bytes) -> None:
    """Write pieces of 1000 bytes."""
    for at in range(0, len(body), 1000):
        reader.write(body[at : at + 1000])


@pytest.mark.parametrize(
    "bomb",
    [
        b"x" * 10_000,
        b"\r\n" * 5_000,
        b"--B\r\n" + b"X" * 100_000,
        b"--B\r\n" + b"X: y\r\n" * 10_000,
        b"--B\r\nX: " + b"y\r\n " * 10_000,
        (A + b"\r\n\r\n") * 2_000,
    ],
    ids=["preamble", "empty lines", "endless header", "headers", "folded header", "parts"],
)
def test_multipart_bombs(bomb: bytes) -> None:
    """They are refused before they have cost more than a limit's worth of memory."""
    reader = FormReader(TYPE)
    with pytest.raises(ProtocolError):
        feed(reader, bomb)
    assert len(reader.form.parts) <= 1000


@pytest.mark.parametrize("filler", [b"\r\n", b"\r", b"\n", b"\r\n--", b"\r\n-", b"--B", b"\r\n--C"])
def test_bytes_that_nearly_are_a_boundary_cost_no_more_than_others(filler: bytes) -> None:
    """Work grows with the bytes, not with their square."""
    body = multipart(file("a", "f", filler * (200_000 // len(filler))))
    reader = FormReader(TYPE)
    began = time.process_time()
    for at in range(0, len(body), 4096):
        reader.write(body[at : at + 4096])
    reader.end()
    assert reader.form["a"].size == 200_000 // len(filler) * len(filler)
    assert time.process_time() - began < 5.0  # 0.01 s; the square would take minutes


@pytest.mark.parametrize("name", ["parts", "field", "fields", "file", "headers", "header_bytes"])
def test_limits_that_make_no_sense(name: str) -> None:
    """Refused when they are made."""
    for value in (0, -1, 1.5, None):
        with pytest.raises(ValueError, match=name):
            FormLimits(**{name: value})  # type: ignore[arg-type]


# The other kind of form -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", []),
        (b"a=1&b=2&a=3", [("a", "1"), ("b", "2"), ("a", "3")]),
        (b"a=x+y%20z%2Bw&b=K%C3%A4se", [("a", "x y z+w"), ("b", "Käse")]),
        (b"&&a&=b&c=&", [("a", ""), ("", "b"), ("c", "")]),
        (b"a=%zz%4&b=%ff", [("a", "%zz%4"), ("b", "\ufffd")]),
        (b"a=b=c", [("a", "b=c")]),
    ],
)
def test_urlencoded(body: bytes, expected: list[tuple[str, str]]) -> None:
    """As the URL Standard has it."""
    form = parse_form("application/x-www-form-urlencoded; charset=UTF-8", body)
    assert [(part.name, part.text) for part in form.parts] == expected
    assert not any(part.is_file for part in form.parts)


def test_urlencoded_limits() -> None:
    """The same ones as for the other kind."""
    kind = "Application/X-WWW-Form-Urlencoded"
    for limits, error in (
        (FormLimits(parts=2), TooManyPartsError),
        (FormLimits(field=1), FieldTooLargeError),
        (FormLimits(fields=3), FieldsTooLargeError),
    ):
        with pytest.raises(error):
            parse_form(kind, b"a=12&b=3&c=4", limits=limits)


# Files ----------------------------------------------------------------------------------------------------------

LARGE = bytes(range(251)) * 20_000


@final
class StubFlow:
    """A body that flows into a form without a server."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.workers = WorkerPool("test-forms", 2, 10)
        self.paused = False
        self.errors: list[Exception] = []
        self.cleanups: list[Callable[[], object]] = []

    def pause(self) -> None:
        """Note it."""
        self.paused = True

    def resume(self) -> None:
        """Note it."""
        self.paused = False

    def fail(self, error: Exception) -> None:
        """Note it."""
        self.errors.append(error)
        self.paused = False

    def at_end(self, callback: Callable[[], object]) -> None:
        """Note it."""
        self.cleanups.append(callback)

    def wait(self) -> None:
        """Wait until it goes on; raises what it was ended with."""
        until(self.loop, lambda: not self.paused)
        if self.errors:
            raise self.errors[0]

    def end(self) -> None:
        """The request is over."""
        for callback in self.cleanups:
            callback()
        self.workers.close()


def spooled(loop: Loop, folder: Path, *contents: bytes, memory: int = 1000) -> tuple[FormReader, StubFlow]:
    """Read a form with files from pieces of 64 KiB, as fast as the disk takes them."""
    flow = StubFlow(loop)
    reader = FormReader(TYPE, directory=folder, limits=FormLimits(memory=memory))
    reader.begin(flow)
    body = multipart(*[file(str(number), "f", content) for number, content in enumerate(contents)])
    try:
        for at in range(0, len(body), 65536):
            reader.write(body[at : at + 65536])
            flow.wait()
        reader.end()
        flow.wait()
    except BaseException:
        flow.end()
        raise
    return reader, flow


def until(loop: Loop, holds: Callable[[], object]) -> None:
    """Run the loop until something holds."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        loop.run_once(0.01)


def test_large_files_are_in_one_private_file_without_a_name(
    tmp_path: Path, descriptors: Callable[[], set[str]]
) -> None:
    """H1, H19: nobody can find it, nobody else could open it, and it is gone with the form."""
    with Loop() as loop:
        before = descriptors()
        reader, flow = spooled(loop, tmp_path, b"small", LARGE, b"", LARGE[::-1])
        new = descriptors() - before
        assert len(new) == 1
        assert list(tmp_path.iterdir()) == []
        number = int(new.pop().split()[0])
        assert stat.S_IMODE(os.fstat(number).st_mode) == 0o600
        assert [part.data for part in reader.form.parts] == [b"small", LARGE, b"", LARGE[::-1]]
        flow.end()
        until(loop, lambda: descriptors() == before)
        with pytest.raises(ValueError):
            _ = reader.form["1"].data
        reader.form.close()


def test_small_files_stay_in_memory(tmp_path: Path, descriptors: Callable[[], set[str]]) -> None:
    """As long as all of them together fit."""
    with Loop() as loop:
        before = descriptors()
        reader, flow = spooled(loop, tmp_path, b"x" * 400, b"y" * 600)
        assert descriptors() == before
        assert [part.size for part in reader.form.parts] == [400, 600]
        flow.end()


def test_reading_a_file(tmp_path: Path) -> None:
    """Each `open` has a position of its own; what follows in the file is not seen."""
    with Loop() as loop:
        reader, flow = spooled(loop, tmp_path, LARGE, b"next")
        part = reader.form["0"]
        with part.open() as one, part.open() as other:
            assert one.read(10) == LARGE[:10]
            assert other.read() == LARGE
            assert one.read(10) == LARGE[10:20]
            assert one.seek(-5, os.SEEK_END) == len(LARGE) - 5
            assert one.read() == LARGE[-5:]
            assert one.seek(0) == 0
            assert list(one) == io.BytesIO(LARGE).readlines()
            with pytest.raises(ValueError):
                one.seek(-1)
        with reader.form["1"].open() as one:
            assert one.read() == b"next"
        late = part.open()
        flow.end()
        with pytest.raises(ValueError):
            late.read(1)
        late.close()


def test_saving_a_file(tmp_path: Path) -> None:
    """Whole, in place of what was there, with the permissions that are asked for."""
    (tmp_path / "spool").mkdir()
    target = tmp_path / "target"
    with Loop() as loop:
        reader, flow = spooled(loop, tmp_path / "spool", b"before", LARGE)
        target.write_bytes(b"old")
        reader.form["1"].save(target)
        assert target.read_bytes() == LARGE
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
        reader.form["0"].save(str(target), mode=0o644)
        assert target.read_bytes() == b"before"
        assert stat.S_IMODE(target.stat().st_mode) == 0o644
        with pytest.raises(FileNotFoundError):
            reader.form["0"].save(tmp_path / "nowhere" / "target")
        with pytest.raises(OSError):
            reader.form["0"].save(tmp_path)
        flow.end()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spool", "target"]


def test_saving_a_file_in_a_thread(tmp_path: Path, descriptors: Callable[[], set[str]]) -> None:
    """It goes on when the form is gone already, and says when it is done."""
    (tmp_path / "spool").mkdir()
    told: list[OSError | None] = []
    with Loop() as loop:
        before = descriptors()
        reader, flow = spooled(loop, tmp_path / "spool", LARGE)
        reader.form["0"].save(tmp_path / "target", on_done=told.append)
        reader.form["0"].save(tmp_path / "nowhere" / "target", on_done=told.append)
        flow.end()
        until(loop, lambda: len(told) == 2)
        assert sorted(type(each).__name__ for each in told) == ["FileNotFoundError", "NoneType"]
        assert (tmp_path / "target").read_bytes() == LARGE
        until(loop, lambda: descriptors() == before)
    form = parse_form(TYPE, multipart(file("a", "f", b"x")))
    with pytest.raises(ValueError, match="loop"):
        form["a"].save(tmp_path / "target", on_done=told.append)
    form["a"].save(tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"x"


def test_a_temporary_file_that_has_lost_something_is_not_saved(tmp_path: Path) -> None:
    """What was there stays, and no draft is left beside it."""
    (tmp_path / "spool").mkdir()
    target = tmp_path / "target"
    target.write_bytes(b"old")
    with Loop() as loop:
        reader, flow = spooled(loop, tmp_path / "spool", LARGE)
        assert reader.form.spool._file is not None
        os.ftruncate(reader.form.spool._file.fileno(), 1000)
        with pytest.raises(OSError, match=f"has only 1000 of {len(LARGE)} bytes"):
            reader.form["0"].save(target)
        flow.end()
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spool", "target"]


@contextmanager
def busy_pool() -> Iterator[tuple[WorkerPool, threading.Event]]:
    """Give a pool whose one thread is at work until the event is set, and which lets nothing wait."""
    pool = WorkerPool("busy", 1, 0)
    let_go = threading.Event()
    assert pool.submit(let_go.wait)
    try:
        yield pool, let_go
    finally:
        let_go.set()
        pool.close()


def test_too_many_files_are_being_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is told by the loop like any other failure."""
    (tmp_path / "spool").mkdir()
    told: list[OSError | None] = []
    with Loop() as loop, busy_pool() as (pool, _):
        monkeypatch.setattr(_formspool, "_savers", pool)
        reader, flow = spooled(loop, tmp_path / "spool", LARGE)
        reader.form["0"].save(tmp_path / "target", on_done=told.append)
        assert told == []
        until(loop, lambda: told)
        flow.end()
    assert told[0] is not None
    assert told[0].errno == errno.EAGAIN
    assert not (tmp_path / "target").exists()


def test_what_is_spooled_waits_for_a_thread(tmp_path: Path) -> None:
    """A pool that is full is asked again."""
    path = tmp_path / "spool"
    told: list[object] = []
    with Loop() as loop, busy_pool() as (pool, let_go):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT)
        writer = SpoolWriter(loop, pool, fd, on_room=lambda: None, on_error=told.append)
        assert writer.write(b"data")
        writer.finish(lambda: told.append("done"))
        loop.run_once(0)
        assert path.read_bytes() == b""
        let_go.set()
        until(loop, lambda: told)
    assert (told, path.read_bytes()) == (["done"], b"data")


def test_what_is_spooled_is_written_without_a_pool(tmp_path: Path) -> None:
    """Where it was closed with its server, nobody else is held up."""
    path = tmp_path / "spool"
    told: list[object] = []
    with Loop() as loop:
        pool = WorkerPool("closed", 1, 0)
        pool.close()
        fd = os.open(path, os.O_WRONLY | os.O_CREAT)
        writer = SpoolWriter(loop, pool, fd, on_room=lambda: None, on_error=told.append)
        assert writer.write(b"data")
        assert path.read_bytes() == b"data"
        writer.finish(lambda: told.append("done"))
        until(loop, lambda: told)
    assert told == ["done"]


def test_a_field_is_opened_like_a_file() -> None:
    """From its beginning, each time."""
    form = parse_form(TYPE, multipart(field("a", b"some text")))
    for _ in range(2):
        with form["a"].open() as opened:
            assert (opened.read(4), opened.read()) == (b"some", b" text")


def test_without_files_that_have_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system or the file system cannot, the name is taken away at once."""
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    with Loop() as loop:
        reader, flow = spooled(loop, tmp_path, LARGE)
        assert list(tmp_path.iterdir()) == []
        assert reader.form["0"].data == LARGE
        flow.end()


def test_no_place_for_a_file(tmp_path: Path) -> None:
    """An error of this machine, and not of the client."""
    with Loop() as loop, pytest.raises(FileNotFoundError):
        spooled(loop, tmp_path / "nowhere", LARGE)


def test_a_disk_that_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, descriptors: Callable[[], set[str]]
) -> None:
    """The thread's error ends the request, in the middle or at the end."""

    def full(_descriptor: int, _data: object) -> int:
        raise OSError(28, "No space left on device")

    with Loop() as loop:
        before = descriptors()
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            spooled(loop, tmp_path, LARGE)
        with pytest.raises(OSError, match="No space"):
            spooled(loop, tmp_path, b"x" * 2000)
        monkeypatch.undo()
        until(loop, lambda: descriptors() == before)


def test_a_disk_that_is_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, descriptors: Callable[[], set[str]]
) -> None:
    """H21: the loop goes on, what is collected has a bound, and a form that is given up is cleared away afterwards."""
    go_on = threading.Event()
    real = os.write

    def slow(descriptor: int, data: bytes) -> int:
        assert go_on.wait(PATIENCE)
        return real(descriptor, data)

    with Loop() as loop:
        before = descriptors()
        flow = StubFlow(loop)
        reader = FormReader(TYPE, directory=tmp_path, limits=FormLimits(memory=1000))
        reader.begin(flow)
        reader.write(multipart(file("a", "f", LARGE))[:1000])
        monkeypatch.setattr(os, "write", slow)
        piece = bytes(65536)
        taken = 0
        while not flow.paused:
            reader.write(piece)
            taken += 1
            loop.run_once(0)
        assert 10 < taken < 40
        go_on.set()
        until(loop, lambda: not flow.paused)
        go_on.clear()
        reader.write(bytes(1 << 19))
        reader.abort(ConnectionResetError())
        flow.end()
        go_on.set()
        until(loop, lambda: descriptors() == before)


def test_nothing_is_complete_before_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that catches up after the end of the body has made room, and has not yet written the last bytes."""
    step = threading.Semaphore(0)
    real = os.write

    def slow(descriptor: int, data: bytes) -> int:
        assert step.acquire(timeout=PATIENCE)
        return real(descriptor, data[: 1 << 20])

    with Loop() as loop:
        flow = StubFlow(loop)
        reader = FormReader(TYPE, directory=tmp_path, limits=FormLimits(memory=1000))
        reader.begin(flow)
        monkeypatch.setattr(os, "write", slow)
        reader.write(multipart(file("a", "f", LARGE)))
        reader.end()
        for _ in range(4):
            step.release()
            for _ in range(20):
                loop.run_once(0.001)
            assert flow.paused
        for _ in range(4):
            step.release()
        until(loop, lambda: not flow.paused)
        assert reader.form["a"].data == LARGE
        flow.end()


def test_watching_and_refusing() -> None:
    """A part may be refused when it begins; progress is told after each piece."""
    told: list[int] = []

    def on_part(part: object) -> None:
        if "exe" in repr(part):
            raise FormError("no programs, please")

    reader = FormReader(TYPE, on_part=on_part, on_progress=lambda reader: told.append(reader.received))
    body = multipart(file("a", "f.txt", b"x"))
    for byte in body:
        reader.write(bytes((byte,)))
    reader.end()
    assert told == list(range(1, len(body) + 1))
    reader = FormReader(TYPE, on_part=on_part)
    with pytest.raises(FormError, match="programs"):
        reader.write(multipart(file("a", "f.exe", b"x")))
    assert reader.form.parts == []


def test_the_package_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package of that name, or none, is an ImportError that says so."""
    monkeypatch.delattr("multipart.PushMultipartParser")
    with pytest.raises(ImportError, match="python-multipart"):
        FormReader(TYPE)
