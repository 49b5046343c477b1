"""Uploads through a server: forms in memory and on disk, refused, given up, and with nothing left behind."""

from __future__ import annotations

import gc
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from tests.http.serving import Answer, Client, Site, in_thread, request
from tests.support.turning import PATIENCE

from nimloop_core.testing import FakeClock
from nimloop_http import FormLimits, FormReader, HttpRequest, HttpResponse, Limits, Part, Timeouts
from nimloop_http._spool import SpoolWriter
from nimloop_http.errors import FormError

pytest.importorskip("multipart")
pytest_plugins = ["tests.http.fixtures"]

LARGE = bytes(range(251)) * 20_000
MULTIPART = "Content-Type: multipart/form-data; boundary=B"


def form(*files: bytes, title: bytes = b"a title") -> bytes:
    """Spell a form with a title and some files."""
    pieces = [b'--B\r\nContent-Disposition: form-data; name="title"\r\n\r\n' + title + b"\r\n"]
    pieces += [
        b'--B\r\nContent-Disposition: form-data; name="file"; filename="f.bin"\r\nContent-Type: a/b\r\n\r\n'
        + file
        + b"\r\n"
        for file in files
    ]
    return b"".join(pieces) + b"--B--\r\n"


def describe(req: HttpRequest, res: HttpResponse) -> None:
    """Tell what came."""
    found = req.multipart()
    assert req.form() is found
    files = [[part.filename, part.content_type, part.size, len(part.data)] for part in found.get_all("file")]
    res.send_json([found["title"].text, files])


def on_disk(req: HttpRequest, res: HttpResponse) -> None:
    """Take forms piece by piece."""
    if req.method == "POST":
        req.receive_form(limits=FormLimits(memory=1000))


def post(client: Client, body: bytes, *fields: str) -> Answer:
    """Send a form and wait for the answer."""
    client.send(request("POST", "/", *(fields or (MULTIPART,)), body=body))
    return client.answer("POST")


@pytest.mark.parametrize("disk", [False, True])
@pytest.mark.parametrize("piece", [7, 1000, 1 << 20])
def test_a_form_wherever_it_is_kept(piece: int, site: Site, *, disk: bool) -> None:
    """H2, H20: in memory or on disk, in one packet or in many, the handler sees the same."""
    site.start(describe, on_headers=on_disk if disk else None)
    client = site.dial()
    body = form(LARGE[: 300 * piece], b"", b"x" * 999)
    data = request("POST", "/", MULTIPART, body=body)
    for at in range(0, len(data), piece):
        client.send(data[at : at + piece])
    size = len(LARGE[: 300 * piece])
    expected = f'["a title",[["f.bin","a/b",{size},{size}],["f.bin","a/b",0,0],["f.bin","a/b",999,999]]]'
    assert client.answer("POST").body.decode() == expected


@pytest.mark.parametrize("disk", [False, True])
def test_a_chunked_form(site: Site, *, disk: bool) -> None:
    """H20: upstream did not stream those."""
    site.start(describe, on_headers=on_disk if disk else None)
    body = form(LARGE)
    pieces = [body[at : at + 5000] for at in range(0, len(body), 5000)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    client = site.dial()
    client.send(request("POST", "/", MULTIPART, "Transfer-Encoding: chunked") + chunks + b"0\r\n\r\n")
    assert client.answer("POST").body.decode() == f'["a title",[["f.bin","a/b",{len(LARGE)},{len(LARGE)}]]]'


def test_the_other_kind_of_form(site: Site) -> None:
    """It stays in memory, and is asked for in the same way."""

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        found = req.form()
        res.send_json({part.name: part.text for part in found.parts})

    site.start(on_request, on_headers=on_disk)
    client = site.dial()
    answer = post(client, b"a=1&b=K%C3%A4se", "Content-Type: application/x-www-form-urlencoded")
    assert answer.body.decode() == '{"a":"1","b":"Käse"}'


def test_many_forms_at_once_and_one_after_the_other(site: Site, descriptors: Callable[[], set[str]]) -> None:
    """H1: nothing is left of any, not while the connection lives on either."""
    site.start(describe, on_headers=on_disk)
    clients = [site.dial() for _ in range(5)]
    for client in clients:
        post(client, form())
    before = descriptors()
    for _ in range(3):
        for client in clients:
            client.send(request("POST", "/", MULTIPART, body=form(LARGE[:200_000])))
        for client in clients:
            assert client.answer("POST").status == 200
    site.until(lambda: descriptors() == before)


# What is left ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("handler", ["looks", "ignores", "fails"])
def test_nothing_is_left_behind(
    handler: str, site: Site, tmp_path: Path, descriptors: Callable[[], set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """H1: whatever the handler does with a form, its file is gone afterwards, and never had a name."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: list[str] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        seen.extend(each for each in descriptors() if str(tmp_path) in each)
        assert list(tmp_path.iterdir()) == []
        if handler == "looks":
            assert req.form()["file"].data == LARGE
        if handler == "fails":
            raise ZeroDivisionError
        res.send("done")

    site.start(on_request, on_headers=on_disk)
    client = site.dial()
    assert post(client, form(LARGE)).status == (500 if handler == "fails" else 200)
    site.until(lambda: not any(str(tmp_path) in each for each in descriptors()))
    assert len(seen) == 1
    assert list(tmp_path.iterdir()) == []
    assert [type(error) for error in site.errors] == ([ZeroDivisionError] if handler == "fails" else [])
    site.errors.clear()


def test_a_form_that_is_looked_at_too_late(site: Site) -> None:
    """It lives as long as its request; afterwards it says so."""
    kept: list[Part] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        kept.append(req.form()["file"])
        res.send("done")

    site.start(on_request, on_headers=on_disk)
    assert post(site.dial(), form(LARGE)).status == 200
    site.settle()
    with pytest.raises(ValueError, match="lives as long"):
        _ = kept[0].data


def test_an_answer_from_a_later_callback(site: Site, tmp_path: Path) -> None:
    """As long as it is not given, the form is there; a file is saved by a thread meanwhile."""

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        part = req.form()["file"]

        def saved(error: OSError | None) -> None:
            assert part.data == LARGE
            res.send("saved" if error is None else str(error))

        part.save(tmp_path / "saved", on_done=saved, mode=0o640)

    site.start(on_request, on_headers=on_disk)
    assert post(site.dial(), form(LARGE)).body == b"saved"
    assert (tmp_path / "saved").read_bytes() == LARGE
    assert stat.S_IMODE((tmp_path / "saved").stat().st_mode) == 0o640
    site.server.close()
    site.start(on_request)  # the same for a form in memory
    (tmp_path / "saved").unlink()
    assert post(site.dial(), form(LARGE)).body == b"saved"
    assert (tmp_path / "saved").read_bytes() == LARGE


@pytest.mark.parametrize("way", ["end", "reset", "server"])
def test_given_up_in_the_middle(way: str, site: Site, tmp_path: Path, descriptors: Callable[[], set[str]]) -> None:
    """H1: the client goes, or the server does; the file does too, and no handler is called."""
    readers: list[FormReader] = []

    def on_headers(req: HttpRequest, res: HttpResponse) -> None:
        reader = req.receive_form(directory=tmp_path, limits=FormLimits(memory=1000))
        assert reader is not None
        readers.append(reader)

    site.start(describe, on_headers=on_headers)
    client = site.dial()
    client.send(request("POST", "/", MULTIPART, body=form(LARGE))[:500_000])
    site.until(lambda: any(str(tmp_path) in each for each in descriptors()))
    if way == "server":
        site.server.close()
    elif way == "reset":
        client.abort()
    client.close()
    site.until(lambda: not any(str(tmp_path) in each for each in descriptors()))
    with pytest.raises(ValueError):
        readers[0].form.spool.read(0, 1)


def test_a_body_that_does_not_come(tmp_path: Path, descriptors: Callable[[], set[str]]) -> None:
    """The deadline for the body ends it, file and all."""
    with Site(clock=FakeClock(start=1000.0)) as site:
        site.start(
            describe,
            on_headers=lambda req, res: req.receive_form(directory=tmp_path, limits=FormLimits(memory=1000)),
            timeouts=Timeouts(body=5.0),
        )
        client = site.dial()
        client.send(request("POST", "/", MULTIPART, body=form(LARGE))[:500_000])
        site.until(lambda: any(str(tmp_path) in each for each in descriptors()))
        while not client.poll() and not client.received:
            site.pass_time(1.0, step=0.25)  # what the disk takes is not counted, so it may be more than 5 seconds
        assert client.answer("POST").status == 408
        site.until(lambda: not any(str(tmp_path) in each for each in descriptors()))


class Keeper:
    """A sink of an application, which asks nothing of the flow."""

    def begin(self, flow: object) -> None:
        """Nothing is needed of it."""

    def write(self, data: bytes) -> None:
        """Not kept."""

    def end(self) -> None:
        """Nothing to do."""

    def abort(self, error: Exception) -> None:
        """Nothing to give up."""


WAYS: dict[str, Callable[[HttpRequest], object]] = {
    "memory": lambda req: None,
    "form": lambda req: req.receive_form(),
    "form on disk": lambda req: req.receive_form(limits=FormLimits(memory=1000)),
    "file": lambda req: req.stream_to_file(),
    "sink": lambda req: req.receive_into(Keeper()),
}


@pytest.mark.parametrize("end", ["whole", "refused", "early", "reset"])
@pytest.mark.parametrize("way", [*WAYS, "stream"])
def test_no_body_waits_for_the_collector(way: str, end: str, site: Site, descriptors: Callable[[], set[str]]) -> None:
    """Wherever a body goes and however it ends: what was held for it is free at once, not when the collector comes."""
    streams = []

    def on_headers(req: HttpRequest, res: HttpResponse) -> None:
        if req.method == "GET":
            return
        if end == "refused":
            req.limit_body(300_000)
        if way == "stream":
            stream = req.body_stream(lambda data: None, lambda: on_request(req, res))
            streams.append(stream)
        else:
            WAYS[way](req)
        if end == "early":
            res.send("so much is known already")

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        if way in {"memory", "form", "form on disk"} and req.method == "POST":
            assert req.form()["file"].size == len(LARGE)
        res.send("done")

    site.start(on_request, on_headers=on_headers)
    body = form(LARGE)
    pieces = b"".join(b"%x\r\n%b\r\n" % (100_000, body[at : at + 100_000]) for at in range(0, 400_000, 100_000))

    def upload() -> None:
        client = site.dial()
        if end == "whole":
            assert post(client, body).status == 200
        elif end == "reset":
            client.send(request("POST", "/", MULTIPART, body=body)[:500_000])
            client.sock.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SOL_SOCKET, SO_LINGER: closing sends RST
        else:
            client.send(request("POST", "/", MULTIPART, "Transfer-Encoding: chunked") + pieces)
            assert client.answer("POST").status == (413 if end == "refused" else 200)
        client.close()
        site.until(lambda: site.server.stats.connections == 0 and len(descriptors()) == opened)
        streams.clear()

    opened = len(descriptors())
    upload()  # what is made once and for all
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            upload()
        site.settle()
        found = gc.collect()
    finally:
        gc.enable()
    assert found == 0


def test_an_answer_while_the_disk_is_behind(
    site: Site, tmp_path: Path, descriptors: Callable[[], set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lets go of the form, so that nobody waits for the disk any more, and nothing is kept of what still comes."""
    readers: list[FormReader] = []
    monkeypatch.setattr(SpoolWriter, "write", lambda *_: False)  # a disk that never takes anything

    def on_headers(req: HttpRequest, res: HttpResponse) -> None:
        if req.method == "POST":
            reader = req.receive_form(directory=tmp_path, limits=FormLimits(memory=1000))
            assert reader is not None
            readers.append(reader)
            site.loop.call_later(0.05, lambda: res.send("enough"))

    site.start(lambda req, res: res.send("next"), on_headers=on_headers)
    client = site.dial()
    client.send(request("POST", "/", MULTIPART, body=form(LARGE[:1_000_000])) + request())
    assert [answer.body for answer in client.answers("POST", "GET")] == [b"enough", b"next"]
    assert readers[0].form["file"].size == 1_000_000
    assert not readers[0].form.spool._memory
    site.until(lambda: not any(str(tmp_path) in each for each in descriptors()))


# What is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("disk", [False, True])
@pytest.mark.parametrize(
    ("fields", "body", "status"),
    [
        (("Content-Type: text/plain",), b"x", 415),
        ((), b"x", 415),
        (("Content-Type: multipart/form-data",), b"x", 400),
        ((MULTIPART,), b"x", 400),
        ((MULTIPART,), form(b"x")[:-10], 400),
        ((MULTIPART,), b"--B\r\nX: " + b"y" * 5000 + b"\r\n\r\n\r\n--B--", 431),
        ((MULTIPART,), b"--B\r\n" + b"X: y\r\n" * 20 + b"\r\n\r\n--B--", 431),
        ((MULTIPART,), form(*[b""] * 101), 413),
        ((MULTIPART,), form(title=b"x" * ((1 << 20) + 1)), 413),
    ],
)
def test_forms_that_are_not_taken(fields: tuple[str, ...], body: bytes, status: int, site: Site, *, disk: bool) -> None:
    """H19: each with its status and a reason, from on_headers or from the handler; and the server lives."""

    def on_headers(req: HttpRequest, res: HttpResponse) -> None:
        if req.method == "POST" and disk:
            req.receive_form()

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        if req.method == "GET":
            res.send("well")
        else:
            describe(req, res)

    site.start(on_request, on_headers=on_headers)
    client = site.dial()
    answer = post(client, body, *(fields or ("X: y",)))
    assert answer.status == status
    assert answer.body.startswith(str(status).encode())
    assert len(answer.body) > 20
    again = site.dial()
    again.send(request())
    assert again.answer().body == b"well"


def test_a_form_is_refused_before_it_is_sent(site: Site) -> None:
    """H3: who asks first (Expect) hears at once that the form is too large, or not one at all."""

    def on_headers(req: HttpRequest, res: HttpResponse) -> None:
        req.limit_body(100_000)
        req.receive_form()

    site.start(describe, on_headers=on_headers)
    for fields, length, status in (((MULTIPART,), 100_001, 413), (("Content-Type: text/plain",), 10, 415)):
        client = site.dial()
        client.send(request("POST", "/", *fields, "Expect: 100-continue", f"Content-Length: {length}"))
        answer = client.answer("POST")
        assert (answer.status, answer.interim) == (status, [])
    client = site.dial()
    body = form(b"x")
    client.send(request("POST", "/", MULTIPART, "Expect: 100-continue", f"Content-Length: {len(body)}"))
    site.until(lambda: client.poll() or b"100 Continue" in client.received)
    client.send(body)
    assert client.answer("POST").status == 200


def test_a_part_is_refused_when_it_begins(site: Site, tmp_path: Path, descriptors: Callable[[], set[str]]) -> None:
    """Nobody has to wait for the end of what is not wanted."""

    def on_part(part: Part) -> None:
        if part.is_file and part.content_type != "image/png":
            raise FormError("only pictures, please")

    site.start(describe, on_headers=lambda req, res: req.receive_form(directory=tmp_path, on_part=on_part))
    client = site.dial()
    client.send(request("POST", "/", MULTIPART, "Content-Length: 1000000") + form(LARGE)[:1000])
    answer = client.answer("POST")
    assert answer.status == 400
    assert b"only pictures, please" in answer.body
    assert not any(str(tmp_path) in each for each in descriptors())


def test_a_disk_that_fails(site: Site, tmp_path: Path) -> None:
    """That is the server's fault: 500, reported, and the next request is served."""
    site.start(
        describe,
        on_headers=lambda req, res: req.receive_form(directory=tmp_path / "nowhere", limits=FormLimits(memory=1000)),
    )
    answer = post(site.dial(), form(LARGE[:100_000]))
    assert answer.status == 500
    assert [type(error) for error in site.errors] == [FileNotFoundError]
    site.errors.clear()


def test_progress(site: Site) -> None:
    """Told after each piece, up to the last."""
    told: list[tuple[int, int | None]] = []

    def on_headers(req: HttpRequest, res: HttpResponse) -> None:
        req.receive_form(on_progress=lambda reader: told.append((reader.received, req.content_length)))

    site.start(describe, on_headers=on_headers)
    body = form(LARGE)
    assert post(site.dial(), body).status == 200
    assert len(told) > 5
    assert told == sorted(told)
    assert told[-1] == (len(body), len(body))


# Real clients ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("disk", [False, True])
def test_httpx(tmp_path: Path, *, disk: bool) -> None:
    """Names beyond ASCII, several files."""
    told: list[object] = []

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        found = req.multipart()
        told.append([(part.name, part.filename, part.content_type, part.data) for part in found.parts])
        res.send("done")

    with in_thread(on_request, on_headers=on_disk if disk else None) as (host, port):
        kind = "application/octet-stream"
        files = [("file", ("naïve.txt", b"one", "text/plain")), ("file", ("b.bin", LARGE, kind))]
        answer = httpx.post(f"http://{host}:{port}/", data={"title": "Käse"}, files=files, timeout=PATIENCE)
    assert answer.text == "done"
    (parts,) = told
    assert parts == [
        ("title", None, "", "Käse".encode()),
        ("file", "naïve.txt", "text/plain", b"one"),
        ("file", "b.bin", "application/octet-stream", LARGE),
    ]


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
@pytest.mark.parametrize("disk", [False, True])
def test_curl(tmp_path: Path, *, disk: bool) -> None:
    """It asks first, and sends a file from disk."""
    (tmp_path / 'a"b.bin').write_bytes(LARGE)
    with in_thread(describe, on_headers=on_disk if disk else None) as (host, port):
        command = ["curl", "-sS", "-F", "title=Käse", "-F", f'file=@"{tmp_path}/a\\"b.bin"', f"http://{host}:{port}/"]
        said = subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE).stdout.decode()
    assert said == f'["Käse",[["a\\"b.bin","application/octet-stream",{len(LARGE)},{len(LARGE)}]]]'


def test_large_limits_do_not_cost_memory(site: Site, tmp_path: Path) -> None:
    """A form beyond ``Limits.body`` is taken where on_headers allows it."""

    def on_headers(req: HttpRequest, res: HttpResponse) -> None:
        req.limit_body(1 << 30)
        req.receive_form(directory=tmp_path)

    site.start(describe, on_headers=on_headers, limits=Limits(body=1000))
    assert post(site.dial(), form(LARGE)).status == 200
    assert list(tmp_path.iterdir()) == []
