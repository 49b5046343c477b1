"""Pipes, terminals and processes as connections, on every backend."""

from __future__ import annotations

import hashlib
import os
import pty
import socket
import ssl
import subprocess
import sys
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from tests.core import stand_ins
from tests.net.told import collect, endings

from nimloop_core import Loop
from nimloop_core.abc import HasFileno
from nimloop_net import Connection, ConnectionClosedError, FileTruncatedError, WriteBufferFullError, open_stream

Until = Callable[[Callable[[], object]], None]
Rest = Callable[[float], None]


class Open(Protocol):
    """What `stream` gives."""

    def __call__(self, reader: int | HasFileno | None = None, writer: int | HasFileno | None = None) -> Connection:
        """Open a stream."""


@pytest.fixture
def stream(loop: Loop) -> Iterator[Open]:
    """Open streams; those still open are closed after the test."""
    if loop.backend not in stand_ins.NATIVE:
        pytest.skip("the stand-in knows sockets only")
    made: list[Connection] = []

    def make(reader: int | HasFileno | None = None, writer: int | HasFileno | None = None) -> Connection:
        made.append(open_stream(loop, reader, writer))
        return made[-1]

    yield make
    for conn in made:
        conn.abort()
    loop.run_once(0)


def test_reading(stream: Open, until: Until) -> None:
    """What is written into a pipe is delivered, then its end."""
    reader, writer = os.pipe()
    conn = stream(reader)
    got, told = collect(conn), endings(conn)
    assert (conn.state, conn.writable, conn.peer, conn.local) == ("ended", False, "", "")
    with pytest.raises(ConnectionClosedError):
        conn.send(b"the wrong way")
    os.write(writer, b"one ")
    until(lambda: got == b"one ")
    os.write(writer, b"two")
    os.close(writer)
    until(lambda: told)
    assert got == b"one two"
    assert told == [None]


def test_writing(stream: Open, until: Until) -> None:
    """More than a pipe holds leaves as fast as it is read, and the end comes last."""
    reader, writer = os.pipe()
    conn = stream(writer=writer)
    told = endings(conn)
    drained: list[Connection] = []
    conn.on_drain = drained.append
    data = os.urandom(1 << 20)
    assert not conn.send(data)
    conn.sendv([b"and ", b"the ", b"end" * 30_000])
    conn.close_after_drain()
    got = bytearray()
    os.set_blocking(reader, False)

    def read() -> bool:
        try:
            got.extend(os.read(reader, 1 << 16))
        except BlockingIOError:
            return False
        return bool(told)

    until(read)
    os.set_blocking(reader, True)
    while chunk := os.read(reader, 1 << 16):
        got += chunk
    os.close(reader)
    assert told == [None]
    assert got == data + b"and the " + b"end" * 30_000


def test_pausing(stream: Open, until: Until, rest: Rest) -> None:
    """A paused stream leaves everything in the pipe."""
    reader, writer = os.pipe()
    conn = stream(reader)
    got = collect(conn)
    conn.pause_reading()
    os.write(writer, bytes(50_000))
    rest(0.01)
    assert got == b""
    conn.resume_reading()
    until(lambda: len(got) == 50_000)
    os.close(writer)


@pytest.mark.parametrize("queued", [False, True])
def test_reader_that_is_gone(*, queued: bool, stream: Open, until: Until, loop: Loop) -> None:
    """It is told of at once where changes are reported, and in any case by the next write."""
    reader, writer = os.pipe()
    conn = stream(writer=writer)
    told = endings(conn)
    loop.run_once(0)
    if queued:
        conn.send(bytes(1 << 20))
        loop.run_once(0)
    os.close(reader)
    if loop.backend == "poll" and not queued:
        conn.send(b"anybody?")
    until(lambda: told)
    assert isinstance(told[0], BrokenPipeError)


def test_hard_limit(stream: Open, until: Until) -> None:
    """It holds here, too."""
    reader, writer = os.pipe()
    conn = stream(writer=writer)
    told = endings(conn)
    conn.max_buffer = 1 << 20
    conn.send(bytes(2 << 20))
    until(lambda: told)
    assert isinstance(told[0], WriteBufferFullError)
    os.close(reader)


def test_file_into_a_pipe(stream: Open, until: Until, tmp_path: Path) -> None:
    """A file is sent in order; a shorter one ends the stream with an error."""
    (tmp_path / "file").write_bytes(b"content")
    reader, writer = os.pipe()
    conn = stream(writer=writer)
    told = endings(conn)
    with (tmp_path / "file").open("rb") as file:
        conn.send(b"head ")
        conn.send_file(file)
        conn.send_file(file, 3, 10)
    until(lambda: told)
    assert isinstance(told[0], FileTruncatedError)
    assert os.read(reader, 100) == b"head contenttent"
    os.close(reader)


def test_process(stream: Open, until: Until) -> None:
    """A process's input and output are one connection; ending ours closes its input, and the rest is delivered."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        conn = stream(process.stdout, process.stdin)
        process.stdin.close()
        process.stdout.close()
        count = 0
        digest = hashlib.sha256()

        def on_data(_conn: Connection, data: bytes) -> None:
            nonlocal count
            count += len(data)
            digest.update(data)

        conn.on_data = on_data
        told = endings(conn)
        data = os.urandom(3 << 20)
        conn.send(data)
        conn.shutdown()
        until(lambda: told)
        assert told == [None]
        assert (count, digest.digest()) == (len(data), hashlib.sha256(data).digest())
    assert process.returncode == 0


def test_process_that_is_closed_after_drain(stream: Open, until: Until) -> None:
    """It gets everything and its end; what it still says is thrown away."""
    code = "import sys; data = sys.stdin.buffer.read(); sys.stdout.buffer.write(data); sys.exit(len(data) & 0x7F)"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        conn = stream(process.stdout, process.stdin)
        process.stdin.close()
        process.stdout.close()
        told = endings(conn)
        conn.linger = 20
        conn.send(bytes(500_007))
        conn.close_after_drain()
        until(lambda: told)
        assert told == [None]
    assert process.returncode == 500_007 & 0x7F


def test_terminal(stream: Open, until: Until, rest: Rest) -> None:
    """Lines come as they are typed, however many at once, and the end when the other side is closed."""
    master, slave = pty.openpty()
    conn = stream(slave, slave)
    got, told = collect(conn), endings(conn)
    os.write(master, b"first\nsecond\nthird\n")
    until(lambda: got == b"first\nsecond\nthird\n")
    conn.send(b"answer\n")
    echo = bytearray()

    def answered() -> bool:
        echo.extend(os.read(master, 1000))
        return echo.endswith(b"answer\r\n")

    until(answered)
    os.close(master)
    conn.close_after_drain()
    until(lambda: told)


def test_terminal_of_two_descriptors(stream: Open, until: Until) -> None:
    """Ending our side does not make the other one block."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    conn = stream(slave, os.dup(slave))
    got, told = collect(conn), endings(conn)
    conn.shutdown()
    until(lambda: conn.state == "ended")
    os.write(master, b"still heard")
    until(lambda: got == b"still heard")
    os.close(master)
    until(lambda: told)


def test_ending_half_of_a_terminal(stream: Open, until: Until) -> None:
    """With one descriptor for both directions there is no half: it is closed."""
    master, slave = pty.openpty()
    conn = stream(slave, slave)
    told = endings(conn)
    conn.shutdown()
    until(lambda: told)
    assert told == [None]
    os.close(master)


def test_socket(stream: Open, until: Until) -> None:
    """The descriptor of a socket becomes an ordinary connection."""
    here, there = socket.socketpair()
    fd = here.detach()
    conn = stream(fd, fd)
    got, told = collect(conn), endings(conn)
    conn.send(b"hello")
    there.send(b"hello yourself")
    until(lambda: got == b"hello yourself")
    assert there.recv(10) == b"hello"
    conn.shutdown()
    until(lambda: there.recv(10) == b"")
    there.close()
    until(lambda: told)
    assert told == [None]


def test_blocking_mode_is_put_back(stream: Open, until: Until) -> None:
    """Other processes may share what a descriptor stands for."""
    reader, writer = os.pipe()
    shared = os.dup(reader)
    conn = stream(reader)
    told = endings(conn)
    assert not os.get_blocking(shared)
    conn.close()
    until(lambda: told)
    assert os.get_blocking(shared)
    os.close(shared)
    os.close(writer)


def test_what_cannot_be_waited_for(loop: Loop, tmp_path: Path, descriptors: Callable[[], set[str]]) -> None:
    """Mistakes are told, and the descriptors stay as they were."""
    with pytest.raises(ValueError, match="descriptor"):
        open_stream(loop)
    with (tmp_path / "file").open("wb") as file:
        reader, writer = os.pipe()
        before = descriptors()
        if loop.backend == "epoll":
            with pytest.raises(PermissionError):
                open_stream(loop, reader, file)
            with pytest.raises(PermissionError):
                open_stream(loop, file.fileno())
        with pytest.raises(OSError, match="descriptor"):
            open_stream(loop, 10_000)
        assert descriptors() == before
        assert os.get_blocking(reader)
        os.close(reader)
        os.close(writer)


def test_no_tls_in_a_pipe(stream: Open) -> None:
    """It is refused in words."""
    reader, writer = os.pipe()
    conn = stream(reader, writer)
    with pytest.raises(ValueError, match="socket"):
        conn.start_tls(ssl.create_default_context(), server_hostname="localhost")


def test_end_of_a_reader(stream: Open, until: Until) -> None:
    """With nothing to write to, there is nothing to end: closing after draining waits for the writer to end his."""
    reader, writer = os.pipe()
    conn = stream(reader)
    told = endings(conn)
    conn.close_after_drain()
    assert conn.state == "lingering"
    os.close(writer)
    until(lambda: told)
    assert told == [None]


def test_ended_twice(stream: Open, until: Until) -> None:
    """Our side is ended once, also when all of it is closed after that."""
    inner_reader, writer = os.pipe()
    reader, inner_writer = os.pipe()
    conn = stream(inner_reader, inner_writer)
    told = endings(conn)
    conn.shutdown()
    until(lambda: conn.state == "ended")
    assert os.read(reader, 1) == b""
    conn.close_after_drain()
    os.close(writer)
    until(lambda: told)
    assert told == [None]
    os.close(reader)


def test_terminal_whose_program_has_ended(stream: Open, until: Until) -> None:
    """To the side of the keyboard, the end of the program's side is an error of its own, EIO; to us it is the end."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    conn = stream(master, os.dup(master))
    got, told = collect(conn), endings(conn)
    os.write(slave, b"the last line")
    until(lambda: got == b"the last line")
    os.close(slave)
    until(lambda: told)
    assert told == [None]
