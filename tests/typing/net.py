"""What a type checker says to a user of nimloop-net. Never run: `hatch run typing:check` reads it."""

from __future__ import annotations

import socket
import ssl
from typing import assert_type

from nimloop_core import Loop
from nimloop_net import (
    Address,
    Connection,
    Connector,
    DatagramError,
    NetError,
    OnData,
    Resolution,
    Resolver,
    TcpServer,
    TlsInfo,
    UdpSocket,
    connect,
    connect_unix,
    inherited_sockets,
    open_stream,
    resolve,
)


def echo(conn: Connection, data: bytes) -> None:
    """The connection comes first in every callback."""
    if not assert_type(conn.send(data), bool):
        conn.pause_reading()


def forget(conn: Connection, error: Exception | None) -> None:
    """None when the peer has ended well."""
    assert_type(conn.peer, Address)
    assert_type(conn.local, Address)
    assert_type(conn.write_buffer_size, int)
    assert_type(error, Exception | None)


def serving(loop: Loop, context: ssl.SSLContext) -> None:
    """A method is a callback as well as a function."""
    server = TcpServer(
        loop,
        on_data=echo,
        on_accept=Connection.pause_reading,
        on_close=forget,
        on_drain=Connection.resume_reading,
        tls=context,
        max_connections=1000,
    )
    assert_type(server.listen("127.0.0.1", 0), list[tuple[str, int]])
    server.listen_unix("/run/x.sock", mode=0o600)
    server.adopt(socket.socket())
    assert_type(server.connections, list[Connection])
    assert_type(inherited_sockets(), list[tuple[str, socket.socket]])
    server.shutdown(2.0, on_done=lambda aborted: assert_type(aborted, int))

    TcpServer(loop, on_data=forget)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    TcpServer(loop, echo)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]


def connection(conn: Connection, context: ssl.SSLContext) -> None:
    """What can be done with one."""
    assert_type(conn.sendv([b"a", bytearray(b"b"), memoryview(b"c")]), bool)
    with open("file", "rb") as file:  # noqa: PTH123 - a file object is taken too
        assert_type(conn.send_file(file, 0, 10), bool)
    on_data: OnData | None = conn.on_data
    conn.on_data = on_data
    conn.on_data = None
    assert_type(conn.context, object)
    conn.context = {"user": 1}
    conn.idle_timeout = 30.0
    conn.idle_timeout = None
    conn.start_tls(context, server_side=False, server_hostname="example.org")
    assert_type(conn.tls, TlsInfo | None)
    if conn.tls is not None:
        assert_type(conn.tls.alpn, str | None)
    conn.close_after_drain(1)
    conn.shutdown()
    conn.close()
    conn.abort()

    conn.send("text")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def clients(loop: Loop, resolver: Resolver) -> None:
    """One of two callbacks will come, and a handle takes it back."""
    attempt = connect(
        loop, "example.org", 443, on_connect=Connection.start, on_data=echo, on_error=report, resolver=resolver
    )
    assert_type(attempt, Connector).cancel()
    assert_type(connect_unix(loop, "/run/x.sock", on_connect=lambda conn: conn.send(b"hello")), Connector)
    assert_type(resolve(loop, "example.org", lambda found: assert_type(found, list[str])), Resolution).cancel()

    connect(loop, "example.org", 443)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]


def report(error: Exception) -> None:
    """A failure is one of nimloop's, and an OSError."""
    if isinstance(error, NetError):
        assert_type(error.errno, int | None)


def datagrams(loop: Loop) -> None:
    """A datagram comes with where it is from, which is where an answer goes."""

    def on_datagram(sock: UdpSocket, data: bytes, address: tuple[str, int] | tuple[str, int, int, int]) -> None:
        assert_type(sock.send_to(data, address), bool)

    def on_error(sock: UdpSocket, error: DatagramError) -> None:
        del sock, error

    sock = UdpSocket.bind(loop, "0.0.0.0", 5353, on_datagram=on_datagram, on_error=on_error)
    assert_type(sock, UdpSocket)
    assert_type(UdpSocket.connect(loop, "127.0.0.1", 53), UdpSocket).send(b"")
    sock.join("224.0.0.251")
    sock.multicast_ttl = 1
    assert_type(sock.broadcast, bool)


def streams(loop: Loop) -> None:
    """Pipes and terminals are connections."""
    assert_type(open_stream(loop, 0, 1, on_data=echo), Connection)
