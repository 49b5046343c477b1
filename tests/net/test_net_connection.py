"""Connections over real sockets, on every backend: what is sent arrives, what is slow is bounded, what ends says so."""

from __future__ import annotations

import errno
import hashlib
import math
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.net.told import Endings, collect, endings
from tests.support.descriptors import file_with, is_open

from nimloop_core import Backend, Loop
from nimloop_core.testing import FakeClock
from nimloop_net import (
    Connection,
    ConnectionClosedError,
    FileTruncatedError,
    IdleTimeoutError,
    StalledError,
    WriteBufferFullError,
    address_of,
    format_address,
)
from nimloop_net._connection import READ_QUOTA

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

Until = Callable[[Callable[[], object]], None]
Rest = Callable[[float], None]
Pair = Callable[[], tuple[socket.socket, socket.socket]]
Attach = Callable[[socket.socket], Connection]
Connected = Callable[[], tuple[Connection, socket.socket]]
Both = Callable[[], tuple[Connection, Connection]]
ReadAll = Callable[[socket.socket], bytes]

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close sends RST


@final
class CountingSocket(socket.socket):
    """A socket that counts the system calls that send."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(fileno=sock.detach())
        self.setblocking(False)
        self.sends = 0

    def send(self, data: ReadableBuffer, flags: int = 0, /) -> int:
        """Count and pass on."""
        self.sends += 1
        return super().send(data, flags)


@final
class SpeechlessSocket(socket.socket):
    """A socket that does not tell what is wrong, for want of memory."""

    def getsockopt(self, *_: object) -> NoReturn:
        """Refuse."""
        raise OSError(errno.ENOBUFS, "no memory")


@final
class StubbornSocket(socket.socket):
    """A socket that refuses every option, as some systems do once the peer is gone."""

    def setsockopt(self, *_: object) -> None:
        """Refuse."""
        raise OSError(errno.EINVAL, "invalid")


def fill(sock: socket.socket) -> int:
    """Send until the kernel takes no more, and tell how much it took."""
    total = 0
    chunk = bytes(1 << 16)
    try:
        while True:
            total += sock.send(chunk)
    except BlockingIOError:
        return total


def block(conn: Connection, peer: socket.socket, until: Until) -> int:
    """Queue more than the kernel takes while `peer` does not read, and tell how much was queued in all."""
    # Sizes that were set do not grow by themselves.
    conn._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    total = 0
    stuck = 0

    def stalled() -> bool:
        nonlocal total, stuck
        if conn.write_buffer_size == 0:
            total += 4 << 20
            conn.send(bytes(4 << 20))
            stuck = 0
        else:
            stuck += 1
        return stuck > 5

    until(stalled)
    return total


def exhaust(sock: socket.socket) -> None:
    """Read and throw away until the end, or until the socket raises."""
    while sock.recv(1 << 20):
        pass


def reset(sock: socket.socket) -> None:
    """Close a bare socket with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


# Data -----------------------------------------------------------------------------------------------------------------


def test_echo(connected: Connected, until: Until) -> None:
    """What comes in goes out again."""
    conn, peer = connected()
    conn.on_data = Connection.send
    peer.send(b"hello")
    received = bytearray()

    def answered() -> bool:
        try:
            received.extend(peer.recv(100))
        except BlockingIOError:
            return False
        return True

    until(answered)
    assert received == b"hello"
    assert conn.state == "open"
    assert conn.bytes_sent == 5


def test_unix_echo(unix_pair: Pair, attach: Attach, read_all: ReadAll) -> None:
    """A Unix socket is a stream like any other, with nameless ends."""
    here, there = unix_pair()
    conn = attach(here)
    conn.on_data = Connection.send
    assert (conn.peer, conn.local) == ("", "")
    there.send(b"hello")
    there.shutdown(socket.SHUT_WR)
    assert read_all(there) == b"hello"


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_20_megabytes_each_way(family: str, tcp_pair: Pair, unix_pair: Pair, attach: Attach, until: Until) -> None:
    """20 MB there and back again arrive byte for byte, with two bounded queues on the way."""
    here, there = tcp_pair() if family == "tcp" else unix_pair()
    client, echo = attach(here), attach(there)
    data = os.urandom(20 << 20)
    view = memoryview(data)
    sent = 0
    most = 0

    def produce(conn: Connection) -> None:
        nonlocal sent
        while sent < len(data):
            piece = bytes(view[sent : sent + 50_000])
            sent += len(piece)
            if not conn.send(piece):
                return
        conn.shutdown()

    def back(conn: Connection, chunk: bytes) -> None:
        nonlocal most
        if not conn.send(chunk):
            conn.pause_reading()
        most = max(most, conn.write_buffer_size)

    received = collect(client)
    client.on_drain = produce
    echo.on_data = back
    echo.on_drain = Connection.resume_reading
    client_end, echo_end = endings(client), endings(echo)
    produce(client)
    until(lambda: client_end and echo_end)
    assert received == data
    assert (client_end, echo_end) == ([None], [None])
    assert most <= echo.high_water + (64 << 10)
    assert client.bytes_sent == echo.bytes_sent == len(data)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(sizes=st.lists(st.integers(0, 200_000), max_size=12), fin_first=st.booleans())
def test_any_sizes(
    *,
    sizes: list[int],
    fin_first: bool,
    unix_pair: Pair,
    attach: Attach,
    until: Until,
) -> None:
    """Whatever the sizes of what is sent, the other end gets it all, in order, and then the end."""
    here, there = unix_pair()
    sender, receiver = attach(here), attach(there)
    received = collect(receiver)
    ended = endings(receiver)
    data = [os.urandom(size) for size in sizes]
    for piece in data:
        sender.send(piece)
    if fin_first:
        sender.shutdown()
    else:
        sender.close_after_drain()
    until(lambda: ended)
    assert received == b"".join(data)
    assert ended == [None]


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_changeable_data_is_copied(
    kind: Callable[[bytearray], bytearray | memoryview], connected: Connected, read_all: ReadAll
) -> None:
    """What the caller does with his buffer after `send` does not change what was sent."""
    conn, peer = connected()
    source = bytearray(b"as it was")
    conn.send(kind(source))
    source[:] = b"different"
    conn.close_after_drain()
    assert read_all(peer) == b"as it was"


def test_views_of_any_shape(connected: Connected, read_all: ReadAll) -> None:
    """A view with gaps or wider items is sent as the bytes it stands for."""
    conn, peer = connected()
    conn.send(memoryview(b"a-b-c")[::2])
    conn.send(memoryview(struct.pack("=2I", 1, 2)).cast("I"))
    conn.close_after_drain()
    assert read_all(peer) == b"abc" + struct.pack("=2I", 1, 2)


@pytest.mark.parametrize("wrong", ["text", 5, None, [1, 2]])
def test_what_is_no_data(wrong: bytes, connected: Connected) -> None:
    """Text and numbers are refused, instead of becoming bytes that nobody meant."""
    conn, _ = connected()
    with pytest.raises(TypeError):
        conn.send(wrong)
    assert conn.write_buffer_size == 0


def test_sending_nothing(connected: Connected, loop: Loop) -> None:
    """Empty data is accepted and changes nothing."""
    conn, peer = connected()
    assert conn.send(b"")
    assert conn.write_buffer_size == 0
    loop.run_once(0)
    with pytest.raises(BlockingIOError):
        peer.recv(1)


def test_addresses(connected: Connected) -> None:
    """Both ends have an address, which stays known after the end if it was asked for before."""
    conn, peer = connected()
    assert conn.peer == peer.getsockname()
    assert conn.local == peer.getpeername()
    conn.close()
    assert conn.peer == peer.getsockname()
    assert conn.local[1] == peer.getpeername()[1]


def test_addresses_asked_for_too_late(connected: Connected) -> None:
    """A closed connection whose addresses nobody had asked for does not know them."""
    conn, _ = connected()
    conn.close()
    assert (conn.peer, conn.local) == ("", "")


def test_address_of() -> None:
    """IPv6's flow and scope are left out, and abstract names become text."""
    assert address_of(("::1", 80, 0, 3)) == ("::1", 80)
    assert address_of(b"\0name") == "\0name"
    assert address_of("/run/x") == "/run/x"


def test_format_address() -> None:
    """A port is told from IPv6's colons by brackets, and a path is in quotes, so that a NUL can be seen."""
    assert format_address(("127.0.0.1", 80)) == "127.0.0.1:80"
    assert format_address(("::1", 80)) == "[::1]:80"
    assert format_address("\0name") == r"'\x00name'"


def test_repr(connected: Connected) -> None:
    """A connection shows its state, both ends, and what it has not sent; a closed one what it knows still."""
    conn, there = connected()
    conn.send(b"12345")
    ends = f"local={there.getpeername()!r} peer={there.getsockname()!r}"
    assert repr(conn) == f"<Connection open {ends} unsent=5>"
    conn.close()
    assert repr(conn) == f"<Connection closed {ends} unsent=0>"


# System calls ---------------------------------------------------------------------------------------------------------


def test_one_call_per_event(tcp_pair: Pair, attach: Attach, loop: Loop) -> None:
    """Everything that is sent in one event leaves in one system call, at the end of that event."""
    here, there = tcp_pair()
    counting = CountingSocket(here)
    conn = attach(counting)

    def answer(conn: Connection, _data: bytes) -> None:
        for number in range(100):
            conn.send(b"%02d" % number)
        assert counting.sends == 0

    conn.on_data = answer
    there.send(b"?")
    loop.run_once(1)
    loop.run_once(0)
    assert counting.sends == 1
    assert there.recv(1000) == b"".join(b"%02d" % number for number in range(100))


def test_one_call_per_iteration_from_elsewhere(tcp_pair: Pair, attach: Attach, loop: Loop, until: Until) -> None:
    """What timers and other callbacks send leaves in one call too, before the loop waits again."""
    here, there = tcp_pair()
    counting = CountingSocket(here)
    conn = attach(counting)
    loop.call_soon(lambda: conn.send(b"a"))
    loop.call_soon(lambda: conn.send(b"b"))
    loop.run_once(0)
    loop.run_once(0)
    assert counting.sends == 1
    loop.call_later(0.001, lambda: [conn.send(each) for each in (b"c", b"d", b"e")])
    until(lambda: conn.bytes_sent == 5)
    assert counting.sends == 2
    assert there.recv(10) == b"abcde"


def test_send_from_a_timer(connected: Connected, loop: Loop, read_all: ReadAll) -> None:
    """A connection without events of its own sends what a timer queues."""
    conn, peer = connected()
    loop.call_later(0.01, lambda: conn.send(b"tick"))
    loop.call_later(0.02, conn.close_after_drain)
    assert read_all(peer) == b"tick"


def test_send_from_another_connection(connected: Connected, read_all: ReadAll) -> None:
    """What one connection receives another one can send."""
    first, first_peer = connected()
    second, second_peer = connected()

    def forward(_conn: Connection, data: bytes) -> None:
        second.send(data)
        second.close_after_drain()

    first.on_data = forward
    first_peer.send(b"across")
    assert read_all(second_peer) == b"across"


# Back-pressure --------------------------------------------------------------------------------------------------------


def test_water_marks(connected: Connected, until: Until, rest: Rest, read_all: ReadAll) -> None:
    """`send` is False above the high mark; `on_drain` comes once per crossing, not while the peer takes nothing."""
    conn, peer = connected()
    crossings = 0
    drains = 0
    target = 30 << 20
    queued = 0

    def produce(conn: Connection) -> None:
        nonlocal crossings, queued
        while queued < target:
            queued += 10_000
            if not conn.send(bytes(10_000)):
                crossings += 1
                return
        conn.close_after_drain()

    def drained(conn: Connection) -> None:
        nonlocal drains
        assert conn.write_buffer_size <= conn.low_water
        drains += 1
        produce(conn)

    conn.on_drain = drained
    produce(conn)
    until(lambda: conn.write_buffer_size > 0 and drains == crossings - 1 and not conn.send(b""))
    before = -1
    while drains != before:  # a kernel may make its buffers larger for a while
        before = drains
        rest(0.02)
    assert drains == crossings - 1  # one is owed, and stays owed
    assert conn.write_buffer_size <= conn.high_water + 10_000
    rest(0.02)
    assert drains == before
    assert len(read_all(peer)) == queued
    assert drains in {crossings, crossings - 1}


def test_drain_without_listener(connected: Connected, loop: Loop, read_all: ReadAll) -> None:
    """A sender who does not listen for `on_drain` sees `send` turn True again."""
    conn, peer = connected()
    assert not conn.send(bytes(1 << 20))

    def ask() -> None:
        if conn.send(b"x"):
            timer.cancel()
            conn.close_after_drain()

    timer = loop.call_every(0.001, ask)
    assert len(read_all(peer)) > 1 << 20


def test_proxy_with_slow_consumer(both: Both, connected: Connected, until: Until, rest: Rest) -> None:
    """Between a fast producer and a consumer that stops, a proxy holds no more than its marks allow."""
    source, inlet = both()
    outlet, consumer = connected()
    most = 0
    sent = 0
    digest = hashlib.sha256()

    def produce(conn: Connection) -> None:
        nonlocal sent
        while sent < 16 << 20:
            piece = os.urandom(60_000)
            digest.update(piece)
            sent += len(piece)
            if not conn.send(piece):
                return
        conn.close_after_drain()

    def forward(_conn: Connection, data: bytes) -> None:
        nonlocal most
        if not outlet.send(data):
            inlet.pause_reading()
        most = max(most, outlet.write_buffer_size)

    source.on_drain = produce
    inlet.on_data = forward
    inlet.on_eof = lambda _conn: outlet.close_after_drain()
    outlet.on_drain = lambda _conn: inlet.resume_reading()
    produce(source)
    until(lambda: not inlet.reading)
    rest(0.05)  # nobody reads: everything comes to a stand
    assert source.write_buffer_size > 0
    assert outlet.write_buffer_size <= outlet.high_water + (64 << 10)
    received = hashlib.sha256()
    size = 0

    def ended() -> bool:
        nonlocal size
        try:
            while chunk := consumer.recv(1 << 18):
                received.update(chunk)
                size += len(chunk)
        except BlockingIOError:
            return False
        return True

    until(ended)
    assert size == sent
    assert received.digest() == digest.digest()
    assert most <= outlet.high_water + (64 << 10)
    inlet.close()


def test_max_buffer(connected: Connected, until: Until) -> None:
    """A sender who does not listen is stopped by the hard limit, and the peer is told by a reset."""
    conn, peer = connected()
    conn.max_buffer = 1 << 20
    ended = endings(conn)
    fill_up = 0
    while not conn.closed:
        conn.send(bytes(100_000))
        fill_up += 1
        assert fill_up < 1000
    assert ended == []
    assert not conn.writable
    until(lambda: ended)
    assert isinstance(ended[0], WriteBufferFullError)
    with pytest.raises(ConnectionResetError):
        peer.recv(1)


def test_max_buffer_counts_unsent_bytes_only(connected: Connected, until: Until) -> None:
    """A connection that is always behind, but moves, never meets the limit."""
    conn, peer = connected()
    conn.max_buffer = 1 << 20
    total = taken = 0

    def moved() -> bool:
        nonlocal total, taken
        while conn.write_buffer_size + 100_000 <= conn.max_buffer and total < 40 << 20:
            conn.send(bytes(100_000))
            total += 100_000
        try:
            taken += len(peer.recv(300_000))
        except BlockingIOError:
            pass
        return taken >= 40 << 20

    until(moved)
    assert not conn.closed


# Pausing --------------------------------------------------------------------------------------------------------------


def test_pause_before_any_data(connected: Connected, rest: Rest, until: Until) -> None:
    """Nothing is delivered while paused, everything after it."""
    conn, peer = connected()
    received = collect(conn)
    conn.pause_reading()
    assert not conn.reading
    peer.send(b"early")
    rest(0.02)
    assert received == b""
    peer.send(b" and late")
    conn.resume_reading()
    until(lambda: conn.reading and len(received) == 14)
    assert received == b"early and late"


def test_resume_without_pause(connected: Connected, loop: Loop) -> None:
    """Resuming what is not paused does nothing."""
    conn, _ = connected()
    conn.resume_reading()
    assert conn.reading
    assert not loop._deferred


def test_pause_inside_on_data(connected: Connected, rest: Rest, until: Until) -> None:
    """Paused in the middle of a long read, the rest waits in the kernel until it is wanted."""
    conn, peer = connected()
    received = collect(conn, pauses=math.inf)
    sent = fill(peer)
    rest(0.01)
    first = len(received)
    assert 0 < first <= 64 << 10
    rest(0.01)
    assert len(received) == first
    chunks = 1
    while len(received) < sent:
        before = len(received)
        conn.resume_reading()
        until(lambda before=before: len(received) > before)  # type: ignore[misc]
        chunks += 1
    assert chunks >= sent >> 16
    assert received == bytes(sent)


def test_pause_with_the_end_pending(connected: Connected, rest: Rest, until: Until) -> None:
    """The peer's end waits behind its data for as long as the connection is paused."""
    conn, peer = connected()
    received = collect(conn)
    ended = endings(conn)
    conn.pause_reading()
    peer.send(b"last words")
    peer.close()
    rest(0.02)
    assert received == b""
    assert ended == []
    conn.resume_reading()
    until(lambda: ended)
    assert received == b"last words"
    assert ended == [None]


@pytest.mark.parametrize("unsent", [False, True])
@pytest.mark.parametrize("how", ["close", "shutdown", "reset"])
def test_paused_connection_does_not_spin(
    *,
    how: str,
    unsent: bool,
    connected: Connected,
    rest: Rest,
    until: Until,
    polls: Callable[[], int],
) -> None:
    """A hung-up peer of a paused connection, which the kernel reports for as long as it lasts, costs nothing."""
    conn, peer = connected()
    ended = endings(conn)
    conn.pause_reading()
    if unsent:
        block(conn, peer, until)
    peer.send(b"data")
    if how == "close":
        peer.close()
    elif how == "shutdown":
        peer.shutdown(socket.SHUT_WR)
    else:
        reset(peer)
    rest(0.01)
    before = polls()
    rest(0.05)
    assert polls() - before <= 5
    if not unsent:
        assert not conn.closed
        conn.resume_reading()
        until(lambda: ended)


def test_pausing_in_a_storm(connected: Connected, loop: Loop, until: Until) -> None:
    """Pausing and resuming a thousand times in one event queues one continuation, not a thousand."""
    conn, peer = connected()
    received = bytearray()

    def flutter(conn: Connection, data: bytes) -> None:
        received.extend(data)
        for _ in range(1000):
            conn.pause_reading()
            conn.resume_reading()

    conn.on_data = flutter
    sent = fill(peer)
    loop.run_once(1)
    assert len(loop._deferred) <= 1
    until(lambda: len(received) == sent)


def test_handover_while_paused(connected: Connected, until: Until) -> None:
    """A protocol that takes over inside `on_data` gets everything after the bytes that were handed up."""
    conn, peer = connected()
    first, second = bytearray(), bytearray()

    def take_over(conn: Connection, data: bytes) -> None:
        first.extend(data)
        conn.on_data = lambda _conn, chunk: second.extend(chunk)

    conn.on_data = take_over
    sent = fill(peer)
    until(lambda: len(first) + len(second) == sent)
    assert 0 < len(first) <= 64 << 10


# Fairness -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_read_quota(family: str, tcp_pair: Pair, unix_pair: Pair, attach: Attach, loop: Loop) -> None:
    """However much a peer floods, an iteration reads one quota, so that timers and others get their turn."""
    here, peer = tcp_pair() if family == "tcp" else unix_pair()
    conn = attach(here)
    received = 0

    def flood(_conn: Connection, data: bytes) -> None:
        nonlocal received
        received += len(data)
        fill(peer)

    conn.on_data = flood
    fill(peer)
    fired: list[int] = []
    loop.call_later(0, lambda: fired.append(received))
    for _ in range(30):
        before = received
        loop.run_once(0)
        assert received - before <= READ_QUOTA + (64 << 10)
    assert received > 10 * READ_QUOTA
    assert fired
    assert fired[0] < received


def test_quota_of_files(connected: Connected, loop: Loop, read_all: ReadAll) -> None:
    """A long file leaves in turns, with the loop's other work in between, however many events come meanwhile."""
    conn, peer = connected()
    fd = os.memfd_create("long")
    os.ftruncate(fd, 64 << 20)
    conn.send_file(fd, 0, 64 << 20)
    conn.close_after_drain()
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1

    timer = loop.call_every(0.001, tick)
    assert len(read_all(peer)) == 64 << 20
    timer.cancel()
    assert ticks > 0


# Half close -----------------------------------------------------------------------------------------------------------


def test_reply_after_the_peers_end(connected: Connected, until: Until, read_all: ReadAll) -> None:
    """A client that sends its request and FIN gets the whole reply."""
    conn, peer = connected()
    reply = os.urandom(5 << 20)
    ended = endings(conn)
    conn.on_data = lambda conn, _data: conn.send(reply)
    peer.send(b"request")
    peer.shutdown(socket.SHUT_WR)
    assert read_all(peer) == reply
    until(lambda: ended)
    assert ended == [None]


def test_reply_from_on_eof(connected: Connected, loop: Loop, until: Until, read_all: ReadAll) -> None:
    """With `on_eof`, the connection stays until it is ended, however long the answer takes."""
    conn, peer = connected()
    ended = endings(conn)

    def later(conn: Connection) -> None:
        assert conn.state == "peer-done"
        assert conn.writable
        loop.call_later(0.02, lambda: conn.send(b"so many bytes"))
        loop.call_later(0.03, conn.close_after_drain)

    conn.on_eof = later
    peer.shutdown(socket.SHUT_WR)
    assert read_all(peer) == b"so many bytes"
    until(lambda: ended)
    assert ended == [None]


def test_shutdown_loses_nothing(connected: Connected, until: Until, read_all: ReadAll) -> None:
    """FIN follows the last of 8 MiB, and what the peer sends after it still arrives."""
    conn, peer = connected()
    received = collect(conn)
    ended = endings(conn)
    data = os.urandom(8 << 20)
    conn.send(data)
    conn.shutdown()
    assert conn.state == "ending"
    assert not conn.writable
    assert read_all(peer) == data
    assert conn.state == "ended"
    peer.send(b"thanks")
    peer.close()
    until(lambda: ended)
    assert received == b"thanks"
    assert ended == [None]


def test_shutdown_with_nothing_queued(connected: Connected, read_all: ReadAll) -> None:
    """With an empty queue FIN goes out at once."""
    conn, peer = connected()
    conn.shutdown()
    assert conn.state == "ended"
    assert read_all(peer) == b""


def test_shutdown_behind_a_full_socket(connected: Connected, until: Until, rest: Rest, read_all: ReadAll) -> None:
    """A peer that takes nothing is given all the time it needs, because the other direction is still in use."""
    conn, peer = connected()
    conn.stall = 0.01
    received = collect(conn)
    total = block(conn, peer, until)
    conn.shutdown()
    peer.send(b"busy")
    rest(0.05)
    assert conn.state == "ending"
    assert received == b"busy"
    assert len(read_all(peer)) == total


def test_both_shut_down(both: Both, until: Until) -> None:
    """When both ends have said goodbye, both are closed, and neither has an error."""
    first, second = both()
    ends = endings(first), endings(second)
    first.send(b"x" * 1_000_000)
    second.send(b"y" * 1_000_000)
    first.shutdown()
    second.shutdown()
    until(lambda: ends[0] and ends[1])
    assert ends == ([None], [None])


def test_shutdown_after_the_peers_end(connected: Connected, until: Until) -> None:
    """The second FIN closes the connection."""
    conn, peer = connected()
    ended = endings(conn)
    conn.on_eof = Connection.shutdown
    peer.shutdown(socket.SHUT_WR)
    until(lambda: ended)
    assert ended == [None]


# Closing --------------------------------------------------------------------------------------------------------------


def test_close_after_drain(connected: Connected, until: Until, read_all: ReadAll, loop: Loop) -> None:
    """Unsent megabytes arrive; what the peer sends meanwhile is thrown away, and its end ends the connection."""
    conn, peer = connected()
    received = collect(conn)
    ended = endings(conn)
    data = os.urandom(8 << 20)
    conn.send(data)
    conn.close_after_drain()
    assert conn.state == "draining"
    peer.send(b"too late")
    assert read_all(peer) == data
    assert conn.state == "lingering"
    fill(peer)
    loop.run_once(0)
    peer.close()
    until(lambda: ended)
    assert received == b""
    assert conn.closed


def test_close_after_drain_at_once(connected: Connected, until: Until, read_all: ReadAll) -> None:
    """With linger 0 nobody waits for the peer's end, but everything is sent all the same."""
    conn, peer = connected()
    ended = endings(conn)
    data = os.urandom(8 << 20)
    conn.send(data)
    conn.close_after_drain(linger=0)
    assert conn.state == "flushing"
    assert read_all(peer) == data
    until(lambda: ended)
    assert ended == [None]


def test_discards_while_paused(connected: Connected, until: Until) -> None:
    """Closing a paused connection reads on to the peer's end, through more than one quota."""
    conn, peer = connected()
    ended = endings(conn)
    conn.pause_reading()
    conn.close_after_drain(linger=30.0)
    conn.pause_reading()
    fill(peer)
    peer.close()
    until(lambda: ended)


def test_linger(connected: Connected, until: Until, read_all: ReadAll) -> None:
    """A peer that never ends its side has everything, and is let go of after the linger time."""
    conn, peer = connected()
    ended = endings(conn)
    conn.send(b"the end")
    conn.close_after_drain(linger=0.03)
    assert read_all(peer) == b"the end"
    assert ended == []
    until(lambda: ended)
    assert ended == [None]


@pytest.mark.parametrize("linger", [-1.0, float("nan")])
def test_linger_for_no_time(linger: float, connected: Connected) -> None:
    """What is no time is refused, and the connection as open as before."""
    conn, _ = connected()
    with pytest.raises(ValueError, match="seconds"):
        conn.close_after_drain(linger)
    assert conn.state == "open"


def test_linger_of_a_flooding_peer(connected: Connected, until: Until) -> None:
    """Not even a peer that goes on sending keeps the connection beyond its linger time."""
    conn, peer = connected()
    ended = endings(conn)
    conn.close_after_drain(linger=0.03)

    def flooded() -> Endings:
        try:
            fill(peer)
        except OSError:
            pass
        return ended

    until(flooded)
    assert ended == [None]


@pytest.mark.parametrize("when", ["same event", "later"])
@pytest.mark.parametrize("eof", [False, True])
def test_stalled_peer(
    *,
    when: str,
    eof: bool,
    connected: Connected,
    until: Until,
    loop: Loop,
) -> None:
    """A peer that takes nothing is cut off with an error, whenever the close was asked for."""
    conn, peer = connected()
    conn.stall = 0.03
    ended = endings(conn)
    if when == "same event":
        conn.send(bytes(32 << 20))
        if eof:
            peer.shutdown(socket.SHUT_WR)
        conn.close_after_drain()
    else:
        conn.on_eof = lambda _conn: None
        block(conn, peer, until)
        if eof:
            peer.shutdown(socket.SHUT_WR)
            until(lambda: conn.state == "peer-done")
        loop.call_soon(conn.close_after_drain)
    until(lambda: ended)
    assert isinstance(ended[0], StalledError)
    # What the kernel still held is destroyed with the connection: the peer must not take it for the whole.
    with pytest.raises(ConnectionResetError):
        exhaust(peer)


def test_slow_peer_is_not_stalled(connected: Connected, loop: Loop, until: Until) -> None:
    """A peer that takes a little now and then has all the time it needs."""
    conn, peer = connected()
    conn.stall = 0.1
    total = block(conn, peer, until)
    ended = endings(conn)
    conn.close_after_drain()
    taken = 0

    def sip() -> None:
        nonlocal taken
        try:
            taken += len(peer.recv(total // 8))
        except BlockingIOError:
            pass

    began = loop.time()
    timer = loop.call_every(0.01, sip)
    until(lambda: taken == total)
    timer.cancel()
    assert loop.time() - began > 0.2
    peer.close()
    until(lambda: ended)
    assert ended == [None]


def test_close_now(connected: Connected, until: Until, read_all: ReadAll) -> None:
    """`close` loses what is not yet in the kernel and delivers what is."""
    conn, peer = connected()
    ended = endings(conn)
    conn.send(b"in the kernel")
    until(lambda: conn.write_buffer_size == 0)
    conn.send(b"not there yet")
    conn.close()
    assert conn.closed
    assert conn.write_buffer_size == 0
    assert ended == []
    assert read_all(peer) == b"in the kernel"
    until(lambda: ended)
    assert ended == [None]


def test_abort(connected: Connected, until: Until) -> None:
    """`abort` resets the connection."""
    conn, peer = connected()
    ended = endings(conn)
    conn.send(b"lost")
    conn.abort()
    conn.abort()
    with pytest.raises(ConnectionResetError):
        peer.recv(1)
    until(lambda: ended)
    assert ended == [None]


# Errors ---------------------------------------------------------------------------------------------------------------


def test_data_before_a_reset(connected: Connected, until: Until) -> None:
    """What the peer sent before its reset is delivered before the error."""
    conn, peer = connected()
    order: list[object] = []
    conn.on_data = lambda _conn, data: order.append(data)
    conn.on_close = lambda _conn, error: order.append(type(error))
    peer.send(b"x" * 40_000)
    reset(peer)
    until(lambda: len(order) >= 2)
    assert order == [b"x" * 40_000, ConnectionResetError]


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_data_before_a_reset_that_sending_finds(
    family: str, tcp_pair: Pair, unix_pair: Pair, attach: Attach, until: Until
) -> None:
    """The same when it is our own sending that meets the reset first."""
    here, peer = tcp_pair() if family == "tcp" else unix_pair()
    conn = attach(here)
    received = collect(conn)
    ended = endings(conn)
    peer.send(b"x" * 40_000)
    reset(peer)
    conn.send(b"answer")  # leaves before the loop waits
    until(lambda: ended)
    assert received == b"x" * 40_000
    assert isinstance(ended[0], (ConnectionResetError, BrokenPipeError))


def test_last_words_without_listener(connected: Connected, until: Until) -> None:
    """The same with nobody who wants to hear."""
    conn, peer = connected()
    ended = endings(conn)
    peer.send(b"x" * 1000)
    reset(peer)
    conn.send(b"answer")
    until(lambda: ended)
    assert isinstance(ended[0], ConnectionResetError)


def test_last_words_of_a_flooding_peer(unix_pair: Pair, attach: Attach, until: Until) -> None:
    """A peer that takes no more but goes on sending is heard for a while, not for ever."""
    here, peer = unix_pair()
    conn = attach(here)
    ended = endings(conn)
    received = 0

    def flood(_conn: Connection, data: bytes) -> None:
        nonlocal received
        received += len(data)
        fill(peer)

    conn.on_data = flood
    fill(peer)
    peer.shutdown(socket.SHUT_RD)
    conn.send(b"answer")
    until(lambda: ended)
    assert isinstance(ended[0], BrokenPipeError)
    assert received < 64 << 20


def test_last_words_of_a_silent_peer(unix_pair: Pair, attach: Attach, until: Until) -> None:
    """A peer that takes no more and says nothing either ends the connection."""
    here, peer = unix_pair()
    conn = attach(here)
    ended = endings(conn)
    peer.shutdown(socket.SHUT_RD)
    conn.send(b"answer")
    until(lambda: ended)
    assert isinstance(ended[0], BrokenPipeError)


def test_callbacks_in_the_last_words(connected: Connected, until: Until, errors: list[Exception]) -> None:
    """What is delivered after sending has failed may close, pause, send or raise like anything else."""
    for act in ("close", "pause", "send", "raise"):
        conn, peer = connected()
        received: list[int] = []

        def react(conn: Connection, data: bytes, act: str = act, received: list[int] = received) -> None:
            received.append(len(data))
            if act == "close":
                conn.close()
            elif act == "pause":
                conn.pause_reading()
            elif act == "send":
                conn.send(b"into the void")
            else:
                raise LookupError(act)

        conn.on_data = react
        ended = endings(conn)
        for _ in range(4):
            peer.send(b"x" * 10_000)
        reset(peer)
        conn.send(b"answer")
        until(lambda ended=ended: ended)  # type: ignore[misc]
        assert received == [40_000]
        assert (ended[0] is None) == (act == "close")
    assert [type(error) for error in errors] == [LookupError]
    errors.clear()


def test_reset_while_the_outbox_is_full(connected: Connected, until: Until) -> None:
    """A peer that resets while we have megabytes for it ends the connection with its error."""
    conn, peer = connected()
    ended = endings(conn)
    block(conn, peer, until)
    reset(peer)
    until(lambda: ended)
    assert isinstance(ended[0], (ConnectionResetError, BrokenPipeError))


def test_reset_after_the_peers_end(connected: Connected, until: Until) -> None:
    """A reset that follows the peer's FIN is found at the latest by the next send."""
    conn, peer = connected()
    ended = endings(conn)
    conn.on_eof = lambda _conn: None
    peer.shutdown(socket.SHUT_WR)
    until(lambda: conn.state == "peer-done")
    reset(peer)

    def poke() -> Endings:
        if conn.writable:
            conn.send(b"?")
        return ended

    until(poke)
    assert isinstance(ended[0], (ConnectionResetError, BrokenPipeError))


def test_reset_after_the_peers_end_is_noticed(connected: Connected, loop: Loop, until: Until) -> None:
    """Where the backend reports changes, such a reset is found without a send."""
    if loop.backend in {"poll", "iocp"}:
        pytest.skip("where levels are reported, there is no interest left in either direction, and no report")
    conn, peer = connected()
    ended = endings(conn)
    conn.on_eof = lambda _conn: None
    peer.shutdown(socket.SHUT_WR)
    until(lambda: conn.state == "peer-done")
    reset(peer)
    until(lambda: ended)
    assert isinstance(ended[0], (ConnectionResetError, BrokenPipeError))


def test_system_that_minds_a_second_reset(tcp_pair: Pair, attach: Attach, until: Until) -> None:
    """Aborting a connection that the peer has reset already works, also where the system refuses the option."""
    here, peer = tcp_pair()
    conn = attach(StubbornSocket(fileno=here.detach()))
    ended = endings(conn)
    reset(peer)
    conn.abort()
    until(lambda: ended)
    assert ended == [None]


def test_system_that_cannot_say_why(tcp_pair: Pair, attach: Attach, loop: Loop, until: Until) -> None:
    """A connection of which only an error is to be expected ends with what asking for that error has failed with."""
    if loop.backend in {"poll", "iocp"}:
        pytest.skip("where levels are reported, there is no interest left in either direction, and no report")
    here, peer = tcp_pair()
    conn = attach(SpeechlessSocket(fileno=here.detach()))
    conn.on_eof = lambda _conn: None
    ended = endings(conn)
    peer.shutdown(socket.SHUT_WR)
    until(lambda: conn.state == "peer-done")
    reset(peer)
    until(lambda: ended)
    assert str(ended[0]) == f"[Errno {errno.ENOBUFS}] no memory"


def test_reset_that_only_reading_finds(unix_pair: Pair, attach: Attach, until: Until) -> None:
    """A send that finds nobody there looks for what was sent before, and finds an error: the send's own is told."""
    here, peer = unix_pair()
    conn = attach(here)
    ended = endings(conn)
    here.send(b"what a peer that closes has not read makes it a reset")
    peer.close()
    conn.send(b"anybody?")
    until(lambda: ended)
    assert isinstance(ended[0], BrokenPipeError)


def test_reset_while_lingering(connected: Connected, until: Until) -> None:
    """A peer that resets us while we wait for its end ends the wait."""
    conn, peer = connected()
    ended = endings(conn)
    conn.close_after_drain(linger=30.0)
    reset(peer)
    until(lambda: ended)
    assert ended[0] is None or isinstance(ended[0], ConnectionResetError)


@pytest.mark.parametrize("end", [Connection.shutdown, Connection.close_after_drain])
def test_ending_after_a_reset(end: Callable[[Connection], None], connected: Connected, until: Until) -> None:
    """Ending our side of a connection that the peer has reset already tells of the reset, not of a failed FIN."""
    conn, peer = connected()
    ended = endings(conn)
    received = collect(conn)
    peer.send(b"x" * 1000)
    reset(peer)
    end(conn)
    until(lambda: ended)
    assert isinstance(ended[0], ConnectionResetError)
    assert len(received) == (1000 if end is Connection.shutdown else 0)


def test_refused_by_the_kernel(
    tcp_pair: Pair, attach: Attach, until: Until, refuse: Callable[[OSError, int], None]
) -> None:
    """A connection that the kernel will not watch ends with the kernel's error."""
    here, _ = tcp_pair()
    refuse(OSError(errno.ENOSPC, "no more watches"), 0)
    conn = attach(here)
    ended = endings(conn)
    assert conn.closed
    until(lambda: ended)
    assert isinstance(ended[0], OSError)
    assert ended[0].errno == errno.ENOSPC


# Callbacks ------------------------------------------------------------------------------------------------------------


@final
class Strict:
    """Notes every end of a connection, and whether it came from inside a call that was in progress."""

    def __init__(self, conn: Connection) -> None:
        self.endings: Endings = []
        self.inside = False
        conn.on_close = self.on_close

    def on_close(self, conn: Connection, error: Exception | None) -> None:
        """Note the end; try to end it again."""
        assert not self.inside, "called re-entrantly"
        assert conn.closed
        self.endings.append(error)
        conn.close()
        conn.abort()
        conn.close_after_drain()
        conn.shutdown()

    def within(self, action: Callable[[], object]) -> None:
        """Do something, during which nothing may be called back."""
        self.inside = True
        action()
        self.inside = False


ACTIONS = [Connection.close, Connection.abort]


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("place", ["outside", "on_data", "timer", "on_drain", "other connection", "on_eof", "soon"])
def test_on_close_once(
    *, place: str, action: Callable[[Connection], None], connected: Connected, loop: Loop, until: Until, rest: Rest
) -> None:
    """Wherever a connection is closed, `on_close` comes once, later, from the loop."""
    conn, peer = connected()
    strict = Strict(conn)

    def act(*_: object) -> None:
        strict.within(lambda: action(conn))
        strict.within(lambda: action(conn))

    if place == "outside":
        act()
    elif place == "on_data":
        conn.on_data = act
        peer.send(b"x")
    elif place == "timer":
        loop.call_later(0.001, act)
    elif place == "on_drain":
        conn.on_drain = act
        conn.send(bytes(100_000))
    elif place == "other connection":
        other, other_peer = connected()
        other.on_data = act
        other_peer.send(b"x")
        peer.send(b"x")  # perhaps in the same batch
    elif place == "on_eof":
        conn.on_eof = act
        peer.shutdown(socket.SHUT_WR)
    else:
        loop.call_soon(act)
    until(lambda: strict.endings)
    rest(0.01)
    assert strict.endings == [None]


def test_close_between_two_reads(connected: Connected, until: Until, rest: Rest) -> None:
    """A connection closed in the middle of a long read delivers nothing more."""
    conn, peer = connected()
    strict = Strict(conn)
    calls = 0

    def once(conn: Connection, _data: bytes) -> None:
        nonlocal calls
        calls += 1
        conn.close()

    conn.on_data = once
    fill(peer)
    until(lambda: strict.endings)
    rest(0.01)
    assert calls == 1


@pytest.mark.parametrize("place", ["on_data", "on_eof", "on_drain"])
def test_callback_that_raises(
    place: str, connected: Connected, until: Until, rest: Rest, errors: list[Exception]
) -> None:
    """A failing callback is reported and its connection reset; others go on."""
    conn, peer = connected()
    other, other_peer = connected()
    other.on_data = Connection.send
    strict = Strict(conn)

    def fail(*_: object) -> None:
        raise LookupError(place)

    setattr(conn, place, fail)
    if place == "on_data":
        peer.send(b"x")
    elif place == "on_eof":
        peer.shutdown(socket.SHUT_WR)
    else:
        conn.send(bytes(100_000))
    until(lambda: strict.endings)
    rest(0.01)
    assert [type(error) for error in errors] == [LookupError]
    assert strict.endings == errors
    errors.clear()
    with pytest.raises(ConnectionResetError):
        exhaust(peer)
    other_peer.send(b"alive")
    rest(0.01)
    assert other_peer.recv(10) == b"alive"


def test_callback_that_closes_and_raises(connected: Connected, until: Until, errors: list[Exception]) -> None:
    """A callback that fails after it has closed the connection is reported; the end stays what was asked for."""
    conn, peer = connected()
    strict = Strict(conn)

    def fail(conn: Connection, _data: bytes) -> None:
        conn.close()
        raise LookupError

    conn.on_data = fail
    peer.send(b"x")
    until(lambda: strict.endings)
    assert strict.endings == [None]
    assert len(errors) == 1
    errors.clear()


def test_on_close_that_raises(connected: Connected, loop: Loop, errors: list[Exception]) -> None:
    """A failing `on_close` is reported and not called again."""
    conn, _ = connected()

    def fail(*_: object) -> None:
        raise LookupError

    conn.on_close = fail
    conn.close()
    loop.run_once(0)
    loop.run_once(0)
    assert [type(error) for error in errors] == [LookupError]
    errors.clear()


def test_exception_handler_that_raises(
    connected: Connected, loop: Loop, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    """Even when the exception handler fails, the connection is reset."""
    conn, peer = connected()
    strict = Strict(conn)

    def fail(*_: object) -> None:
        raise LookupError

    conn.on_data = fail
    loop.exception_handler = fail
    peer.send(b"x")
    until(lambda: strict.endings)
    assert "exception handler failed" in caplog.text
    caplog.clear()
    with pytest.raises(ConnectionResetError):
        peer.recv(1)


def test_interrupted(connected: Connected, loop: Loop, until: Until) -> None:
    """After a KeyboardInterrupt in a callback the loop may run on, and the connection works as before."""
    conn, peer = connected()

    def interrupt(conn: Connection, _data: bytes) -> None:
        conn.on_data = Connection.send
        conn.send(b"before ")
        raise KeyboardInterrupt

    conn.on_data = interrupt
    peer.send(b"x")
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    peer.send(b"after")
    received = bytearray()

    def answered() -> bool:
        try:
            received.extend(peer.recv(100))
        except BlockingIOError:
            pass
        return len(received) >= 12

    until(answered)
    assert received == b"before after"


def test_callbacks_are_optional(connected: Connected, until: Until) -> None:
    """A connection without callbacks reads and throws away, and ends with its peer."""
    conn, peer = connected()
    fill(peer)
    peer.close()
    until(lambda: conn.closed)


def test_callbacks_are_released(connected: Connected, loop: Loop) -> None:
    """After the end nothing keeps the callbacks, and what they hold, alive."""
    conn, _ = connected()
    names = ["on_data", "on_drain", "on_eof", "on_close"]
    for name in names:
        setattr(conn, name, lambda *_: None)
    conn.close()
    loop.run_once(0)
    assert [getattr(conn, name) for name in names] == [None] * 4


# After the end --------------------------------------------------------------------------------------------------------


def test_use_after_close(connected: Connected, loop: Loop) -> None:
    """Sending on a closed connection raises; everything else does nothing."""
    conn, _ = connected()
    conn.close()
    for _ in range(2):
        with pytest.raises(ConnectionClosedError):
            conn.send(b"x")
        fd = file_with(b"x")
        with pytest.raises(ConnectionClosedError):
            conn.send_file(fd, 0, 1)
        assert not is_open(fd)
        conn.pause_reading()
        conn.resume_reading()
        conn.shutdown()
        conn.close_after_drain()
        conn.close()
        conn.abort()
        conn.start()
        assert (conn.state, conn.closed, conn.writable, conn.write_buffer_size) == ("closed", True, False, 0)
        loop.run_once(0)


@pytest.mark.parametrize("end", [Connection.shutdown, Connection.close_after_drain])
def test_use_after_our_end(end: Callable[[Connection], None], connected: Connected) -> None:
    """Once our side is ended nothing more can be sent."""
    conn, _ = connected()
    conn.send(b"x")
    end(conn)
    with pytest.raises(ConnectionClosedError):
        conn.send(b"y")


def test_loop_closed_first(connected: Connected, loop: Loop) -> None:
    """A connection that outlives its loop can be closed, and says so."""
    conn, _ = connected()
    ended = endings(conn)
    loop.close()
    conn.close()
    assert conn.closed
    assert ended == [None]


def test_dropped_unstarted(tcp_pair: Pair, loop: Loop, until: Until) -> None:
    """A connection that was never started hears nothing, and can be closed."""
    here, there = tcp_pair()
    conn = Connection(loop, here, on_data=lambda *_: pytest.fail("called"))
    ended = endings(conn)
    there.send(b"x")
    loop.run_once(0.01)
    conn.close()
    until(lambda: ended)


# Files ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["tcp", "unix"])
@pytest.mark.parametrize(("offset", "count"), [(0, 300_000), (1, 1), (100_000, 200_000), (299_999, 1)])
def test_send_file(
    *, family: str, offset: int, count: int, tcp_pair: Pair, unix_pair: Pair, attach: Attach, read_all: ReadAll
) -> None:
    """A range of a file arrives, and the descriptor is closed."""
    here, peer = tcp_pair() if family == "tcp" else unix_pair()
    conn = attach(here)
    data = os.urandom(300_000)
    fd = file_with(data)
    conn.send_file(fd, offset, count)
    conn.close_after_drain()
    assert read_all(peer) == data[offset : offset + count]
    assert not is_open(fd)


def test_order_of_bytes_and_files(connected: Connected, read_all: ReadAll) -> None:
    """Heads, files and tails leave in the order in which they were queued."""
    conn, peer = connected()
    expected = bytearray()
    for number in range(20):
        data = os.urandom(50_000)
        conn.send(b"head %d" % number)
        conn.send_file(file_with(data), 0, len(data))
        conn.send(b"tail %d" % number)
        expected += b"head %d" % number + data + b"tail %d" % number
    conn.close_after_drain()
    assert read_all(peer) == expected
    assert conn.bytes_sent == len(expected)


def test_large_file(connected: Connected, until: Until, tmp_path: Path) -> None:
    """More than 100 MB, mostly holes, arrive with the same hash, and count as unsent until they have left."""
    path = tmp_path / "large"
    size = 110_000_000
    with path.open("wb") as sparse:
        for place in range(0, size, 9_999_991):
            sparse.seek(place)
            sparse.write(os.urandom(100_000))
        sparse.truncate(size)
    with path.open("rb") as file:
        expected = hashlib.file_digest(file, "sha256").hexdigest()
    conn, peer = connected()
    assert not conn.send_file(os.open(path, os.O_RDONLY), 0, size)
    assert conn.write_buffer_size == size
    conn.close_after_drain()
    digest = hashlib.sha256()
    buffer = bytearray(1 << 20)

    def ended() -> bool:
        try:
            while count := peer.recv_into(buffer):
                digest.update(memoryview(buffer)[:count])
        except BlockingIOError:
            return False
        return True

    until(ended)
    assert digest.hexdigest() == expected


def test_file_back_pressure(connected: Connected, until: Until, read_all: ReadAll) -> None:
    """A file counts for the water marks, but not for the limit of memory."""
    conn, peer = connected()
    conn.max_buffer = 1000
    drains: list[int] = []

    def drained(conn: Connection) -> None:
        drains.append(conn.write_buffer_size)
        conn.close_after_drain()

    conn.on_drain = drained
    assert not conn.send_file(file_with(bytes(1 << 20)), 0, 1 << 20)
    assert len(read_all(peer)) == 1 << 20
    until(lambda: drains)
    assert drains == [0]


def test_truncated_file(connected: Connected, until: Until) -> None:
    """A file that ends early aborts the connection, so that the peer cannot take what it got for the whole."""
    conn, peer = connected()
    ended = endings(conn)
    fd = file_with(bytes(1000))
    conn.send(b"head")
    conn.send_file(fd, 0, 2000)
    until(lambda: ended)
    assert isinstance(ended[0], FileTruncatedError)
    assert not is_open(fd)
    with pytest.raises(ConnectionResetError):
        exhaust(peer)


def test_pipe_is_no_file(connected: Connected, until: Until) -> None:
    """What has no offsets cannot be sent as a range: the connection ends with the kernel's error."""
    conn, _ = connected()
    ended = endings(conn)
    reading, writing = os.pipe()
    os.close(writing)
    conn.send_file(reading, 0, 10)
    until(lambda: ended)
    assert isinstance(ended[0], OSError)
    assert ended[0].errno == errno.ESPIPE
    assert not is_open(reading)


def test_empty_range(connected: Connected, read_all: ReadAll) -> None:
    """A range of no bytes sends nothing and closes its file."""
    conn, peer = connected()
    fd = file_with(b"data")
    assert conn.send_file(fd, 0, 0)
    assert not is_open(fd)
    assert conn.write_buffer_size == 0
    conn.close_after_drain()
    assert read_all(peer) == b""


@pytest.mark.parametrize(("offset", "count"), [(-1, 10), (0, -10)])
def test_impossible_range(offset: int, count: int, connected: Connected) -> None:
    """A negative range is refused, and its file is closed."""
    conn, _ = connected()
    fd = file_with(b"data")
    with pytest.raises(ValueError, match="negative"):
        conn.send_file(fd, offset, count)
    assert not is_open(fd)


@pytest.mark.parametrize("end", ["close", "abort", "reset", "limit", "raise"])
def test_files_are_closed_on_every_path(end: str, connected: Connected, until: Until, errors: list[Exception]) -> None:
    """However a connection ends, the files that it had not sent are closed."""
    conn, peer = connected()
    ended = endings(conn)
    files = [os.memfd_create("long") for _ in range(3)]
    for fd in files:
        os.ftruncate(fd, 64 << 20)
        conn.send_file(fd, 0, 64 << 20)
    stalled = 0

    def stands() -> bool:
        nonlocal stalled
        before = conn.write_buffer_size
        stalled = stalled + 1 if before == conn.write_buffer_size and before < 192 << 20 else 0
        return stalled > 10

    until(stands)
    assert all(is_open(fd) for fd in files)
    if end == "close":
        conn.close()
    elif end == "abort":
        conn.abort()
    elif end == "reset":
        reset(peer)
    elif end == "limit":
        conn.max_buffer = 10
        assert not conn.send(bytes(11))
    else:
        conn.on_data = lambda *_: 1 // 0
        peer.send(b"x")
    until(lambda: ended)
    assert not any(is_open(fd) for fd in files)
    errors.clear()


def test_file_object(connected: Connected, read_all: ReadAll, tmp_path: Path) -> None:
    """A file object stays the caller's, may be closed at once, and without a count is sent to its end."""
    conn, peer = connected()
    (tmp_path / "file").write_bytes(b"0123456789")
    with (tmp_path / "file").open("rb") as file:
        conn.send_file(file)
        conn.send_file(file, 7)
        conn.send_file(file, 2, 3)
        conn.send_file(file, 20)
    conn.close_after_drain()
    assert read_all(peer) == b"0123456789789234"


# Several pieces -------------------------------------------------------------------------------------------------------


def test_sendv(connected: Connected, read_all: ReadAll) -> None:
    """Pieces of all kinds leave in order; what is changed afterwards was copied before."""
    conn, peer = connected()
    changeable = bytearray(b"b")
    assert conn.sendv([b"a", changeable, memoryview(b"c"), b""])
    assert conn.sendv([])
    conn.sendv(iter([b"d" * 200_000, b"e"]))
    changeable[0] = 0
    conn.close_after_drain()
    assert read_all(peer) == b"abc" + b"d" * 200_000 + b"e"


def test_sendv_is_all_or_nothing(connected: Connected, loop: Loop) -> None:
    """One piece that is not bytes-like, and nothing is queued."""
    conn, _peer = connected()
    with pytest.raises(TypeError):
        conn.sendv([b"a", "b"])  # type: ignore[list-item]
    assert conn.write_buffer_size == 0
    conn.close()
    with pytest.raises(ConnectionClosedError):
        conn.sendv([b"a"])
    loop.run_once(0)


def test_sendv_under_the_marks(connected: Connected, until: Until, read_all: ReadAll) -> None:
    """The marks and the hard limit look at the sum."""
    conn, peer = connected()
    drained: list[Connection] = []
    conn.on_drain = drained.append
    assert not conn.sendv([bytes(50_000), bytes(50_000)])
    assert conn.write_buffer_size == 100_000
    until(lambda: drained)
    told = endings(conn)
    conn.max_buffer = 100_000
    assert not conn.sendv([bytes(60_000), bytes(60_000)])
    until(lambda: told)
    assert isinstance(told[0], WriteBufferFullError)
    with pytest.raises(ConnectionResetError):
        read_all(peer)


# Reasons to pause -----------------------------------------------------------------------------------------------------


@given(calls=st.lists(st.tuples(st.booleans(), st.sampled_from(["", "proxy", "body", "quota"])), max_size=30))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pause_has_one_owner_per_reason(
    calls: list[tuple[bool, str]], connected: Connected, until: Until, loop: Loop
) -> None:
    """Data comes exactly while nobody wants it to wait."""
    conn, peer = connected()
    got = collect(conn)
    reasons: set[str] = set()
    sent = 0
    for pause, reason in calls:
        if pause:
            conn.pause_reading(reason)
            reasons.add(reason)
        else:
            conn.resume_reading(reason)
            reasons.discard(reason)
        assert conn.reading == (not reasons)
        peer.send(b"x")
        sent += 1
        before = len(got)
        loop.run_once(0)
        if reasons:
            assert len(got) == before
        else:
            until(lambda sent=sent: len(got) == sent)  # type: ignore[misc]
    for reason in reasons:
        assert not conn.reading
        conn.resume_reading(reason)
    until(lambda: len(got) == sent)
    conn.abort()
    peer.close()


# Idle -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def timed(
    backend: Backend, tcp_pair: Pair, errors: list[Exception]
) -> Iterator[Callable[[], tuple[Connection, socket.socket, FakeClock]]]:
    """Make connections on a loop whose time moves when it is told to."""
    clock = FakeClock()
    with Loop(backend, clock=clock) as loop:
        loop.exception_handler = lambda error, _owner: errors.append(error)

        def make() -> tuple[Connection, socket.socket, FakeClock]:
            here, there = tcp_pair()
            conn = Connection(loop, here)
            conn.start()
            return conn, there, clock

        yield make


def idle_of(conn: Connection) -> float | None:
    """Return what is set: mypy believes that a property is what was assigned to it."""
    return conn.idle_timeout


Timed = Callable[[], tuple[Connection, socket.socket, FakeClock]]


def passes(conn: Connection, clock: FakeClock, seconds: float) -> None:
    """Let time pass, in small steps."""
    for _ in range(round(seconds * 10)):
        clock.advance(0.1)
        conn.loop.run_once(0)


def arrives(conn: Connection, peer: socket.socket, data: bytes) -> None:
    """Send something to the connection, and wait until it has come."""
    told = len(collected := collect(conn))
    peer.send(data)
    while len(collected) == told:
        conn.loop.run_once(0)


def test_idle_timeout(timed: Timed) -> None:
    """Nothing for so long, and the connection ends with a reason; the peer sees an ordinary end."""
    conn, peer, clock = timed()
    told = endings(conn)
    assert conn.idle_timeout is None
    conn.idle_timeout = 5
    assert conn.idle_timeout == 5
    passes(conn, clock, 4.9)
    assert not conn.closed
    passes(conn, clock, 0.3)
    assert isinstance(told[0], IdleTimeoutError)
    assert isinstance(told[0], TimeoutError)
    peer.setblocking(True)
    assert peer.recv(10) == b""


def test_one_byte_now_and_then(timed: Timed) -> None:
    """Whatever comes or goes starts the time over, to the tick."""
    conn, peer, clock = timed()
    told = endings(conn)
    conn.idle_timeout = 5
    for _ in range(20):
        passes(conn, clock, 4.8)
        arrives(conn, peer, b"x")
    for _ in range(5):
        passes(conn, clock, 4.8)
        conn.send(b"x")
        conn.loop.run_once(0)
    passes(conn, clock, 4.8)
    assert told == []
    passes(conn, clock, 0.4)
    assert isinstance(told[0], IdleTimeoutError)


def test_sending_into_nothing_is_idle(timed: Timed) -> None:
    """What is only queued is no sign of life; the end is a reset, because something is lost."""
    conn, peer, clock = timed()
    told = endings(conn)
    while conn.write_buffer_size < 1 << 20:
        conn.send(bytes(1 << 20))
        conn.loop.run_once(0)
    conn.idle_timeout = 5
    for _ in range(5):
        conn.send(b"still there?")
        passes(conn, clock, 0.95)
    assert told == []
    passes(conn, clock, 0.5)
    assert isinstance(told[0], IdleTimeoutError)
    peer.setblocking(True)
    with pytest.raises(ConnectionResetError):
        exhaust(peer)


def test_idle_timeout_is_taken_back(timed: Timed) -> None:
    """None waits for ever again; another value begins anew; after the end it does nothing."""
    conn, _peer, clock = timed()
    told = endings(conn)
    conn.idle_timeout = 5
    passes(conn, clock, 4)
    conn.idle_timeout = None
    passes(conn, clock, 10)
    conn.idle_timeout = 3
    passes(conn, clock, 2)
    conn.idle_timeout = 4
    passes(conn, clock, 3)
    assert told == []
    conn.close()
    conn.idle_timeout = 5
    assert idle_of(conn) is None
    passes(conn, clock, 6)
    assert told == [None]
    assert conn.loop.stats.timers == 0


# Fairness -------------------------------------------------------------------------------------------------------------


def test_flooding_peer_does_not_delay_a_timer(loop: Loop) -> None:
    """While a peer floods, a timer is at most as late as the reading of one quota takes."""
    here, there = socket.socketpair()
    here.setblocking(False)
    stop = threading.Event()

    def flood() -> None:
        chunk = bytes(1 << 20)
        while not stop.is_set():
            try:
                there.sendall(chunk)
            except OSError:
                return

    conn = Connection(loop, here)
    turns: dict[int, int] = {}

    def count(conn: Connection, data: bytes) -> None:
        turn = conn.loop.stats.iterations
        turns[turn] = turns.get(turn, 0) + len(data)

    conn.on_data = count
    conn.start()
    thread = threading.Thread(target=flood)
    thread.start()
    ticks: list[int] = []  # the iteration of each
    try:
        timer = loop.call_every(0.01, lambda: ticks.append(loop.stats.iterations))
        loop.call_later(0.3, loop.stop)
        loop.run()
        timer.cancel()
    finally:
        stop.set()
        conn.abort()
        there.close()
        thread.join()
    assert len(ticks) >= 3
    assert sum(turns.values()) > 1 << 20
    # Not the time itself, which is a neighbour's to spoil: an iteration looks at the timers twice, so never more bytes
    # come between two looks than a quota, and the read that crosses it.
    assert max(turns.values()) <= 2 * (READ_QUOTA + 65536)
    loop.run_once(0)
