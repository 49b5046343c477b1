"""Sockets from systemd, the way sd_listen_fds(3) tells of them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nimloop_net import AddressError, inherited_sockets

# What a service does, after systemd has put the descriptors in place: those given as arguments, from 3 on.
SERVICE = """
import fcntl, json, os, sys
fds = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 100) for fd in sys.argv[1:]]  # out of the way of each other
for number, fd in enumerate(fds):
    os.dup2(fd, 3 + number, inheritable=True)
if os.environ.get("LISTEN_PID") == "mine":
    os.environ["LISTEN_PID"] = str(os.getpid())
from nimloop_core import Loop
from nimloop_net import AddressError, TcpServer, inherited_sockets
try:
    sockets = inherited_sockets()
except AddressError as error:
    print(json.dumps([str(error), "LISTEN_PID" in os.environ]))
    sys.exit()
print(json.dumps([[name, sock.fileno(), sock.get_inheritable()] for name, sock in sockets]), flush=True)
assert inherited_sockets() == []
assert not [name for name in os.environ if name.startswith("LISTEN_")]
with Loop() as loop, TcpServer(loop) as server:
    def greet(conn):
        conn.send(b"hello")
        conn.close_after_drain()
    server.on_accept = greet
    server.on_close = lambda *_: loop.stop()
    for _, sock in sockets:
        server.adopt(sock)
    if sockets:
        loop.call_later(20, loop.stop)
        loop.run()
"""


def serve(*fds: int, **environment: str) -> subprocess.Popen[str]:
    """Start a service with descriptors and variables."""
    return subprocess.Popen(
        [sys.executable, "-c", SERVICE, *map(str, fds)],
        env={**os.environ, **environment},
        pass_fds=fds,
        stdout=subprocess.PIPE,
        text=True,
    )


def told(service: subprocess.Popen[str]) -> object:
    """Wait for what a service says first."""
    assert service.stdout is not None
    answer: object = json.loads(service.stdout.readline())
    return answer


@pytest.mark.parametrize(("names", "expected"), [("web:admin", ["web", "admin"]), (None, ["unknown", "unknown"])])
def test_sockets_are_served(names: str | None, expected: list[str], tmp_path: Path) -> None:
    """They come with their names, in order, are not passed on, and a server answers on them."""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "s"))
        unix.listen()
        named = {} if names is None else {"LISTEN_FDNAMES": names}
        with serve(tcp.fileno(), unix.fileno(), LISTEN_PID="mine", LISTEN_FDS="2", **named) as service:
            assert told(service) == [[expected[0], 3, False], [expected[1], 4, False]]
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(20)
                client.connect(str(tmp_path / "s"))
                assert client.recv(10) == b"hello"
        assert service.returncode == 0


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"LISTEN_FDS": "1", "LISTEN_FDNAMES": "a:b"}, "2 names for 1"),
        ({"LISTEN_FDS": "-1"}, "LISTEN_FDS"),
        ({"LISTEN_FDS": "2"}, "descriptor 4 (unknown) is no socket"),
    ],
)
def test_what_makes_no_sense(environment: dict[str, str], words: str) -> None:
    """It is refused, and everything stays as it was."""
    reader, writer = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as tcp:
        with serve(tcp.fileno(), reader, LISTEN_PID="mine", **environment) as service:
            answer = told(service)
        assert service.returncode == 0
    os.close(reader)
    os.close(writer)
    assert isinstance(answer, list)
    assert words in answer[0]
    assert answer[1] is True


@pytest.mark.parametrize(
    "environment", [{}, {"LISTEN_FDS": "1"}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_PID": "1"}], ids=str
)
def test_variables_of_somebody_else(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, descriptors: Callable[[], set[str]]
) -> None:
    """What is meant for another process, a parent say, is left alone."""
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    before = descriptors()
    assert inherited_sockets() == []
    assert descriptors() == before
    assert {name: os.environ.get(name) for name in environment} == environment


def test_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is no number is a mistake of whoever set it."""
    monkeypatch.setenv("LISTEN_PID", "me")
    monkeypatch.setenv("LISTEN_FDS", "1")
    with pytest.raises(AddressError, match="LISTEN_PID"):
        inherited_sockets()


def test_none_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that was started without sockets gets none."""
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "0")
    monkeypatch.setenv("LISTEN_FDNAMES", "")
    assert inherited_sockets() == []
