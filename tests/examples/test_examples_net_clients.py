"""The examples of clients and of UDP, run the way their first lines say."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "net"
PATIENCE = 30.0
LOCAL = "127.0.0.1"


def run(name: str, *arguments: str) -> tuple[int, list[str], str]:
    """Run an example in development mode; return its status, its lines and what it complained about."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", str(EXAMPLES / name), *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


@pytest.fixture
def echo_port() -> Iterator[int]:
    """Run the UDP server; it ends well on Ctrl+C."""
    with subprocess.Popen(
        [sys.executable, "-X", "dev", str(EXAMPLES / "udp_echo.py"), "serve", LOCAL, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        yield int(line.rpartition(" ")[2])
        server.send_signal(signal.SIGINT)
        said = server.communicate(timeout=PATIENCE)
    assert (server.returncode, said) == (0, ("", ""))


def test_udp_echo(echo_port: int) -> None:
    """Every datagram comes back, to the example's own client and to a bare socket."""
    status, lines, complaints = run("udp_echo.py", "ping", "localhost", "--port", str(echo_port), "--count", "3")
    assert (status, complaints) == (0, "")
    assert [line.partition(":")[0] for line in lines] == ["1", "2", "3"]
    assert all("back after" in line for line in lines)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        for data in (b"", b"x", bytes(65507)):
            sock.sendto(data, (LOCAL, echo_port))
            assert sock.recv(65536) == data


def test_udp_echo_without_a_server() -> None:
    """Nobody listens, and the client is told."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((LOCAL, 0))
        port = sock.getsockname()[1]
    status, lines, complaints = run("udp_echo.py", "ping", LOCAL, "--port", str(port), "--count", "1")
    assert (status, complaints) == (0, "")
    assert "refused" in lines[0].lower()


@pytest.fixture
def whois_port() -> Iterator[int]:
    """Answer one question at a time, or hang up in the middle."""
    with socket.create_server((LOCAL, 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with sock:
                    question = sock.makefile("rb").readline().decode().strip()
                    if question == "endless":
                        for _ in range(3000):
                            try:
                                sock.sendall(b"." * 1000)
                            except OSError:
                                break
                    else:
                        sock.sendall(f"domain: {question}\r\nstatus: grüß dich\r\n".encode())

        thread = threading.Thread(target=serve)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_whois(whois_port: int) -> None:
    """The answer is printed to its end."""
    status, lines, complaints = run("whois.py", "example.org", "--server", "localhost", "--port", str(whois_port))
    assert (status, complaints) == (0, "")
    assert lines == ["domain: example.org", "status: grüß dich"]


def test_whois_of_a_server_that_does_not_end(whois_port: int) -> None:
    """More than anybody wants to read is an error."""
    status, _, complaints = run("whois.py", "endless", "--server", LOCAL, "--port", str(whois_port))
    assert status == 1
    assert "more than" in complaints


@pytest.mark.parametrize("server", ["no-such-host.invalid", "a..b"])
def test_whois_of_no_server(server: str) -> None:
    """What cannot be reached is told in a line."""
    status, lines, complaints = run("whois.py", "example.org", "--server", server)
    assert (status, lines) == (1, [])
    assert server in complaints
    assert len(complaints.splitlines()) == 1
