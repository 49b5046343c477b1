"""The parser on somebody else's loop, driven by real clients."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "http" / "parser_in_asyncio.py"


@pytest.fixture
def port() -> Iterator[int]:
    """Start the example on a free port; it has nothing to complain about."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", str(EXAMPLE), "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        yield int(line.rstrip("/\n").rpartition(":")[2])
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stderr.read() == ""


def test_requests_on_one_connection(port: int) -> None:
    """With a body, with chunks, with none."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for method, body, size in (("GET", None, 0), ("POST", b"hello", 5), ("PUT", iter([b"ab", b"cde", b"f"]), 6)):
        client.request(method, "/x?y", body=body)
        response = client.getresponse()
        assert response.status == 200
        assert response.read().decode() == f"{method} /x?y for 127.0.0.1:{port} with {size} bytes\n"
    client.request("HEAD", "/")
    assert client.getresponse().read() == b""
    client.close()


def exchange(port: int, data: bytes) -> bytes:
    """Send bytes and receive until the server closes."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(data)
        while piece := client.recv(65536):
            answer += piece
    return answer


def test_a_pipeline_ends_with_the_request_that_closes(port: int) -> None:
    """Each is answered, in order; what comes behind the last is not."""
    one = b"GET /%d HTTP/1.1\r\nHost: a\r\n%s\r\n"
    answer = exchange(port, one % (1, b"") + one % (2, b"Connection: close\r\n") + one % (3, b""))
    assert [line for line in answer.split(b"\n") if line.startswith(b"GET")] == [
        b"GET /1 for a with 0 bytes",
        b"GET /2 for a with 0 bytes",
    ]


def test_what_is_not_http_is_answered_and_closed(port: int) -> None:
    """With the status that the error carries."""
    assert exchange(port, b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"413 Content Too Large" in exchange(port, b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n")
    assert exchange(
        port, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\nConnection: close\r\n\r\nx"
    ).startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


def test_a_client_that_does_not_read_for_a_while_gets_all_its_answers(port: int) -> None:
    """The parser pauses with the transport, and nothing is lost."""
    count = 5_000
    one = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
    stream = b"".join(one % number for number in range(count)) + b"GET /end HTTP/1.0\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        sent = 0
        answer = bytearray()
        client.settimeout(30)
        while sent < len(stream):
            client.settimeout(0.05)
            try:
                sent += client.send(stream[sent : sent + 65536])
            except TimeoutError:
                client.settimeout(30)
                answer += client.recv(65536)
        client.settimeout(30)
        while piece := client.recv(1 << 20):
            answer += piece
    received = answer.count(b"HTTP/1.1 200 OK\r\n")
    assert received == count + 1
    assert f"GET /{count - 1} for a".encode() in answer
