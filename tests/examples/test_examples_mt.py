"""The examples of nimloop-mt, driven as programs of their own."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "mt"
PATIENCE = 30.0

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@contextmanager
def running(name: str, *arguments: str) -> Iterator[str]:
    """Run an example; gives its link. It has to end well."""
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().partition(" ")[0]
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, "")


@contextmanager
def redis(port: int) -> Iterator[None]:
    """Run Redis on a port, with nothing kept."""
    program = shutil.which("redis-server")
    assert program is not None
    command = [program, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def test_hello() -> None:
    """It answers, with a handler that only the program's own file has, and ends well."""
    with running("hello.py", "0") as address, urllib.request.urlopen(address, timeout=PATIENCE) as answer:
        assert answer.read().startswith(b"Hello from process ")


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
def test_chat_nodes() -> None:
    """Two nodes with two workers each: what one client says, all get, and are told when Redis has gone."""
    pytest.importorskip("websockets")
    from websockets.exceptions import InvalidStatus  # noqa: PLC0415 - not everywhere
    from websockets.sync.client import ClientConnection, connect  # noqa: PLC0415

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def join(address: str) -> ClientConnection:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                return stack.enter_context(connect(address, open_timeout=PATIENCE, proxy=None))
            except InvalidStatus as error:  # 503: this worker has not reached Redis yet
                if error.response.status_code != 503:
                    raise
                threading.Event().wait(0.05)
        raise AssertionError("nobody lets us in")

    def lost() -> bool:
        people[0].send("is anybody there?")
        try:
            return str(people[0].recv(0.1)).startswith("(not sent")
        except TimeoutError:
            return False  # Redis had it, and has ended

    def say(text: str) -> None:
        people[0].send(text)
        for each in people:
            assert each.recv(PATIENCE) == text

    node = ("chat_nodes.py", "0", str(port))
    with running(*node) as one, running(*node) as other, ExitStack() as stack:
        with redis(port):
            people = [join(address) for address in (one, other) for _ in range(6)]
            say("hello to äll")
        deadline = time.monotonic() + PATIENCE
        while not lost():
            assert time.monotonic() < deadline
