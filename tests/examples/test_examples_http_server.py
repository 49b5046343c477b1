"""The examples of the server, run as their first lines say, with the clients that they name."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "http"
PATIENCE = 30.0

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX"),
    pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl"),
]


@contextmanager
def running(name: str, *arguments: str) -> Iterator[str]:
    """Run an example in development mode; gives the line that it prints first. It has to end well, without a word."""
    process = subprocess.Popen(
        [sys.executable, "-X", "dev", str(EXAMPLES / name), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out, err) == (0, "", "")
    finally:
        process.kill()
        process.communicate()


def curl(*arguments: str, data: bytes = b"") -> str:
    """Run curl; return what it printed."""
    done = subprocess.run(
        ["curl", "-sS", "--max-time", "20", *arguments], input=data, capture_output=True, timeout=PATIENCE, check=False
    )
    assert not done.stderr, done.stderr
    return done.stdout.decode()


def test_hello() -> None:
    """It says what was asked for."""
    with running("hello.py", "0") as url:
        assert curl(url + "world") == "Hello from /world\n"


def test_json_api() -> None:
    """Create, read, list, delete; and what is wrong gets the right status."""
    status = ("-o", "/dev/null", "-w", "%{http_code}")
    with running("json_api.py", "0") as url:
        assert curl(url) == "[]"
        created = curl("-i", url, "-d", '{"text": "buy milk"}')
        assert created.startswith("HTTP/1.1 201 ")
        assert "\r\nLocation: /notes/1\r\n" in created
        assert json.loads(curl(url + "/1")) == {"id": 1, "text": "buy milk"}
        assert json.loads(curl(url)) == [{"id": 1, "text": "buy milk"}]
        assert curl(*status, url, "-d", "{") == "400"
        assert curl(*status, url, "-d", "[]") == "400"
        assert curl(*status, url + "/2") == "404"
        assert curl(*status, url + "s") == "404"
        assert curl(*status, "-X", "DELETE", url + "/1") == "204"
        assert curl(*status, "-X", "DELETE", url + "/1") == "404"
        assert "\r\nAllow: GET, HEAD, POST\r\n" in curl("-i", "-X", "PUT", url)
        assert "\r\nContent-Length: 2\r\n" in curl("-I", url)
        assert curl(*status, url + "/" + "9" * 5000) == "404"
        assert curl(*status, url + "/%c2%b2") == "404"  # a digit, and no number
        assert curl(*status, url, "--data-binary", "@-", data=bytes(1 << 17)) == "413"


def test_unix_socket() -> None:
    """The client is the one that the proxy names."""
    with tempfile.TemporaryDirectory() as short:
        path = f"{short}/socket"
        with running("unix_socket.py", path) as line:
            assert line == path
            assert curl("--unix-socket", path, "http://localhost/a") == "somebody here asks for http://localhost/a\n"
            told = ["-H", "X-Forwarded-For: 198.51.100.7", "-H", "X-Forwarded-Proto: https"]
            assert curl("--unix-socket", path, *told, "http://a.example/") == (
                "198.51.100.7 asks for https://a.example/\n"
            )


def test_events() -> None:
    """Events come until the client goes; a large body is counted and kept nowhere."""
    with running("events.py", "0") as url:
        process = subprocess.Popen(["curl", "-sSN", url + "clock"], stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(4)]
        finally:
            process.kill()
            process.communicate()
        assert lines[0].startswith(b"data: ")
        assert lines[1] == b"\n"
        assert lines[2].startswith(b"data: ")
        assert curl("-T", "-", url + "count", data=bytes(20 << 20)) == f"{20 << 20} bytes\n"
        assert "EventSource" in curl(url)
