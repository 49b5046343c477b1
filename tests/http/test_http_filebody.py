"""Files through a server where there is more than one way to send them: in parts, in pieces, in a content coding."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import subprocess
from collections.abc import Callable
from email import message_from_bytes
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.http.serving import Answer, Site, in_thread, request

from nimloop_http import HttpRequest, HttpResponse, StaticFiles, _filebody, serve_file, serve_static, stream_file
from nimloop_http._ranges import MOST_RANGES
from nimloop_http.errors import StaleResponseError

pytest_plugins = ["tests.http.fixtures"]

LARGE = bytes(range(251)) * 4000  # a period that no buffer has


def ask(site: Site, target: str, *fields: str, method: str = "GET") -> Answer:
    """Ask once."""
    (answer,) = site.ask(request(method, target, *fields), method)
    return answer


def parts_of(answer: Answer) -> list[tuple[str, bytes]]:
    """Take multipart/byteranges apart with the standard library; gives Content-Range and content of each."""
    assert answer.status == 206
    kind = answer.get("content-type") or ""
    assert kind.startswith("multipart/byteranges; boundary=")
    message = message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + answer.body)
    assert message.is_multipart()
    assert not message.defects
    found = []
    for part in message.walk():
        if not part.is_multipart():
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            assert part.get_content_type() == "text/plain"
            found.append((str(part["Content-Range"]), content))
    return found


@pytest.fixture
def folder(tmp_path: Path, site: Site) -> Path:
    """Serve a folder."""
    site.start(StaticFiles(tmp_path).serve)
    return tmp_path


# Several ranges -------------------------------------------------------------------------------------------------


def test_several_ranges(folder: Path, site: Site) -> None:
    """H16: each part says what it is, in the order they were asked for."""
    (folder / "page.txt").write_bytes(b"0123456789")
    answer = ask(site, "/page.txt", "Range: bytes=7-8, 0-1, -1")
    assert answer.get("content-range") is None  # RFC 9110 §15.3.7.2
    assert answer.get("content-length") == str(len(answer.body))
    assert parts_of(answer) == [("bytes 7-9/10", b"789"), ("bytes 0-1/10", b"01")]
    assert answer.get("etag") is not None


def test_ranges_that_become_one(folder: Path, site: Site) -> None:
    """One range is sent as one (RFC 9110 §15.3.7.2)."""
    (folder / "page.txt").write_bytes(b"0123456789")
    answer = ask(site, "/page.txt", "Range: bytes=2-4,3-6,100-")
    assert (answer.status, answer.body, answer.get("content-range")) == (206, b"23456", "bytes 2-6/10")
    assert answer.get("content-type") == "text/plain; charset=utf-8"


def test_several_ranges_outside(folder: Path, site: Site) -> None:
    """Nothing to send; the size is told."""
    (folder / "page.txt").write_bytes(b"0123456789")
    answer = ask(site, "/page.txt", "Range: bytes=10-,20-30")
    assert (answer.status, answer.get("content-range")) == (416, "bytes */10")


def test_several_ranges_are_for_get_and_for_this_state(folder: Path, site: Site) -> None:
    """HEAD has no ranges, and another state is sent whole."""
    (folder / "page.txt").write_bytes(b"0123456789")
    answer = ask(site, "/page.txt", "Range: bytes=0-1,4-5", method="HEAD")
    assert (answer.status, answer.get("content-length")) == (200, "10")
    assert ask(site, "/page.txt", "Range: bytes=0-1,4-5", 'If-Range: "other"').body == b"0123456789"


def test_a_range_bomb_costs_no_more_than_the_file(folder: Path, site: Site) -> None:
    """Hundreds of ranges of everything: the file is sent once; the most that are allowed: each byte once."""
    (folder / "page.txt").write_bytes(LARGE)
    bomb = "bytes=" + ",".join(["0-"] * 1000)
    assert ask(site, "/page.txt", f"Range: {bomb}").body == LARGE
    overlapping = "bytes=" + ",".join(f"{at}-" for at in range(MOST_RANGES))
    answer = ask(site, "/page.txt", f"Range: {overlapping}")
    assert (answer.status, answer.body) == (206, LARGE)
    disjoint = "bytes=" + ",".join(f"{at * 30_000}-{at * 30_000 + 29_990}" for at in range(MOST_RANGES))
    answer = ask(site, "/page.txt", f"Range: {disjoint}")
    assert len(parts_of(answer)) == MOST_RANGES
    assert len(answer.body) < len(LARGE) + MOST_RANGES * 200


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(specs=st.lists(st.tuples(st.integers(0, len(LARGE) - 1), st.integers(1, 300_000)), min_size=2, max_size=5))
def test_parts_are_what_slicing_gives(specs: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Small ones and ones that are larger than any buffer."""
    path = tmp_path_factory.getbasetemp() / "large.txt"
    path.write_bytes(LARGE)
    with Site() as site:
        site.start(lambda req, res: serve_file(req, res, path))
        answer = ask(site, "/", "Range: bytes=" + ",".join(f"{at}-{at + count - 1}" for at, count in specs))
    wanted = {place for at, count in specs for place in range(at, min(at + count, len(LARGE)))}
    if answer.get("content-range") is not None:
        found = [(str(answer.get("content-range")), answer.body)]
    else:
        found = parts_of(answer)
    seen = 0
    for said, content in found:
        first, last = (int(number) for number in said.removeprefix("bytes ").partition("/")[0].split("-"))
        assert content == LARGE[first : last + 1]
        seen += len(content)
    assert seen == len(wanted)


def test_several_ranges_in_a_pipeline(folder: Path, site: Site) -> None:
    """Answers stay in order, whatever they are made of, and a client that reads slowly gets every byte."""
    (folder / "page.txt").write_bytes(LARGE)
    wanted = request("GET", "/page.txt", "Range: bytes=0-400000,500000-900000")
    site.server.close()
    site.start(StaticFiles(folder).serve)
    client = site.dial(receive_buffer=4096)
    client.send(wanted + request("GET", "/page.txt", "Range: bytes=5-9") + wanted)
    first, second, third = client.answers("GET", "GET", "GET")
    assert parts_of(first) == parts_of(third)
    assert [content for _, content in parts_of(first)] == [LARGE[:400_001], LARGE[500_000:900_001]]
    assert second.body == LARGE[5:10]


def test_several_ranges_and_the_client_goes(folder: Path, site: Site, descriptors: Callable[[], set[str]]) -> None:
    """The file is closed."""
    (folder / "page.txt").write_bytes(LARGE)
    client = site.dial(receive_buffer=4096)
    client.send(request("GET", "/page.txt", "Range: bytes=0-400000,500000-900000"))
    site.until(lambda: any("page.txt" in each for each in descriptors()))
    client.close()
    site.until(lambda: not any("page.txt" in each for each in descriptors()))


@pytest.mark.parametrize("size", [0, 450_000])
def test_several_ranges_of_a_file_that_is_cut_off(size: int, folder: Path, site: Site) -> None:
    """What was promised cannot be kept, so the connection breaks."""
    path = folder / "page.txt"
    path.write_bytes(LARGE)
    client = site.dial(receive_buffer=4096)
    client.send(request("GET", "/page.txt", "Range: bytes=0-400000,500000-900000"))
    site.until(lambda: client.poll(1) or client.received)
    os.truncate(path, size)
    with pytest.raises(ConnectionResetError):
        client.read_all()


def test_several_ranges_from_a_disk_that_fails(
    folder: Path, site: Site, monkeypatch: pytest.MonkeyPatch, descriptors: Callable[[], set[str]]
) -> None:
    """In the middle of a part: what was promised cannot be kept either, and the file is closed."""
    (folder / "page.txt").write_bytes(LARGE)

    def read(fd: int, offset: int, count: int) -> bytes:
        if offset > 500_000:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return os.pread(fd, count, offset)

    monkeypatch.setattr(_filebody, "read_at", read)
    client = site.dial()
    client.send(request("GET", "/page.txt", "Range: bytes=0-400000,500000-900000"))
    with pytest.raises(ConnectionResetError):
        client.read_all()
    assert not any("page.txt" in each for each in descriptors())


def test_several_ranges_for_a_client_that_has_gone(
    tmp_path: Path, site: Site, descriptors: Callable[[], set[str]]
) -> None:
    """The handler is told, and the file that was opened for it is closed."""
    (tmp_path / "page.txt").write_bytes(LARGE)
    kept: list[tuple[HttpRequest, HttpResponse]] = []
    site.start(lambda req, res: kept.append((req, res)))
    client = site.dial()
    client.send(request("GET", "/page.txt", "Range: bytes=0-10,20-30"))
    site.until(lambda: kept)
    client.abort()
    site.until(lambda: kept[0][1].closed)
    with pytest.raises(StaleResponseError):
        serve_file(*kept[0], tmp_path / "page.txt")
    assert not any("page.txt" in each for each in descriptors())


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_curl_asks_for_several_ranges(tmp_path: Path) -> None:
    """A client that has done so for decades."""
    (tmp_path / "page.txt").write_bytes(b"0123456789")
    with in_thread(StaticFiles(tmp_path).serve) as (host, port):
        command = ["curl", "-sS", "-r", "0-1,4-5", f"http://{host}:{port}/page.txt"]
        said = subprocess.run(command, capture_output=True, check=True, timeout=20).stdout
    assert said.count(b"Content-Range: bytes ") == 2


# Content codings ------------------------------------------------------------------------------------------------


def test_a_compressed_copy(folder: Path, site: Site) -> None:
    """It is sent to those who take it, under the type of the original, with validators of its own."""
    (folder / "app.js").write_bytes(b"plain")
    (folder / "app.js.gz").write_bytes(gzip.compress(b"plain"))
    (folder / "app.js.br").write_bytes(b"brotli, as far as anybody here can tell")
    plain = ask(site, "/app.js")
    zipped = ask(site, "/app.js", "Accept-Encoding: gzip")
    best = ask(site, "/app.js", "Accept-Encoding: gzip, br, zstd")
    assert (plain.body, plain.get("content-encoding")) == (b"plain", None)
    assert gzip.decompress(zipped.body) == b"plain"
    assert zipped.get("content-encoding") == "gzip"
    assert (best.body[:6], best.get("content-encoding")) == (b"brotli", "br")
    assert len({answer.get("etag") for answer in (plain, zipped, best)}) == 3
    for answer in (plain, zipped, best):
        assert answer.get("vary") == "Accept-Encoding"
        assert answer.get("content-type") == "text/javascript; charset=utf-8"
        assert answer.get("content-length") == str(len(answer.body))


def test_a_compressed_copy_has_conditions_and_ranges_of_its_own(folder: Path, site: Site) -> None:
    """They are about the bytes that are sent (RFC 9110 §8.8.3.3 and §14)."""
    content = gzip.compress(b"plain" * 100)
    (folder / "app.js").write_bytes(b"plain" * 100)
    (folder / "app.js.gz").write_bytes(content)
    tag = ask(site, "/app.js", "Accept-Encoding: gzip").get("etag")
    again = ask(site, "/app.js", "Accept-Encoding: gzip", f"If-None-Match: {tag}")
    assert (again.status, again.get("vary"), again.get("etag")) == (304, "Accept-Encoding", tag)
    assert ask(site, "/app.js", f"If-None-Match: {tag}").status == 200
    part = ask(site, "/app.js", "Accept-Encoding: gzip", "Range: bytes=2-5")
    assert (part.status, part.body, part.get("content-encoding")) == (206, content[2:6], "gzip")
    head = ask(site, "/app.js", "Accept-Encoding: gzip", method="HEAD")
    assert (head.get("content-length"), head.get("content-encoding")) == (str(len(content)), "gzip")


def test_errors_are_not_encoded(folder: Path, site: Site) -> None:
    """An error is plain text, whatever the file would have been."""
    (folder / "app.js").write_bytes(b"plain")
    (folder / "app.js.gz").write_bytes(gzip.compress(b"plain"))
    for field, status in (("Range: bytes=999-", 416), ('If-Match: "other"', 412)):
        answer = ask(site, "/app.js", "Accept-Encoding: gzip", field)
        assert (answer.status, answer.get("content-encoding")) == (status, None)
        assert answer.body.startswith(str(status).encode())


def test_what_is_no_compressed_copy(folder: Path, site: Site, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A folder, a pipe, a link that leads out, or nothing: the original is sent. And a copy alone is not the file."""
    outside = tmp_path_factory.mktemp("outside") / "secret"
    outside.write_bytes(b"SECRET")
    for name in ("a", "b", "c", "d"):
        (folder / f"{name}.js").write_bytes(b"plain")
    (folder / "a.js.gz").mkdir()
    os.mkfifo(folder / "b.js.gz")
    (folder / "c.js.gz").symlink_to(outside)
    (folder / "e.js.gz").write_bytes(b"alone")
    for name in ("a", "b", "c", "d"):
        answer = ask(site, f"/{name}.js", "Accept-Encoding: gzip")
        assert (answer.status, answer.body, answer.get("content-encoding")) == (200, b"plain", None)
    assert ask(site, "/e.js", "Accept-Encoding: gzip").status == 404


def test_files_that_are_compressed_already(folder: Path, site: Site) -> None:
    """They have no copies; a copy that is asked for by its own name is what it is."""
    (folder / "a.png").write_bytes(b"plain")
    (folder / "a.png.gz").write_bytes(b"never")
    answer = ask(site, "/a.png", "Accept-Encoding: gzip")
    assert (answer.body, answer.get("vary")) == (b"plain", None)
    answer = ask(site, "/a.png.gz", "Accept-Encoding: gzip")
    assert (answer.body, answer.get("content-type")) == (b"never", "application/gzip")
    assert answer.get("content-encoding") is None


def test_an_index_and_a_setting(tmp_path: Path, site: Site) -> None:
    """A folder's page has copies too, and all of it can be switched off."""
    (tmp_path / "index.html").write_bytes(b"plain")
    (tmp_path / "index.html.zst").write_bytes(b"zstandard")
    site.start(StaticFiles(tmp_path).serve)
    answer = ask(site, "/", "Accept-Encoding: zstd")
    assert (answer.body, answer.get("content-encoding")) == (b"zstandard", "zstd")
    site.start(StaticFiles(tmp_path, precompressed=False, cache_control="no-cache").serve)
    answer = ask(site, "/", "Accept-Encoding: zstd")
    assert (answer.body, answer.get("vary"), answer.get("cache-control")) == (b"plain", None, "no-cache")


# One file, in other ways ----------------------------------------------------------------------------------------


def test_a_film_in_pieces(tmp_path: Path, site: Site) -> None:
    """A range is answered with its first bytes, as many as are allowed; without a range everything comes."""
    path = tmp_path / "film.mp4"
    path.write_bytes(LARGE)
    site.start(lambda req, res: stream_file(req, res, path, piece=1000, cache_control="no-cache"))
    for wanted, first, last in (
        ("0-", 0, 999),
        ("500000-", 500_000, 500_999),
        ("10-19", 10, 19),
        ("0-5000", 0, 999),
        ("-10", len(LARGE) - 10, len(LARGE) - 1),
        (f"{len(LARGE) - 5}-", len(LARGE) - 5, len(LARGE) - 1),
        ("0-0,5000-5001", 0, 0),
    ):
        answer = ask(site, "/", f"Range: bytes={wanted}")
        assert (answer.status, answer.get("content-range")) == (206, f"bytes {first}-{last}/{len(LARGE)}")
        assert answer.body == LARGE[first : last + 1]
        assert answer.get("content-type") == "video/mp4"
    whole = ask(site, "/")
    assert (whole.status, whole.body, whole.get("cache-control")) == (200, LARGE, "no-cache")


def test_a_film_without_a_picture(tmp_path: Path, site: Site) -> None:
    """H18: an empty file has no ranges, and no piece is empty."""
    path = tmp_path / "film.mp4"
    path.write_bytes(b"")
    site.start(lambda req, res: stream_file(req, res, path))
    answer = ask(site, "/", "Range: bytes=0-")
    assert (answer.status, answer.get("content-range")) == (416, "bytes */0")
    assert ask(site, "/").status == 200
    with pytest.raises(ValueError):
        stream_file(None, None, path, piece=0)  # type: ignore[arg-type]


def test_a_download(tmp_path: Path, site: Site) -> None:
    """H17: the name comes with its extension, whatever is in it; an error is no download."""
    (tmp_path / 'na"me.txt').write_bytes(b"x")

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        match req.path:
            case "/own":
                serve_file(req, res, tmp_path / 'na"me.txt', attachment=True)
            case "/other":
                serve_file(req, res, tmp_path / 'na"me.txt', attachment=True, filename="Übersicht\r\n.txt")
            case "/inline":
                serve_file(req, res, tmp_path / 'na"me.txt', filename="a.txt", cache_control="no-store")
            case _:
                serve_file(req, res, tmp_path / "nothing", attachment=True)

    site.start(on_request)
    assert ask(site, "/own").get("content-disposition") == 'attachment; filename="na_me.txt"'
    other = "attachment; filename=\"_bersicht__.txt\"; filename*=UTF-8''%C3%9Cbersicht__.txt"
    assert ask(site, "/other").get("content-disposition") == other
    inline = ask(site, "/inline")
    assert inline.get("content-disposition") == 'inline; filename="a.txt"'
    assert inline.get("cache-control") == "no-store"
    missing = ask(site, "/missing")
    assert (missing.status, missing.get("content-disposition")) == (404, None)


def test_large_fields_of_a_file(tmp_path: Path, site: Site) -> None:
    """H19: they come whole, before the file."""
    (tmp_path / "file.txt").write_bytes(b"x" * 100_000)

    def handle(req: HttpRequest, res: HttpResponse) -> None:
        res.header("X-Large", "y" * 5000)
        serve_file(req, res, tmp_path / "file.txt")

    site.start(handle)
    (answer,) = site.ask(request("GET", "/"))
    assert answer.get("x-large") == "y" * 5000
    assert answer.body == b"x" * 100_000


def test_a_folder_under_a_prefix(tmp_path: Path, site: Site) -> None:
    """`serve_static` needs no object; siblings of the prefix and of the folder stay out."""
    (tmp_path / "pub").mkdir()
    (tmp_path / "pub" / "a.txt").write_bytes(b"a")
    (tmp_path / "public.txt").write_bytes(b"SECRET")

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        serve_static(req, res, "/static", tmp_path / "pub")

    site.start(on_request)
    assert ask(site, "/static/a.txt").body == b"a"
    assert ask(site, "/static").status == 301
    for target in ("/staticx/a.txt", "/a.txt", "/static/b.txt"):
        assert ask(site, target).status == 404
    for target in ("/static/../public.txt", "/static/%2e%2e/public.txt", "/static/..%2fpublic.txt", "/static/a%00.txt"):
        assert ask(site, target).status in {403, 404}


def test_a_folder_that_is_not_there(tmp_path: Path, site: Site) -> None:
    """The program's mistake, and not the client's."""
    site.start(lambda req, res: serve_static(req, res, "/", tmp_path / "nothing"))
    assert ask(site, "/").status == 500
    assert [type(error) for error in site.errors] == [FileNotFoundError]
    site.errors.clear()
