"""The command line: the echo server, and the client that talks, as programs of their own."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from tests.support.turning import PATIENCE
from tests.ws.serving import in_thread
from websockets.sync.client import connect as connect_websockets

from nimloop_ws import WebSocket, WsServer
from nimloop_ws.__main__ import main


@contextmanager
def serving(*options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run the server; gives the link that it prints."""
    command = [sys.executable, "-m", "nimloop_ws", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().removeprefix("Serving an echo at ").removesuffix(" (stop with Ctrl+C)\n")
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


def test_a_unix_socket(tmp_path: Path) -> None:
    """``--uds``: where ``nimloop_ws.connect`` gets with a connection of its own."""
    path = str(tmp_path / "echo.sock")
    with serving("--uds", path) as (where, _), socket.socket(socket.AF_UNIX) as sock:
        assert where == f"the Unix socket {path}"
        sock.connect(path)
        with connect_websockets("ws://localhost/", sock=sock, proxy=None) as ws:
            ws.send("through a path")
            assert ws.recv() == "through a path"


def test_an_inherited_socket() -> None:
    """``--fd``: somebody else has opened it."""
    with socket.create_server(("127.0.0.1", 0)) as opened:
        command = [sys.executable, "-m", "nimloop_ws", "--fd", str(opened.fileno())]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, pass_fds=[opened.fileno()]) as server:
            try:
                assert server.stdout is not None
                port = opened.getsockname()[1]
                assert f"ws://127.0.0.1:{port}/" in server.stdout.readline()
                assert talk(f"ws://127.0.0.1:{port}/", "inherited\n").stdout == "inherited\n"
            finally:
                server.kill()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The versions and builds of all four packages, and of Python, are what a bug report needs."""
    assert main(["--version"]) == 0
    number = r"\d+\.\d+\.\d+\S*"
    packages = ", ".join(rf"nimloop-{name} {number} \([^,;]+\)" for name in ("ws", "http", "net", "core"))
    assert re.fullmatch(rf"{packages}; \w+ {number}\n", capsys.readouterr().out)


def test_what_goes_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody listens: 1; whatever keeps it from beginning: 2, with the reason."""
    said = talk("ws://127.0.0.1:1/", "")
    assert said.returncode == 1
    assert "cannot connect" in said.stderr
    for call, why in (
        (["--port", "x"], "65535"),
        (["--header", "bad", "ws://x/"], "a field is NAME: VALUE, not 'bad'"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(call)
        assert ended.value.code == 2
        assert why in capsys.readouterr().err
    for wrong, why in (
        (["http://x/"], "ws"),
        (["--tls-cert", "/nonexistent"], "certificate"),
        (["--tls-key", "/nonexistent"], "--tls-cert"),
        (["--backend", "nonsense"], "nonsense"),
        (["--uds", "/nonexistent/echo.sock"], "/nonexistent/echo.sock"),
        (["ws://x/", "--header", "Host: y"], "Host"),
    ):
        capsys.readouterr()
        assert main(wrong) == 2
        err = capsys.readouterr().err
        assert err.startswith("nimloop_ws: ")
        assert why in err
    with serving() as (url, _):
        port = url.rstrip("/").rpartition(":")[2]
        assert main(["--port", port]) == 2
        assert port in capsys.readouterr().err


@contextmanager
def talking(url: str, said: str) -> Iterator[subprocess.Popen[str]]:
    """Run the client with a terminal's worth of patience: nothing is typed yet. `said` is what it says first."""
    command = [sys.executable, "-m", "nimloop_ws", url]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as client:
        assert client.stderr is not None
        try:
            if said:
                assert client.stderr.readline() == said
            yield client
        finally:
            client.kill()


def test_ctrl_c_says_goodbye() -> None:
    """The client closes with 1001 and waits for the answer; that is a good end."""
    with serving() as (url, _), talking(url, "connected; end with Ctrl+D\n") as client:
        client.send_signal(signal.SIGINT)
        _, said = client.communicate(timeout=PATIENCE)
        assert (client.returncode, said) == (0, "closed: 1001\n")


def test_ctrl_c_while_it_connects() -> None:
    """It gives up: nobody has answered."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with talking(f"ws://127.0.0.1:{listener.getsockname()[1]}/", "") as client:
            sock, _ = listener.accept()
            with sock:
                assert sock.recv(4096).startswith(b"GET / HTTP/1.1\r\n")
                client.send_signal(signal.SIGINT)
                client.communicate(timeout=PATIENCE)
        assert client.returncode == 1


def test_binary_messages_are_told() -> None:
    """Their size, and how they begin."""

    def answer(ws: WebSocket, message: str | bytes) -> None:
        ws.send(str(message).encode() * 40)

    with in_thread(lambda loop: WsServer(loop, on_message=answer)) as (host, port):
        said = talk(f"ws://{host}:{port}/", "ab\nc\n")
    assert said.stdout == f"(80 bytes) {(b'ab' * 32).hex(' ')} …\n(40 bytes) {(b'c' * 40).hex(' ')}\n"


def test_a_server_that_is_slow(tmp_path: Path) -> None:
    """More is not read from the input than the server takes; in the end everything has arrived, in order."""
    count = 30_000
    heard: list[str | bytes] = []

    def on_open(ws: WebSocket) -> None:
        ws.pause_reading()
        ws.loop.call_later(0.2, ws.resume_reading)  # by then some megabytes wait, or the client is slower than that

    def on_message(_ws: WebSocket, message: str | bytes) -> None:
        heard.append(message)

    lines = tmp_path / "lines"
    lines.write_text("".join(f"{i:0999}\n" for i in range(count)))
    with (
        in_thread(lambda loop: WsServer(loop, on_open=on_open, on_message=on_message)) as (host, port),
        subprocess.Popen(["cat", str(lines)], stdout=subprocess.PIPE) as cat,
    ):
        command = [sys.executable, "-m", "nimloop_ws", f"ws://{host}:{port}/"]
        ran = subprocess.run(command, stdin=cat.stdout, capture_output=True, timeout=PATIENCE, check=False)
    assert ran.returncode == 0
    assert heard == [f"{i:0999}" for i in range(count)]
