"""Every system call of a connection fails in every way it can: one clear end each time, and nothing stays behind."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.net.certificates import client_context, server_context
from tests.support.descriptors import file_with

from nimloop_core import Loop
from nimloop_net import Connection, TruncatedError, open_stream
from nimloop_net._channel import Watch
from nimloop_net._tls import TlsChannel

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

# What the next call does: nothing unusual (0), fail with this errno, or serve no more than so many bytes (negative).
Fault = int
ERRORS = [
    errno.ECONNRESET,
    errno.EINTR,
    errno.EMFILE,
    errno.ENOBUFS,
    errno.ENOMEM,
    errno.ENOTCONN,
    errno.EPIPE,
    errno.ETIMEDOUT,
]
CALLS = ("recv", "send", "sendmsg", "shutdown", "getsockopt", "setsockopt", "close", "sendfile", "pread", "name")

plans = st.dictionaries(
    st.sampled_from(CALLS),
    st.lists(
        st.one_of(st.just(0), st.just(errno.EAGAIN), st.sampled_from(ERRORS), st.integers(-70_000, -1)), max_size=12
    ),
    max_size=4,
)


@final
class Plan:
    """Which calls fail and how; once it is used up, all is well."""

    def __init__(self, faults: dict[str, list[Fault]]) -> None:
        self._faults = {call: list(reversed(each)) for call, each in faults.items()}
        self.injected: list[int] = []

    def __call__(self, call: str, size: int = 0) -> int:
        """Fail, or tell how many bytes the call may serve."""
        left = self._faults.get(call)
        fault = left.pop() if left else 0
        if fault > 0:
            if fault == errno.EAGAIN:
                if call in {"recv", "send", "sendmsg", "sendfile"}:
                    raise BlockingIOError(fault, os.strerror(fault))
                return size
            self.injected.append(fault)
            raise OSError(fault, os.strerror(fault))
        return min(size, -fault) if fault else size


@final
class FaultySocket(socket.socket):
    """A socket whose calls go by a plan."""

    plan: Plan

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        """Fail, or read less."""
        view = memoryview(buffer)
        return super().recv_into(view[: self.plan("recv", len(view))])

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Fail, or read less."""
        return super().recv(self.plan("recv", size))

    def send(self, data: ReadableBuffer, flags: int = 0, /) -> int:
        """Fail, or take less."""
        view = memoryview(data)
        return super().send(view[: self.plan("send", len(view))], flags)

    def sendmsg(self, buffers: object, *_: object) -> int:
        """Fail, or take less."""
        assert isinstance(buffers, list)
        whole = b"".join(buffers)
        return super().send(whole[: self.plan("sendmsg", len(whole))])

    def shutdown(self, how: int, /) -> None:
        """Fail, or pass on."""
        self.plan("shutdown")
        super().shutdown(how)

    def getsockopt(self, level: int, option: int, /) -> int:  # type: ignore[override]
        """Fail, or pass on."""
        self.plan("getsockopt")
        return super().getsockopt(level, option)

    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None:  # type: ignore[override]
        """Fail, or pass on."""
        self.plan("setsockopt")
        super().setsockopt(level, option, value)

    def getpeername(self) -> object:
        """Fail, or pass on."""
        self.plan("name")
        name: object = super().getpeername()
        return name

    def close(self) -> None:
        """Fail although it is closed, which is what the system does, too."""
        super().close()
        self.plan("close")


@contextmanager
def faulty_files(plan: Plan) -> Iterator[None]:
    """Let the calls that read files go by a plan, too."""
    sendfile, pread = os.sendfile, os.pread

    def faulty_sendfile(out: int, fd: int, offset: int, count: int) -> int:
        return sendfile(out, fd, offset, plan("sendfile", count))

    def faulty_pread(fd: int, count: int, offset: int) -> bytes:
        return pread(fd, plan("pread", count), offset)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sendfile", faulty_sendfile)
        patch.setattr(os, "pread", faulty_pread)
        yield


def pair(plan: Plan) -> tuple[FaultySocket, socket.socket]:
    """Connect a faulty socket and an honest one over TCP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        there = socket.create_connection(listener.getsockname())
        here, _ = listener.accept()
    faulty = FaultySocket(fileno=here.detach())
    faulty.plan = plan
    for end in (faulty, there):
        socket.socket.setsockopt(end, socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end.setblocking(False)
    return faulty, there


def run_until(loop: Loop, holds: Callable[[], object]) -> None:
    """Run the loop until something holds; nothing here takes more than a moment."""
    for _ in range(20_000):
        if holds():
            return
        loop.run_once(0.001)
    pytest.fail("waited in vain")


QUESTION = bytes(range(256)) * 400
FILE = os.urandom(150_000)
EXPECTED = QUESTION + b"sent" + b"gathered" * 12_000 + b"!" + FILE + b"end"


def answer(conn: Connection) -> None:
    """Send something in each of the ways there are, and end."""
    conn.send(b"sent")
    conn.sendv([b"gathered" * 12_000, b"!"])
    conn.send_file(file_with(FILE), 0, len(FILE))
    conn.send(b"end")
    conn.close_after_drain()


def serve(loop: Loop, sock: FaultySocket, told: list[Exception | None]) -> Connection:
    """Echo the question, and answer at its end."""
    conn = Connection(
        loop,
        sock,
        on_data=lambda conn, data: conn.send(data),
        on_eof=answer,
        on_close=lambda _conn, error: told.append(error),
    )
    conn.linger = 0.02  # nobody waits for a FIN that could not be sent
    conn.start()
    return conn


def check(loop: Loop, conn: Connection, told: list[Exception | None], plan: Plan, failures: list[Exception]) -> None:
    """Look at what has to hold whatever has failed."""
    loop.run_once(0)
    loop.run_once(0)
    assert len(told) == 1
    assert failures == []
    assert conn.closed
    assert conn.peer is not None
    assert conn.write_buffer_size == 0
    assert loop.stats.timers == 0
    assert loop.stats.watchers == 0
    if told[0] is not None and not isinstance(told[0], (ConnectionError, TruncatedError, ssl.SSLError)):
        assert isinstance(told[0], OSError)
        assert told[0].errno in plan.injected


@given(faults=plans)
@settings(max_examples=250, suppress_health_check=list(HealthCheck))
@example(faults={"recv": [errno.EAGAIN, -1, -1, errno.ECONNRESET]})
@example(faults={"sendfile": [-10, errno.EAGAIN, errno.EIO]})
@example(faults={"close": [errno.EIO], "setsockopt": [errno.EINVAL], "send": [errno.EPIPE]})
def test_socket(faults: dict[str, list[Fault]]) -> None:
    """Without an error, everything has arrived; with one, `on_close` tells of it, and what has come is a beginning."""
    plan = Plan(faults)
    told: list[Exception | None] = []
    failures: list[Exception] = []
    with Loop("poll") as loop, faulty_files(plan):  # levels, because a made-up EAGAIN is followed by no edge
        loop.exception_handler = lambda error, _owner: failures.append(error)
        sock, peer = pair(plan)
        conn = serve(loop, sock, told)
        got = bytearray()
        unsent = memoryview(QUESTION)
        open_ = True

        def talk() -> bool:
            nonlocal unsent, open_
            try:
                if unsent:
                    unsent = unsent[peer.send(unsent) :]
                    if not unsent:
                        peer.shutdown(socket.SHUT_WR)
            except BlockingIOError:
                pass
            except OSError:
                unsent = memoryview(b"")
            try:
                while open_ and (data := peer.recv(1 << 16)):
                    got.extend(data)
                open_ = False
            except BlockingIOError:
                pass
            except OSError:
                open_ = False
            return bool(told) and not open_

        run_until(loop, talk)
        peer.close()
        check(loop, conn, told, plan, failures)
    assert EXPECTED.startswith(got)
    if told == [None]:
        assert got == EXPECTED


@given(faults=plans)
@settings(max_examples=120, suppress_health_check=list(HealthCheck))
@example(faults={"recv": [-1] * 12, "send": [-1] * 12})
@example(faults={"send": [-100, errno.EAGAIN, -1, errno.EPIPE]})
def test_tls(faults: dict[str, list[Fault]]) -> None:
    """The same through TLS, where the other side can also tell a beginning from the whole."""
    plan = Plan(faults)
    told: list[Exception | None] = []
    of_peer: list[Exception | None] = []
    failures: list[Exception] = []
    with Loop("poll") as loop, faulty_files(plan):
        loop.exception_handler = lambda error, _owner: failures.append(error)
        sock, there = pair(plan)
        conn = serve(loop, sock, told)
        conn.start_tls(server_context(), server_side=True)
        got = bytearray()
        peer = Connection(
            loop,
            there,
            on_data=lambda _conn, data: got.extend(data),
            on_close=lambda _conn, error: of_peer.append(error),
        )
        peer.start()
        peer.start_tls(client_context(), server_hostname="localhost")
        peer.send(QUESTION)
        peer.shutdown()
        run_until(loop, lambda: told and of_peer)
        check(loop, conn, told, plan, failures)
    assert EXPECTED.startswith(got)
    if of_peer == [None]:
        assert got == EXPECTED


@given(faults=plans)
@settings(max_examples=100, suppress_health_check=list(HealthCheck))
def test_pipe(faults: dict[str, list[Fault]]) -> None:
    """The same with a pair of pipes."""
    plan = Plan(faults)
    told: list[Exception | None] = []
    failures: list[Exception] = []
    here, theirs = os.pipe()
    their_input, ours = os.pipe()
    readv, write, writev = os.readv, os.write, os.writev

    def faulty_readv(fd: int, buffers: list[memoryview]) -> int:
        return readv(fd, [buffers[0][: plan("recv", len(buffers[0]))]])

    def faulty_write(fd: int, data: bytes) -> int:
        return write(fd, memoryview(data)[: plan("send", len(data))] if fd == ours else data)

    def faulty_writev(fd: int, pieces: list[bytes]) -> int:
        whole = b"".join(pieces)
        return write(fd, memoryview(whole)[: plan("sendmsg", len(whole))])

    with Loop("poll") as loop, faulty_files(plan), pytest.MonkeyPatch.context() as patch:
        loop.exception_handler = lambda error, _owner: failures.append(error)
        patch.setattr(os, "readv", faulty_readv)
        patch.setattr(os, "write", faulty_write)
        patch.setattr(os, "writev", faulty_writev)
        conn = open_stream(loop, here, ours, on_data=lambda conn, data: conn.send(data), on_eof=answer)
        conn.on_close = lambda _conn, error: told.append(error)
        got = bytearray()
        os.set_blocking(theirs, False)
        os.set_blocking(their_input, False)
        unsent = memoryview(QUESTION)

        def talk() -> bool:
            nonlocal unsent, theirs
            try:
                if unsent:
                    unsent = unsent[write(theirs, unsent) :]
                    if not unsent:
                        os.close(theirs)
                        theirs = -1
            except BlockingIOError:
                pass
            except OSError:
                unsent = memoryview(b"")
            try:
                while data := os.read(their_input, 1 << 16):
                    got.extend(data)
            except BlockingIOError:
                return False
            return bool(told)

        run_until(loop, talk)
        if theirs >= 0:
            os.close(theirs)
        os.close(their_input)
        check(loop, conn, told, plan, failures)
    assert writev is not None
    assert EXPECTED.startswith(got)
    if told == [None]:
        assert got == EXPECTED


@final
class StubbornWatcher:
    """A watcher that cannot be changed, for want of memory."""

    edge = False

    def __init__(self, real: Watch) -> None:
        self._real = real

    def modify(self, _events: int) -> None:
        """Refuse."""
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    def unregister(self) -> None:
        """Pass on."""
        self._real.unregister()


@pytest.mark.parametrize("call", [Connection.pause_reading, Connection.shutdown, Connection.close_after_drain])
def test_interest_that_cannot_be_changed(call: Callable[[Connection], None]) -> None:
    """A connection whose events the kernel cannot be told of ends, with that error."""
    told: list[Exception | None] = []
    with Loop("poll") as loop:
        sock, peer = pair(Plan({}))
        conn = serve(loop, sock, told)
        conn._watcher = StubbornWatcher(conn._watcher)
        call(conn)
        run_until(loop, lambda: told)
        assert isinstance(told[0], OSError)
        assert told[0].errno == errno.ENOMEM
        peer.close()


def test_interest_that_cannot_be_changed_through_tls() -> None:
    """The same with TLS in between, which has an interest of its own."""
    told: list[Exception | None] = []
    with Loop("poll") as loop:
        sock, peer = pair(Plan({}))
        conn = serve(loop, sock, told)
        conn.start_tls(server_context(), server_side=True)
        channel = conn._watcher
        assert isinstance(channel, TlsChannel)
        assert channel._watcher is not None
        channel._watcher = StubbornWatcher(channel._watcher)  # type: ignore[assignment]
        peer.send(b"\x16")
        run_until(loop, lambda: told)
        assert isinstance(told[0], OSError)
        assert told[0].errno == errno.ENOMEM
        peer.close()
