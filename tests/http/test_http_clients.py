"""Clients as people use them: http.client, urllib, httpx, curl and asyncio streams."""

from __future__ import annotations

import asyncio
import http.client
import io
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.http.serving import in_thread

from nimloop_http import HttpRequest, HttpResponse

SIZE = 3 << 20
Address = tuple[str, int]


def on_request(req: HttpRequest, res: HttpResponse) -> None:
    """Offer a bit of everything."""
    match req.path:
        case "/echo":
            res.header("X-Method", req.method).header("Content-Type", req.content_type or "text/plain").send(req.body)
        case "/stream":
            stream = res.stream("text/plain")
            for number in range(50):
                stream.write(f"{number}\n")
            stream.end()
        case "/late":
            res.connection.loop.call_later(0.02, lambda: res.send("late"))
        case "/large":
            res.send(bytes(SIZE))
        case "/file":
            fd = os.memfd_create("content")
            os.write(fd, b"f" * SIZE)
            res.send_file(fd, 0, SIZE)
        case "/none":
            res.status(204).send()
        case "/to":
            res.redirect("/late", 303)
        case "/bye":
            res.close_connection().send("bye")
        case _:
            res.send_error(404)


@pytest.fixture
def address() -> Iterator[Address]:
    """Serve all of it from a thread."""
    with in_thread(on_request) as address:
        yield address


STREAMED = "".join(f"{number}\n" for number in range(50)).encode()


def test_http_client_reuses_its_connection(address: Address) -> None:
    """The standard library's client, with every way of framing, over one connection."""
    connection = http.client.HTTPConnection(*address, timeout=20)
    connection.connect()
    sock = connection.sock
    for method, path, body, status, expected in (
        ("GET", "/late", None, 200, b"late"),
        ("POST", "/echo", b"hello", 200, b"hello"),
        ("GET", "/stream", None, 200, STREAMED),
        ("HEAD", "/stream", None, 200, b""),
        ("HEAD", "/large", None, 200, b""),
        ("GET", "/none", None, 204, b""),
        ("GET", "/nowhere", None, 404, b"404 Not Found\n"),
        ("GET", "/large", None, 200, bytes(SIZE)),
        ("GET", "/file", None, 200, b"f" * SIZE),
    ):
        connection.request(method, path, body)
        response = connection.getresponse()
        assert (response.status, response.read()) == (status, expected)
        assert connection.sock is sock
    connection.request("PUT", "/echo", iter([b"he", b"llo"]), encode_chunked=True)
    assert connection.getresponse().read() == b"hello"
    connection.request("GET", "/bye")
    response = connection.getresponse()
    assert (response.read(), response.headers["Connection"]) == (b"bye", "close")
    connection.close()


def test_urllib_follows_and_fails(address: Address) -> None:
    """It asks with Connection: close; redirects are followed and errors are exceptions."""
    base = f"http://{address[0]}:{address[1]}"
    with urllib.request.urlopen(f"{base}/to", timeout=20) as response:
        assert (response.status, response.read(), response.url) == (200, b"late", f"{base}/late")
    asked = urllib.request.Request(f"{base}/echo", b"a=b", {"Content-Type": "text/x"})
    with urllib.request.urlopen(asked, timeout=20) as response:
        assert (response.read(), response.headers["X-Method"]) == (b"a=b", "POST")
        assert response.headers["Content-Type"] == "text/x"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{base}/nowhere", timeout=20)
    assert caught.value.code == 404
    caught.value.close()


def test_httpx_reads_everything(address: Address) -> None:
    """A client on h11, which is strict, with a pool of connections."""
    with httpx.Client(base_url=f"http://{address[0]}:{address[1]}", timeout=20, trust_env=False) as client:
        assert client.get("/late").text == "late"
        assert client.post("/echo", json={"a": 1}).json() == {"a": 1}
        assert client.post("/echo", content=iter([b"he", b"llo"])).content == b"hello"
        assert client.head("/large").headers["content-length"] == str(SIZE)
        assert client.get("/none").status_code == 204
        assert client.get("/to", follow_redirects=True).text == "late"
        assert client.get("/large").content == bytes(SIZE)
        with client.stream("GET", "/stream") as response:
            assert "".join(response.iter_text()).encode() == STREAMED
        with client.stream("GET", "/file") as response:
            next(response.iter_raw(100))  # and go away in the middle
        assert client.get("/late").text == "late"


def test_asyncio_reads_answers_in_order(address: Address) -> None:
    """Pipelined through streams, then half-closed."""

    async def talk() -> bytes:
        reader, writer = await asyncio.open_connection(*address)
        for path in ("/late", "/none", "/stream", "/late"):
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        writer.write_eof()
        data = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        await writer.wait_closed()
        return data

    data = asyncio.run(talk())
    assert data.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert data.count(b"HTTP/1.1 204 No Content\r\n") == 1
    assert data.index(b"late") < data.index(b"204") < data.index(b"chunked") < data.rindex(b"late")


CURL = shutil.which("curl")


def curl(address: Address, *words: str, stdin: bytes = b"") -> tuple[str, str]:
    """Run curl against the server; gives what it wrote and its trace."""
    assert CURL is not None
    base = f"http://{address[0]}:{address[1]}"
    urls = [base + word if word.startswith("/") and word != os.devnull else word for word in words]
    done = subprocess.run(
        [CURL, "-sSv", "--max-time", "20", "--noproxy", "*", *urls], input=stdin, capture_output=True, check=True
    )
    return done.stdout.decode(), done.stderr.decode()


needs_curl = pytest.mark.skipif(CURL is None, reason="no curl on this system")


@needs_curl
def test_curl_keeps_the_connection(address: Address) -> None:
    """Three requests, one connection."""
    out, trace = curl(address, "/late", "/stream", "/late")
    assert out.encode() == b"late" + STREAMED + b"late"
    assert trace.count("Re-using existing connection") == 2


@needs_curl
def test_curl_as_an_old_client(address: Address) -> None:
    """HTTP/1.0 gets no chunks, and the end of the connection."""
    out, trace = curl(address, "--http1.0", "/stream")
    assert out.encode() == STREAMED
    assert "chunked" not in trace
    assert "< Connection: close" in trace
    out, _ = curl(address, "--http1.0", "-H", "Connection: keep-alive", "/late")
    assert out == "late"


@needs_curl
def test_curl_asks_for_the_head(address: Address) -> None:
    """HEAD twice over one connection: no body comes that would be in the way."""
    out, trace = curl(address, "-I", "/large", "/stream")
    assert out.count("HTTP/1.1 200 OK") == 2
    assert f"Content-Length: {SIZE}" in out
    assert "Re-using existing connection" in trace


@needs_curl
def test_curl_waits_for_continue(address: Address, tmp_path: Path) -> None:
    """A body that is announced is asked for, then taken."""
    body = tmp_path / "body"
    body.write_bytes(os.urandom(1000).hex().encode() * 1000)
    out, trace = curl(address, "-H", "Expect: 100-continue", "--data-binary", f"@{body}", "/echo")
    assert out.encode() == body.read_bytes()
    assert "< HTTP/1.1 100 Continue" in trace


@needs_curl
def test_curl_uploads_in_chunks(address: Address) -> None:
    """What comes from a pipe has no length, and arrives whole."""
    data = b"0123456789" * 100_000
    out, trace = curl(address, "-T", "-", "-H", "Expect:", "/echo", stdin=data)
    assert out.encode() == data
    assert "> Transfer-Encoding: chunked" in trace


@needs_curl
def test_curl_fetches_files(address: Address) -> None:
    """Sendfile and a real client agree on the size."""
    out, _ = curl(address, "-o", os.devnull, "-w", "%{size_download} %{http_code}", "/file")
    assert out == f"{SIZE} 200"


# Tools that other people use to fetch, and to measure --------------------------------------------------------------


def tool(*arguments: str) -> str:
    """Run a tool that has to end well; return what it printed."""
    if shutil.which(arguments[0]) is None:
        pytest.skip(f"there is no {arguments[0]} on this system")
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("keep", [True, False])
def test_wget_fetches(address: Address, *, keep: bool) -> None:
    """Streams and files, with keep-alive or without."""
    url = "http://{}:{}".format(*address)
    options = [] if keep else ["--no-http-keep-alive"]
    assert tool("wget", "-q", *options, "-O", "-", f"{url}/stream", f"{url}/late").encode() == STREAMED + b"late"


@pytest.mark.parametrize("keep", [True, False])
def test_ab_loses_nothing(address: Address, *, keep: bool) -> None:
    """An HTTP/1.0 client that asks to keep the connection, or does not."""
    url = "http://{}:{}/stream".format(*address)
    said = tool("ab", "-q", "-n", "500", "-c", "20", *(["-k"] if keep else []), url)
    assert re.search(r"Complete requests:\s+500\n", said)
    assert re.search(r"Failed requests:\s+0\n", said)
    assert "Non-2xx" not in said


def test_h2load_loses_nothing(address: Address) -> None:
    """Pipelined requests, answered at once and late."""
    for path in ("/none", "/late", "/large"):
        said = tool("h2load", "--h1", "-n", "200", "-c", "10", "-m", "4", "http://{}:{}{}".format(*address, path))
        assert "200 succeeded, 0 failed, 0 errored, 0 timeout" in said


def test_wrk_sees_no_error(address: Address) -> None:
    """For a second."""
    said = tool("wrk", "-t1", "-c16", "-d1", "http://{}:{}/stream".format(*address))
    assert "requests in" in said
    assert "Socket errors" not in said
    assert "Non-2xx" not in said


def test_requests_keeps_its_connection(address: Address) -> None:
    """Bodies with a length and in chunks."""
    requests = pytest.importorskip("requests")
    url = "http://{}:{}".format(*address)
    with requests.Session() as session:
        assert [session.get(url + path).status_code for path in ("/late", "/stream", "/none", "/x")] == [
            200,
            200,
            204,
            404,
        ]
        assert session.post(url + "/echo", data=bytes(100_000)).content == bytes(100_000)
        assert session.post(url + "/echo", data=iter([b"abc"] * 1000)).content == b"abc" * 1000


def test_aiohttp_s_client_in_parallel(address: Address) -> None:
    """Many at once, and an upload that waits to be asked for."""
    aiohttp = pytest.importorskip("aiohttp")
    url = "http://{}:{}".format(*address)

    async def main() -> tuple[set[int], int]:
        async with aiohttp.ClientSession() as session:
            answers = await asyncio.gather(*[session.get(url + "/late") for _ in range(100)])
            async with session.post(url + "/echo", data=io.BytesIO(bytes(SIZE)), expect100=True) as response:
                return {answer.status for answer in answers}, len(await response.read())

    assert asyncio.run(main()) == ({200}, SIZE)
