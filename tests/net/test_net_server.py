"""Servers: listening, accepting within bounds, refusing, running out of descriptors, and stopping in three ways."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import random
import resource
import select
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn, Protocol, final

import pytest
from tests.core import stand_ins

from nimloop_core import Loop, LoopClosedError
from nimloop_net import AddressError, Connection, TcpServer

Until = Callable[[Callable[[], object]], None]
Rest = Callable[[float], None]
Dial = Callable[[object], socket.socket]
ReadAll = Callable[[socket.socket], bytes]
Pair = Callable[[], tuple[socket.socket, socket.socket]]


class ServerWith(Protocol):
    """What `server_with` gives."""

    def __call__(self, *, max_connections: int | None = None, refuse: bool = False) -> TcpServer:
        """Make a server."""


LOCAL = "127.0.0.1"


@final
class FailingListener(socket.socket):
    """A listening socket whose next accepts fail as they are told to."""

    def __init__(self) -> None:
        super().__init__()
        self.bind((LOCAL, 0))
        self.listen(100)
        self.failures: list[int] = []
        self.accepts = 0

    def accept(self) -> tuple[socket.socket, object]:
        """Fail, or pass on."""
        self.accepts += 1
        if self.failures:
            number = self.failures.pop(0)
            if number >= 0:
                raise OSError(number, os.strerror(number))
        return super().accept()


def exhaust(sock: socket.socket) -> None:
    """Read and throw away until the end, or until the socket raises."""
    while sock.recv(1 << 20):
        pass


def connections_alive() -> int:
    """Count the Connection objects of this process."""
    return sum(type(each) is Connection for each in gc.get_objects())


def complaints(caplog: pytest.LogCaptureFixture, words: str) -> None:
    """Take the one warning of nimloop.net off the log."""
    records = [record for record in caplog.get_records("call") if record.name == "nimloop.net"]
    assert [words in record.getMessage() for record in records] == [True]
    caplog.clear()


def readable(sock: socket.socket) -> bool:
    """Tell whether there is something to read."""
    return bool(select.select([sock], [], [], 0)[0])


@pytest.fixture
def server_with(loop: Loop) -> Iterator[ServerWith]:
    """Make servers with settings; they are closed after the test."""
    made: list[TcpServer] = []

    def make(*, max_connections: int | None = None, refuse: bool = False) -> TcpServer:
        server = TcpServer(loop, max_connections=max_connections, refuse=refuse)
        made.append(server)
        return server

    yield make
    for server in made:
        server.close()
    loop.run_once(0)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Switch the cycle collector off: what is freed is freed because nothing refers to it."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def enough_descriptors(wanted: int) -> int:
    """Tell how many connections of two ends this process may have open at once, at most as many as wanted."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(wanted, (soft - 100) // 2)


# Listening ------------------------------------------------------------------------------------------------------------


def test_listen(server: TcpServer, dial: Dial, until: Until) -> None:
    """A server tells where it listens, and accepts there."""
    (address,) = server.listen(LOCAL, 0)
    assert address[0] == LOCAL
    assert server.addresses == [address]
    client = dial(address)
    until(lambda: server.connections)
    (conn,) = server.connections
    assert conn.peer == client.getsockname()
    assert conn.local == address


def test_listen_on_several(server: TcpServer, dial: Dial, until: Until, tmp_path: Path) -> None:
    """One server listens on any number of addresses and paths."""
    path = str(tmp_path / "s")
    server.listen(LOCAL, 0)
    server.listen(LOCAL, 0)
    server.listen_unix(path)
    assert len(server.addresses) == 3
    assert server.addresses[2] == path
    clients = [dial(address) for address in server.addresses]
    until(lambda: len(server.connections) == len(clients))
    assert server.connections[2].local == path


def test_second_server(loop: Loop, server: TcpServer) -> None:
    """Two servers cannot share a port by accident, but can on purpose."""
    host, port = server.listen(LOCAL, 0)[0]
    with TcpServer(loop) as second:
        with pytest.raises(OSError, match=str(port)) as caught:
            second.listen(host, port)
        assert caught.value.errno == errno.EADDRINUSE
        assert second.addresses == []
        shared = server.listen(host, 0, reuse_port=True)[0]
        assert second.listen(*shared, reuse_port=True) == [shared]


def test_listen_on_closed_loop(server: TcpServer, loop: Loop, tmp_path: Path) -> None:
    """When the loop does not want the socket, nothing stays open and no path stays behind."""
    loop.close()
    with pytest.raises(LoopClosedError):
        server.listen(LOCAL, 0)
    with pytest.raises(LoopClosedError):
        server.listen_unix(str(tmp_path / "s"))
    assert server.addresses == []
    assert list(tmp_path.iterdir()) == []


def test_listen_refused_halfway(
    server: TcpServer, refuse: Callable[[OSError, int], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the kernel does not want to watch the socket, nothing stays open and no path stays behind."""
    real = socket.getaddrinfo

    def two_addresses(*_: object, **__: object) -> list[object]:
        return [*real(LOCAL, 0, type=socket.SOCK_STREAM), *real("127.0.0.2", 0, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", two_addresses)
    refuse(OSError(errno.ENOSPC, "no more watches"), 1)
    with pytest.raises(OSError, match="no more watches"):
        server.listen("two.test", 0)
    with pytest.raises(OSError, match="no more watches"):
        server.listen_unix(str(tmp_path / "s"))
    assert server.addresses == []
    assert list(tmp_path.iterdir()) == []


def test_unix(server: TcpServer, dial: Dial, read_all: ReadAll, tmp_path: Path) -> None:
    """A Unix path serves like a port, and is gone when the server is closed."""
    path = tmp_path / "s"
    server.on_data = Connection.send
    server.listen_unix(str(path), 0o600)
    client = dial(str(path))
    client.send(b"hello")
    client.shutdown(socket.SHUT_WR)
    assert read_all(client) == b"hello"
    server.close()
    assert not path.exists()


def test_repr(server: TcpServer, tmp_path: Path, dial: Dial, until: Until) -> None:
    """A server shows where it listens, and how many connections it has."""
    assert repr(server) == "<TcpServer not listening connections=0>"
    (_, port) = server.listen(LOCAL, 0)[0]
    server.listen_unix(str(tmp_path / "s"))
    dial((LOCAL, port))
    until(lambda: server.connections)
    assert repr(server) == f"<TcpServer listening on {LOCAL}:{port}, '{tmp_path}/s' connections=1>"
    server.stop_listening()
    assert repr(server) == "<TcpServer not listening connections=1>"


def test_adopt(server: TcpServer, dial: Dial, read_all: ReadAll) -> None:
    """A socket that listens already, say from a service manager, is served like our own."""
    server.on_data = Connection.send
    server.adopt(socket.create_server((LOCAL, 0)))
    client = dial(server.addresses[0])
    client.send(b"hello")
    client.shutdown(socket.SHUT_WR)
    assert read_all(client) == b"hello"


def test_adopt_what_does_not_listen(server: TcpServer, polls: Callable[[], int], rest: Rest) -> None:
    """A socket that does not listen is refused, instead of keeping the loop busy, and stays the caller's."""
    with socket.socket() as sock:
        with pytest.raises(AddressError):
            server.adopt(sock)
        before = polls()
        rest(0.01)
        assert polls() - before < 5
    assert server.addresses == []


# Accepting ------------------------------------------------------------------------------------------------------------


def test_callbacks(server: TcpServer, dial: Dial, until: Until) -> None:
    """A new connection has the server's callbacks; `on_accept` comes first and may replace them."""
    order: list[str] = []

    def accept(conn: Connection) -> None:
        order.append("accept")
        assert conn.on_data is server.on_data
        assert conn.on_drain is server.on_drain
        conn.on_eof = end

    def end(conn: Connection) -> None:
        order.append("replaced")
        conn.close()

    server.on_accept = accept
    server.on_data = lambda _conn, data: order.append(data.decode())
    server.on_drain = lambda _conn: None
    server.on_eof = lambda _conn: order.append("never")
    server.on_close = lambda _conn, error: order.append(f"close {error}")
    client = dial(server.listen(LOCAL, 0)[0])
    client.send(b"data")
    client.shutdown(socket.SHUT_WR)
    until(lambda: len(order) == 4)
    assert order == ["accept", "data", "replaced", "close None"]
    assert server.connections == []


def test_greeting(server: TcpServer, dial: Dial, until: Until) -> None:
    """What `on_accept` sends goes out without waiting for the client."""
    server.on_accept = lambda conn: conn.send(b"220 hello")
    client = dial(server.listen(LOCAL, 0)[0])
    received = bytearray()

    def greeted() -> bytearray:
        try:
            received.extend(client.recv(100))
        except BlockingIOError:
            pass
        return received

    until(greeted)
    assert received == b"220 hello"


def test_paused_from_the_start(server: TcpServer, dial: Dial, until: Until, rest: Rest) -> None:
    """`on_accept` may pause: the first byte waits until it is wanted."""
    received = bytearray()
    server.on_accept = Connection.pause_reading
    server.on_data = lambda _conn, data: received.extend(data)
    client = dial(server.listen(LOCAL, 0)[0])
    client.send(b"early")
    until(lambda: server.connections)
    rest(0.02)
    assert received == b""
    server.connections[0].resume_reading()
    until(lambda: received)
    assert received == b"early"


def test_accept_quota(server: TcpServer, dial: Dial, loop: Loop, until: Until) -> None:
    """A burst of connections is accepted in turns, so that timers and the connected get theirs."""
    burst = enough_descriptors(200)
    address = server.listen(LOCAL, 0)[0]
    for _ in range(burst):
        dial(address)
    loop.run_once(1)
    assert 0 < len(server.connections) <= 64
    until(lambda: len(server.connections) == burst)


def test_on_accept_that_raises(
    server: TcpServer, dial: Dial, until: Until, errors: list[Exception], read_all: ReadAll
) -> None:
    """A failing `on_accept` is reported and its connection reset; the next client is served."""
    closed: list[Exception | None] = []
    server.on_close = lambda _conn, error: closed.append(error)

    def fail(_conn: Connection) -> NoReturn:
        raise LookupError

    server.on_accept = fail
    address = server.listen(LOCAL, 0)[0]
    first = dial(address)
    until(lambda: closed)
    assert [type(error) for error in errors] == [LookupError]
    assert len(closed) == 1
    errors.clear()
    with pytest.raises(ConnectionResetError):
        first.recv(1)
    server.on_accept = Connection.close_after_drain
    assert read_all(dial(address)) == b""


def test_server_closed_by_on_accept(server: TcpServer, dial: Dial, until: Until) -> None:
    """A server that closes itself while it accepts accepts no more, and closes that connection too."""
    accepted: list[Connection] = []

    def accept(conn: Connection) -> None:
        accepted.append(conn)
        server.close()

    server.on_accept = accept
    listener = FailingListener()
    server.adopt(listener)
    for _ in range(5):
        dial(server.addresses[0])
    until(lambda: accepted and not server.connections)
    assert len(accepted) == 1
    assert accepted[0].closed
    assert listener.accepts == 1


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN])
def test_connection_that_failed_before_accept(number: int, server: TcpServer, dial: Dial, loop: Loop) -> None:
    """A client that is gone before it was accepted does not hold up those behind it."""
    listener = FailingListener()
    listener.failures = [number] * 3
    server.adopt(listener)
    dial(server.addresses[0])
    loop.run_once(1)
    assert len(server.connections) == 1


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EINVAL])
def test_back_off(
    *,
    number: int,
    server: TcpServer,
    dial: Dial,
    until: Until,
    rest: Rest,
    polls: Callable[[], int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where accepting cannot work, the loop takes a break from it instead of spinning, says so once, and goes on."""
    listener = FailingListener()
    listener.failures = [number] * 2
    server.adopt(listener)
    dial(server.addresses[0])
    before = polls()
    rest(0.05)
    assert listener.accepts == 1
    assert polls() - before <= 5
    until(lambda: server.connections)
    assert listener.accepts == 4  # two failures, one connection, and the end of the queue
    complaints(caplog, os.strerror(number))
    listener.failures = [number]
    dial(server.addresses[0])
    until(lambda: len(server.connections) == 2)
    complaints(caplog, os.strerror(number))


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_reserve(
    *,
    number: int,
    server_with: ServerWith,
    dial: Dial,
    until: Until,
    read_all: ReadAll,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A server that would rather refuse tells each peer at once, and says so once."""
    server = server_with(refuse=True)
    listener = FailingListener()
    listener.failures = [number, -1, number, -1]  # the accepts in between are made with the reserve
    server.adopt(listener)
    first, second = dial(server.addresses[0]), dial(server.addresses[0])
    until(lambda: server.refused == 2)
    assert read_all(first) == read_all(second) == b""
    assert server.connections == []
    complaints(caplog, "refusing")
    dial(server.addresses[0])
    until(lambda: server.connections)


def test_one_reserve_for_all(server_with: ServerWith, descriptors: Callable[[], set[str]]) -> None:
    """However many sockets a server listens on, one descriptor is kept for refusing, and given up with the last."""
    server = server_with(refuse=True)

    def null_devices() -> int:
        return sum(each.endswith(os.devnull) for each in descriptors())

    before = null_devices()
    for _ in range(3):
        server.listen(LOCAL, 0)
    assert null_devices() == before + 1
    server.stop_listening()
    assert null_devices() == before


@pytest.mark.parametrize("what", ["peer", "reserve", "null device"])
def test_reserve_that_does_not_help(
    *,
    what: str,
    server_with: ServerWith,
    dial: Dial,
    until: Until,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A peer that has gone meanwhile, or a descriptor that somebody else was faster to take, changes nothing."""
    if what == "null device":
        monkeypatch.setattr(os, "devnull", "/nowhere")
    server = server_with(refuse=True)
    listener = FailingListener()
    listener.failures = [errno.EMFILE, errno.ECONNABORTED if what == "peer" else errno.EMFILE]
    server.adopt(listener)
    dial(server.addresses[0])
    until(lambda: server.connections)
    assert server.refused == 0
    if what == "null device":
        complaints(caplog, "no connection is accepted")


def test_out_of_descriptors(
    *,
    server: TcpServer,
    dial: Dial,
    until: Until,
    rest: Rest,
    polls: Callable[[], int],
    read_all: ReadAll,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With no descriptor left the loop idles and serves those it has; with one again, it accepts."""
    if server.loop.backend not in stand_ins.NATIVE:
        pytest.skip("the stand-in itself needs descriptors to wait")
    server.on_data = Connection.send
    address = server.listen(LOCAL, 0)[0]
    served = dial(address)
    until(lambda: server.connections)
    waiting = dial(address)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (waiting.fileno() + 1, limits[1]))
    spares = []
    try:
        try:
            while True:
                spares.append(os.dup(waiting.fileno()))
        except OSError as error:
            assert error.errno == errno.EMFILE  # noqa: PT017 - dup has no other way to say so
        before = polls()
        rest(0.15)
        assert polls() - before <= 10
        assert len(server.connections) == 1
        served.send(b"still here")
        rest(0.01)
        assert served.recv(100) == b"still here"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for spare in spares:
            os.close(spare)
    until(lambda: len(server.connections) == 2)
    waiting.send(b"now me")
    waiting.shutdown(socket.SHUT_WR)
    assert read_all(waiting) == b"now me"
    complaints(caplog, "Too many open files")


def test_closed_during_back_off(
    server: TcpServer, dial: Dial, rest: Rest, loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    """A listener that is closed while it takes a break stays closed."""
    listener = FailingListener()
    listener.failures = [errno.EMFILE]
    server.adopt(listener)
    dial(server.addresses[0])
    loop.run_once(1)
    server.stop_listening()
    rest(0.12)
    assert listener.accepts == 1
    assert server.connections == []
    complaints(caplog, "Too many open files")


# As many as there may be ----------------------------------------------------------------------------------------------


def test_limit(server_with: ServerWith, dial: Dial, until: Until, rest: Rest, polls: Callable[[], int]) -> None:
    """Those beyond it wait, on every listener, without a spinning loop; each that ends lets in one more."""
    server = server_with(max_connections=2)
    server.on_data = Connection.send
    addresses = [server.listen(LOCAL, 0)[0], server.listen(LOCAL, 0)[0]]
    clients = [dial(addresses[number % 2]) for number in range(6)]
    for number, client in enumerate(clients):
        client.send(b"%d" % number)
    until(lambda: len(server.connections) == 2)
    before = polls()
    rest(0.05)
    assert polls() - before <= 10
    assert len(server.connections) == 2
    answers: set[bytes] = set()
    served: set[socket.socket] = set()
    while len(answers) < 6:

        def another() -> bool:
            for client in clients:
                if client in served:
                    continue
                try:
                    answers.add(client.recv(10))
                except BlockingIOError:
                    continue
                served.add(client)
                client.close()
                return True
            return False

        until(another)
        assert len(server.connections) <= 2
    assert answers == {b"%d" % number for number in range(6)}
    assert server.refused == 0


def test_limit_with_refusing(server_with: ServerWith, dial: Dial, until: Until, read_all: ReadAll) -> None:
    """Those beyond it are closed at once and counted; nothing of them reaches a callback."""
    server = server_with(max_connections=2, refuse=True)
    accepted: list[Connection] = []
    server.on_accept = accepted.append
    address = server.listen(LOCAL, 0)[0]
    first = dial(address)
    dial(address)
    until(lambda: len(server.connections) == 2)
    for _ in range(3):
        assert read_all(dial(address)) == b""
    assert server.refused == 3
    first.close()
    until(lambda: len(server.connections) == 1)
    dial(address)
    until(lambda: len(server.connections) == 2)
    assert len(accepted) == 3


def test_limit_reached_before_listening(server_with: ServerWith, dial: Dial, until: Until, rest: Rest) -> None:
    """A listener that is added to a full server waits like the others, and a full one may stop and start."""
    server = server_with(max_connections=1)
    first = dial(server.listen(LOCAL, 0)[0])
    until(lambda: server.connections)
    waiting = dial(server.listen(LOCAL, 0)[0])
    rest(0.02)
    assert len(server.connections) == 1
    first.close()
    until(lambda: server.connections and server.connections[0].peer == waiting.getsockname())


def test_impossible_limit(server_with: ServerWith, loop: Loop) -> None:
    """A server without room for anybody is a mistake, and so is a time that is none."""
    with pytest.raises(ValueError, match="0"):
        server_with(max_connections=0)
    for seconds in (-1.0, float("nan")):
        with pytest.raises(ValueError, match=str(seconds)):
            TcpServer(loop, handshake_timeout=seconds)


# Sockets of others ----------------------------------------------------------------------------------------------------


def test_inject(server: TcpServer, tcp_pair: Pair, until: Until) -> None:
    """A connection that somebody else has accepted is served like ours."""
    told: list[object] = []
    server.on_accept = told.append
    server.on_data = Connection.send
    here, there = tcp_pair()
    conn = server.inject(here)
    assert told == server.connections == [conn]
    assert conn.peer == there.getsockname()
    there.send(b"echo")
    until(lambda: readable(there))
    assert there.recv(10) == b"echo"
    with socket.socket() as unconnected, pytest.raises(AddressError):
        server.inject(unconnected)
    assert server.connections == [conn]


@pytest.mark.parametrize("room", [None, 70])
def test_what_waits_in_the_backlog_is_accepted_before_the_end(loop: Loop, until: Until, room: int | None) -> None:
    """All of it, as far as there is room; the rest is reset with the listening socket, as ever."""
    with TcpServer(loop, on_data=Connection.send, max_connections=room) as server, ExitStack() as stack:
        ((host, port),) = server.listen("127.0.0.1", 0)
        clients = [stack.enter_context(socket.create_connection((host, port))) for _ in range(100)]
        server.accept_waiting()
        server.stop_listening()
        assert len(server.connections) == (room or 100)
        for client in clients[:room]:
            client.send(b"echo")
            until(lambda client=client: readable(client))  # type: ignore[misc]
            assert client.recv(10) == b"echo"
        for client in clients[room or 100 :]:
            with pytest.raises(ConnectionResetError):
                client.recv(10)


def test_descriptors(server: TcpServer, unix_pair: Pair, until: Until, dial: Dial, read_all: ReadAll) -> None:
    """Sockets may come as numbers; one that is refused stays open, and its giver's."""
    server.on_data = Connection.send
    here, there = unix_pair()
    server.inject(here.detach())
    there.send(b"echo")
    until(lambda: readable(there))
    listener = socket.create_server((LOCAL, 0))
    address = listener.getsockname()
    server.adopt(listener.detach())
    client = dial(address)
    client.send(b"echo")
    client.shutdown(socket.SHUT_WR)
    assert read_all(client) == b"echo"
    reader, writer = os.pipe()
    with socket.socket() as idle:
        for call in (server.adopt, server.inject):
            with pytest.raises(AddressError, match="no socket"):
                call(reader)
            with pytest.raises(AddressError, match=r"listen|connected"):
                call(idle.fileno())
        assert idle.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
    os.close(reader)
    os.close(writer)


def test_abstract_name(server: TcpServer, dial: Dial, read_all: ReadAll) -> None:
    """A name of Linux that is no file can be listened on."""
    name = f"\0nimloop-server-{os.getpid()}"

    def greet(conn: Connection) -> None:
        conn.send(b"hello")
        conn.close_after_drain()

    server.on_accept = greet
    server.listen_unix(name)
    assert server.addresses == [name]
    assert read_all(dial(name)) == b"hello"


# Leaks ----------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("how", [Connection.close, Connection.abort, Connection.close_after_drain])
def test_rejecting_leaks_nothing(
    how: Callable[[Connection], None],
    server: TcpServer,
    until: Until,
    descriptors: Callable[[], set[str]],
) -> None:
    """1000 connections rejected by `on_accept` leave neither descriptors nor objects behind, without the collector."""
    closed: list[Exception | None] = []

    def reject(conn: Connection) -> None:
        conn.linger = 0.1  # the model of IOCP takes a socket that it has never seen open for one that never was
        how(conn)

    server.on_accept = reject
    server.on_close = lambda _conn, error: closed.append(error)
    address = server.listen(LOCAL, 0)[0]
    before = descriptors(), connections_alive()
    for round_number in range(10):
        clients = [socket.create_connection(address) for _ in range(100)]
        for client in clients:
            client.close()
        until(lambda wanted=(round_number + 1) * 100: len(closed) == wanted)  # type: ignore[misc]
    assert (descriptors(), connections_alive()) == before
    assert server.connections == []
    assert len(closed) == 1000


@pytest.mark.usefixtures("no_collector")
def test_10000_connections_leak_nothing(
    server: TcpServer, until: Until, loop: Loop, descriptors: Callable[[], set[str]]
) -> None:
    """10 000 connections that live and end in every way leave neither descriptors nor objects behind."""
    ends = 0

    def closed(_conn: Connection, _error: Exception | None) -> None:
        nonlocal ends
        ends += 1

    def answer(conn: Connection, data: bytes) -> None:
        conn.context = conn  # a careless user
        conn.send(data)
        if data == b"0":
            conn.close()
        elif data == b"1":
            conn.abort()
        elif data == b"2":
            conn.close_after_drain()
        elif data == b"3":
            loop.call_soon(conn.close)
        elif data == b"4":
            conn.send_file(os.open(os.devnull, os.O_RDONLY), 0, 10)

    def release(conn: Connection, error: Exception | None) -> None:
        conn.context = None
        closed(conn, error)

    server.on_data = answer
    server.on_close = release
    address = server.listen(LOCAL, 0)[0]
    before = descriptors(), connections_alive()
    size = 500 if loop.backend in stand_ins.NATIVE else 50
    for round_number in range(20):
        clients = [socket.create_connection(address) for _ in range(size)]
        for number, client in enumerate(clients):
            client.send(b"%d" % (number % 8))
            if number % 3:
                client.close()
        wanted = (round_number + 1) * size
        until(lambda wanted=wanted: len(server.connections) + ends >= wanted)  # type: ignore[misc]
        for client in clients:
            client.close()
        until(lambda wanted=wanted: ends == wanted)  # type: ignore[misc]
    loop.run_once(0)
    assert (descriptors(), connections_alive()) == before
    assert ends == 20 * size
    assert loop.buffers.lent == 1  # the one that all have read into


def test_nobody_sees_the_bytes_of_others(server: TcpServer, dial: Dial, until: Until) -> None:
    """Hundreds of connections at once, all talking, get their own bytes back and no others."""
    server.on_data = Connection.send
    address = server.listen(LOCAL, 0)[0]
    clients = [dial(address) for _ in range(enough_descriptors(1000))]
    until(lambda: len(server.connections) == len(clients))
    expected = [bytearray() for _ in clients]
    received = [bytearray() for _ in clients]
    order = random.Random(1)
    for _ in range(3):
        for number in order.sample(range(len(clients)), len(clients)):
            data = b"<%d>" % number * order.randint(1, 200)
            clients[number].send(data)
            expected[number] += data

    def complete() -> bool:
        for client, data in zip(clients, received, strict=True):
            try:
                data.extend(client.recv(65536))
            except BlockingIOError:
                continue
        return sum(map(len, received)) >= sum(map(len, expected))

    until(complete)
    assert received == expected


# Stopping -------------------------------------------------------------------------------------------------------------


def test_close(server: TcpServer, dial: Dial, until: Until, tmp_path: Path) -> None:
    """`close` leaves no descriptor open, resets every connection, and tells each of them once."""
    closed: list[Exception | None] = []
    server.on_close = lambda _conn, error: closed.append(error)
    address = server.listen(LOCAL, 0)[0]
    server.listen_unix(str(tmp_path / "s"))
    clients = [dial(address) for _ in range(3)]
    until(lambda: len(server.connections) == 3)
    server.close()
    server.close()
    assert server.addresses == []
    assert closed == []
    until(lambda: not server.connections)
    assert closed == [None] * 3
    for client in clients:
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with pytest.raises(ConnectionRefusedError):
        dial(address)


def test_close_after_the_loop(server: TcpServer, loop: Loop, dial: Dial, until: Until, tmp_path: Path) -> None:
    """A server that outlives its loop still closes everything, and its connections still hear of it."""
    closed: list[Exception | None] = []
    done: list[int] = []
    server.on_close = lambda _conn, error: closed.append(error)
    address = server.listen(LOCAL, 0)[0]
    server.listen_unix(str(tmp_path / "s"))
    dial(address)
    dial(address)
    until(lambda: len(server.connections) == 2)
    server.wait_closed(100.0, done.append)
    loop.close()
    server.close()
    assert closed == [None, None]
    assert server.connections == []
    assert done == []


def test_stop_listening(server: TcpServer, dial: Dial, until: Until, read_all: ReadAll) -> None:
    """Without listeners no one new gets in, and those who are in are served on."""
    server.on_data = Connection.send
    address = server.listen(LOCAL, 0)[0]
    client = dial(address)
    until(lambda: server.connections)
    server.stop_listening()
    with pytest.raises(ConnectionRefusedError):
        dial(address)
    client.send(b"hello")
    client.shutdown(socket.SHUT_WR)
    assert read_all(client) == b"hello"


def test_shutdown(server: TcpServer, dial: Dial, until: Until, read_all: ReadAll) -> None:
    """`shutdown` delivers what is queued, and reports when all are gone, after the last `on_close`."""
    order: list[object] = []
    reply = os.urandom(4 << 20)
    server.on_accept = lambda conn: conn.send(reply)
    server.on_close = lambda _conn, error: order.append(error)
    client = dial(server.listen(LOCAL, 0)[0])
    until(lambda: server.connections)
    server.shutdown(10.0, lambda aborted: order.append(f"{aborted} aborted"))
    assert server.addresses == []
    assert read_all(client) == reply
    assert order == []
    client.close()
    until(lambda: len(order) == 2)
    assert order == [None, "0 aborted"]


def test_shutdown_lets_a_connection_say_goodbye(server: TcpServer, dial: Dial, until: Until, read_all: ReadAll) -> None:
    """`on_shutdown` takes the place of the plain end; one that fails ends its connection alone."""
    errors: list[Exception] = []
    server.loop.exception_handler = lambda error, _owner: errors.append(error)
    done: list[int] = []

    def goodbye(conn: Connection) -> None:
        conn.send(b"goodbye")
        conn.close_after_drain(0)

    address = server.listen(LOCAL, 0)[0]
    clients = [dial(address) for _ in range(3)]
    until(lambda: len(server.connections) == 3)
    server.connections[0].on_shutdown = goodbye
    server.connections[1].on_shutdown = lambda _conn: 1 // 0
    server.shutdown(10.0, done.append)
    assert read_all(clients[0]) == b"goodbye"
    with pytest.raises(ConnectionResetError):
        read_all(clients[1])
    assert read_all(clients[2]) == b""
    clients[2].close()
    until(lambda: done)
    assert (done, [type(error) for error in errors]) == ([0], [ZeroDivisionError])


@pytest.mark.parametrize("grace", [-1.0, float("nan")])
def test_shutdown_within_no_time(grace: float, server: TcpServer, dial: Dial, until: Until, loop: Loop) -> None:
    """A grace that is no time is refused before anything ends."""
    address = server.listen(LOCAL, 0)[0]
    server.on_accept = lambda conn: setattr(conn, "on_shutdown", lambda _conn: pytest.fail("too early"))
    dial(address)
    until(lambda: server.connections)
    with pytest.raises(ValueError, match="delay"):
        server.shutdown(grace)
    loop.run_once(0)
    assert server.addresses == [address]
    assert [conn.state for conn in server.connections] == ["open"]


def test_shutdown_with_nobody_there(server: TcpServer, loop: Loop) -> None:
    """With no connection, shutdown is done at once, but not before it returns."""
    done: list[int] = []
    server.shutdown(100.0, done.append)
    assert done == []
    loop.run_once(0)
    assert done == [0]
    server.shutdown(100.0)
    loop.run_once(0)
    server.shutdown(100.0, done.append)
    loop.run_once(0)
    assert done == [0, 0]


def test_shutdown_aborts_what_is_left(server: TcpServer, dial: Dial, until: Until) -> None:
    """What is not gone within the grace is aborted, and counted."""
    done: list[int] = []
    server.on_accept = lambda conn: conn.send(bytes(32 << 20))
    address = server.listen(LOCAL, 0)[0]
    clients = [dial(address) for _ in range(3)]
    until(lambda: len(server.connections) == 3)
    server.connections[0].close()
    server.shutdown(0.03, done.append)
    until(lambda: done)
    assert done == [2]
    assert server.connections == []
    for client in clients[1:]:
        with pytest.raises(ConnectionResetError):
            exhaust(client)


def test_wait_closed(server: TcpServer, dial: Dial, until: Until) -> None:
    """`wait_closed` leaves the connections alone until the grace is over; waiting again moves its end."""
    done: list[int] = []
    address = server.listen(LOCAL, 0)[0]
    first, second = dial(address), dial(address)
    until(lambda: len(server.connections) == 2)
    server.wait_closed(100.0, done.append)
    assert len(server.addresses) == 1
    first.close()
    until(lambda: len(server.connections) == 1)
    assert [conn.state for conn in server.connections] == ["open"]
    assert done == []
    server.wait_closed(0.01)
    until(lambda: done)
    assert done == [1]
    with pytest.raises(ConnectionResetError):
        second.recv(1)


def test_losing_patience(server: TcpServer, dial: Dial, until: Until) -> None:
    """A second shutdown moves the deadline, and both are told, once."""
    done: list[str] = []
    server.on_accept = lambda conn: conn.send(bytes(32 << 20))
    dial(server.listen(LOCAL, 0)[0])
    until(lambda: server.connections)
    server.shutdown(100.0, lambda aborted: done.append(f"first {aborted}"))
    server.shutdown(0.01, lambda aborted: done.append(f"second {aborted}"))
    until(lambda: len(done) == 2)
    assert done == ["first 1", "second 1"]


def test_close_during_shutdown(server: TcpServer, dial: Dial, until: Until) -> None:
    """`close` in the middle of a shutdown ends it, and what it aborts is counted."""
    done: list[int] = []
    address = server.listen(LOCAL, 0)[0]
    dial(address)
    dial(address)
    until(lambda: len(server.connections) == 2)
    server.shutdown(100.0, done.append)
    server.close()
    until(lambda: done)
    assert done == [2]


def test_accepted_while_waiting(server: TcpServer, dial: Dial, until: Until) -> None:
    """Somebody who comes in just when the last one leaves is waited for, too."""
    done: list[int] = []
    address = server.listen(LOCAL, 0)[0]
    dial(address)
    until(lambda: server.connections)
    first = server.connections[0]
    first.on_close = lambda _conn, _error: dial(address)
    server.wait_closed(100.0, done.append)
    first.close()
    until(lambda: server.connections and server.connections[0] is not first)
    assert done == []
    server.connections[0].close()
    until(lambda: done)
    assert done == [0]


def test_on_done_that_raises(server: TcpServer, loop: Loop, errors: list[Exception]) -> None:
    """A failing `on_done` is reported, and the next one called."""
    done: list[int] = []

    def fail(_aborted: int) -> NoReturn:
        raise LookupError

    server.wait_closed(1.0, fail)
    server.wait_closed(1.0, done.append)
    loop.run_once(0)
    assert done == [0]
    assert [type(error) for error in errors] == [LookupError]
    errors.clear()


# Real clients ---------------------------------------------------------------------------------------------------------


def test_asyncio_client(server: TcpServer, loop: Loop) -> None:
    """Asyncio's streams on another thread get a megabyte back."""
    server.on_data = Connection.send
    host, port = server.listen(LOCAL, 0)[0]
    data = os.urandom(1 << 20)
    received: list[bytes] = []

    async def talk() -> None:
        reader, writer = await asyncio.open_connection(host, port)
        sending = asyncio.create_task(writer.drain())
        writer.write(data)
        writer.write_eof()
        received.append(await reader.read())
        await sending
        writer.close()
        await writer.wait_closed()

    def client() -> None:
        try:
            asyncio.run(talk())
        finally:
            loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=client)
    thread.start()
    loop.run()
    thread.join()
    assert received == [data]


def test_threads(server: TcpServer, loop: Loop) -> None:
    """Blocking clients on several threads, request by request, all get their answers."""
    server.on_data = Connection.send
    address = server.listen(LOCAL, 0)[0]
    answers: list[bool] = []

    def client(number: int) -> None:
        with socket.create_connection(address, timeout=10) as sock, sock.makefile("rb") as lines:
            for each in range(100):
                line = b"%d from %d\n" % (each, number)
                sock.sendall(line)
                answers.append(lines.readline() == line)
        if len(answers) == 400:
            loop.stop()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    loop.run()
    for thread in threads:
        thread.join()
    assert answers == [True] * 400


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_curl(family: str, server: TcpServer, until: Until, tmp_path: Path) -> None:
    """Curl gets a page, and a file of some megabytes behind a head, with the connection's end as their end."""
    content = os.urandom(5 << 20)
    page = tmp_path / "page"
    page.write_bytes(content)

    def answer(conn: Connection, data: bytes) -> None:
        assert data.startswith(b"GET / HTTP/1.1\r\n")
        conn.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        conn.send_file(os.open(page, os.O_RDONLY), 0, len(content))
        conn.close_after_drain()

    server.on_data = answer
    if family == "tcp":
        host, port = server.listen(LOCAL, 0)[0]
        arguments = [f"http://{host}:{port}/"]
    else:
        path = str(tmp_path / "s")
        server.listen_unix(path)
        arguments = ["--unix-socket", path, "http://localhost/"]
    output = tmp_path / "output"
    command = ["curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--output", str(output), *arguments]
    with subprocess.Popen(command) as process:
        until(lambda: process.poll() is not None)
        assert process.returncode == 0
    assert output.read_bytes() == content
