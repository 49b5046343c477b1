"""TLS over real sockets, on every backend, against ourselves and against the sockets of the standard library."""

from __future__ import annotations

import errno
import gc
import hashlib
import math
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import final

import pytest
from tests.net.certificates import authority, client_context, server_context
from tests.net.told import Endings, collect, endings

from nimloop_core import Loop
from nimloop_net import (
    Connection,
    ConnectionClosedError,
    FileTruncatedError,
    HandshakeTimeoutError,
    StalledError,
    TcpServer,
    TruncatedError,
    WriteBufferFullError,
)
from nimloop_net._tls import TlsChannel
from nimloop_net._tlsrecords import TlsRecords

Until = Callable[[Callable[[], object]], None]
Rest = Callable[[float], None]
Both = Callable[[], tuple[Connection, Connection]]
Connected = Callable[[], tuple[Connection, socket.socket]]
Dial = Callable[[object], socket.socket]
Pair = Callable[[], tuple[socket.socket, socket.socket]]
ReadAll = Callable[[socket.socket], bytes]
Secured = Callable[[], tuple[Connection, Connection]]

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@final
class Peer:
    """The standard library's TLS on a non-blocking socket, each call made while the loop runs."""

    def __init__(
        self, until: Until, sock: socket.socket, context: ssl.SSLContext, *, server_side: bool = False
    ) -> None:
        self._until = until
        self.sock = context.wrap_socket(
            sock,
            server_side=server_side,
            server_hostname=None if server_side else "localhost",
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
        )
        self.sock.setblocking(False)

    def _wait(self, call: Callable[[], bool]) -> None:
        def done() -> bool:
            try:
                return call()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return False

        self._until(done)

    def shake_hands(self) -> None:
        """Finish the handshake, or raise what is wrong with it."""

        def step() -> bool:
            self.sock.do_handshake()
            return True

        self._wait(step)

    def send(self, data: bytes) -> None:
        """Send all of it."""
        rest = memoryview(data)

        def step() -> bool:
            nonlocal rest
            rest = rest[self.sock.send(rest) :]
            return not rest

        self._wait(step)

    def read(self, count: int) -> bytes:
        """Read exactly so many bytes."""
        data = bytearray()

        def step() -> bool:
            data.extend(self.sock.recv(count - len(data)))
            return len(data) == count

        self._wait(step)
        return bytes(data)

    def read_all(self) -> bytes:
        """Read until close_notify; raises `ssl.SSLEOFError` when the stream ends without."""
        data = bytearray()

        def step() -> bool:
            try:
                while chunk := self.sock.recv(1 << 16):
                    data.extend(chunk)
            except ssl.SSLZeroReturnError:
                pass
            return True

        self._wait(step)
        return bytes(data)

    def end(self) -> None:
        """Send close_notify, and FIN behind it."""
        try:
            self.sock.unwrap()
        except ssl.SSLWantReadError:
            pass
        socket.socket.shutdown(self.sock, socket.SHUT_WR)  # SSLSocket's own would forget TLS altogether


Peered = Callable[[], tuple[Connection, Peer]]


@pytest.fixture
def secured(both: Both, until: Until) -> Secured:
    """Make pairs of connections that have shaken hands: the server's end first."""

    def make() -> tuple[Connection, Connection]:
        server, client = both()
        ready: list[Connection] = []
        server.start_tls(server_context(), server_side=True, on_secure=ready.append)
        client.start_tls(client_context(), server_hostname="localhost", on_secure=ready.append)
        until(lambda: len(ready) == 2)
        return server, client

    return make


@pytest.fixture
def peered(connected: Connected, until: Until) -> Iterator[Peered]:
    """Make pairs of a server's connection and a client of the standard library, handshake done."""
    made: list[Peer] = []

    def make() -> tuple[Connection, Peer]:
        conn, sock = connected()
        conn.start_tls(server_context(), server_side=True)
        peer = Peer(until, sock, client_context())
        made.append(peer)
        peer.shake_hands()
        return conn, peer

    yield make
    for peer in made:
        peer.sock.close()


# Handshake ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS, ids=lambda each: each.name)
def test_server(version: ssl.TLSVersion, loop: Loop, until: Until, dial: Dial) -> None:
    """A server with `tls` greets and answers a client of the standard library, in each version of TLS."""
    told: list[object] = []

    def on_accept(conn: Connection) -> None:
        assert conn.tls is not None
        assert conn.tls.cipher is None
        conn.send(b"hello ")
        told.append("accepted")

    def on_secure(conn: Connection) -> None:
        assert conn.tls is not None
        told.append(conn.tls.version)

    def on_close(_conn: Connection, error: Exception | None) -> None:
        told.append(error)

    with TcpServer(
        loop,
        tls=server_context(),
        on_accept=on_accept,
        on_secure=on_secure,
        on_data=lambda conn, data: conn.send(data.upper()),
        on_close=on_close,
    ) as server:
        context = client_context()
        context.maximum_version = version
        peer = Peer(until, dial(server.listen("127.0.0.1", 0)[0]), context)
        peer.shake_hands()
        peer.send(b"you there")
        assert peer.read(15) == b"hello YOU THERE"
        peer.end()
        until(lambda: len(told) == 3)
        assert peer.read_all() == b""
        peer.sock.close()
    assert told == ["accepted", version.name.replace("_", ".").replace("TLSv1", "TLSv1"), None]


def test_client(connected: Connected, until: Until) -> None:
    """A client's connection talks to a server of the standard library."""
    conn, sock = connected()
    got = collect(conn)
    conn.start_tls(client_context(), server_hostname="localhost")
    conn.send(b"asked before the handshake")
    with server_context().wrap_socket(sock, server_side=True, do_handshake_on_connect=False) as raw:
        peer = Peer.__new__(Peer)
        peer._until, peer.sock = until, raw
        raw.setblocking(False)
        peer.shake_hands()
        assert peer.read(26) == b"asked before the handshake"
        peer.send(b"answer")
        until(lambda: got == b"answer")


def test_what_was_agreed_on(both: Both, until: Until) -> None:
    """ALPN, versions and certificates are known to both sides, and nothing of them before the handshake."""
    server, client = both()
    assert server.tls is None
    server_side, client_side = server_context(), client_context(name="client.example")
    server_side.set_alpn_protocols(["h2", "http/1.1"])
    client_side.set_alpn_protocols(["http/1.1"])
    server_side.verify_mode = ssl.CERT_REQUIRED
    authority().configure_trust(server_side)
    ready: list[Connection] = []
    server.start_tls(server_side, server_side=True, on_secure=ready.append)
    client.start_tls(client_side, server_hostname="localhost", on_secure=ready.append)
    early = [known for conn in (server, client) if (known := conn.tls) is not None]
    assert [(each.cipher, each.alpn, each.peer_certificate()) for each in early] == [(None, None, None)] * 2
    assert [each.peer_certificate_der() for each in early] == [None] * 2
    until(lambda: len(ready) == 2)
    at_server, at_client = early
    assert at_server.version == at_client.version == "TLSv1.3"
    assert at_server.cipher == at_client.cipher is not None
    assert at_server.alpn == at_client.alpn == "http/1.1"
    assert at_client.server_name == "localhost"
    assert at_client.ssl_object.server_side is False
    of_client, of_server = at_server.peer_certificate(), at_client.peer_certificate()
    assert of_client is not None
    assert of_server is not None
    assert of_server["subjectAltName"] == (("DNS", "localhost"),)
    assert of_client["serialNumber"] != of_server["serialNumber"]
    der = at_client.peer_certificate_der()
    assert der is not None
    assert "BEGIN CERTIFICATE" in ssl.DER_cert_to_PEM_cert(der)
    assert "TLSv1.3" in repr(at_server)


def test_name_indication(both: Both, until: Until) -> None:
    """The context's callback is told the name that the client asks for, and may choose another certificate."""
    asked: list[str | None] = []
    chosen = server_context("b.example")
    first = server_context("a.example")

    def choose(ssl_object: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        asked.append(name)
        if name == "b.example":
            ssl_object.context = chosen

    first.sni_callback = choose
    for name in ("a.example", "b.example"):
        server, client = both()
        ready: list[Connection] = []
        server.start_tls(first, server_side=True)
        client.start_tls(client_context(), server_hostname=name, on_secure=ready.append)
        until(lambda ready=ready: ready)  # type: ignore[misc]
    assert asked == ["a.example", "b.example"]


def test_chain(both: Both, until: Until) -> None:
    """Intermediate certificates in the context are sent along."""
    server, client = both()
    ready: list[Connection] = []
    server.start_tls(server_context(chain=True), server_side=True)
    client.start_tls(client_context(), server_hostname="localhost", on_secure=ready.append)
    until(lambda: ready)


@pytest.mark.parametrize("what", ["expired", "wrong host", "untrusted"])
def test_certificate_that_does_not_hold(what: str, both: Both, until: Until) -> None:
    """The client refuses it and says why to both; nothing that was queued reaches the server."""
    server, client = both()
    got = collect(server)
    of_server, of_client = endings(server), endings(client)
    server.start_tls(server_context(expired=what == "expired"), server_side=True)
    client.start_tls(
        client_context(trusting=what != "untrusted"),
        server_hostname="elsewhere.example" if what == "wrong host" else "localhost",
        on_secure=lambda _conn: pytest.fail("not secure at all"),
    )
    client.send(b"secret")
    until(lambda: of_server and of_client)
    assert [type(each) for each in of_client] == [ssl.SSLCertVerificationError]
    assert [type(each) for each in of_server] == [ssl.SSLError]
    assert "ALERT" in str(of_server[0])
    assert got == b""


@pytest.mark.parametrize("version", VERSIONS, ids=lambda each: each.name)
def test_client_without_certificate(version: ssl.TLSVersion, both: Both, until: Until) -> None:
    """A server that wants one does without the client; both hear of it."""
    server, client = both()
    got = collect(server)
    of_server, of_client = endings(server), endings(client)
    context = server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = version
    server.start_tls(context, server_side=True)
    client.start_tls(client_context(), server_hostname="localhost")
    client.send(b"secret")
    until(lambda: of_server and of_client)
    assert isinstance(of_server[0], ssl.SSLError)
    assert isinstance(of_client[0], ssl.SSLError)
    assert got == b""


def test_plain_text_to_a_secure_server(connected: Connected, until: Until, read_all: ReadAll) -> None:
    """It is told to `on_close`, and the peer is let go."""
    conn, sock = connected()
    got, told = collect(conn), endings(conn)
    conn.start_tls(server_context(), server_side=True)
    sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    until(lambda: told)
    assert isinstance(told[0], ssl.SSLError)
    assert got == b""
    read_all(sock)  # whatever OpenSSL has to say, and an end that is no reset


def test_secure_client_of_a_plain_server(connected: Connected, until: Until) -> None:
    """What answers in plain text is refused."""
    conn, sock = connected()
    got, told = collect(conn), endings(conn)
    conn.start_tls(client_context(), server_hostname="localhost")
    sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    until(lambda: told)
    assert isinstance(told[0], ssl.SSLError)
    assert got == b""


def test_peer_that_never_shakes_hands(loop: Loop, until: Until, dial: Dial) -> None:
    """It is cut off when the time is up, and told of by `on_close`."""
    told: Endings = []
    with TcpServer(
        loop, tls=server_context(), handshake_timeout=0.02, on_close=lambda _conn, error: told.append(error)
    ) as server:
        sock = dial(server.listen("127.0.0.1", 0)[0])
        until(lambda: told)
        assert isinstance(told[0], HandshakeTimeoutError)
        with pytest.raises(ConnectionResetError):
            sock.recv(1)


def test_deadline_ends_with_the_handshake(loop: Loop, secured: Secured) -> None:
    """Once both are secure, no timer is left."""
    secured()
    assert loop.stats.timers == 0


@pytest.mark.parametrize("how", ["end", "reset"])
def test_peer_that_leaves_during_the_handshake(how: str, connected: Connected, until: Until) -> None:
    """The end of the stream is no clean end there."""
    conn, sock = connected()
    told = endings(conn)
    conn.start_tls(server_context(), server_side=True)
    sock.sendall(b"\x16\x03\x01\x02\x00")
    if how == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()
    until(lambda: told)
    assert isinstance(told[0], TruncatedError if how == "end" else ConnectionResetError)


def test_handshake_byte_by_byte(connected: Connected, until: Until, loop: Loop) -> None:
    """However the handshake and the data behind it are split, they mean the same."""
    conn, sock = connected()
    got = collect(conn)
    conn.start_tls(server_context(), server_side=True)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")

    def drip() -> None:
        for byte in outgoing.read():
            sock.send(bytes([byte]))
            loop.run_once(0)

    def shaken() -> bool:
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            drip()
            try:
                incoming.write(sock.recv(1 << 16))
            except BlockingIOError:
                pass
            return False
        return True

    until(shaken)
    client.write(b"one byte after the other")
    drip()
    until(lambda: got == b"one byte after the other")


def test_paused_during_the_handshake(both: Both, until: Until, rest: Rest) -> None:
    """Pausing is about data: hands are shaken, and what was sent waits."""
    server, client = both()
    got = collect(server)
    ready: list[Connection] = []
    server.pause_reading()
    server.start_tls(server_context(), server_side=True, on_secure=ready.append)
    client.start_tls(client_context(), server_hostname="localhost", on_secure=ready.append)
    client.send(b"data")
    until(lambda: len(ready) == 2 and not client.write_buffer_size)
    rest(0.01)
    assert got == b""
    server.resume_reading()
    until(lambda: got == b"data")


@pytest.mark.parametrize("callback", ["on_secure", "on_data", "on_close"])
def test_callback_that_raises(callback: str, both: Both, until: Until, errors: list[Exception]) -> None:
    """It is reported and ends the connection, as without TLS."""
    server, client = both()
    mistake = LookupError("a mistake")
    told = endings(server)
    of_client = endings(client)

    def fail(*_: object) -> None:
        raise mistake

    if callback != "on_secure":
        setattr(server, callback, fail)
    server.start_tls(server_context(), server_side=True, on_secure=fail if callback == "on_secure" else None)
    client.start_tls(client_context(), server_hostname="localhost")
    client.send(b"data")
    if callback == "on_close":
        client.close_after_drain()
        until(lambda: errors)
    else:
        until(lambda: told and of_client)
        assert told == [mistake]
        assert of_client[0] is not None
    assert errors == [mistake]
    errors.clear()


def test_closed_by_on_secure(both: Both, until: Until) -> None:
    """A peer may be refused for what its certificate says."""
    server, client = both()
    of_server, of_client = endings(server), endings(client)
    got = collect(server)
    server.start_tls(server_context(), server_side=True, on_secure=Connection.close)
    client.start_tls(client_context(), server_hostname="localhost")
    client.send(b"data")
    until(lambda: of_server and of_client)
    assert of_server == [None]
    assert got == b""


# Upgrade --------------------------------------------------------------------------------------------------------


def test_upgrade(both: Both, until: Until) -> None:
    """Plain text first, TLS from then on; what was queued before leaves unencrypted and in order."""
    server, client = both()
    from_client, from_server = bytearray(), bytearray()

    def on_command(conn: Connection, data: bytes) -> None:
        from_client.extend(data)
        if from_client == b"STARTTLS\r\n":
            conn.send(b"220 ")
            conn.send(b"go\r\n")
            conn.start_tls(server_context(), server_side=True)
            conn.on_data = answer

    def answer(conn: Connection, data: bytes) -> None:
        from_client.extend(data)
        conn.send(b"secret answer")

    def on_answer(conn: Connection, data: bytes) -> None:
        from_server.extend(data)
        if from_server == b"220 go\r\n":
            conn.start_tls(client_context(), server_hostname="localhost")
            conn.send(b"secret question")

    server.on_data, client.on_data = on_command, on_answer
    client.send(b"STARTTLS\r\n")
    until(lambda: from_server.endswith(b"answer"))
    assert from_client == b"STARTTLS\r\nsecret question"
    assert from_server == b"220 go\r\nsecret answer"


def test_upgrade_behind_a_full_socket(connected: Connected, until: Until) -> None:
    """Plain text that the kernel did not take yet comes before the handshake, and `on_drain` comes in the end."""
    conn, sock = connected()
    drained: list[Connection] = []
    conn.on_drain = drained.append
    assert not conn.send(bytes(20 << 20))
    conn.start_tls(client_context(), server_hostname="localhost")
    assert conn.write_buffer_size == 0
    assert conn.bytes_sent == 20 << 20
    left = 20 << 20

    def arrived() -> bool:
        nonlocal left
        try:
            while left:
                left -= len(sock.recv(min(left, 1 << 20)))
        except BlockingIOError:
            return False
        return True

    until(arrived)
    peer = Peer(until, sock, server_context(), server_side=True)
    peer.shake_hands()
    until(lambda: drained)
    conn.send(b"secret")
    assert peer.read(6) == b"secret"
    peer.sock.close()


def test_hello_in_the_same_packet(connected: Connected, until: Until) -> None:
    """What was read of the handshake before it was known to be one is handed in."""
    conn, sock = connected()
    secure: list[bytes] = []
    first = bytearray()

    def on_data(conn: Connection, data: bytes) -> None:
        first.extend(data)
        if len(first) > 100:
            conn.on_data = lambda _conn, data: secure.append(data)
            conn.start_tls(server_context(), server_side=True, received=bytes(first[6:]))

    conn.on_data = on_data
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    sock.sendall(b"PROXY\n" + outgoing.read())

    def shaken() -> bool:
        try:
            incoming.write(sock.recv(1 << 16))
            client.do_handshake()
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        return True

    until(shaken)
    client.write(b"data")
    sock.sendall(outgoing.read())
    until(lambda: secure == [b"data"])


def test_upgrade_that_is_refused(both: Both, until: Until, tmp_path: Path) -> None:
    """Each wrong call says what is wrong, and leaves the connection as it was."""
    server, client = both()
    got = collect(client)
    with pytest.raises(ValueError, match="host name"):
        client.start_tls(client_context())
    with pytest.raises(ssl.SSLError):
        server.start_tls(client_context(), server_side=True)
    with pytest.raises(ValueError, match="delay"):
        server.start_tls(server_context(), server_side=True, timeout=-1.0)
    (tmp_path / "file").write_bytes(b"content")
    with (tmp_path / "file").open("rb") as file:
        server.send_file(file)
    with pytest.raises(ValueError, match="file"):
        server.start_tls(server_context(), server_side=True)
    until(lambda: got == b"content")
    server.start_tls(server_context(), server_side=True)
    with pytest.raises(ValueError, match="once"):
        server.start_tls(server_context(), server_side=True)
    client.shutdown()
    with pytest.raises(ConnectionClosedError):
        client.start_tls(client_context(), server_hostname="localhost")


def test_upgrade_that_the_kernel_refuses(
    both: Both, until: Until, loop: Loop, refuse: Callable[[OSError, int], None]
) -> None:
    """A socket that cannot be watched anew is closed, and with it the deadline of the handshake."""
    server, _client = both()
    told = endings(server)
    refuse(OSError(errno.ENOSPC, "no more watches"), 0)
    server.start_tls(server_context(), server_side=True, on_secure=lambda _conn: pytest.fail("too late"))
    until(lambda: told)
    assert str(told[0]) == f"[Errno {errno.ENOSPC}] no more watches"
    assert loop.stats.timers == 0


def test_a_channel_looks_like_its_socket(connected: Connected, until: Until) -> None:
    """What is asked of it is answered by the socket, and before the handshake it has neither data nor room."""
    conn, sock = connected()
    peer = Peer(until, sock, client_context())
    conn.start_tls(server_context(), server_side=True)
    channel = conn._sock
    with pytest.raises(BlockingIOError):
        channel.recv_into(memoryview(bytearray(10)))
    with pytest.raises(BlockingIOError):
        channel.send(b"x")
    assert channel.getsockname() == peer.sock.getpeername()
    assert channel.getpeername() == peer.sock.getsockname()
    assert channel.fileno() == conn._fd
    assert channel.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    assert channel.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    peer.shake_hands()
    peer.sock.close()


def test_context_for_clients_on_a_server(loop: Loop, dial: Dial, until: Until, errors: list[Exception]) -> None:
    """Each connection is dropped, and the mistake reported."""
    told: Endings = []
    with TcpServer(loop, tls=client_context(), on_close=lambda _conn, error: told.append(error)) as server:
        dial(server.listen("127.0.0.1", 0)[0])
        until(lambda: told)
        assert server.connections == []
    assert [type(each) for each in errors] == [ssl.SSLError]
    errors.clear()


# Data -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS, ids=lambda each: each.name)
def test_large_transfer_both_ways(version: ssl.TLSVersion, both: Both, until: Until) -> None:
    """Megabytes in both directions at once, in pieces of every size, arrive as they were sent."""
    server, client = both()
    context = server_context()
    context.maximum_version = version
    server.start_tls(context, server_side=True)
    client.start_tls(client_context(), server_hostname="localhost")
    data = os.urandom(1 << 20) * 4
    got = {server: hashlib.sha256(), client: hashlib.sha256()}
    count = {server: 0, client: 0}

    def on_data(conn: Connection, chunk: bytes) -> None:
        got[conn].update(chunk)
        count[conn] += len(chunk)

    position = 0
    size = 1
    while position < len(data):
        for conn in (server, client):
            piece = data[position : position + size]
            if size % 2:
                conn.send(piece)
            else:
                conn.sendv([piece[: size // 3], memoryview(piece)[size // 3 :]])
        position += size
        size = size * 3 // 2 + 1
    server.on_data = client.on_data = on_data
    until(lambda: count[server] == count[client] == len(data))
    expected = hashlib.sha256(data).digest()
    assert got[server].digest() == got[client].digest() == expected
    assert server.bytes_sent == client.bytes_sent == len(data)
    assert server.write_buffer_size == client.write_buffer_size == 0


def test_back_pressure(peered: Peered, until: Until) -> None:
    """A peer that does not read fills the outbox, not OpenSSL; what it takes later drains it."""
    conn, peer = peered()
    drained: list[Connection] = []
    conn.on_drain = drained.append
    data = os.urandom(16 << 20)
    assert not conn.send(data)
    before = -1

    def stuck() -> bool:
        nonlocal before
        before, now = conn.write_buffer_size, before
        return now == before

    until(stuck)
    assert 0 < conn.write_buffer_size < len(data)
    assert conn.bytes_sent + conn.write_buffer_size == len(data)
    assert len(conn._sock._records.pending) <= 70_000  # type: ignore[attr-defined]
    assert not drained
    assert peer.read(len(data)) == data
    until(lambda: drained == [conn])
    assert conn.write_buffer_size == 0


def test_hard_limit(peered: Peered, until: Until) -> None:
    """It counts what TLS holds, too, and ends in a truncated stream."""
    conn, peer = peered()
    told = endings(conn)
    conn.max_buffer = 8 << 20
    until(lambda: conn.closed or (not conn.send(bytes(1 << 20)) and False))
    until(lambda: told)
    assert isinstance(told[0], WriteBufferFullError)
    with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
        peer.read_all()


def test_pausing_slows_the_sender(secured: Secured, until: Until) -> None:
    """A paused end takes no more than buffers hold; what comes after resuming is complete."""
    server, client = secured()
    got = collect(server)
    data = os.urandom(12 << 20)
    server.pause_reading()
    client.send(data)
    before = -1

    def stuck() -> bool:
        nonlocal before
        before, now = client.write_buffer_size, before
        return now == before

    until(stuck)
    assert client.write_buffer_size > 0
    assert got == b""
    server.resume_reading()
    until(lambda: len(got) == len(data))
    assert got == data


def test_pausing_between_records(secured: Secured, until: Until, rest: Rest) -> None:
    """What was decrypted, or can be without the socket, waits too, and comes without a new event."""
    server, client = secured()
    got = collect(server, pauses=math.inf)
    client.send(bytes(200_000))
    until(lambda: got)
    first = len(got)
    rest(0.01)
    assert len(got) == first < 200_000
    while len(got) < 200_000:
        before = len(got)
        server.resume_reading()
        until(lambda before=before: len(got) > before)  # type: ignore[misc]
    assert len(got) == 200_000


@pytest.mark.parametrize("size", [0, 1, 16384, 70_000, 3_000_001])
def test_send_file(size: int, peered: Peered, tmp_path: Path) -> None:
    """A file goes through encryption between its neighbours."""
    conn, peer = peered()
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    conn.send(b"before")
    with (tmp_path / "file").open("rb") as file:
        conn.send_file(file)
    conn.send(b"after")
    assert peer.read(size + 11) == b"before" + data + b"after"


def test_truncated_file(peered: Peered, until: Until, tmp_path: Path) -> None:
    """A file that ends early ends the connection, without close_notify."""
    conn, peer = peered()
    told = endings(conn)
    (tmp_path / "file").write_bytes(bytes(10_000))
    with (tmp_path / "file").open("rb") as file:
        conn.send_file(file, 0, 20_000)
    until(lambda: told)
    assert isinstance(told[0], FileTruncatedError)
    with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
        peer.read_all()


@pytest.mark.parametrize("answers", [False, True])
def test_altered_record(*, answers: bool, connected: Connected, until: Until) -> None:
    """What came before a forged record is delivered; then it ends, and the peer is told, but nothing else."""
    conn, sock = connected()
    got, told = bytearray(), endings(conn)

    def on_data(conn: Connection, data: bytes) -> None:
        got.extend(data)
        if answers:
            conn.send(b"thank you")

    conn.on_data = on_data
    conn.start_tls(server_context(), server_side=True)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")

    def step(call: Callable[[], object]) -> bool:
        try:
            call()
        except ssl.SSLWantReadError:
            pass
        else:
            return True
        finally:
            if outgoing.pending:
                sock.sendall(outgoing.read())
        try:
            incoming.write(sock.recv(1 << 16))
        except BlockingIOError:
            pass
        return False

    until(lambda: step(client.do_handshake))
    client.write(b"good")
    client.write(b"evil")
    records = bytearray(outgoing.read())
    records[-1] ^= 1
    sock.sendall(records)
    until(lambda: told)
    assert got == b"good"
    assert isinstance(told[0], ssl.SSLError)
    with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
        until(lambda: step(lambda: client.read(1)))


def test_flooding_peer_leaves_time(secured: Secured, until: Until) -> None:
    """Reading stops at the quota, with TLS too."""
    server, client = secured()
    turns: dict[int, int] = {}
    server.on_data = lambda conn, data: turns.update(
        {conn.loop.stats.iterations: turns.get(conn.loop.stats.iterations, 0) + len(data)}
    )
    client.send(bytes(16 << 20))
    until(lambda: sum(turns.values()) == 16 << 20)
    assert max(turns.values()) <= (256 << 10) + 65536


def test_records_with_nothing_in_them(connected: Connected, until: Until) -> None:
    """A megabyte of a server's tickets, in which there is no byte for us, is read in turns, and all of it."""
    conn, sock = connected()
    got = collect(conn)
    context = server_context()
    context.num_tickets = 5000
    conn.start_tls(client_context(), server_hostname="localhost")
    peer = Peer(until, sock, context, server_side=True)
    peer.shake_hands()
    peer.send(b"at last")
    until(lambda: got == b"at last")
    peer.sock.close()


def test_answers_that_nobody_takes(peered: Peered, until: Until) -> None:
    """A peer that makes TLS answer, by asking for new keys say, and reads nothing, is cut off at a bound."""
    conn, peer = peered()
    told = endings(conn)
    conn.send(bytes(32 << 20))
    until(lambda: conn.bytes_sent)
    channel = conn._sock
    assert isinstance(channel, TlsChannel)
    until(lambda: channel._records.pending)
    got = collect(conn)
    rounds = 0
    while not told:
        rounds += 1
        assert rounds < 10
        channel._records.outgoing.write(bytes(150_000))  # no client at hand is as rude, so that the answers are made up
        peer.send(b"x")
        until(lambda rounds=rounds: len(got) == rounds)  # type: ignore[misc]
        conn.loop.run_once(0)
        conn.loop.run_once(0)
    assert rounds > 1
    assert isinstance(told[0], WriteBufferFullError)


# Ending ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS, ids=lambda each: each.name)
def test_close_after_drain(version: ssl.TLSVersion, connected: Connected, until: Until) -> None:
    """Everything arrives, then close_notify, then FIN; the peer's own end completes it."""
    conn, sock = connected()
    told = endings(conn)
    context = server_context()
    context.maximum_version = version
    conn.start_tls(context, server_side=True)
    data = os.urandom(5 << 20)
    conn.send(data)
    conn.close_after_drain()
    peer = Peer(until, sock, client_context())
    peer.shake_hands()
    assert peer.read_all() == data
    assert conn.state == "lingering"
    peer.end()
    until(lambda: told)
    assert told == [None]
    peer.sock.close()


def test_close_is_clean_when_all_was_sent(peered: Peered, until: Until) -> None:
    """`close` sends close_notify."""
    conn, peer = peered()
    conn.send(b"all")
    assert peer.read(3) == b"all"
    until(lambda: not conn.write_buffer_size)
    conn.close()
    assert peer.read_all() == b""


@pytest.mark.parametrize("end", [Connection.close, Connection.abort], ids=["close", "abort"])
def test_cutting_off_is_told_apart(end: Callable[[Connection], None], peered: Peered, until: Until) -> None:
    """With something unsent, there is no close_notify: the peer sees that it is not all."""
    conn, peer = peered()
    conn.send(bytes(32 << 20))
    until(lambda: conn.bytes_sent)
    end(conn)
    with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
        peer.read_all()


def test_end_without_close_notify(peered: Peered, until: Until) -> None:
    """A FIN alone is a truncated stream; what came before it is delivered."""
    conn, peer = peered()
    got, told = collect(conn), endings(conn)
    peer.send(b"half a sen")
    peer.sock.shutdown(socket.SHUT_WR)
    until(lambda: told)
    assert got == b"half a sen"
    assert isinstance(told[0], TruncatedError)


def test_end_without_close_notify_that_nobody_misses(peered: Peered, until: Until) -> None:
    """Who has ended and delivers nothing more does not care how the peer ends."""
    conn, peer = peered()
    told = endings(conn)
    conn.close_after_drain()
    until(lambda: conn.state == "lingering")
    peer.sock.shutdown(socket.SHUT_WR)
    until(lambda: told)
    assert told == [None]


def test_end_with_close_notify_alone(peered: Peered, until: Until) -> None:
    """close_notify behind data, and no FIN: both are delivered without another event."""
    conn, peer = peered()
    got, told = collect(conn), endings(conn)
    conn.on_eof = lambda conn: conn.send(b"heard")
    peer.send(b"that is all")
    with pytest.raises(ssl.SSLWantReadError):
        peer.sock.unwrap()
    until(lambda: conn.state == "peer-done")
    assert got == b"that is all"
    conn.close_after_drain()
    until(lambda: told)
    assert told == [None]


@pytest.mark.parametrize("version", VERSIONS, ids=lambda each: each.name)
def test_half_close(version: ssl.TLSVersion, both: Both, until: Until) -> None:
    """One side ends, the other goes on for as long as it likes, and nothing is lost."""
    server, client = both()
    context = server_context()
    context.maximum_version = version
    at_server, at_client = collect(server), collect(client)
    of_server, of_client = endings(server), endings(client)
    ended: list[Connection] = []
    server.on_eof = ended.append
    server.start_tls(context, server_side=True)
    client.start_tls(client_context(), server_hostname="localhost")
    client.send(b"question")
    client.shutdown()
    until(lambda: ended)
    assert at_server == b"question"
    answer = os.urandom(3 << 20)
    server.send(answer)
    server.shutdown()
    until(lambda: of_server and of_client)
    assert at_client == answer
    assert of_server == of_client == [None]


def test_ending_with_data_on_the_way(secured: Secured, until: Until) -> None:
    """What OpenSSL held when our side was ended is delivered all the same."""
    server, client = secured()
    got = collect(server, pauses=1)
    of_server, of_client = endings(server), endings(client)
    client.send(bytes(500_000))
    client.close_after_drain()
    until(lambda: got)
    server.shutdown()
    until(lambda: server.state == "ended")
    server.resume_reading()
    until(lambda: of_server and of_client)
    assert len(got) == 500_000
    assert of_server == of_client == [None]


@pytest.mark.parametrize("ends", [False, True], ids=["goes on", "ends"])
def test_ending_with_small_records_on_the_way(*, ends: bool, peered: Peered, until: Until) -> None:
    """Many whole records that were read from the socket when our side was ended are delivered, and what follows."""
    conn, peer = peered()
    got, told = collect(conn, pauses=1), endings(conn)
    conn.pause_reading()
    for _ in range(100):
        peer.send(bytes(1000))  # 102 200 bytes on the wire: two reads, of which the first is more than a buffer holds
    if ends:
        peer.end()
    conn.resume_reading()
    until(lambda: got)
    conn.shutdown()
    until(lambda: conn.state == "ended")
    assert len(got) < 100_000
    conn.resume_reading()
    until(lambda: len(got) == 100_000)
    if not ends:
        assert told == []
        peer.send(b"more")
        until(lambda: len(got) == 100_004)
        peer.end()
    until(lambda: told)
    assert told == [None]


def test_peer_that_resets(peered: Peered, until: Until) -> None:
    """Bytes before a reset are delivered before `on_close`."""
    conn, peer = peered()
    got, told = collect(conn), endings(conn)
    peer.send(b"last words")
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.sock.close()
    until(lambda: told)
    assert got == b"last words"
    assert isinstance(told[0], ConnectionResetError)


def test_stalled_peer(peered: Peered, until: Until) -> None:
    """A closing connection waits for a peer that takes nothing no longer than without TLS."""
    conn, _peer = peered()
    told = endings(conn)
    conn.stall = 0.05
    conn.send(bytes(32 << 20))
    conn.close_after_drain()
    until(lambda: told)
    assert isinstance(told[0], StalledError)


def test_close_during_the_handshake(both: Both, until: Until) -> None:
    """It ends at once and without fuss."""
    server, client = both()
    of_server, of_client = endings(server), endings(client)
    server.start_tls(server_context(), server_side=True)
    client.start_tls(client_context(), server_hostname="localhost", on_secure=lambda _conn: pytest.fail("too late"))
    client.send(b"never")
    client.close()
    with pytest.raises(ConnectionClosedError):
        client.send(b"more")
    until(lambda: of_server and of_client)
    assert of_client == [None]
    assert isinstance(of_server[0], TruncatedError)


def test_300_connections_leak_nothing(
    loop: Loop, until: Until, tcp_pair: Pair, descriptors: Callable[[], set[str]]
) -> None:
    """However they end, neither descriptors nor objects stay, and no collector is needed for that."""

    def alive() -> int:
        return sum(
            type(each) in {Connection, TlsChannel, TlsRecords, ssl.SSLObject, ssl.MemoryBIO}
            for each in gc.get_objects()
        )

    server_side, client_side = server_context(), client_context()
    gc.collect()
    gc.disable()
    try:
        before = descriptors(), alive()
        ends = 0

        def ended(_conn: Connection, _error: Exception | None) -> None:
            nonlocal ends
            ends += 1

        def on_data(conn: Connection, data: bytes) -> None:
            {0: conn.close, 1: conn.abort, 2: conn.close_after_drain, 3: conn.shutdown}[data[0] % 4]()

        for number in range(150):
            here, there = tcp_pair()
            server, client = Connection(loop, here, on_data=on_data), Connection(loop, there)
            server.on_close = client.on_close = ended
            server.start()
            client.start()
            server.start_tls(server_side, server_side=True)
            if number % 10:
                client.start_tls(client_side, server_hostname="localhost")
            client.send(bytes([number % 4]) if number % 10 else b"in plain text")
            until(lambda server=server: server.closed or server.state == "ended")  # type: ignore[misc]
            client.close()
            until(lambda number=number: ends == 2 * number + 2)  # type: ignore[misc]
        del server, client, here, there
        loop.run_once(0)
        assert (descriptors(), alive()) == before
    finally:
        gc.enable()


# Others ---------------------------------------------------------------------------------------------------------


def test_plain_connections_do_without() -> None:
    """Who does not want TLS does not load it."""
    code = (
        "import sys, nimloop_net as n, nimloop_core as c\n"
        "with c.Loop() as loop, n.TcpServer(loop) as server: server.listen('127.0.0.1', 0); loop.run_once(0)\n"
        "sys.exit('ssl' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
