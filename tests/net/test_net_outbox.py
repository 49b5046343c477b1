"""The outbox against a kernel that takes as little as it likes, blocks and fails, and against real sockets."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import cast, final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.descriptors import file_with, is_open

from nimloop_net import FileTruncatedError
from nimloop_net._outbox import Outbox
from nimloop_net._sendfile import FileRange

Pair = Callable[[], tuple[socket.socket, socket.socket]]

# What the kernel does next: take so many bytes at most, or fail with this errno.
Step = int | type[BlockingIOError] | str
FATAL = {"EPIPE": BrokenPipeError, "ECONNRESET": ConnectionResetError, "ENOBUFS": OSError}


@final
class Kernel:
    """Stands in for a socket and for sendfile; follows a script, and takes everything once that has ended."""

    def __init__(self, script: list[Step] | None = None) -> None:
        self.script = list(script or [])
        self.taken = bytearray()
        self.calls: list[tuple[str, int]] = []

    @property
    def sock(self) -> socket.socket:
        """Look like a socket."""
        return cast("socket.socket", self)

    def _take(self, data: bytes) -> int:
        step = self.script.pop(0) if self.script else len(data)
        if step is BlockingIOError:
            raise BlockingIOError(errno.EAGAIN, "would block")
        if isinstance(step, str):
            raise OSError(getattr(errno, step), step)
        assert isinstance(step, int)
        self.taken += data[:step]
        return min(step, len(data))

    def fileno(self) -> int:
        """Give no descriptor: nothing may reach the real kernel."""
        return -1

    def send(self, data: bytes | memoryview, flags: int = 0) -> int:
        """Take from one buffer."""
        self.calls.append(("send", flags))
        return self._take(bytes(data))

    def sendmsg(self, buffers: list[bytes | memoryview], _ancillary: tuple[()], flags: int) -> int:
        """Take from several buffers."""
        assert len(buffers) <= 1024  # IOV_MAX
        self.calls.append(("sendmsg", flags))
        return self._take(b"".join(buffers))

    def sendfile(self, _sock: int, fd: int, offset: int, count: int) -> int:
        """Take from a file."""
        self.calls.append(("sendfile", 0))
        return self._take(os.pread(fd, count, offset))


# Mostly small pieces, some beyond what is joined, and files.
pieces = st.lists(
    st.tuples(st.sampled_from(["bytes", "file"]), st.one_of(st.integers(1, 400), st.integers(30_000, 140_000))),
    min_size=1,
    max_size=8,
)
steps = st.lists(
    st.one_of(
        st.integers(1, 100),
        st.integers(1000, 200_000),
        st.just(BlockingIOError),
        st.sampled_from(sorted(FATAL)),
        st.sampled_from(["EINVAL", "EOPNOTSUPP"]),
    ),
    max_size=30,
)


@given(pieces=pieces, script=steps)
def test_bytes_come_out_in_order_exactly_once(pieces: list[tuple[str, int]], script: list[Step]) -> None:
    """Whatever the kernel takes, refuses or breaks, the bytes taken are a prefix and the counters know the rest."""
    kernel = Kernel(script)
    outbox = Outbox()
    expected = bytearray()
    in_memory: list[bool] = []
    files: list[int] = []
    for number, (kind, length) in enumerate(pieces):
        data = bytes([number % 251]) + os.urandom(length - 1)
        expected += data
        in_memory += [kind == "bytes"] * length
        if kind == "bytes":
            outbox.add(data)
        else:
            files.append(file_with(b"skipped" + data + b"not sent"))
            outbox.add_file(FileRange(files[-1], 7, length))
    turns = 0
    raised: set[int | None] = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sendfile", kernel.sendfile)
        while outbox.size:
            turns += 1
            assert turns < 200
            room: bool | None = None
            try:
                room = outbox.write_to(kernel.sock)
            except OSError as error:
                raised.add(error.errno)
            assert kernel.taken == expected[: len(kernel.taken)]
            assert outbox.size == len(expected) - len(kernel.taken)
            assert outbox.memory == sum(in_memory[len(kernel.taken) :])
            assert room is not True or outbox.size == 0
    assert kernel.taken == expected
    assert raised <= {getattr(errno, step) for step in script if isinstance(step, str)}
    assert not any(is_open(fd) for fd in files)


@given(pieces=pieces, taken=st.integers(0, 300_000))
def test_clear_closes_what_is_left(pieces: list[tuple[str, int]], taken: int) -> None:
    """After clear nothing is left and every file is closed, wherever sending had stopped."""
    kernel = Kernel([max(taken, 1), BlockingIOError])
    outbox = Outbox()
    files = []
    for kind, length in pieces:
        if kind == "bytes":
            outbox.add(bytes(length))
        else:
            files.append(file_with(bytes(length)))
            outbox.add_file(FileRange(files[-1], 0, length))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sendfile", kernel.sendfile)
        outbox.write_to(kernel.sock)
    outbox.clear()
    assert (outbox.size, outbox.memory) == (0, 0)
    assert outbox.write_to(kernel.sock)
    assert not any(is_open(fd) for fd in files)


@pytest.mark.parametrize(("name", "kind"), FATAL.items())
def test_error_keeps_its_class(name: str, kind: type[OSError]) -> None:
    """What the kernel says reaches the caller as it is, and the counters tell what did go out."""
    kernel = Kernel([3, name])
    outbox = Outbox()
    outbox.add(b"abcdefg")
    with pytest.raises(kind):
        outbox.write_to(kernel.sock)
    assert kernel.taken == b"abc"
    assert (outbox.size, outbox.memory) == (4, 4)


def test_small_pieces_leave_in_one_call() -> None:
    """However many small pieces there are, one send takes them all."""
    kernel = Kernel()
    outbox = Outbox()
    for number in range(1000):
        outbox.add(b"%03d" % number)
    assert outbox.write_to(kernel.sock)
    assert kernel.calls == [("send", 0)]
    assert kernel.taken == b"".join(b"%03d" % number for number in range(1000))


def test_large_pieces_are_gathered() -> None:
    """Pieces too large to be copied together leave in one sendmsg, a bounded number at a time."""
    kernel = Kernel()
    outbox = Outbox()
    for _ in range(60):
        outbox.add(bytes(10_000))
    outbox.write_to(kernel.sock)
    assert kernel.calls == [("sendmsg", 0)]
    for _ in range(200):
        outbox.add(bytes(10_000))
    outbox.write_to(kernel.sock)
    assert len(kernel.taken) == 260 * 10_000


def test_many_small_pieces_before_a_large_one() -> None:
    """Thousands of pieces and a large one never make a call with more buffers than the system allows."""
    kernel = Kernel()
    outbox = Outbox()
    for _ in range(5000):
        outbox.add(b"abc")
    outbox.add(bytes(1 << 20))
    outbox.write_to(kernel.sock)
    assert kernel.taken == b"abc" * 5000 + bytes(1 << 20)
    assert len(kernel.calls) == 2


def test_what_has_left_is_not_kept() -> None:
    """A slow kernel and many pieces: what is gone makes room for what is added, and the order stays."""
    kernel = Kernel([3] * 3_000)
    box = Outbox()
    for number in range(2_000):
        box.add(b"%04d" % number)
    expected = b"".join(b"%04d" % number for number in range(2_000))
    for number in range(2_000, 3_000):
        box._quota = 3  # so that each turn is one call
        box.write_to(kernel.sock)
        box.add(b"%04d" % number)
        expected += b"%04d" % number
        left = -(-box.size // 4)
        assert len(box._later or ()) <= 2 * left
    assert len(kernel.taken) == 3_000
    kernel.script.clear()
    box._quota = 1 << 20
    assert box.write_to(kernel.sock)
    assert bytes(kernel.taken) == expected


def test_single_piece_is_not_copied() -> None:
    """One piece goes to the kernel as the object it was given as."""
    kernel = Kernel([10, BlockingIOError])
    outbox = Outbox()
    outbox.add(bytes(1000))
    assert not outbox.write_to(kernel.sock)
    assert outbox.size == 990
    assert outbox.write_to(kernel.sock)
    assert len(kernel.taken) == 1000


@pytest.mark.skipif(not hasattr(socket, "MSG_MORE"), reason="a flag of Linux")
def test_head_announces_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes before a file tell the kernel that more follows, the bytes after it do not."""
    kernel = Kernel()
    monkeypatch.setattr(os, "sendfile", kernel.sendfile)
    outbox = Outbox()
    outbox.add(b"head")
    outbox.add_file(FileRange(file_with(b"content"), 0, 7))
    outbox.add(b"tail")
    assert outbox.size == 15
    assert outbox.memory == 8
    outbox.write_to(kernel.sock)
    assert kernel.calls == [("send", socket.MSG_MORE), ("sendfile", 0), ("send", 0)]
    assert kernel.taken == b"headcontenttail"


def test_files_have_a_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that takes everything does not get more than a quota of files in one turn."""
    fd = os.memfd_create("large")
    os.ftruncate(fd, 20 << 20)
    monkeypatch.setattr(os, "sendfile", lambda _out, _in, _offset, count: count)
    outbox = Outbox()
    outbox.add_file(FileRange(fd, 0, 20 << 20))
    turns = 0
    while outbox.size:
        assert outbox.write_to(Kernel().sock)
        turns += 1
    assert turns == 10


@pytest.mark.parametrize("size", [20 << 20, 700_000, (1 << 20) + 1])
def test_bytes_have_a_quota(size: int) -> None:
    """Nor of bytes; and no call is so long that a peer who reads as fast could keep it from returning."""
    outbox = Outbox()
    data = os.urandom(size)
    count = (20 << 20) // size
    for _ in range(count):
        outbox.add(data)
    kernel = Kernel()
    turns = 0
    while outbox.size:
        before = len(kernel.taken)
        assert outbox.write_to(kernel.sock)
        assert len(kernel.taken) - before <= 3 << 20
        turns += 1
    assert turns >= 7
    assert len(kernel.calls) >= 19
    assert kernel.taken == data * count


def test_without_sendfile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without sendfile reads and sends, over as many calls as that takes."""
    monkeypatch.delattr(os, "sendfile")
    data = os.urandom(200_000)
    kernel = Kernel([10, 70_000])
    outbox = Outbox()
    outbox.add_file(FileRange(file_with(data), 100, 150_000))
    assert outbox.write_to(kernel.sock)
    assert kernel.taken == data[100:150_100]


@pytest.mark.parametrize("refusal", ["EINVAL", "ENOSYS", "EOPNOTSUPP"])
def test_refused_by_sendfile(monkeypatch: pytest.MonkeyPatch, refusal: str) -> None:
    """A file that sendfile refuses is read and sent instead."""
    kernel = Kernel([refusal])
    monkeypatch.setattr(os, "sendfile", kernel.sendfile)
    outbox = Outbox()
    outbox.add_file(FileRange(file_with(b"x" * 1000), 0, 1000))
    assert outbox.write_to(kernel.sock)
    assert kernel.taken == b"x" * 1000
    assert [name for name, _ in kernel.calls] == ["sendfile", "send"]


@pytest.mark.parametrize("copying", [False, True])
def test_truncated_file(monkeypatch: pytest.MonkeyPatch, unix_pair: Pair, *, copying: bool) -> None:
    """A file that ends early raises after what there was, with the place in the message."""
    if copying:
        monkeypatch.delattr(os, "sendfile")
    here, there = unix_pair()
    outbox = Outbox()
    outbox.add_file(FileRange(file_with(b"x" * 1000), 10, 2000))
    with pytest.raises(FileTruncatedError, match="byte 1000, 1010 bytes"):
        outbox.write_to(here)
    assert there.recv(5000) == b"x" * 990
    assert outbox.size == 1010
    outbox.clear()


def test_file_that_the_kernel_makes_up(unix_pair: Pair) -> None:
    """A file of /proc, which some kernels cannot send from, arrives all the same."""
    path = Path("/proc/self/cmdline")
    if not path.exists():
        pytest.skip("no /proc on this system")
    content = path.read_bytes()
    here, there = unix_pair()
    outbox = Outbox()
    outbox.add_file(FileRange(os.open(path, os.O_RDONLY), 0, len(content)))
    assert outbox.write_to(here)
    assert there.recv(len(content) + 1) == content


def test_full_socket(unix_pair: Pair) -> None:
    """A real socket that is full says so, and takes the rest when there is room again."""
    here, there = unix_pair()
    data = os.urandom(3 << 20)
    outbox = Outbox()
    outbox.add(data[: 1 << 20])
    outbox.add(data[1 << 20 :])
    assert not outbox.write_to(here)
    received = bytearray()
    while outbox.size or len(received) < len(data):
        received += there.recv(1 << 20)
        outbox.write_to(here)
    assert received == data
