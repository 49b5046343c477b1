"""Static files through a real server: what is in the folder comes out byte for byte, and nothing else does."""

from __future__ import annotations

import errno
import http.client
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate, parsedate_to_datetime
from html import unescape
from pathlib import Path
from typing import NamedTuple, TypeVar, final
from urllib.parse import quote, urljoin

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.support.privileges import unprivileged
from tests.support.turning import PATIENCE

from nimloop_core import Loop
from nimloop_http import (
    HttpRequest,
    HttpResponse,
    HttpServer,
    OnRequest,
    StaticFiles,
    _filebody,
    _files,
    serve_file,
    static,
)
from nimloop_http._conditional import validators_of
from nimloop_http._listing import CONTENT_SECURITY_POLICY
from nimloop_http.errors import ResponseSentError

T = TypeVar("T")

SECRET = b"SECRET"
SMALL = 32768  # up to here a file is read; a larger one goes by sendfile

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="links, pipes and permissions of POSIX"),
]


class Answer(NamedTuple):
    """A response, taken apart without any help."""

    status: int
    headers: dict[str, str]
    body: bytes


@final
class Site:
    """A server, on a loop that runs while somebody waits for a client."""

    def __init__(self, on_request: OnRequest) -> None:
        self.errors: list[Exception] = []
        self.loop = Loop()
        self.loop.exception_handler = lambda error, _owner: self.errors.append(error)
        self.server = HttpServer(self.loop, on_request)
        self.address = self.server.listen("127.0.0.1", 0)[0]
        self.url = f"http://127.0.0.1:{self.address[1]}"
        self._clients = ThreadPoolExecutor(1)

    def close(self) -> None:
        """Stop everything; an error that the test has not taken out fails it."""
        self._clients.shutdown()
        self.server.close()
        self.loop.run_once(0)
        self.loop.close()
        assert self.errors == []

    def wait(self, client: Callable[[], T]) -> T:
        """Run a client that blocks, in a thread, while the server runs here; return what it returns."""
        future = self._clients.submit(client)
        future.add_done_callback(lambda _: self.loop.call_soon_threadsafe(int))
        self.until(future.done)
        return future.result()

    def until(self, holds: Callable[[], object]) -> None:
        """Run the server until something holds."""
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, "waited in vain"
            self.loop.run_once(0.01)

    def raw(self, data: bytes) -> bytes:
        """Send bytes and read to the end."""

        def exchange() -> bytes:
            with socket.create_connection(self.address, timeout=PATIENCE) as sock:
                sock.sendall(data)
                return b"".join(iter(lambda: sock.recv(1 << 20), b""))

        return self.wait(exchange)

    def get(self, target: str | bytes, method: str = "GET", **fields: str) -> Answer:
        """Ask once; the names of fields are written with underscores."""
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
        path = target if isinstance(target, bytes) else target.encode("ascii")
        head = b"%b %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%b\r\n" % (method.encode(), path, lines.encode())
        return taken_apart(self.raw(head), bodyless=method == "HEAD")


def taken_apart(data: bytes, *, bodyless: bool = False) -> Answer:
    """Read a response, which has to end with its body and to say how long that is."""
    head, end, body = data.partition(b"\r\n\r\n")
    assert end, data
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = [line.split(": ", 1) for line in lines]
    headers = {name.lower(): value for name, value in fields}
    assert len(headers) == len(fields), "no field comes twice"
    version, status, _ = first.split(" ", 2)
    assert version == "HTTP/1.1"
    if bodyless or status == "304":
        assert body == b""
    else:
        assert int(headers["content-length"]) == len(body)
    return Answer(int(status), headers, body)


@pytest.fixture
def serve() -> Iterator[Callable[[OnRequest], Site]]:
    """Start servers; all are closed after the test."""
    made: list[Site] = []

    def start(on_request: OnRequest) -> Site:
        made.append(Site(on_request))
        return made[-1]

    yield start
    for site in made:
        site.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make an empty folder, with secrets around it."""
    (tmp_path / "secret.txt").write_bytes(SECRET)
    (tmp_path / "public").mkdir()
    (tmp_path / "public" / "secret.txt").write_bytes(SECRET)
    (tmp_path / "pub").mkdir()
    return tmp_path / "pub"


@pytest.fixture
def site(root: Path, serve: Callable[[OnRequest], Site]) -> Site:
    """Serve the folder, with listings."""
    return serve(StaticFiles(root, listing=True).serve)


def make_socket(path: Path) -> None:
    """Make a Unix socket where its path would be too long for binding to it."""
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"{short}/socket")
        Path(short, "socket").rename(path)


def noise(count: int) -> bytes:
    """Make bytes with a period that no buffer has."""
    return (bytes(range(251)) * (count // 251 + 1))[:count]


# One file, in every way -----------------------------------------------------------------------------------------


def test_a_file_and_what_is_said_about_it(root: Path, site: Site) -> None:
    """Type, validators and length; the same for HEAD, without the body."""
    (root / "page.html").write_bytes(b"<p>hello")
    os.utime(root / "page.html", ns=(0, 784_111_777_999_999_999))
    for method in ("GET", "HEAD"):
        answer = site.get("/page.html?query=is&not=looked-at", method)
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["content-length"] == "8"
        assert answer.headers["last-modified"] == "Sun, 06 Nov 1994 08:49:37 GMT"
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert re.fullmatch(r'"[\x21\x23-\x7e]+"', answer.headers["etag"])
        assert "cache-control" not in answer.headers
        assert "content-range" not in answer.headers
        assert answer.body == (b"<p>hello" if method == "GET" else b"")


@pytest.mark.parametrize(
    "target", ["/a%20b%C3%A9.txt", "//a%20b%c3%a9.txt", "/./%61%20b%C3%A9.txt", "http://x/a%20b%c3%a9.txt"]
)
def test_spellings_of_a_path(target: str, root: Path, site: Site) -> None:
    """Percent-encoding, doubled slashes, single dots and the absolute form lead to the same file."""
    (root / "a bé.txt").write_bytes(b"x")
    assert site.get(target).body == b"x"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_other_methods(method: str, root: Path, site: Site) -> None:
    """Only GET and HEAD, and that is said (RFC 9110 §15.5.6)."""
    (root / "file").write_bytes(b"x")
    answer = site.get("/file", method)
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD"


def test_several_requests_on_one_connection(root: Path, site: Site) -> None:
    """Small and large files, refusals and lists leave the connection in order."""
    (root / "small").write_bytes(b"small")
    (root / "large").write_bytes(noise(100_000))
    targets = ["/small", "/large", "/nothing", "/small", "/..", "/", "/large"]
    requests = "".join(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n" for target in targets[:-1])
    data = site.raw(f"{requests}GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    statuses = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        assert length is not None
        statuses.append(head[9:12])
        body, data = data[: int(length[1])], data[int(length[1]) :]
        if len(body) > 50_000:
            assert body == noise(100_000)
    assert statuses == [b"200", b"200", b"404", b"200", b"403", b"200", b"200"]


CONTENTS = {
    "empty": b"",
    "one.txt": b"x",
    "crlf.txt": b"a\r\nb\nc\r\0\x1a",
    "read.bin": noise(SMALL),
    "sent.bin": noise(SMALL + 1),
    "large.bin": noise(3_000_001),
    "sp ace & 100%+.txt": b"odd",
    "é日本.txt": b"utf-8",
    "sub/folder/file.txt": b"deep",
}


@pytest.fixture
def filled(root: Path) -> Path:
    """Fill the folder with files of all sizes and names."""
    for name, content in CONTENTS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


@pytest.mark.usefixtures("filled")
def test_byte_for_byte_with_http_client(site: Site) -> None:
    """The standard library's client gets every file, over one connection."""

    def fetch() -> dict[str, bytes]:
        connection = http.client.HTTPConnection(*site.address, timeout=PATIENCE)
        found = {}
        for name in CONTENTS:
            connection.request("GET", "/" + quote(name))
            found[name] = connection.getresponse().read()
        connection.close()
        return found

    assert site.wait(fetch) == CONTENTS


@pytest.mark.usefixtures("filled")
def test_byte_for_byte_with_httpx(site: Site) -> None:
    """Httpx gets every file, and its names are understood as it spells them."""

    def fetch() -> dict[str, bytes]:
        with httpx.Client(base_url=site.url, trust_env=False) as client:
            return {name: client.get("/" + quote(name)).raise_for_status().content for name in CONTENTS}

    assert site.wait(fetch) == CONTENTS


def run(*command: str) -> subprocess.CompletedProcess[bytes]:
    """Run a client, if it is installed, without the settings of this machine."""
    program = shutil.which(command[0])
    if program is None:
        pytest.skip(f"no {command[0]} here")
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return subprocess.run([program, *command[1:]], capture_output=True, timeout=PATIENCE, check=False, env=clean)


@pytest.mark.usefixtures("filled")
def test_byte_for_byte_with_curl(site: Site, tmp_path: Path) -> None:
    """Curl gets every file, over one connection."""
    words = [word for i, name in enumerate(CONTENTS) for word in ("-o", f"{tmp_path}/{i}", f"{site.url}/{quote(name)}")]
    result = site.wait(lambda: run("curl", "-q", "-sS", "--fail", *words))
    assert result.returncode == 0, result.stderr
    assert [(tmp_path / str(i)).read_bytes() for i in range(len(CONTENTS))] == list(CONTENTS.values())


@pytest.mark.usefixtures("filled")
def test_byte_for_byte_with_wget(site: Site, tmp_path: Path) -> None:
    """Wget finds every file by following the listings, and stores it under its name and date."""
    result = site.wait(
        lambda: run(
            "wget", "--no-config", "-q", "-r", "-nH", "--no-parent", "--restrict-file-names=nocontrol",
            "-P", f"{tmp_path}/copy", f"{site.url}/",
        )
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    for name, content in CONTENTS.items():
        assert (tmp_path / "copy" / name).read_bytes() == content


@pytest.mark.usefixtures("filled")
def test_curl_resumes(site: Site, tmp_path: Path) -> None:
    """A transfer that was cut off is continued, and one that was complete is left alone."""
    part = tmp_path / "part"
    for length in (0, 1, 2_000_000, 3_000_000):
        part.write_bytes(CONTENTS["large.bin"][:length])
        result = site.wait(lambda: run("curl", "-q", "-sS", "-f", "-C", "-", "-o", str(part), f"{site.url}/large.bin"))
        assert result.returncode == 0, result.stderr
        assert part.read_bytes() == CONTENTS["large.bin"]


@pytest.mark.usefixtures("filled")
def test_curl_asks_only_for_what_is_new(site: Site, tmp_path: Path) -> None:
    """Curl's own idea of dates and entity tags meets ours."""
    copy, tag = tmp_path / "copy", tmp_path / "tag"
    status = ["-w", "%{http_code}"]
    common = ["curl", "-q", "-sS", *status, "-o", str(copy)]
    url = f"{site.url}/one.txt"
    first = site.wait(lambda: run(*common, "-R", "--etag-save", str(tag), url))
    again = site.wait(lambda: run(*common, "--etag-compare", str(tag), url))
    newer = site.wait(lambda: run(*common, "-z", str(copy), url))
    assert (first.stdout, again.stdout, newer.stdout) == (b"200", b"304", b"304")
    assert copy.read_bytes() == b"x"


def test_beyond_32_bits(root: Path, site: Site) -> None:
    """Bytes behind the first two and four gibibytes are reached, by reading and by sendfile."""
    with (root / "sparse").open("wb") as file:
        for offset in (2**31 - 1, 2**32 - 1):
            file.seek(offset)
            file.write(b"here")
        size = file.truncate(2**32 + 200_000)
    assert site.get("/sparse", "HEAD").headers["content-length"] == str(size)
    for offset in (2**31 - 1, 2**32 - 1):
        answer = site.get("/sparse", Range=f"bytes={offset}-{offset + 3}")
        assert (answer.status, answer.body) == (206, b"here")
        answer = site.get("/sparse", Range=f"bytes={offset - 50_000}-{offset + 50_003}")
        assert answer.body == bytes(50_000) + b"here" + bytes(50_000)
        assert answer.headers["content-range"] == f"bytes {offset - 50_000}-{offset + 50_003}/{size}"


# Files that change while they are served ------------------------------------------------------------------------

BIG = 64 << 20  # more than the buffers of two sockets


def begin(site: Site, target: str) -> socket.socket:
    """Ask for a file, and read no more than its beginning."""

    def ask() -> socket.socket:
        sock = socket.create_connection(site.address, timeout=PATIENCE)
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert sock.recv(1)
        return sock

    return site.wait(ask)


def finish(site: Site, sock: socket.socket) -> int:
    """Read the rest; return how much that was, the head included."""

    def read() -> int:
        with sock:
            return 1 + sum(map(len, iter(lambda: sock.recv(1 << 20), b"")))

    return site.wait(read)


def test_a_file_that_grows(root: Path, site: Site) -> None:
    """As much is sent as was promised."""
    with (root / "file").open("wb") as file:
        file.truncate(BIG)
        sock = begin(site, "/file")
        file.seek(BIG)
        file.write(SECRET)
        file.flush()
        assert BIG < finish(site, sock) < BIG + 1000
    assert site.get("/file", "HEAD").headers["content-length"] == str(BIG + len(SECRET))


def test_a_file_that_is_replaced(root: Path, site: Site) -> None:
    """Who has begun to get a file gets it to its end, even if it is removed."""
    with (root / "file").open("wb") as file:
        file.truncate(BIG)
    sock = begin(site, "/file")
    (root / "file").unlink()
    assert BIG < finish(site, sock) < BIG + 1000


def test_a_file_that_is_cut_off(root: Path, site: Site) -> None:
    """The connection breaks: nobody may take half a file for the whole."""
    with (root / "file").open("wb") as file:
        file.truncate(BIG)
        sock = begin(site, "/file")
        file.truncate(10)
    with pytest.raises(ConnectionResetError):
        finish(site, sock)


@pytest.mark.parametrize("fields", [{}, {"Range": "bytes=5-20"}])
def test_a_small_file_that_is_cut_off(
    fields: dict[str, str], root: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the same between the look at a file's size and the reading of it."""
    (root / "file").write_bytes(b"x" * 30)

    def cut(status: os.stat_result) -> object:
        os.truncate(root / "file", 10)
        return validators_of(status)

    monkeypatch.setattr(_filebody, "validators_of", cut)
    with pytest.raises(ConnectionResetError):
        site.get("/file", **fields)


# Conditional requests -------------------------------------------------------------------------------------------


@pytest.fixture
def page(root: Path) -> Path:
    """Make a file of 40 bytes, changed at a fraction of a second."""
    (root / "page.txt").write_bytes(noise(40))
    os.utime(root / "page.txt", ns=(0, 784_111_777_123_456_789))
    return root / "page.txt"


@pytest.mark.usefixtures("page")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_not_modified(method: str, root: Path, serve: Callable[[OnRequest], Site]) -> None:
    """H16: 304 has no body and says what 200 would: Date, ETag, Cache-Control (RFC 9110 §15.4.5); nothing else."""
    site = serve(StaticFiles(root, cache_control="max-age=60").serve)
    full = site.get("/page.txt", method)
    for fields in (
        {"If_None_Match": full.headers["etag"]},
        {"If_None_Match": f'"x", W/{full.headers["etag"]}'},
        {"If_None_Match": "*"},
        {"If_Modified_Since": full.headers["last-modified"]},
        {"If_None_Match": full.headers["etag"], "Range": "bytes=0-1"},
        {"If_None_Match": full.headers["etag"], "Range": "bytes=999-"},
        {"If_None_Match": full.headers["etag"], "If_Modified_Since": formatdate(0, usegmt=True)},
    ):
        answer = site.get("/page.txt", method, **fields)
        assert answer.status == 304
        for name in ("etag", "last-modified", "cache-control", "date"):
            assert answer.headers[name]
        assert answer.headers["etag"] == full.headers["etag"]
        assert answer.headers["cache-control"] == "max-age=60"
        assert not {"content-type", "content-length", "content-range"} & answer.headers.keys()


@pytest.mark.usefixtures("page")
def test_a_connection_goes_on_after_304(site: Site) -> None:
    """The next answer begins right after the head."""
    etag = site.get("/page.txt").headers["etag"]
    first = f"GET /page.txt HTTP/1.1\r\nHost: x\r\nIf-None-Match: {etag}\r\n\r\n"
    last = "GET /page.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    one, _, rest = site.raw((first + last).encode()).partition(b"\r\n\r\n")
    assert one.startswith(b"HTTP/1.1 304 ")
    assert taken_apart(rest).status == 200


@pytest.mark.usefixtures("page")
def test_modified(site: Site, page: Path) -> None:
    """After a change within the same second the tag tells; and a new date after the next."""
    old = site.get("/page.txt").headers
    os.utime(page, ns=(0, 784_111_777_123_456_790))
    assert site.get("/page.txt", If_None_Match=old["etag"]).status == 200
    assert site.get("/page.txt", If_Match=old["etag"]).status == 412
    os.utime(page, ns=(0, 784_111_778_000_000_000))
    assert site.get("/page.txt", If_Modified_Since=old["last-modified"]).status == 200
    assert site.get("/page.txt", If_Unmodified_Since=old["last-modified"]).status == 412


@pytest.mark.usefixtures("page")
def test_precondition_failed(root: Path, serve: Callable[[OnRequest], Site]) -> None:
    """412 is an error: it is not to be kept as the page, and comes before anything about ranges."""
    site = serve(StaticFiles(root, cache_control="max-age=60").serve)
    for method in ("GET", "HEAD"):
        answer = site.get("/page.txt", method, If_Match='"other"', Range="bytes=999-")
        assert answer.status == 412
        assert "cache-control" not in answer.headers
        assert "content-range" not in answer.headers
    assert site.get("/page.txt", If_Match="*").status == 200


def test_a_file_from_the_future(page: Path, site: Site) -> None:
    """Its date is not later than that of the answer (RFC 9110 §8.8.2.1)."""
    os.utime(page, (2**32, 2**32))
    headers = site.get("/page.txt").headers
    assert parsedate_to_datetime(headers["last-modified"]) <= parsedate_to_datetime(headers["date"])


# Ranges ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ranges() -> Iterator[tuple[Site, dict[str, bytes]]]:
    """Serve an empty, a small and a large file to many examples."""
    contents = {"empty": b"", "small": noise(40), "large": noise(90_000)}
    with tempfile.TemporaryDirectory() as root:
        for name, content in contents.items():
            Path(root, name).write_bytes(content)
        site = Site(StaticFiles(root).serve)
        yield site, contents
        site.close()


NUMBERS = st.integers(0, 45) | st.integers(0, 90_010) | st.integers(0, 2**66)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["empty", "small", "large"]), first=st.none() | NUMBERS, last=st.none() | NUMBERS,
    method=st.sampled_from(["GET", "GET", "GET", "HEAD"]),
)  # fmt: skip
@example(name="empty", first=0, last=None, method="GET")
@example(name="empty", first=None, last=5, method="GET")
@example(name="large", first=0, last=None, method="GET")
@example(name="large", first=None, last=100_000, method="GET")
def test_any_range(
    name: str, first: int | None, last: int | None, method: str, ranges: tuple[Site, dict[str, bytes]]
) -> None:
    """What comes back is what slicing gives, with the status and the fields that belong to it."""
    site, contents = ranges
    whole = contents[name]
    size = len(whole)
    text = f"{'' if first is None else first}-{'' if last is None else last}"
    if first is None and last is None:
        expected = None
    elif first is None:
        expected = whole[-last:] if last else b""
        if size == 0 and last:
            expected = None
    elif last is not None and last < first:
        expected = None
    else:
        expected = whole[first:] if last is None else whole[first : last + 1]
    answer = site.get(f"/{name}", method, Range=f"bytes={text}")
    if expected is None or method == "HEAD":
        assert answer.status == 200
        assert answer.headers["content-length"] == str(size)
        assert answer.body == (b"" if method == "HEAD" else whole)
        assert "content-range" not in answer.headers
    elif expected:
        start = first if first is not None else size - len(expected)
        assert answer.status == 206
        assert answer.body == expected
        assert answer.headers["content-range"] == f"bytes {start}-{start + len(expected) - 1}/{size}"
        assert {"etag", "last-modified", "date", "content-type"} <= answer.headers.keys()
    else:
        assert answer.status == 416
        assert answer.headers["content-range"] == f"bytes */{size}"
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.usefixtures("page")
def test_a_range_of_a_certain_state(root: Path, serve: Callable[[OnRequest], Site]) -> None:
    """If-Range gives the part of the known state, or else the whole of the new one, never an error."""
    site = serve(StaticFiles(root, cache_control="max-age=60").serve)
    headers = site.get("/page.txt").headers
    for condition, status in (
        (headers["etag"], 206),
        (headers["last-modified"], 206),
        (f"W/{headers['etag']}", 200),
        ('"other"', 200),
        (formatdate(0, usegmt=True), 200),
        ("garbage", 200),
    ):
        answer = site.get("/page.txt", Range="bytes=2-4", If_Range=condition)
        assert answer.status == status, condition
        assert answer.body == (noise(40)[2:5] if status == 206 else noise(40))
    assert site.get("/page.txt", Range="bytes=99-", If_Range='"other"').status == 200
    answer = site.get("/page.txt", Range="bytes=99-", If_Range=headers["etag"])
    assert answer.status == 416
    assert "cache-control" not in answer.headers


@pytest.mark.usefixtures("page")
@pytest.mark.parametrize(
    "wanted", ["bytes=a-", "lines=1-2", "bytes=5-2", "bytes", "bytes=0-1,x", "bytes=,", f"bytes={'0-0,' * 40}"]
)
def test_a_range_that_is_ignored(wanted: str, site: Site) -> None:
    """The whole file is sent for what is malformed, of another unit, or too much."""
    answer = site.get("/page.txt", Range=wanted)
    assert (answer.status, answer.body) == (200, noise(40))


# Folders --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/folder", "/folder/"),
        ("/folder?a=b&c", "/folder/?a=b&c"),
        ("/folder?", "/folder/"),
        ("/folder/inner", "/folder/inner/"),
        ("/to-folder", "/to-folder/"),
        ("/sp%20ace%3f", "/sp%20ace%3F/"),
        ("/caf%e9", "/caf%E9/"),
        ("/evil.example", "/evil.example/"),
        ("//evil.example", "/evil.example/"),
        ("///evil.example/", "/evil.example/"),
        ("//evil.example/..", None),
        ("/%5cevil.example", "/%5Cevil.example/"),
        ("/\\evil.example", "/%5Cevil.example/"),
        ("//\\evil.example", "/%5Cevil.example/"),
        ("/%0d%0aSet-Cookie:a", "/%0D%0ASet-Cookie%3Aa/"),
        ("/%09evil", "/%09evil/"),
        ("/.//folder", "/folder/"),
        ("/folder/.", "/folder/"),
        ("/folder//", "/folder/"),
        ("/folder//inner/", "/folder/inner/"),
        ("/./folder/", "/folder/"),
        ("//", "/"),
        ("http://x//evil.example", "/evil.example/"),
        ("http://x/folder?q", "/folder/?q"),
    ],
)
def test_a_folder_has_one_address(target: str, location: str | None, root: Path, site: Site) -> None:
    """It ends with a slash, for relative links to work, and stays on this host, however the path was spelt."""
    for name in ("folder/inner", "sp ace?", "evil.example", "\\evil.example", "\r\nSet-Cookie:a", "\tevil"):
        (root / name).mkdir(parents=True)
    try:
        os.mkdir(os.fsencode(root) + b"/caf\xe9")  # noqa: PTH102 - a name that is no text
    except OSError:
        if "%e9" in target:
            pytest.skip("this file system wants UTF-8")
    (root / "to-folder").symlink_to("folder")
    for method in ("GET", "HEAD"):
        answer = site.get(target, method)
        if location is None:
            assert answer.status == 403
            assert "location" not in answer.headers
            continue
        assert answer.status == 301
        assert answer.headers["location"] == location
        assert site.get(location).status == 200
        assert "set-cookie" not in answer.headers


def test_an_index(root: Path, serve: Callable[[OnRequest], Site]) -> None:
    """The first of the names that is there, with its type and validators; not a folder of that name."""
    site = serve(StaticFiles(root, index=("index.html", "read.me", "index.txt"), cache_control="no-store").serve)
    (root / "index.html").mkdir()
    assert site.get("/").status == 404
    (root / "index.txt").write_bytes(b"index")
    (root / "real").write_bytes(b"linked")
    answer = site.get("/")
    assert (answer.status, answer.body) == (200, b"index")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert site.get("/", If_None_Match=answer.headers["etag"]).status == 304
    assert site.get("/", Range="bytes=1-2").body == b"nd"
    (root / "read.me").symlink_to("real")
    assert site.get("/").body == b"linked"
    (root / "index.html").rmdir()
    (root / "index.html").symlink_to("dangling")
    assert site.get("/").body == b"linked"


def test_an_index_that_must_not_be_shown(root: Path, site: Site) -> None:
    """It is refused; the list of the folder, which it hides, is not shown instead."""
    (root / "private").write_bytes(b"x")
    (root / "index.html").symlink_to("../secret.txt")
    assert site.get("/").status == 403
    (root / "index.html").unlink()
    os.mkfifo(root / "index.html")
    assert site.get("/").status == 403


def test_a_file_is_no_folder(root: Path, site: Site) -> None:
    """A slash after a file's name asks for something that is not there (RFC 3986 §5.2.4: ``/.`` is one)."""
    (root / "file").write_bytes(b"x")
    (root / "link").symlink_to("file")
    for target in (
        "/file/",
        "/link/",
        "/file//",
        "/file/x",
        "/file/./",
        "/file/.",
        "/file/%2e",
        "/file/%2E",
        "/link/x",
    ):
        assert site.get(target).status == 404, target


def test_hidden_files(root: Path, serve: Callable[[OnRequest], Site]) -> None:
    """Names with a dot are hidden, wherever they stand, but for /.well-known/ (RFC 8615)."""
    for name in (".env", ".git/config", "a/.b/c", ".well-known/acme", ".well-known/.x", "a/.well-known/y"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"here")
    site = serve(StaticFiles(root, listing=True).serve)
    for target in (
        "/.env", "/%2eenv", "/.git/config", "/.git", "/.git/", "/a/.b/c", "/.well-known/.x", "/a/.well-known/y", "/..."
    ):  # fmt: skip
        assert site.get(target).status == 404, target
    assert site.get("/.well-known/acme").body == b"here"
    assert site.get("/.well-known").headers["location"] == "/.well-known/"
    assert b".env" not in site.get("/").body
    everything = serve(StaticFiles(root, listing=True, dotfiles=True).serve)
    assert everything.get("/.env").body == b"here"
    assert everything.get("/a/.b/c").body == b"here"
    assert b".env" in everything.get("/").body
    prefixed = serve(StaticFiles(root, prefix="/static").serve)
    assert prefixed.get("/static/.well-known/acme").status == 404


@pytest.mark.parametrize("prefix", ["/static", "/static/", "static", "//static//"])
def test_a_prefix(prefix: str, root: Path, serve: Callable[[OnRequest], Site]) -> None:
    """It ends where a segment ends."""
    (root / "folder").mkdir()
    (root / "folder" / "file").write_bytes(b"x")
    site = serve(StaticFiles(root, prefix=prefix, listing=True).serve)
    assert site.get("/static/folder/file").body == b"x"
    assert site.get("/static").headers["location"] == "/static/"
    assert site.get("/static/folder").headers["location"] == "/static/folder/"
    assert site.get("/static//folder/").headers["location"] == "/static/folder/"
    assert b"folder" in site.get("/static/").body
    for target in ("/", "/folder/file", "/staticfolder/file", "/static.", "/stati", "//static/folder/file"):
        assert site.get(target).status == 404, target
    for target in ("/static/../x", "/static/..", "/static/%2e%2e/secret.txt"):
        assert site.get(target).status == 403, target


@pytest.mark.parametrize("name", ["nothing", "file", "closed"])
def test_a_root_that_cannot_be_served(name: str, tmp_path: Path) -> None:
    """It says so at once."""
    (tmp_path / "file").write_bytes(b"x")
    expected = {"nothing": FileNotFoundError, "file": NotADirectoryError, "closed": PermissionError}[name]
    if name == "closed":
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o000)
            with unprivileged(), pytest.raises(expected):
                StaticFiles(folder)
            Path(folder).chmod(0o755)
    else:
        with pytest.raises(expected):
            StaticFiles(tmp_path / name)


# Listings -------------------------------------------------------------------------------------------------------

NAMES = [
    "plain.txt",
    "sp ace.txt",
    " both ends ",
    "100%.txt",
    "%2e%2e",
    "a?b#c",
    "a&b<c>.txt",
    '"quote"',
    "it's",
    "javascript:alert(1)",
    "\\\\host\\x",
    "new\nline",
    "tab\tname",
    "dots...",
    "日本語",
    "e\u0301",
    "~",
    "a;b=c",
    "\u2215slash",
    b"caf\xe9".decode("utf-8", "surrogateescape"),
]


@pytest.fixture
def odd(root: Path) -> dict[str, bytes]:
    """Make files with odd names, and the same in a folder with an odd name; returns the contents by path."""
    contents = {}
    for folder in ("", "sp ace & %2f/"):
        (root / folder).mkdir(exist_ok=True)
        for i, name in enumerate(NAMES):
            try:
                (root / folder / name).write_bytes(b"%d %b" % (i, folder.encode()))
            except OSError:
                continue  # this file system does not have such names
            contents[folder + name] = b"%d %b" % (i, folder.encode())
    return contents


def fetched(site: Site, links: Callable[[str], list[str]], url: str = "/") -> list[bytes]:
    """Follow every link of a listing as a browser does, downwards; return what the files hold."""
    found = []
    for link in links(url):
        target = urljoin(url, link).replace(" ", "%20")
        assert target.startswith(url)
        if target.endswith("/"):
            found += fetched(site, links, target)
        else:
            answer = site.get(target)
            assert answer.status == 200, target
            found.append(answer.body)
    return found


def test_links_of_the_page_lead_to_the_files(odd: dict[str, bytes], site: Site) -> None:
    """H14: every name, however odd, can be followed to its file in the HTML page."""

    def links(url: str) -> list[str]:
        page = site.get(url).body.decode()
        return [unescape(link) for link in re.findall(r'href="(\./[^"]*)"', page)]

    assert sorted(fetched(site, links)) == sorted(odd.values())


def test_links_of_json_lead_to_the_files(odd: dict[str, bytes], site: Site) -> None:
    """The same in JSON; and the names there are those of the files, where they are text."""
    names: set[str] = set()

    def links(url: str) -> list[str]:
        listing = json.loads(site.get(url, Accept="application/json").body)
        names.update(entry["name"] for entry in listing["entries"])
        return [entry["href"] for entry in listing["entries"]]

    assert sorted(fetched(site, links)) == sorted(odd.values())
    assert {name for name in NAMES if name.isascii()} <= names


def test_what_a_listing_is_sent_with(root: Path, site: Site) -> None:
    """It is always asked for anew, differs by Accept, and runs nothing."""
    (root / "file.txt").write_bytes(b"12345")
    (root / "folder").mkdir()
    for method in ("GET", "HEAD"):
        html = site.get("/", method)
        assert html.status == 200
        assert html.headers["content-type"] == "text/html; charset=utf-8"
        assert html.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        data = site.get("/", method, Accept="application/json")
        assert data.headers["content-type"] == "application/json"
        for answer in (html, data):
            assert answer.headers["cache-control"] == "no-cache"
            assert answer.headers["vary"] == "Accept"
            assert answer.headers["x-content-type-options"] == "nosniff"
    listing = json.loads(site.get("/", Accept="application/json").body)
    assert listing["path"] == "/"
    assert [(entry["name"], entry["is_dir"], entry["size"]) for entry in listing["entries"]] == [
        ("folder", True, None),
        ("file.txt", False, 5),
    ]
    assert json.loads(site.get("/folder/", Accept="application/json").body) == {"path": "/folder/", "entries": []}


@pytest.mark.parametrize(
    ("accept", "is_json"),
    [
        ("", False),
        ("*/*", False),
        ("application/*", False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        ("application/json", True),
        ("Application/JSON", True),
        ("application/json, text/plain, */*", True),
        ("application/json;charset=utf-8", True),
        ("application/json;q=0", False),
        ("application/json;q=0.000, */*", False),
        ("application/json;q=0.001", True),
        ("text/html, application/json;q=0.9", False),
        ("text/html;q=0.8,application/json;q=0.9", True),
        ("text/html; level=1; q=0.3 , application/json ; Q=0.4", True),
        ("text/html,application/json", True),
        ("application/jsonp", False),
        ("application/json-patch+json", False),
        ("x,application/json;q=nonsense", True),
        (";;,,;q=,", False),
        ("," + " " * 4000 + ";" * 4000, False),
    ],
)
def test_who_gets_json(accept: str, *, is_json: bool, site: Site) -> None:
    """Who names it, and likes it no less than HTML."""
    kind = site.get("/", Accept=accept).headers["content-type"]
    assert kind == ("application/json" if is_json else "text/html; charset=utf-8")


def test_the_order_of_a_listing(root: Path, site: Site) -> None:
    """The query says by what and which way; what it says wrongly means by name."""
    for i, name in enumerate(["a", "b", "c"]):
        (root / name).write_bytes(bytes((i + 1) % 3))
        os.utime(root / name, (0, (i + 2) % 3))

    def order(query: str) -> str:
        page = site.get(f"/?{query}").body.decode()
        return "".join(re.findall(r'href="\./([abc])"', page))

    assert order("") == order("sort=name") == order("sort=name&order=asc") == order("sort=&order=x") == "abc"
    assert order("sort=name&order=desc") == order("sort=nonsense&order=desc") == order("order=desc") == "cba"
    assert order("sort=size") == "cab"
    assert order("sort=size&order=desc") == "bac"
    assert order("sort=date") == "bca"
    assert order("sort=date&order=desc") == "acb"
    assert order("sort=%73ize&sort=date") == "cab"


def test_only_what_can_be_opened_is_listed(root: Path, site: Site) -> None:
    """Neither links that lead out or nowhere, nor pipes and sockets; nothing is told of what lies outside."""
    (root / "file").write_bytes(b"x")
    (root / "to-file").symlink_to("file")
    (root / "to-here").symlink_to(".")
    (root / "escape").symlink_to("../secret.txt")
    (root / "escape-folder").symlink_to("..")
    (root / "dangling").symlink_to("nothing")
    (root / "loop").symlink_to("loop")
    (root / ".hidden").write_bytes(b"x")
    os.mkfifo(root / "pipe")
    (root / "null").symlink_to("/dev/null")
    make_socket(root / "socket")
    listing = json.loads(site.get("/", Accept="application/json").body)
    assert [entry["name"] for entry in listing["entries"]] == ["to-here", "file", "to-file"]
    for entry in listing["entries"]:
        assert site.get(f"/{entry['name']}").status in {200, 301}


def test_no_listing_unless_asked_for(root: Path, serve: Callable[[OnRequest], Site]) -> None:
    """By default a folder without an index shows nothing."""
    (root / "file").write_bytes(b"x")
    assert serve(StaticFiles(root).serve).get("/").status == 404


def test_the_listing_where_folders_cannot_be_listed_by_descriptor(
    root: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the path then, which has been checked."""
    (root / "folder").mkdir()
    (root / "folder" / "file").write_bytes(b"x")
    monkeypatch.setattr(os, "supports_fd", set())
    assert b'href="./file"' in site.get("/folder/").body


# Safety ---------------------------------------------------------------------------------------------------------

STEPS_OUT = [
    "..", "%2e%2e", "%2E%2E", ".%2e", "%2e.", "..%2f", "%2e%2e%2f", "..%5c", "..\\", "%252e%252e", "%252e%252e%252f",
    "%c0%ae%c0%ae", "%c0%ae%c0%ae%c0%af", "%e0%80%ae%e0%80%ae", "%uff0e%uff0e", "%u002e%u002e", "..%00", "..%01",
    "..;", "..%20", "%20..", "...", "....//", "..%ef%bc%8f", "%ef%bc%8e%ef%bc%8e", ".%00.", "%2e%2e%5c", "..%c0%af",
]  # fmt: skip
OUT = [
    *(f"{lead}{step}/{rest}" for step in STEPS_OUT for lead in ("/", "//", "/folder/") for rest in ("secret.txt", "")),
    *(f"/{step}/{step}/{step}/{step}/{step}/{step}/{step}/{step}/etc/passwd" for step in STEPS_OUT),
    "/../public/secret.txt",
    "/..public/secret.txt",
    "/%2e%2e/pub/../secret.txt",
    "/folder/../../secret.txt",
    "/folder/../%2e%2e/secret.txt",
    "/./../secret.txt",
    "/.//../secret.txt",
    "//../secret.txt",
    "/.../../secret.txt",
    "//etc/passwd",
    "///etc/passwd",
    "/%2fetc/passwd",
    "/%2Fetc%2Fpasswd",
    "/folder/%2fetc/passwd",
    "/C:/secret.txt",
    "/c:%5csecret.txt",
    "/%5c%5clocalhost%5csecret",
    "/file:///etc/passwd",
    "http://x/../secret.txt",
    "http://x/%2e%2e/secret.txt",
    "http://../secret.txt",
    "/secret.txt%00",
    "/escape",
    "/escape/",
    "/escape-folder/secret.txt",
    "/escape-folder",
    "/escape-folder/",
    "/escape-folder/pub/../secret.txt",
    "/escape-sibling/secret.txt",
    "/escape-sibling/",
    "/escape-absolute",
    "/escape-chain",
    "/~/secret.txt",
    "/~root",
    "/" + "a/" * 4000 + "x",
    "/" + "a" * 256,
    "/" + "a" * 7000,
    "/" + "%2e%2e/" * 1000,
    "/" + "../" * 2500,
    "/" + "link/" * 1500 + "nothing",
    "/folder/file.txt....",
    "/folder/file.txt%20",
    "/folder./file.txt",
    "?",
    "*",
    "..",
    "../secret.txt",
    "secret.txt",
    "//..",
    "/..?/secret.txt",
    "/%",
    "/%2",
    "/%zz",
    "/%00",
    "/\\..\\secret.txt",
    "/folder\\..\\..\\secret.txt",
]  # fmt: skip


@pytest.fixture
def trap(root: Path) -> Path:
    """Make a folder with links that lead out."""
    (root / "folder").mkdir()
    (root / "folder" / "file.txt").write_bytes(b"inside")
    (root / "link").symlink_to(".")
    (root / "escape").symlink_to("../secret.txt")
    (root / "escape-folder").symlink_to("..")
    (root / "escape-sibling").symlink_to("../public")
    (root / "escape-absolute").symlink_to(root.parent / "secret.txt")
    (root / "escape-chain").symlink_to("escape-folder/secret.txt")
    return root


def is_harmless(data: bytes, target: object) -> None:
    """Look whether a refusal, and not a secret, has come back."""
    answer = taken_apart(data)
    assert answer.status in {301, 400, 403, 404, 414}, target
    assert SECRET not in answer.body, target
    assert b"root:" not in answer.body, target
    assert "etag" not in answer.headers, target
    location = answer.headers.get("location", "/")
    assert location.startswith("/"), target
    assert not location.startswith(("//", "/\\")), target


@pytest.mark.usefixtures("trap")
def test_no_path_leads_out(site: Site) -> None:
    """H18: everything that has ever led out of a folder somewhere, sent as it is."""
    for target in OUT:
        request = f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        is_harmless(site.raw(request.encode()), target)


@pytest.mark.usefixtures("trap")
@pytest.mark.parametrize(
    "target",
    [
        b"/\xff\xfe",
        b"/caf\xc3\xa9",
        b"/\xc0\xae\xc0\xae/secret.txt",
        b"/..\x00/secret.txt",
        b"/..\x7f",
        b"/a\tb",
        b"/a b",
        b"/a\rb",
        b"/a\nLocation: x",
        b"/a#b",
    ],
)
def test_bytes_that_do_not_belong_in_a_path(target: bytes, site: Site) -> None:
    """They are refused before anybody looks for a file."""
    data = site.raw(b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % target)
    assert taken_apart(data).status == 400


@pytest.mark.usefixtures("trap")
@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/../secret.txt", 403),
        ("/%2e%2e/secret.txt", 403),
        ("/..%2fsecret.txt", 403),
        ("/folder%2ffile.txt", 403),
        ("/%00", 403),
        ("/escape", 403),
        ("/escape-folder/", 403),
        ("/escape-chain", 403),
        ("/%252e%252e/secret.txt", 404),
        ("/..%5csecret.txt", 404),
        ("/..secret.txt", 404),
        ("/caf%e9", 404),
        ("/" + "a" * 256, 404),
        ("/link/link/folder/file.txt", 200),
    ],
)
def test_what_is_said_about_it(target: str, status: int, site: Site) -> None:
    """What tries to lead out is forbidden; what is only strange is not there."""
    assert site.get(target).status == status
    assert site.get(target, "HEAD").status == status


@pytest.fixture(scope="module")
def trapped() -> Iterator[Site]:
    """Serve a folder with odd names, links that lead out and secrets around it to many examples."""
    with tempfile.TemporaryDirectory() as top:
        root = Path(top, "pub")
        for name in ("..a", "b", "%2e%2e", "\\", "a b"):
            (root / name).mkdir(parents=True)
            (root / name / "b").write_bytes(b"inside")
        for folder in (Path(top), Path(top, "public")):
            folder.mkdir(exist_ok=True)
            (folder / "b").write_bytes(SECRET)
            (folder / "secret").write_bytes(SECRET)
        (root / "out").symlink_to("..")
        (root / "side").symlink_to("../public")
        (root / "b" / "secret").symlink_to("../../secret")
        site = Site(StaticFiles(root, listing=True).serve)
        yield site
        site.close()


PIECES = [
    "/", "/", "/", ".", "..", "%2e", "%2E", "%2f", "%5c", "\\", "%00", "%25", "%c0%ae", "..a", "b", "%252e%252e",
    "a%20b", "out", "side", "secret", "public", "pub", "?", "~", "%0d%0a",
]  # fmt: skip


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(PIECES), max_size=10).map("".join))
def test_whatever_the_path(trapped: Site, path: str) -> None:
    """Only what lies in the folder comes back: a file, a page without secrets, or a refusal."""
    answer = trapped.get("/" + path)
    assert answer.status in {200, 301, 403, 404}
    if "etag" in answer.headers:
        assert answer.body == b"inside"
    assert SECRET not in answer.body
    location = answer.headers.get("location", "/")
    assert location.startswith("/")
    assert not location.startswith(("//", "/\\"))


def test_things_that_are_no_files(root: Path, site: Site) -> None:
    """A pipe, a socket or a device is refused, and nothing waits for it."""
    os.mkfifo(root / "pipe")
    (root / "to-pipe").symlink_to("pipe")
    make_socket(root / "socket")
    assert site.get("/pipe").status == 403
    assert site.get("/to-pipe").status == 403
    assert site.get("/socket").status == 404
    if os.geteuid() == 0:
        try:
            os.mknod(root / "zero", stat.S_IFCHR | 0o600, os.makedev(1, 5))
        except PermissionError:  # in a container
            return
        assert site.get("/zero").status in {403, 404}


def test_permission_denied() -> None:
    """What the server may not read is forbidden, not missing."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name).resolve()
        root.chmod(0o755)
        for path in ("file", "closed/file", "unreadable/index.html", "open/index.html"):
            (root / path).parent.mkdir(exist_ok=True)
            (root / path).write_bytes(SECRET)
        (root / "file").chmod(0)
        (root / "open" / "index.html").chmod(0)
        (root / "closed").chmod(0)
        site = Site(StaticFiles(root, listing=True).serve)
        with unprivileged():
            if not os.access(root, os.X_OK, effective_ids=True):
                pytest.skip("the temporary folder is closed to others")
            for target in ("/file", "/closed/file", "/closed", "/closed/", "/open/"):
                assert site.get(target).status == 403, target
        site.close()
        (root / "closed").chmod(0o755)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO])
def test_out_of_order(number: int, root: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is our own failure the client is told to come back, and not that the file is gone."""
    (root / "file").write_bytes(b"x")

    def fail(_root: str, _segments: list[str]) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(static, "open_beneath", fail)
    assert site.get("/file").status == 503


def test_an_open_file_that_is_lost(root: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose status cannot be read is closed again."""
    (root / "file").write_bytes(b"x")
    real = os.fstat

    def fail(descriptor: int) -> os.stat_result:
        if stat.S_ISREG(real(descriptor).st_mode):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", fail)
        assert site.get("/file").status == 503
    assert site.get("/file").status == 200


def test_a_disk_that_fails(root: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be read is an error of the server, reported, and nothing of the answer is left."""
    (root / "file").write_bytes(b"x")

    def fail(_descriptor: int, _start: int, _count: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(_filebody, "read_at", fail)
    answer = site.get("/file")
    assert answer.status == 500
    assert "etag" not in answer.headers
    assert [type(error) for error in site.errors] == [OSError]
    site.errors.clear()


def test_reading_without_pread(root: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows seeks first."""
    (root / "file").write_bytes(b"0123456789")
    real = _files.read_at

    def read(descriptor: int, start: int, count: int) -> bytes:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "platform", "win32")
            return real(descriptor, start, count)

    monkeypatch.setattr(_filebody, "read_at", read)
    assert site.get("/file", Range="bytes=3-5").body == b"345"
    assert site.get("/file").body == b"0123456789"


@pytest.mark.usefixtures("trap")
def test_no_descriptor_is_left(root: Path, site: Site, descriptors: Callable[[], set[str]]) -> None:
    """Whatever is asked for, and however it ends, nothing stays open."""
    (root / "small").write_bytes(b"x")
    (root / "large").write_bytes(bytes(100_000))
    (root / "index").mkdir()
    (root / "index" / "index.html").write_bytes(b"x")
    (root / "index.html").mkdir()
    os.mkfifo(root / "pipe")
    before = descriptors()
    etag = site.get("/large").headers["etag"]
    fields: list[dict[str, str]] = [
        {},
        {"Range": "bytes=0-50000"},
        {"Range": "bytes=0-5"},
        {"Range": "bytes=999999-"},
        {"Range": "bytes=nonsense"},
        {"If_None_Match": "*"},
        {"If_Match": '"x"'},
        {"If_Range": '"x"', "Range": "bytes=0-1"},
        {"If_None_Match": etag},
    ]
    targets = ["/", "/small", "/small/", "/large", "/index/", "/index", "/pipe", "/link/small", "/link", *OUT[-40:]]
    for target in targets:
        for method in ("GET", "HEAD", "POST") if target[0] == "/" else ("GET",):
            for each in fields if target in {"/small", "/large", "/index/"} else fields[:1]:
                site.get(target, method, **each)
    site.until(lambda: descriptors() == before)


def test_no_descriptor_is_left_when_the_client_goes(
    root: Path, site: Site, descriptors: Callable[[], set[str]]
) -> None:
    """Files that wait to be sent are closed with the connection, also those behind the first."""
    with (root / "file").open("wb") as file:
        file.truncate(BIG)
    before = descriptors()

    def ask_and_go() -> None:
        with socket.create_connection(site.address, timeout=PATIENCE) as sock:
            sock.sendall(b"GET /file HTTP/1.1\r\nHost: x\r\n\r\n" * 5)
            sock.recv(1000)

    site.wait(ask_and_go)
    site.until(lambda: descriptors() == before)


def test_an_answer_that_was_given_already(
    root: Path, serve: Callable[[OnRequest], Site], descriptors: Callable[[], set[str]]
) -> None:
    """A handler that answers twice hears of it, and no file stays open."""
    (root / "file").write_bytes(b"x")
    files = StaticFiles(root)

    def twice(req: HttpRequest, res: HttpResponse) -> None:
        res.send("first")
        files.serve(req, res)

    site = serve(twice)
    before = descriptors()
    assert site.get("/file").body == b"first"
    assert [type(error) for error in site.errors] == [ResponseSentError]
    site.errors.clear()
    site.until(lambda: descriptors() == before)


# One file -------------------------------------------------------------------------------------------------------


def test_serve_file(root: Path, serve: Callable[[OnRequest], Site]) -> None:
    """One file, of a type that is told or follows from its name, with all that belongs to it."""
    path = root / "page.html"
    path.write_bytes(noise(100_000))
    (root / "link").symlink_to("../secret.txt")
    os.mkfifo(root / "pipe")

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        match req.path:
            case "/typed":
                serve_file(req, res, str(path), content_type="text/x-special")
            case "/plain":
                serve_file(req, res.header("Cache-Control", "no-store"), path)
            case "/trusted":
                serve_file(req, res, root / "link")
            case "/pipe":
                serve_file(req, res, root / "pipe")
            case "/folder":
                serve_file(req, res, root)
            case _:
                serve_file(req, res, root / "nothing")

    site = serve(on_request)
    answer = site.get("/plain")
    assert (answer.status, answer.body) == (200, path.read_bytes())
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert site.get("/plain", If_None_Match=answer.headers["etag"]).status == 304
    assert site.get("/plain", Range="bytes=-3").body == path.read_bytes()[-3:]
    assert site.get("/typed", "HEAD").headers["content-type"] == "text/x-special"
    assert site.get("/trusted").body == SECRET
    assert site.get("/pipe").status == 403
    assert site.get("/folder").status == 403
    assert site.get("/nothing").status == 404


def test_serve_file_without_permission(serve: Callable[[OnRequest], Site]) -> None:
    """A file that may not be read is forbidden."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder, "file")
        path.write_bytes(SECRET)
        path.chmod(0)
        site = serve(lambda req, res: serve_file(req, res, path))
        with unprivileged():
            assert site.get("/").status == 403
