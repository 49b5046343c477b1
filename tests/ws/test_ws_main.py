"""The command line: the echo server, and the client that talks, as programs of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from tests.support.turning import PATIENCE
from websockets.sync.client import connect as connect_websockets

from nimloop_ws.__main__ import main


@contextmanager
def serving(*options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run the server; gives the link that it prints."""
    command = [sys.executable, "-m", "nimloop_ws", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        try:
            yield url, server
        finally:
            server.kill()


def talk(url: str, typed: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the client with something typed into it."""
    command = [sys.executable, "-m", "nimloop_ws", url, *options]
    return subprocess.run(command, input=typed, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_an_echo() -> None:
    """Serve, talk to it, Ctrl+C: 0."""
    with serving() as (url, server):
        assert url.startswith("ws://127.0.0.1:")
        said = talk(url, "hello\nwörld\nlast without an end")
        assert (said.returncode, said.stdout) == (0, "hello\nwörld\nlast without an end\n")
        assert said.stderr.splitlines() == ["connected; end with Ctrl+D", "closed: 1000"]
        with connect_websockets(url, proxy=None) as ws:
            ws.send(b"x" * 100_000)
            assert ws.recv() == b"x" * 100_000
            server.send_signal(signal.SIGINT)
            with pytest.raises(Exception, match="1001"):
                ws.recv()
        assert server.wait(PATIENCE) == 0


def test_a_file_as_input(tmp_path: Path) -> None:
    """What epoll cannot watch is read all the same."""
    (tmp_path / "lines").write_text("".join(f"line {i}\n" for i in range(3000)))
    with serving() as (url, _), (tmp_path / "lines").open() as lines:
        command = [sys.executable, "-m", "nimloop_ws", url]
        ran = subprocess.run(command, stdin=lines, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ran.returncode == 0
    assert ran.stdout.splitlines() == [f"line {i}" for i in range(3000)]


def test_tls_and_subprotocols(tmp_path: Path) -> None:
    """``--tls-cert``, ``--insecure`` and ``--subprotocol``."""
    cert = tmp_path / "both.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(cert))
    with serving("--tls-cert", str(cert), "--subprotocol", "echo") as (url, _):
        assert url.startswith("wss://")
        said = talk(url, "secret\n", "--insecure", "--subprotocol", "echo", "--header", "X-Extra: 1")
        assert (said.returncode, said.stdout) == (0, "secret\n")
        assert "speaking echo" in said.stderr
        distrusting = talk(url, "")
        assert distrusting.returncode == 1
        assert "certificate" in distrusting.stderr


def test_limits() -> None:
    """``--max-size``: 1009, told, and 1 as the status."""
    with serving("--max-size", "100", "--no-compression") as (url, _):
        said = talk(url, "x" * 101 + "\n")
        assert said.returncode == 1
        assert "closed: 1009" in said.stderr


def test_what_goes_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody listens: 1; a wrong call: 2; a port that is taken: 1."""
    said = talk("ws://127.0.0.1:1/", "")
    assert said.returncode == 1
    assert "cannot connect" in said.stderr
    for wrong in (
        ["http://x/"],
        ["--tls-cert", "/nonexistent"],
        ["--tls-key", "/nonexistent"],
        ["--port", "x"],
        ["ws://x/", "--header", "Host: y"],
    ):
        with pytest.raises(SystemExit) as ended:
            main(wrong)
        assert ended.value.code == 2
    with serving() as (url, _):
        port = url.rstrip("/").rpartition(":")[2]
        assert main(["--port", port]) == 1
        assert "cannot listen" in capsys.readouterr().err
