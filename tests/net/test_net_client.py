"""Clients: every way from a host or a path to a connection, and every way it can fail, be late or be given up."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import final

import pytest
from tests.net.certificates import client_context, server_context

from nimloop_core import Loop
from nimloop_net import (
    Connection,
    ConnectRefusedError,
    NetError,
    TcpServer,
    connect,
    connect_unix,
)

Until = Callable[[Callable[[], object]], None]
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
    assert connector.stage == "waiting"
    until(lambda: told.connections)
    assert connector.stage == "over"
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
        connect(
            loop,
            LOCAL,
            port,
            tls=client_context(),
            server_hostname="localhost",
            on_connect=told.on_connect,
            on_data=told.on_data,
            on_error=told.on_error,
        )
        until(lambda: told.outcomes)
        assert told.errors == []
        (conn,) = told.connections
        assert conn.tls is not None
        conn.send(b"secret")
        until(lambda: told.data == b"secret")


def test_tls_of_another_host(loop: Loop, until: Until, told: Told) -> None:
    """A certificate for another name is an error of the connector, not the end of a connection."""
    with TcpServer(loop, tls=server_context()) as server:
        port = server.listen(LOCAL, 0)[0][1]
        connect(
            loop,
            LOCAL,
            port,
            tls=client_context(),
            server_hostname="example.org",
            on_connect=told.on_connect,
            on_close=told.on_close,
            on_error=told.on_error,
        )
        until(lambda: told.errors)
        loop.run_once(0)
    assert isinstance(told.errors[0], ssl.SSLCertVerificationError)
    assert told.outcomes == 1
    assert told.closed == []
