"""Clients: every way from a host or a path to a connection, and every way it can fail, be late or be given up."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import pickle
import socket
import ssl
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn, final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.net.certificates import client_context, server_context

from nimloop_core import ERROR, WRITE, Loop
from nimloop_core.testing import FakeBackend, FakeClock
from nimloop_net import (
    AddressError,
    ConnectError,
    Connection,
    Connector,
    ConnectRefusedError,
    ConnectTimeoutError,
    HostNotFoundError,
    NetError,
    TcpServer,
    _attempt,
    _connector,
    connect,
    connect_unix,
)
from nimloop_net._resolve import OnFound

Until = Callable[[Callable[[], object]], None]
Rest = Callable[[float], None]

LOCAL = "127.0.0.1"


@final
class Told:
    """What a connector has told, as a list of words and things."""

    def __init__(self) -> None:
        self.connections: list[Connection] = []
        self.errors: list[Exception] = []
        self.data = b""
        self.closed: list[Exception | None] = []

    def on_connect(self, conn: Connection) -> None:
        """Note it."""
        self.connections.append(conn)

    def on_error(self, error: Exception) -> None:
        """Note it."""
        self.errors.append(error)

    def on_data(self, conn: Connection, data: bytes) -> None:
        """Note it."""
        self.data += data

    def on_close(self, conn: Connection, error: Exception | None) -> None:
        """Note it."""
        self.closed.append(error)

    @property
    def outcomes(self) -> int:
        """How often the connector has told an outcome: never more than once."""
        return len(self.connections) + len(self.errors)

    def connect_securely(
        self, loop: Loop, port: int, *, server_hostname: str = "localhost", timeout: float = 10.0
    ) -> Connector:
        """Speak TLS to a port of this machine, and note everything."""
        return connect(
            loop,
            LOCAL,
            port,
            tls=client_context(),
            server_hostname=server_hostname,
            on_connect=self.on_connect,
            on_data=self.on_data,
            on_close=self.on_close,
            on_error=self.on_error,
            timeout=timeout,
        )


@pytest.fixture
def told() -> Iterator[Told]:
    """Collect what a connector tells; its connections are aborted after the test."""
    told = Told()
    yield told
    for conn in told.connections:
        conn.abort()


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.create_server((LOCAL, 0)) as sock:
        return int(sock.getsockname()[1])


# Over a real network --------------------------------------------------------------------------------------------------


def test_connect(loop: Loop, server: TcpServer, until: Until, told: Told) -> None:
    """A client talks to a server, and hears of the end."""
    server.on_data = lambda conn, data: conn.send(data.upper())
    host, port = server.listen(LOCAL, 0)[0]
    connector = connect(
        loop,
        host,
        port,
        on_connect=told.on_connect,
        on_data=told.on_data,
        on_close=told.on_close,
        on_error=told.on_error,
    )
    assert told.outcomes == 0
    assert repr(connector) == f"<Connector waiting goal='{LOCAL} port {port}'>"
    until(lambda: told.connections)
    assert connector.state == "over"
    (conn,) = told.connections
    assert conn.peer == (host, port)
    conn.send(b"hello")
    until(lambda: told.data == b"HELLO")
    server.connections[0].close_after_drain()
    until(lambda: told.closed)
    assert told.closed == [None]
    assert told.errors == []


def test_send_in_on_connect(loop: Loop, server: TcpServer, until: Until, told: Told) -> None:
    """What is sent from inside on_connect leaves, and callbacks that are set there are heard."""
    server.on_data = lambda conn, data: conn.send(data)
    host, port = server.listen(LOCAL, 0)[0]

    def on_connect(conn: Connection) -> None:
        told.on_connect(conn)
        conn.on_data = told.on_data
        conn.send(b"early")

    connect(loop, host, port, on_connect=on_connect)
    until(lambda: told.data == b"early")


def test_refused(loop: Loop, until: Until, told: Told) -> None:
    """Nobody listens: one error, of the family and of the system's kind."""
    port = free_port()
    connect(loop, LOCAL, port, on_connect=told.on_connect, on_error=told.on_error)
    until(lambda: told.errors)
    (error,) = told.errors
    assert isinstance(error, ConnectRefusedError)
    assert isinstance(error, NetError)
    assert isinstance(error, ConnectionRefusedError)
    assert error.errno == errno.ECONNREFUSED
    assert f"{LOCAL} port {port}" in str(error)
    assert [each.errno for each in error.errors] == [errno.ECONNREFUSED]


def test_without_on_error(loop: Loop, until: Until, told: Told, errors: list[Exception]) -> None:
    """A failure that nobody asked for goes to the loop's exception handler."""
    connect(loop, LOCAL, free_port(), on_connect=told.on_connect)
    until(lambda: errors)
    assert isinstance(errors.pop(), ConnectRefusedError)


def test_unix(loop: Loop, server: TcpServer, until: Until, told: Told, tmp_path: Path) -> None:
    """A path is connected to like an address."""
    path = str(tmp_path / "s")
    server.on_data = lambda conn, data: conn.send(data)
    server.listen_unix(path)
    connect_unix(loop, path, on_connect=told.on_connect, on_data=told.on_data, on_error=told.on_error)
    assert told.outcomes == 0
    until(lambda: told.connections)
    assert told.connections[0].peer == path
    told.connections[0].send(b"x" * 100_000)
    until(lambda: len(told.data) == 100_000)


# TLS ------------------------------------------------------------------------------------------------------------------


def test_tls(loop: Loop, until: Until, told: Told) -> None:
    """A client speaks TLS when asked to; on_connect follows the handshake."""
    with TcpServer(loop, tls=server_context(), on_data=lambda conn, data: conn.send(data)) as server:
        port = server.listen(LOCAL, 0)[0][1]
        told.connect_securely(loop, port)
        until(lambda: told.outcomes)
        assert told.errors == []
        (conn,) = told.connections
        assert conn.tls is not None
        conn.send(b"secret")
        until(lambda: told.data == b"secret")


@pytest.mark.parametrize("host", ["localhost", "localhost.", "LOCALHOST"])
def test_tls_checks_the_host_that_was_asked_for(loop: Loop, until: Until, told: Told, host: str) -> None:
    """Without another name, the certificate has to be for the host, as certificates write it."""
    with TcpServer(loop, tls=server_context()) as server:
        port = server.listen(LOCAL, 0)[0][1]
        names = Names(dict.fromkeys(("localhost", "localhost.", "LOCALHOST"), (LOCAL,)))
        for context in (client_context(), client_context(trusting=False)):
            connect(
                loop,
                host,
                port,
                tls=context,
                on_connect=told.on_connect,
                on_error=told.on_error,
                resolver=names,
            )
        until(lambda: told.outcomes == 2)
    assert len(told.connections) == 1
    assert isinstance(told.errors[0], ssl.SSLCertVerificationError)


def test_tls_to_no_host(loop: Loop, until: Until, told: Told) -> None:
    """What cannot be a host is refused in the same way with TLS."""
    connect(loop, "a..b", 1, tls=client_context(), on_connect=told.on_connect, on_error=told.on_error)
    until(lambda: told.outcomes)
    assert isinstance(told.errors[0], AddressError)


def test_connection_cannot_be_made(loop: Loop, until: Until, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even the very last step may fail, and is an outcome; the socket does not stay."""

    def refuse(*_arguments: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "no more watches")

    monkeypatch.setattr(_connector, "Connection", refuse)
    with socket.create_server((LOCAL, 0)) as listener:
        port = listener.getsockname()[1]
        connect(loop, LOCAL, port, on_connect=told.on_connect, on_error=told.on_error)
        until(lambda: told.outcomes)
    assert isinstance(told.errors[0], ConnectError)
    assert told.errors[0].errno == errno.ENOSPC


def test_tls_of_another_host(loop: Loop, until: Until, told: Told) -> None:
    """A certificate for another name is an error of the connector, not the end of a connection."""
    with TcpServer(loop, tls=server_context()) as server:
        port = server.listen(LOCAL, 0)[0][1]
        told.connect_securely(loop, port, server_hostname="example.org")
        until(lambda: told.errors)
        loop.run_once(0)
    assert isinstance(told.errors[0], ssl.SSLCertVerificationError)
    assert told.outcomes == 1
    assert told.closed == []


def test_tls_to_plain_text(loop: Loop, server: TcpServer, until: Until, told: Told) -> None:
    """A server that does not speak TLS is an error with TLS' own words."""
    server.on_accept = lambda conn: conn.send(b"220 welcome, in plain text\r\n" * 10)
    port = server.listen(LOCAL, 0)[0][1]
    told.connect_securely(loop, port)
    until(lambda: told.outcomes)
    assert isinstance(told.errors[0], ssl.SSLError)


def test_tls_server_hangs_up(loop: Loop, server: TcpServer, until: Until, told: Told) -> None:
    """A server that closes in the middle of the handshake is an error, not the end of a connection."""
    server.on_accept = Connection.close
    port = server.listen(LOCAL, 0)[0][1]
    told.connect_securely(loop, port)
    until(lambda: told.outcomes)
    assert isinstance(told.errors[0], ConnectionError)
    assert told.closed == []


def test_tls_server_says_nothing(loop: Loop, server: TcpServer, until: Until, told: Told) -> None:
    """The handshake is part of what the time-out bounds."""
    port = server.listen(LOCAL, 0)[0][1]
    connector = told.connect_securely(loop, port, timeout=0.2)
    until(lambda: connector.state == "securing")
    until(lambda: told.outcomes)
    assert isinstance(told.errors[0], ConnectTimeoutError)
    assert "TLS" in str(told.errors[0])
    until(lambda: not server.connections)


def test_tls_over_unix(loop: Loop, until: Until, told: Told, tmp_path: Path) -> None:
    """A path has no name of its own that a certificate could be for."""
    path = str(tmp_path / "s")
    with pytest.raises(ValueError, match="server_hostname"):
        connect_unix(loop, path, tls=client_context(), on_connect=told.on_connect)
    with TcpServer(loop, tls=server_context()) as server:
        server.listen_unix(path)
        connect_unix(
            loop,
            path,
            tls=client_context(),
            server_hostname="localhost",
            on_connect=told.on_connect,
            on_error=told.on_error,
        )
        until(lambda: told.connections)


def test_tls_with_a_context_for_servers(loop: Loop, server: TcpServer, until: Until, told: Told) -> None:
    """What cannot work is an outcome as well."""
    port = server.listen(LOCAL, 0)[0][1]
    connect(loop, LOCAL, port, tls=server_context(), on_connect=told.on_connect, on_error=told.on_error)
    until(lambda: told.outcomes)
    assert len(told.errors) == 1


def test_misuse(loop: Loop, told: Told) -> None:
    """Settings that cannot work, whatever the network does, raise at once."""
    for setting in (
        {"server_hostname": "x"},
        {"attempt_delay": 0.001},
        {"attempt_delay": float("nan")},
        {"timeout": -1.0},
        {"first_family_count": 0},
        {"local_address": ("localhost", 0)},
        {"local_address": (LOCAL, 70000)},
    ):
        with pytest.raises((ValueError, AddressError)):
            connect(loop, LOCAL, 1, on_connect=told.on_connect, **setting)
    with pytest.raises(TypeError):
        connect(loop, LOCAL, 1, on_connect=None)  # type: ignore[arg-type]
    for path in ("", "a\0b"):
        with pytest.raises(AddressError):
            connect_unix(loop, path, on_connect=told.on_connect)
    assert loop.stats.timers == 0


def test_failing_on_connect(loop: Loop, server: TcpServer, until: Until, told: Told, errors: list[Exception]) -> None:
    """A callback that raises is reported, and the connection ends with that; on_error is not for it."""

    def on_connect(conn: Connection) -> None:
        raise ValueError("mine")

    host, port = server.listen(LOCAL, 0)[0]
    connect(loop, host, port, on_connect=on_connect, on_close=told.on_close, on_error=told.on_error)
    until(lambda: told.closed)
    assert isinstance(told.closed[0], ValueError)
    assert isinstance(errors.pop(), ValueError)
    assert told.errors == []


def test_close_inside_on_connect(loop: Loop, server: TcpServer, until: Until, told: Told) -> None:
    """It may close what it has just got."""
    host, port = server.listen(LOCAL, 0)[0]
    connect(loop, host, port, on_connect=Connection.close, on_close=told.on_close, on_error=told.on_error)
    until(lambda: told.closed)
    assert told.closed == [None]


def test_local_address(loop: Loop, server: TcpServer, until: Until, told: Told) -> None:
    """A client can choose where it comes from."""
    port = server.listen("0.0.0.0", 0)[0][1]
    connect(loop, LOCAL, port, local_address=("127.0.0.9", 0), on_connect=told.on_connect, on_error=told.on_error)
    until(lambda: told.connections)
    local = told.connections[0].local
    assert local[0] == "127.0.0.9"
    until(lambda: server.connections)
    assert server.connections[0].peer == local
    taken = (str(local[0]), int(local[1]))
    connect(loop, LOCAL, port, local_address=taken, on_connect=told.on_connect, on_error=told.on_error)
    until(lambda: told.errors)
    assert told.errors[0].errno in {errno.EADDRINUSE, errno.EADDRNOTAVAIL}  # type: ignore[attr-defined]


def test_local_address_of_another_family(loop: Loop, until: Until, told: Told) -> None:
    """No address of the host can be reached from there."""
    connect(loop, LOCAL, 1, local_address=("::1", 0), on_connect=told.on_connect, on_error=told.on_error)
    until(lambda: told.errors)
    assert isinstance(told.errors[0], AddressError)


@pytest.mark.parametrize(
    ("host", "port", "kind"),
    [
        ("", 80, AddressError),
        ("a..b", 80, AddressError),
        ("x" * 64, 80, AddressError),
        ("[::1]", 80, AddressError),
        ("fe80::1%nowhere", 80, AddressError),
        ("localhost", 65536, AddressError),
        ("localhost", -1, AddressError),
        ("no-such-host.invalid", 80, HostNotFoundError),
        ("stra\u00dfe.example", 80, AddressError),
    ],
)
def test_what_cannot_be_reached(  # noqa: PLR0917 - three are fixtures
    loop: Loop, until: Until, told: Told, host: str, port: int, kind: type[NetError]
) -> None:
    """Bad hosts and ports, which may come from anywhere, are outcomes, not exceptions of the call."""
    connect(loop, host, port, on_connect=told.on_connect, on_error=told.on_error, resolver=Names({}))
    assert told.outcomes == 0
    until(lambda: told.outcomes)
    assert isinstance(told.errors[0], kind)
    assert isinstance(told.errors[0], OSError)


def test_scope_of_ipv6(loop: Loop, until: Until, told: Told) -> None:
    """A link-local address needs its zone, by name or number, and gets it."""
    found = [each for each in Path("/proc/net/if_inet6").read_text().split("\n") if each.startswith("fe80")]
    if not found:
        pytest.skip("no link-local address")
    digits, index, *_, name = found[0].split()
    host = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))
    with TcpServer(loop) as server:
        port = server.listen("::", 0)[0][1]
        for zone in (name, str(int(index, 16))):
            connect(loop, f"{host}%{zone}", port, on_connect=told.on_connect, on_error=told.on_error)
        until(lambda: told.outcomes == 2)
        assert told.errors == []
        assert told.connections[0].peer == (host, port)


def test_unix_refused(loop: Loop, until: Until, told: Told, tmp_path: Path) -> None:
    """No server, no path, no socket, too long a path: each says so."""
    dead = tmp_path / "dead"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(dead))
    plain = tmp_path / "file"
    plain.write_text("")
    for path in (dead, plain, tmp_path / "nothing", tmp_path / ("x" * 200)):
        connect_unix(loop, str(path), on_connect=told.on_connect, on_error=told.on_error)
    until(lambda: told.outcomes == 4)
    assert all(isinstance(error, ConnectError) for error in told.errors)
    assert isinstance(told.errors[0], ConnectionRefusedError)
    assert all("dead" in str(error) or "file" in str(error) or "/" in str(error) for error in told.errors)


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux'")
def test_abstract_name(loop: Loop, until: Until, told: Told) -> None:
    """A name that begins with a NUL is no path."""
    name = f"\0nimloop-test-{os.getpid()}-{id(told)}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        listener.listen()
        connect_unix(loop, name, on_connect=told.on_connect, on_error=told.on_error)
        until(lambda: told.connections)
        assert told.connections[0].peer == name


@pytest.mark.skipif(sys.platform != "linux", reason="others refuse at once")
def test_unix_with_a_full_queue(loop: Loop, until: Until, rest: Rest, told: Told, tmp_path: Path) -> None:
    """While the server's queue is full, the client tries again, and gets through in the end."""
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(path)
            patient = connect_unix(loop, path, on_connect=told.on_connect, on_error=told.on_error)
            hasty = connect_unix(loop, path, on_connect=told.on_connect, on_error=told.on_error, timeout=0.05)
            until(lambda: told.errors)
            assert isinstance(told.errors[0], ConnectTimeoutError)
            assert hasty.state == "over"
            assert patient.state == "connecting"
            listener.accept()[0].close()
            until(lambda: told.connections)


def test_unix_server_that_ends_with_a_full_queue(
    loop: Loop, until: Until, rest: Rest, told: Told, tmp_path: Path
) -> None:
    """Whoever waits for a place in the queue hears that there is none any more."""
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(path)
        listener.listen(0)
        first.connect(path)
        connect_unix(loop, path, on_connect=told.on_connect, on_error=told.on_error)
        rest(0.03)
        assert told.outcomes == 0
    until(lambda: told.errors)
    assert isinstance(told.errors[0], ConnectRefusedError)
    assert path in str(told.errors[0])


def test_unix_given_up_at_once(loop: Loop, told: Told, tmp_path: Path) -> None:
    """A path needs no look-up: it is given up before the first attempt."""
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.setblocking(False)
        connect_unix(loop, path, on_connect=told.on_connect, on_error=told.on_error).cancel()
        loop.run_once(0)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert told.outcomes == 0


def test_system_without_unix_sockets(loop: Loop, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Python has none, that is said at once."""
    monkeypatch.delattr(socket, "AF_UNIX")
    with pytest.raises(AddressError, match="no Unix sockets"):
        connect_unix(loop, "/run/x", on_connect=told.on_connect)


def test_not_to_itself(loop: Loop, until: Until, told: Told) -> None:
    """A connection of a port to itself, which TCP allows, is none."""
    port = free_port()
    connect(loop, LOCAL, port, local_address=(LOCAL, port), on_connect=told.on_connect, on_error=told.on_error)
    until(lambda: told.outcomes)
    assert isinstance(told.errors[0], ConnectRefusedError)


def test_many_at_once(loop: Loop, server: TcpServer, until: Until, told: Told) -> None:
    """Hundreds of clients share one look-up, and each gets its connection; nothing stays when they are gone."""
    server.on_data = lambda conn, data: conn.send(data)
    port = server.listen(LOCAL, 0)[0][1]
    before = loop.stats
    for _ in range(200):
        connect(loop, "localhost", port, on_connect=told.on_connect, on_error=told.on_error, on_close=told.on_close)
    until(lambda: told.outcomes == 200)
    assert told.errors == []
    for conn in told.connections:
        conn.close()
    until(lambda: len(told.closed) == 200 and not server.connections)
    assert loop.stats.watchers == before.watchers
    assert loop.stats.timers == before.timers


def alive(*kinds: type) -> int:
    """Count the objects of these kinds."""
    return sum(type(each) in kinds for each in gc.get_objects())


def test_nothing_stays(loop: Loop, server: TcpServer, until: Until) -> None:
    """After a thousand clients of every fate, no object is left, and the collector was not needed for that."""
    host, port = server.listen(LOCAL, 0)[0]
    dead = free_port()
    over = 0

    def count(*_: object) -> None:
        nonlocal over
        over += 1

    def on_connect(conn: Connection) -> None:
        conn.on_close = count
        conn.close()

    gc.collect()
    gc.disable()
    try:
        before = alive(Connector, Connection)
        for turn in range(1, 11):
            for _ in range(25):
                connect(loop, host, port, on_connect=on_connect, on_error=count)
                connect(loop, host, dead, on_connect=on_connect, on_error=count)
                connect(loop, "localhost", dead, on_connect=on_connect, on_error=count)
                connect(loop, "localhost", port, on_connect=on_connect, on_error=count).cancel()
            until(lambda: over == turn * 75)  # noqa: B023 - called at once
        until(lambda: not server.connections)
        loop.run_once(0)
        loop.run_once(0)
        assert alive(Connector, Connection) == before
    finally:
        gc.enable()


class Upper(asyncio.Protocol):
    """A peer on the standard library's loop: answers in capitals and, at the end, ends."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer."""
        self.transport.write(data.upper())


@pytest.mark.parametrize("tls", [False, True])
def test_server_of_asyncio(loop: Loop, until: Until, told: Told, tls: bool) -> None:  # noqa: FBT001
    """A megabyte there and back, with the end of each side told to the other."""
    ready = threading.Event()
    where: list[int] = []

    async def serve() -> None:
        context = server_context() if tls else None
        server = await asyncio.get_running_loop().create_server(Upper, LOCAL, 0, ssl=context)
        where.append(server.sockets[0].getsockname()[1])
        ready.set()
        async with server:
            while where:  # noqa: ASYNC110 - told by another thread
                await asyncio.sleep(0.005)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(20)
        connect(
            loop,
            LOCAL,
            where[0],
            tls=client_context() if tls else None,
            server_hostname="localhost" if tls else None,
            on_connect=told.on_connect,
            on_data=told.on_data,
            on_error=told.on_error,
            on_close=told.on_close,
        )
        until(lambda: told.outcomes)
        (conn,) = told.connections
        conn.send(b"abcdefgh" * 131_072)
        until(lambda: len(told.data) == 1 << 20)
        assert told.data == b"ABCDEFGH" * 131_072
        conn.shutdown()
        until(lambda: told.closed)
        assert told.closed == [None]
    finally:
        where.clear()
        thread.join(20)


# On virtual time ------------------------------------------------------------------------------------------------------


@final
class Held:
    """A share in a look-up that is answered when the test says so."""

    def __init__(self, on_found: OnFound) -> None:
        self.on_found: OnFound | None = on_found

    def cancel(self) -> None:
        """Note it."""
        self.on_found = None


@final
class Names:
    """Answers look-ups from a table, or holds them."""

    def __init__(self, table: dict[str, tuple[str, ...]]) -> None:
        self.table = table
        self.held: list[Held] = []

    def look_up(self, loop: Loop, host: str, on_found: OnFound) -> Held:
        """Answer from the loop; a name that is not in the table does not exist, unless it is one to hold."""
        share = Held(on_found)
        if host == "held.example":
            self.held.append(share)
        else:
            loop.call_soon(lambda: self.answer(share, self.table.get(host, ())))
        return share

    def answer(self, share: Held, found: tuple[str, ...]) -> None:
        """Answer now."""
        if share.on_found is not None:
            share.on_found(found, None if found else HostNotFoundError(socket.EAI_NONAME, "no such host"))


@final
class Virtual:
    """A loop on virtual time over real sockets, which connect by themselves but are heard of when the test says so."""

    def __init__(self, names: dict[str, tuple[str, ...]]) -> None:
        self.clock = FakeClock(5.0)
        self.backend = FakeBackend(self.clock, edge=False)
        self.loop = Loop(self.backend, clock=self.clock)
        self.names = Names(names)
        self.told = Told()
        self.connectors: list[Connector] = []
        self.start = self.loop.time()

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return round(self.loop.time() - self.start, 3)

    @property
    def fds(self) -> list[int]:
        """The sockets under way, the oldest first."""
        return list(self.backend.interest)

    def connect(
        self,
        host: str,
        port: int,
        *,
        timeout: float = 10.0,
        attempt_timeout: float | None = None,
        attempt_delay: float = 0.25,
        first_family_count: int = 1,
        local_address: tuple[str, int] | None = None,
    ) -> Connector:
        """Connect, with everything that the connector tells going to `told`."""
        connector = connect(
            self.loop,
            host,
            port,
            on_connect=self.told.on_connect,
            on_error=self.told.on_error,
            on_close=self.told.on_close,
            resolver=self.names,
            timeout=timeout,
            attempt_timeout=attempt_timeout,
            attempt_delay=attempt_delay,
            first_family_count=first_family_count,
            local_address=local_address,
        )
        self.connectors.append(connector)
        return connector

    def turn(self) -> None:
        """Let the loop do what it can without waiting."""
        self.loop.run_once(0)
        self.loop.run_once(0)

    def wait(self) -> float:
        """Let the time pass until there is one socket more or less; tell when that was."""
        before = self.fds
        while self.fds == before:
            self.loop.run_once()
        return self.now


@pytest.fixture
def listening() -> Iterator[int]:
    """Return a port on which somebody listens at 127.0.0.1 and ::1, and nobody at 127.0.0.2."""
    with socket.create_server((LOCAL, 0)) as four:
        port = int(four.getsockname()[1])
        with socket.create_server(("::1", port), family=socket.AF_INET6):
            yield port


@pytest.fixture
def virtual() -> Iterator[Virtual]:
    """Run on virtual time; connections that came about are aborted after the test, and no socket stays."""
    gc.collect()
    names = {
        "both.example": ("::1", "127.0.0.1"),
        "many.example": ("::1", "::1%1", "::1%2", "127.0.0.1", "127.0.0.2", "127.0.0.3"),
        "dead.example": ("127.0.0.2", "127.0.0.3", "127.0.0.4"),
        "last.example": ("127.0.0.2", "127.0.0.3", "127.0.0.1"),
    }
    virtual = Virtual(names)
    with virtual.loop:
        yield virtual
        for connector in virtual.connectors:
            connector.cancel()
        for conn in virtual.told.connections:
            conn.abort()
    assert virtual.fds == []


def address_of(fd: int) -> str:
    """Return the host that a socket is on its way to."""
    with socket.socket(fileno=os.dup(fd)) as sock:
        return str(sock.getpeername()[0])


def test_staggered(virtual: Virtual, listening: int) -> None:
    """While there is no answer, the next address is tried every 250 ms, the families in turn (RFC 8305 §5, §8)."""
    virtual.connect("many.example", listening)
    virtual.turn()
    assert len(virtual.fds) == 1
    times = [virtual.now]
    for count in range(2, 4):
        times.append(virtual.wait())
        assert len(virtual.fds) == count
    assert times == [0.0, 0.25, 0.5]
    assert [address_of(fd) for fd in virtual.fds] == ["::1", "127.0.0.1", "::1"]


def test_first_answer_wins(virtual: Virtual, listening: int) -> None:
    """The second answers first: it stays, the first is closed, and there is one outcome."""
    virtual.connect("both.example", listening)
    virtual.turn()
    virtual.wait()
    first, second = virtual.fds
    virtual.backend.put(second, WRITE)
    virtual.backend.put(first, WRITE)  # in the same batch, and too late
    virtual.turn()
    (conn,) = virtual.told.connections
    assert conn.peer == (LOCAL, listening)
    assert virtual.told.outcomes == 1
    assert virtual.fds == [second]
    assert virtual.loop.stats.timers == 0


def test_failure_starts_the_next(virtual: Virtual, listening: int) -> None:
    """A refusal is not waited out."""
    virtual.connect("last.example", listening)
    for _ in range(3):
        virtual.turn()
        (fd,) = virtual.fds
        virtual.backend.put(fd, WRITE | ERROR)
    virtual.turn()
    assert virtual.now == 0.0
    assert virtual.told.connections[0].peer == (LOCAL, listening)


def test_all_refuse(virtual: Virtual, listening: int) -> None:
    """The error tells of every address."""
    virtual.connect("dead.example", listening)
    for _ in range(3):
        virtual.turn()
        virtual.backend.put(virtual.fds[0], WRITE | ERROR)
    virtual.turn()
    (error,) = virtual.told.errors
    assert isinstance(error, ConnectRefusedError)
    assert [each.errno for each in error.errors] == [errno.ECONNREFUSED] * 3
    for address in ("127.0.0.2", "127.0.0.3", "127.0.0.4", "dead.example"):
        assert address in str(error)
    assert virtual.loop.stats.timers == 0


def test_different_failures(virtual: Virtual, listening: int) -> None:
    """One is refused, one does not answer: an error of the general kind."""
    virtual.connect("both.example", free_port(), attempt_timeout=1.0)
    virtual.turn()
    virtual.backend.put(virtual.fds[0], WRITE | ERROR)
    virtual.turn()
    virtual.wait()
    assert virtual.now == 1.0
    (error,) = virtual.told.errors
    assert type(error) is ConnectError
    assert [each.errno for each in error.errors] == [errno.ECONNREFUSED, errno.ETIMEDOUT]


def test_attempts_have_a_time_out(virtual: Virtual, listening: int) -> None:
    """Each address has its own; when all are over, that is the outcome."""
    virtual.connect("both.example", listening, attempt_timeout=1.0, timeout=60.0)
    virtual.turn()
    assert virtual.wait() == 0.25
    assert virtual.wait() == 1.0
    assert len(virtual.fds) == 1
    assert virtual.wait() == 1.25
    (error,) = virtual.told.errors
    assert isinstance(error, ConnectTimeoutError)
    assert isinstance(error, TimeoutError)
    assert len(error.errors) == 2


def test_everything_has_a_time_out(virtual: Virtual, listening: int) -> None:
    """Whatever else happens, the outcome comes in time, and nothing stays open."""
    virtual.connect("both.example", listening, timeout=3.0)
    virtual.turn()
    while not virtual.told.outcomes:
        virtual.wait()
    assert virtual.now == 3.0
    (error,) = virtual.told.errors
    assert isinstance(error, ConnectTimeoutError)
    assert "3.0 seconds" in str(error)
    assert virtual.fds == []
    assert virtual.loop.stats.timers == 0


def test_time_out_of_the_look_up(virtual: Virtual, listening: int) -> None:
    """A name that is looked up for ever: the error says so, and the share is given back."""
    connector = virtual.connect("held.example", listening, timeout=3.0)
    virtual.turn()
    assert connector.state == "resolving"
    virtual.clock.advance(2.9)
    virtual.turn()
    assert virtual.told.outcomes == 0
    virtual.clock.advance(0.2)
    virtual.turn()
    (error,) = virtual.told.errors
    assert isinstance(error, ConnectTimeoutError)
    assert "looked up" in str(error)
    assert virtual.names.held[0].on_found is None


def test_no_time_at_all(virtual: Virtual, listening: int) -> None:
    """A time-out of 0 is one at once, but not from inside the call."""
    virtual.connect("both.example", listening, timeout=0.0)
    assert virtual.told.outcomes == 0
    virtual.turn()
    assert isinstance(virtual.told.errors[0], ConnectTimeoutError)


@pytest.mark.parametrize("stage", ["waiting", "resolving", "connecting", "two", "over"])
def test_cancel(virtual: Virtual, listening: int, stage: str) -> None:
    """Given up at any stage, nobody is called, and nothing stays open or armed."""
    connector = virtual.connect("held.example" if stage == "resolving" else "both.example", listening)
    if stage != "waiting":
        virtual.turn()
    if stage == "two":
        virtual.wait()
        assert len(virtual.fds) == 2
    if stage == "over":
        virtual.backend.put(virtual.fds[0], WRITE)
        virtual.turn()
    assert connector.state == {"two": "connecting"}.get(stage, stage)
    connector.cancel()
    connector.cancel()
    assert connector.state == "over"
    virtual.turn()
    if stage == "over":  # the connection is the user's by now
        assert not virtual.told.connections[0].closed
        assert virtual.told.errors == []
    else:
        assert virtual.told.outcomes == 0
        assert virtual.fds == []
    assert virtual.loop.stats.timers == 0


@pytest.mark.parametrize("found", [(), ("a.name",), ("::1%nowhere",), ("[::1]",)])
def test_strange_answers(virtual: Virtual, found: tuple[str, ...]) -> None:
    """A source of names that answers with anything but addresses does not leave the caller without an outcome."""
    virtual.connect("held.example", 80)
    virtual.turn()
    (share,) = virtual.names.held
    assert share.on_found is not None
    share.on_found(found, None)
    assert virtual.told.outcomes == 1
    assert isinstance(virtual.told.errors[0], (HostNotFoundError, AddressError))


def test_cancel_in_the_handshake(loop: Loop, server: TcpServer, until: Until, rest: Rest, told: Told) -> None:
    """Given up while TLS shakes hands, the connection is gone, and nobody is called."""
    port = server.listen(LOCAL, 0)[0][1]
    connector = connect(
        loop,
        LOCAL,
        port,
        tls=client_context(),
        server_hostname="localhost",
        on_connect=told.on_connect,
        on_error=told.on_error,
        on_close=told.on_close,
    )
    until(lambda: connector.state == "securing" and server.connections)
    connector.cancel()
    until(lambda: not server.connections)
    assert told.outcomes == 0
    assert told.closed == []


def test_cancel_inside_on_error(virtual: Virtual, listening: int) -> None:
    """It is over then."""
    connectors: list[Connector] = []

    def on_error(error: Exception) -> None:
        virtual.told.on_error(error)
        connectors[0].cancel()

    connectors.append(
        connect(
            virtual.loop,
            "nothing.example",
            listening,
            on_connect=virtual.told.on_connect,
            on_error=on_error,
            resolver=virtual.names,
        )
    )
    virtual.turn()
    virtual.turn()
    assert virtual.told.outcomes == 1


def test_local_address_chooses_the_family(virtual: Virtual, listening: int) -> None:
    """Only addresses that can be reached from there are tried."""
    virtual.connect("both.example", listening, local_address=(LOCAL, 0))
    virtual.turn()
    assert [address_of(fd) for fd in virtual.fds] == [LOCAL]


def test_first_family_count(virtual: Virtual, listening: int) -> None:
    """The preferred family can be given a greater lead."""
    virtual.connect("many.example", listening, first_family_count=2)
    virtual.turn()
    virtual.wait()
    virtual.wait()
    assert [address_of(fd) for fd in virtual.fds] == ["::1", "::1", LOCAL]


def test_loop_closes(listening: int) -> None:
    """With a loop that closes goes what was under way; a socket is missed like any other that nobody has closed."""
    virtual = Virtual({"both.example": ("::1", "127.0.0.1")})
    connector = virtual.connect("both.example", listening)
    virtual.turn()
    connector.cancel()
    virtual.loop.close()
    assert virtual.told.outcomes == 0


# Faults ---------------------------------------------------------------------------------------------------------------

ERRNOS = [
    errno.EMFILE,
    errno.ENOBUFS,
    errno.EACCES,
    errno.EADDRNOTAVAIL,
    errno.EAGAIN,
    errno.ECONNREFUSED,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.ETIMEDOUT,
    errno.ECONNRESET,
]
FAULTS = ["socket", "setsockopt", "connect", "later", "peer"]
Fate = tuple[str, int]
fates = st.one_of(
    st.tuples(st.sampled_from(FAULTS), st.sampled_from(ERRNOS)),
    st.sampled_from([("hang", 0), ("self", 0), ("now", 0), ("soon", 0), ("interrupted", 0)]),
)


@final
class FatedSocket(socket.socket):
    """A socket whose way is decided beforehand."""

    fate: Fate = ("hang", 0)
    left: bool = True

    def _fail(self, call: str) -> None:
        if self.fate[0] == call:
            raise OSError(self.fate[1], os.strerror(self.fate[1]))

    def setsockopt(self, level: int, option: int, value: int | bytes | None, size: int = 0) -> None:  # type: ignore[override]
        """Fail, or do nothing."""
        self._fail("setsockopt")

    def connect_ex(self, address: object) -> int:
        """Fail, succeed, or be under way."""
        kind, number = self.fate
        return {"connect": number, "now": 0, "interrupted": errno.EINTR}.get(kind, errno.EINPROGRESS)

    def getsockopt(self, level: int, option: int, size: int = 0) -> int:  # type: ignore[override]
        """Tell what became of it."""
        return self.fate[1] if self.fate[0] == "later" else 0

    def getpeername(self) -> object:
        """Fail, or be somewhere else than getsockname, or not."""
        self._fail("peer")
        return ("192.0.2.1", 1)

    def getsockname(self) -> object:
        """See above."""
        return ("192.0.2.1", 1) if self.fate[0] == "self" else ("192.0.2.2", 2)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(way=st.lists(fates, min_size=1, max_size=6), give_up=st.integers(0, 20))
def test_faults(way: list[Fate], give_up: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the calls answer, there is exactly one outcome, every failure is in it, and no socket is left open."""
    made: list[FatedSocket] = []
    fates_left = list(way)

    def make(family: int, kind: int) -> socket.socket:
        fate = fates_left.pop(0)
        if fate[0] == "socket":
            raise OSError(fate[1], os.strerror(fate[1]))
        sock = FatedSocket(family, kind)
        sock.fate = fate
        made.append(sock)
        return sock

    standin = types.SimpleNamespace(**{**vars(socket), "socket": make})
    host = "fated.example"
    virtual = Virtual({host: tuple(f"192.0.2.{number}" for number in range(len(way)))})
    with monkeypatch.context() as patch, virtual.loop:
        patch.setattr(_attempt, "socket", standin)
        connector = virtual.connect(host, 80, timeout=5.0)
        turns = 0
        while not virtual.told.outcomes and turns != give_up:
            turns += 1
            for sock in made:
                if sock.fileno() >= 0 and sock.fate[0] not in {"hang", "now"}:
                    virtual.backend.put(sock.fileno(), WRITE)
            virtual.loop.run_once(0)
            virtual.clock.advance(0.05)
        given_up = not virtual.told.outcomes
        connector.cancel()
        open_sockets = [sock for sock in made if sock.fileno() >= 0]
        told = virtual.told
        assert told.outcomes == (0 if given_up else 1)
        assert len(open_sockets) == len(told.connections)
        for conn in told.connections:
            assert open_sockets[0].fate[0] in {"now", "soon", "interrupted"}
            conn.abort()
        for error in told.errors:
            assert isinstance(error, ConnectError)
            if not any(fate[0] == "hang" for fate in way):
                assert len(error.errors) == len(way)
            else:
                assert isinstance(error, ConnectTimeoutError)
        virtual.turn()
        assert virtual.fds == []
        assert virtual.loop.stats.timers == 0


@pytest.mark.parametrize("willing", [0, 1])
def test_kernel_watches_no_more(
    loop: Loop, until: Until, told: Told, refuse: Callable[[OSError, int], None], willing: int
) -> None:
    """A loop that cannot watch one more socket is an outcome, too, whichever registration it refuses."""
    refuse(OSError(errno.ENOSPC, "no more watches"), willing)
    with socket.create_server((LOCAL, 0)) as listener:
        port = listener.getsockname()[1]
        connect(loop, LOCAL, port, on_connect=told.on_connect, on_error=told.on_error, on_close=told.on_close)
        until(lambda: told.errors or told.closed)
        loop.run_once(0)
    assert told.outcomes == 1
    assert "no more watches" in str((told.errors or told.closed)[0])


def test_errors_survive_pickling() -> None:
    """They may cross to another process."""
    error = ConnectRefusedError(errno.ECONNREFUSED, "cannot connect", [OSError(errno.ECONNREFUSED, "refused")])
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is ConnectRefusedError
    assert (again.errno, str(again)) == (error.errno, str(error))
    assert [each.errno for each in again.errors] == [errno.ECONNREFUSED]
