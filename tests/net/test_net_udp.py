"""UDP on every backend, with the functions in C and their twins: sizes, errors, groups, options, faults, ends."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import pickle
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn, cast, final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nimloop_core import READ, WRITE, Loop
from nimloop_core.testing import FakeBackend, FakeClock
from nimloop_net import (
    AddressError,
    ConnectionClosedError,
    DatagramError,
    DatagramRefusedError,
    DatagramTooLargeError,
    LimitError,
    NetError,
    UdpSocket,
    _datagram_py,
    _icmp,
    _udp,
)

Until = Callable[[Callable[[], object]], None]
Rest = Callable[[float], None]
Address = tuple[str, int] | tuple[str, int, int, int]

LOCAL = "127.0.0.1"
LARGEST = 65507  # 65535 less the headers of IPv4 (20) and UDP (8)
LINUX = sys.platform == "linux"
SO_TIMESTAMP = 29  # from <asm-generic/socket.h>; the socket module has no such name

TWINS = ["Python"]
try:
    from nimloop_net import _datagram_c
except ImportError:
    pass
else:
    TWINS.append("C")


@pytest.fixture(params=TWINS, autouse=True)
def twin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Use the functions in C, where they are built, and their twins."""
    name = str(request.param)
    module = _datagram_py if name == "Python" else _datagram_c
    for function in ("receive", "send", "send_to", "BUFFER_BYTES"):
        monkeypatch.setattr(_udp, function, getattr(module, function))
    return name


@final
class Post:
    """What a socket has received."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.senders: list[Address] = []
        self.errors: list[DatagramError] = []
        self.drains = 0

    def on_datagram(self, sock: UdpSocket, data: bytes, address: Address) -> None:
        """Note it."""
        self.data.append(data)
        self.senders.append(address)

    def on_error(self, sock: UdpSocket, error: DatagramError) -> None:
        """Note it."""
        self.errors.append(error)

    def on_drain(self, sock: UdpSocket) -> None:
        """Note it."""
        self.drains += 1


@pytest.fixture
def post() -> Post:
    """Collect what a socket receives."""
    return Post()


def echo(sock: UdpSocket, data: bytes, address: Address) -> None:
    """Send it back."""
    sock.send_to(data, address)


@pytest.fixture
def server(loop: Loop) -> Iterator[UdpSocket]:
    """Send everything back."""
    with UdpSocket.bind(loop, LOCAL, 0, on_datagram=echo) as server:
        yield server


@pytest.fixture
def client(loop: Loop, server: UdpSocket, post: Post) -> Iterator[UdpSocket]:
    """Talk to the server."""
    with UdpSocket.connect(
        loop, *server.local[:2], on_datagram=post.on_datagram, on_error=post.on_error, on_drain=post.on_drain
    ) as client:
        yield client


@pytest.fixture
def bare() -> Iterator[socket.socket]:
    """Give a socket that is not on the loop."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((LOCAL, 0))
        sock.setblocking(False)
        yield sock


# Datagrams ------------------------------------------------------------------------------------------------------------


def test_there_and_back(server: UdpSocket, client: UdpSocket, post: Post, until: Until) -> None:
    """A datagram arrives whole, with its sender, and its answer does, too."""
    assert client.send(b"hello") is True
    until(lambda: post.data)
    assert post.data == [b"hello"]
    assert post.senders == [server.local]
    assert client.peer == server.local
    assert server.peer is None


@pytest.mark.parametrize("size", [0, 1, 1472, 1473, 4096, 4097, 65000, LARGEST])
def test_sizes(client: UdpSocket, post: Post, until: Until, size: int) -> None:
    """Nothing is truncated, and an empty datagram is one as well."""
    data = os.urandom(size)
    client.send(data)
    client.send(b"end")
    until(lambda: len(post.data) == 2)
    assert post.data == [data, b"end"]


def test_too_large(client: UdpSocket, post: Post, until: Until) -> None:
    """What does not fit is refused with its size, and the socket goes on."""
    with pytest.raises(DatagramTooLargeError, match=str(LARGEST + 1)) as caught:
        client.send(bytes(LARGEST + 1))
    assert caught.value.errno == errno.EMSGSIZE
    assert isinstance(caught.value, LimitError)
    client.send(b"x")
    until(lambda: post.data)


@pytest.mark.parametrize("data", [b"bytes", bytearray(b"bytearray"), memoryview(b"memory view")[::1]])
def test_bytes_like(client: UdpSocket, post: Post, until: Until, data: bytes) -> None:
    """Anything with bytes in it can be sent."""
    client.send(data)
    until(lambda: post.data)
    assert post.data == [bytes(data)]


def test_text_is_refused(client: UdpSocket) -> None:
    """Text is no bytes."""
    with pytest.raises(TypeError):
        client.send("text")  # type: ignore[arg-type]


def test_many_senders(server: UdpSocket, loop: Loop, until: Until) -> None:
    """Each gets its own answer."""
    posts = [Post() for _ in range(50)]
    clients = [UdpSocket.connect(loop, *server.local[:2], on_datagram=each.on_datagram) for each in posts]
    for number, client in enumerate(clients):
        client.send(b"%d" % number)
    until(lambda: all(each.data for each in posts))
    assert [each.data for each in posts] == [[b"%d" % number] for number in range(50)]
    for client in clients:
        client.close()


def test_batches_have_a_bound(loop: Loop, until: Until, post: Post, bare: socket.socket) -> None:
    """A flood is read in portions, so that timers have their turn, and nothing of it is lost to the portions."""
    with UdpSocket.bind(loop, LOCAL, 0, on_datagram=post.on_datagram) as sock:
        for number in range(100):
            bare.sendto(b"%d" % number, sock.local)
        most = 0
        while len(post.data) < 100:
            before = len(post.data)
            loop.run_once(1.0)
            most = max(most, len(post.data) - before)
    assert most == _datagram_py.BATCH
    assert post.data == [b"%d" % number for number in range(100)]


def test_ipv6(loop: Loop, until: Until, post: Post) -> None:
    """IPv6 addresses have four parts, and are answered as they are."""
    with (
        UdpSocket.bind(loop, "::1", 0, on_datagram=echo) as server,
        UdpSocket.connect(loop, "::1", server.local[1], on_datagram=post.on_datagram) as client,
        UdpSocket.bind(loop, "::1", 0, on_datagram=post.on_datagram) as other,
    ):
        client.send(bytes(LARGEST + 20))  # the header of IPv6 does not count
        until(lambda: post.data)
        assert post.senders == [server.local]
        assert len(server.local) == 4
        assert len(post.data[0]) == LARGEST + 20
        other.send_to(b"two parts", ("::1", server.local[1]))
        until(lambda: len(post.data) == 2)
        other.send_to(b"four parts", ("::1", server.local[1], 0, 0))
        until(lambda: len(post.data) == 3)
        assert post.data[1:] == [b"two parts", b"four parts"]
        with pytest.raises(AddressError, match="family"):
            other.send_to(b"", (LOCAL, 1))


def test_both_families(loop: Loop, until: Until, post: Post) -> None:
    """Bound to all of the machine, one socket serves both families, and takes IPv4 addresses in either writing."""
    with (
        UdpSocket.bind(loop, None, 0, on_datagram=echo) as server,
        UdpSocket.connect(loop, LOCAL, server.local[1], on_datagram=post.on_datagram) as four,
        UdpSocket.connect(loop, "::1", server.local[1], on_datagram=post.on_datagram) as six,
    ):
        four.send(b"4")
        six.send(b"6")
        server.send_to(b"unasked", (LOCAL, four.local[1]))
        until(lambda: len(post.data) == 3)
        assert sorted(post.data) == [b"4", b"6", b"unasked"]


def test_wildcards_of_one_family(loop: Loop) -> None:
    """The two wildcards do not get into each other's way."""
    with UdpSocket.bind(loop, "0.0.0.0", 0) as four, UdpSocket.bind(loop, "::", four.local[1]) as six:
        assert six.local[:2] == ("::", four.local[1])
        with pytest.raises(AddressError, match="family"):
            six.send_to(b"", (LOCAL, 1))
        with pytest.raises(AddressError, match="family"):
            four.send_to(b"", ("::1", 1))


def test_peer_of_asyncio(loop: Loop, until: Until, post: Post) -> None:
    """The standard library's datagrams and ours are the same."""
    ready = threading.Event()
    where: list[int] = []

    class Upper(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast("asyncio.DatagramTransport", transport)  # which it is in all but name

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            self.transport.sendto(data.upper(), addr)

    async def serve() -> None:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Upper, local_addr=(LOCAL, 0))
        where.append(transport.get_extra_info("sockname")[1])
        ready.set()
        while where:  # noqa: ASYNC110 - told by another thread
            await asyncio.sleep(0.005)
        transport.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(20)
        with UdpSocket.connect(loop, LOCAL, where[0], on_datagram=post.on_datagram) as client:
            for data in (b"a", b"b" * LARGEST):
                client.send(data)
            until(lambda: len(post.data) == 2)
        assert post.data == [b"A", b"B" * LARGEST]
    finally:
        where.clear()
        thread.join(20)


@pytest.mark.skipif(shutil.which("socat") is None, reason="needs socat")
def test_socat(loop: Loop, until: Until, server: UdpSocket) -> None:
    """A client that everybody has gets its datagrams back."""
    with subprocess.Popen(
        ["socat", "-t0.2", "-", f"UDP:{LOCAL}:{server.local[1]}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as socat:
        assert socat.stdin is not None
        assert socat.stdout is not None
        os.set_blocking(socat.stdout.fileno(), False)
        socat.stdin.write(b"hello\n")
        socat.stdin.flush()
        out = socat.stdout
        got = bytearray()

        def complete() -> bool:
            got.extend(out.read() or b"")
            return got == b"hello\n"

        until(complete)
        socat.stdin.close()


def test_take_over(loop: Loop, until: Until, post: Post, bare: socket.socket) -> None:
    """A socket that somebody else has bound is served; anything but a datagram socket is refused."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inherited:
        inherited.bind((LOCAL, 0))
        with UdpSocket(loop, inherited, on_datagram=post.on_datagram) as sock:
            bare.sendto(b"x", sock.local)
            until(lambda: post.data)
    with socket.socket() as stream, pytest.raises(AddressError):
        UdpSocket(loop, stream)


# Addresses ------------------------------------------------------------------------------------------------------------


def test_names_are_not_looked_up(
    loop: Loop, server: UdpSocket, client: UdpSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that is called in operation asks the system for a name."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kinds: pytest.fail("looked up a name"))
    with pytest.raises(AddressError, match="resolve"):
        server.send_to(b"", ("localhost", 1))
    with pytest.raises(AddressError, match="resolve"):
        UdpSocket.connect(loop, "localhost", 1)


@pytest.mark.parametrize(
    "address", [(LOCAL, -1), (LOCAL, 65536), ("::1%nowhere", 1), ("[::1]", 1), ("1.2.3", 1), ("", 1)]
)
def test_what_is_no_address(server: UdpSocket, address: tuple[str, int]) -> None:
    """Bad addresses are told apart before the system sees them."""
    with pytest.raises(AddressError):
        server.send_to(b"", address)


def test_send_needs_a_peer(server: UdpSocket, client: UdpSocket) -> None:
    """Each of the two ways to send is for its kind of socket."""
    with pytest.raises(AddressError, match="send_to"):
        server.send(b"")
    with pytest.raises(AddressError, match="use send"):
        client.send_to(b"", server.local)


def test_known_addresses_are_bounded(loop: Loop, server: UdpSocket, client: UdpSocket) -> None:
    """A server that sends to ever more addresses does not remember them all."""
    for number in range(3000):
        server.send_to(b"", (LOCAL, 1 + number))
    assert len(server._known) <= 1024


def test_bind_by_name(loop: Loop) -> None:
    """Binding is done before operation, and may look a name up."""
    with UdpSocket.bind(loop, "localhost", 0) as sock:
        assert sock.local[0] in {LOCAL, "::1"}
    with pytest.raises(socket.gaierror):
        UdpSocket.bind(loop, "nosuch.invalid", 0)
    with pytest.raises(AddressError):
        UdpSocket.bind(loop, "." + "x" * 70, 0)


def test_system_of_one_family(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without IPv6, all addresses of this machine are those of IPv4."""
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with UdpSocket.bind(loop, None, 0) as sock:
        assert sock.local[0] == "0.0.0.0"


def test_system_without_shared_ports(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no SO_REUSEPORT, asking for it is an error rather than ignored."""
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    with pytest.raises(AddressError, match="SO_REUSEPORT"):
        UdpSocket.bind(loop, LOCAL, 0, reuse_port=True)


def test_second_bind(loop: Loop, server: UdpSocket) -> None:
    """Two sockets cannot share a port by accident, but can on purpose."""
    with pytest.raises(OSError, match=str(server.local[1])) as caught:
        UdpSocket.bind(loop, *server.local[:2])
    assert caught.value.errno == errno.EADDRINUSE
    with (
        UdpSocket.bind(loop, LOCAL, 0, reuse_port=True) as first,
        UdpSocket.bind(loop, *first.local[:2], reuse_port=True) as second,
    ):
        assert first.local == second.local


def test_local_address(loop: Loop, until: Until, post: Post) -> None:
    """A client can choose where it sends from."""
    with (
        UdpSocket.bind(loop, LOCAL, 0, on_datagram=post.on_datagram) as server,
        UdpSocket.connect(loop, LOCAL, server.local[1], local_address=("127.0.0.2", 0)) as client,
    ):
        client.send(b"")
        until(lambda: post.data)
        assert post.senders[0][0] == "127.0.0.2"
        with pytest.raises(AddressError, match="resolve"):
            UdpSocket.connect(loop, LOCAL, 1, local_address=("localhost", 0))


# Errors of the network ------------------------------------------------------------------------------------------------


def unused_port() -> int:
    """Return a port that nobody receives on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((LOCAL, 0))
        return int(sock.getsockname()[1])


def test_refused(loop: Loop, until: Until, post: Post) -> None:
    """A connected socket hears that nobody listens, and goes on."""
    port = unused_port()
    with UdpSocket.connect(loop, LOCAL, port, on_error=post.on_error) as client:
        client.send(b"anybody?")
        until(lambda: post.errors)
        (error,) = post.errors
        assert isinstance(error, DatagramRefusedError)
        assert isinstance(error, ConnectionRefusedError)
        assert isinstance(error, NetError)
        assert error.errno == errno.ECONNREFUSED
        assert error.address == (LOCAL, port)
        assert str(port) in str(error)
        client.on_datagram = post.on_datagram
        with UdpSocket.bind(loop, LOCAL, port, on_datagram=echo):
            client.send(b"now?")
            until(lambda: post.data)
        assert len(post.errors) == 1


def test_refused_at_the_next_send(loop: Loop, until: Until, post: Post) -> None:
    """The call that learns of an earlier datagram's fate does not raise, is not called back from inside, and sends."""
    port = unused_port()
    with UdpSocket.connect(loop, LOCAL, port, on_error=post.on_error) as client:
        client.send(b"lost")  # over the loopback device, the answer is here already
        with UdpSocket.bind(loop, LOCAL, port, on_datagram=post.on_datagram):
            assert client.send(b"not lost") is True
            assert post.errors == []
            until(lambda: post.data)
            assert post.data == [b"not lost"]
            until(lambda: post.errors)


def test_refused_without_on_error(loop: Loop, rest: Rest) -> None:
    """Nobody wants to know: nothing happens, and the loop does not spin."""
    with UdpSocket.connect(loop, LOCAL, unused_port()) as client:
        for _ in range(3):
            assert client.send(b"") is True
            rest(0.01)


@pytest.mark.skipif(not LINUX, reason="only Linux queues the reports")
def test_reports_for_many(loop: Loop, until: Until, rest: Rest, post: Post, backend: object) -> None:
    """A socket that sends to many can hear which of them is not there."""
    ports = [unused_port() for _ in range(3)]
    with UdpSocket.bind(loop, LOCAL, 0, on_error=post.on_error, report_errors=True) as sock:
        for port in ports:
            sock.send_to(b"anybody?", (LOCAL, port))
        until(lambda: len(post.errors) == 3)
        rest(0.01)
    assert [error.address for error in post.errors] == [(LOCAL, port) for port in ports]
    assert {error.errno for error in post.errors} == {errno.ECONNREFUSED}


@pytest.mark.skipif(not LINUX, reason="only Linux queues the reports")
def test_reports_for_many_over_ipv6(loop: Loop, until: Until, post: Post) -> None:
    """The same with the other family."""
    port = unused_port()
    with UdpSocket.bind(loop, "::1", 0, on_error=post.on_error, report_errors=True) as sock:
        sock.send_to(b"anybody?", ("::1", port))
        until(lambda: post.errors)
    assert post.errors[0].address == ("::1", port, 0, 0)


@pytest.mark.skipif(not LINUX, reason="only Linux queues the reports")
def test_reports_in_moderation(loop: Loop, until: Until, rest: Rest, post: Post) -> None:
    """However many there are, an event is worth two times 64; the rest comes with the next, and none after `close`."""
    port = unused_port()
    with UdpSocket.bind(loop, LOCAL, 0, on_error=post.on_error, report_errors=True) as sock:
        for _ in range(150):
            sock.send_to(b"", (LOCAL, port))
        loop.run_once(0)
        assert 0 < len(post.errors) <= 128
        until(lambda: len(post.errors) == 150)

        def on_error(sock: UdpSocket, error: DatagramError) -> None:
            post.on_error(sock, error)
            sock.close()

        sock.on_error = on_error
        for _ in range(3):
            sock.send_to(b"", (LOCAL, port))
        until(lambda: sock.closed)
        rest(0.01)
    assert len(post.errors) == 151


@pytest.mark.skipif(not LINUX, reason="only Linux queues the reports")
def test_reports_of_our_own_system(loop: Loop, rest: Rest, post: Post) -> None:
    """What the call has said itself is queued as well, and not told twice."""
    if loop.backend == "kqueue":
        pytest.skip("the stand-in does not know of a queue of errors")
    with UdpSocket.bind(loop, LOCAL, 0, on_error=post.on_error, report_errors=True) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMP, 1)  # which comes with a report, and is none
        with pytest.raises(DatagramTooLargeError, match=str(LARGEST + 1)):
            sock.send_to(bytes(LARGEST + 1), (LOCAL, 9))
        rest(0.01)
        assert post.errors == []
        with pytest.raises(BlockingIOError):
            _icmp.next_report(sock._sock)


def test_failing_callbacks(loop: Loop, until: Until, errors: list[Exception], bare: socket.socket, post: Post) -> None:
    """A callback that raises is reported; the rest of the batch and the socket go on."""

    def on_datagram(sock: UdpSocket, data: bytes, address: Address) -> None:
        if data == b"bad":
            raise ValueError("bad")
        post.on_datagram(sock, data, address)

    with UdpSocket.bind(loop, LOCAL, 0, on_datagram=on_datagram) as sock:
        for data in (b"1", b"bad", b"2"):
            bare.sendto(data, sock.local)
        until(lambda: len(post.data) == 2)
    assert isinstance(errors.pop(), ValueError)

    def on_error(sock: UdpSocket, error: DatagramError) -> None:
        raise error

    with UdpSocket.connect(loop, LOCAL, unused_port(), on_error=on_error) as sock:
        sock.send(b"")
        until(lambda: errors)
    assert isinstance(errors.pop(), DatagramRefusedError)


# Options --------------------------------------------------------------------------------------------------------------

# One for each process: a socket bound to 0.0.0.0 hears every group that anybody on the machine has joined (ip(7),
# IP_MULTICAST_ALL), and another run of these tests may be going on.
GROUP = f"239.255.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
GROUP6 = "ff01::7777"  # never leaves the interface (RFC 4291 §2.7)


def multicast_works(group: str, interface: str) -> bool:
    """Tell whether this machine lets datagrams to a group through its loopback interface."""
    family = socket.AF_INET6 if ":" in group else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.5)
        sock.bind(("", 0))
        try:
            if family == socket.AF_INET6:
                index = socket.if_nametoindex(interface)
                packed = socket.inet_pton(family, group) + index.to_bytes(4, sys.byteorder)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, packed)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            else:
                here = socket.inet_aton(interface)
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + here)
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, here)
            sock.sendto(b"", (group, sock.getsockname()[1]))
            sock.recv(1)
        except OSError:
            return False
        return True


@pytest.mark.parametrize("interface", [LOCAL, "lo", 1])
def test_multicast(loop: Loop, until: Until, rest: Rest, post: Post, interface: str | int) -> None:
    """Members of a group get what is sent to it, until they leave; the interface has a name, a number or an address."""
    if not multicast_works(GROUP, LOCAL) or socket.if_nameindex()[0] != (1, "lo"):
        pytest.skip("no multicast over lo")
    with (
        UdpSocket.bind(loop, "0.0.0.0", 0, reuse_address=True, on_datagram=post.on_datagram) as member,
        UdpSocket.bind(loop, LOCAL, 0) as sender,
    ):
        member.join(GROUP, interface)
        sender.set_multicast_interface(interface)
        sender.send_to(b"to all", (GROUP, member.local[1]))
        until(lambda: post.data)
        with pytest.raises(OSError):
            member.join(GROUP, interface)
        member.leave(GROUP, interface)
        with pytest.raises(OSError):
            member.leave(GROUP, interface)
        sender.send_to(b"to nobody", (GROUP, member.local[1]))
        rest(0.02)
        assert post.data == [b"to all"]


def test_multicast_to_several(loop: Loop, until: Until) -> None:
    """Two members on one port both get a datagram."""
    if not multicast_works(GROUP, LOCAL):
        pytest.skip("no multicast over lo")
    posts = [Post(), Post()]
    with (
        UdpSocket.bind(loop, GROUP, 0, reuse_address=True, on_datagram=posts[0].on_datagram) as first,
        UdpSocket.bind(loop, *first.local[:2], reuse_address=True, on_datagram=posts[1].on_datagram) as second,
        UdpSocket.connect(loop, *first.local[:2], local_address=(LOCAL, 0)) as sender,
    ):
        for member in (first, second):
            member.join(GROUP, LOCAL)
        sender.set_multicast_interface(LOCAL)
        assert sender.multicast_loopback is True
        sender.send(b"x")
        until(lambda: all(each.data for each in posts))


def test_multicast_ipv6(loop: Loop, until: Until, post: Post) -> None:
    """Groups of IPv6 are joined by the interface's name, number or zone."""
    interfaces = [each for each in socket.if_nameindex() if multicast_works(GROUP6, each[1])]
    if not interfaces:
        pytest.skip("no interface with IPv6 multicast")
    index, name = interfaces[0]
    with (
        UdpSocket.bind(loop, "::", 0, on_datagram=post.on_datagram) as member,
        UdpSocket.bind(loop, "::", 0) as sender,
    ):
        sender.set_multicast_interface(name)
        ways: list[tuple[str, str | int | None]] = [(GROUP6, name), (GROUP6, index), (f"{GROUP6}%{name}", None)]
        for group, interface in ways:
            member.join(group, interface)
            sender.send_to(b"x", (f"{GROUP6}%{name}", member.local[1]))
            sender.send_to(b"y", (GROUP6, member.local[1]))
            until(lambda: len(post.data) == 2)
            post.data.clear()
            member.leave(group, interface)


def test_what_is_no_group(loop: Loop) -> None:
    """Groups and interfaces that are none are refused before the system sees them."""
    with UdpSocket.bind(loop, LOCAL, 0) as four, UdpSocket.bind(loop, "::1", 0) as six:
        for sock, group in [(four, LOCAL), (four, GROUP6), (six, "::1"), (six, GROUP), (four, "localhost")]:
            with pytest.raises(AddressError):
                sock.join(group)
        for sock, group in [(four, GROUP), (six, GROUP6)]:
            with pytest.raises(AddressError, match="nowhere"):
                sock.join(group, "nowhere")
            with pytest.raises(AddressError, match="nowhere"):
                sock.set_multicast_interface("nowhere")


@pytest.mark.parametrize("host", [LOCAL, "::1"])
def test_hops_and_loopback(loop: Loop, host: str) -> None:
    """The options of both families have one name each."""
    with UdpSocket.bind(loop, host, 0) as sock:
        assert sock.multicast_ttl == 1
        sock.ttl = 7
        sock.multicast_ttl = 200
        assert (sock.ttl, sock.multicast_ttl) == (7, 200)
        assert sock.multicast_loopback is True
        sock.multicast_loopback = False
        assert sock.multicast_loopback is False
        for hops in (-1, 256):
            with pytest.raises(ValueError, match=str(hops)):
                sock.ttl = hops
            with pytest.raises(ValueError, match=str(hops)):
                sock.multicast_ttl = hops


def test_interface_of_the_systems_choice(loop: Loop) -> None:
    """None takes back a choice that was made by number."""
    index = socket.if_nametoindex("lo") if LINUX else 1
    with UdpSocket.bind(loop, LOCAL, 0) as four, UdpSocket.bind(loop, "::1", 0) as six:
        four.set_multicast_interface(LOCAL)
        assert four.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF) != 0
        four.set_multicast_interface(None)
        assert four.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF) == 0
        six.set_multicast_interface(index)
        assert six.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF) == index
        six.set_multicast_interface(None)
        assert six.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF) == 0


def test_broadcast(loop: Loop) -> None:
    """Broadcasting has to be asked for; without, the caller is told so."""
    with UdpSocket.bind(loop, "0.0.0.0", 0) as sock:
        assert sock.broadcast is False
        with pytest.raises(PermissionError):
            sock.send_to(b"", ("127.255.255.255", 9))
        sock.broadcast = True
        assert sock.broadcast is True
        assert sock.send_to(b"", ("127.255.255.255", 9)) is True


def test_other_options(loop: Loop) -> None:
    """Whatever else a socket has can be set."""
    with UdpSocket.bind(loop, LOCAL, 0) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= 65536
        assert sock.fileno() >= 0


# Ends -----------------------------------------------------------------------------------------------------------------


def test_close_inside(loop: Loop, until: Until, bare: socket.socket, post: Post) -> None:
    """Closing in the middle of a batch ends the batch."""

    def on_datagram(sock: UdpSocket, data: bytes, address: Address) -> None:
        post.on_datagram(sock, data, address)
        sock.close()

    sock = UdpSocket.bind(loop, LOCAL, 0, on_datagram=on_datagram)
    for _ in range(5):
        bare.sendto(b"x", sock.local)
    until(lambda: post.data)
    loop.run_once(0)
    assert post.data == [b"x"]


def test_close_inside_on_error(loop: Loop, until: Until, post: Post) -> None:
    """Closing when told of an error is the end of it."""

    def on_error(sock: UdpSocket, error: DatagramError) -> None:
        post.on_error(sock, error)
        sock.close()

    sock = UdpSocket.connect(loop, LOCAL, unused_port(), on_error=on_error)
    sock.send(b"")
    sock.send(b"")
    until(lambda: sock.closed)
    loop.run_once(0)
    assert len(post.errors) == 1


def test_after_close(server: UdpSocket, client: UdpSocket) -> None:
    """A closed socket says so, whatever is asked of it; closing it again is harmless."""
    address = server.local
    assert repr(server) == f"<UdpSocket open local={address!r} peer=None>"
    assert repr(client) == f"<UdpSocket open local={client.local!r} peer={address!r}>"
    for sock in (server, client):
        sock.close()
        sock.close()
        assert sock.closed
        assert sock.fileno() == -1
        assert repr(sock) == "<UdpSocket closed>"
    for call in (
        lambda: server.send_to(b"", address),
        lambda: server.send_to(b"", (LOCAL, 1)),
        lambda: client.send(b""),
        lambda: server.local,
        lambda: server.join(GROUP),
        lambda: server.ttl,
        lambda: server.broadcast,
    ):
        with pytest.raises(ConnectionClosedError):
            call()


def test_unclosed(loop: Loop) -> None:
    """A socket that is dropped with its loop is missed, and closed."""
    sock = UdpSocket.bind(loop, LOCAL, 0)
    fd = sock.fileno()
    loop.close()
    with pytest.warns(ResourceWarning, match="unclosed <UdpSocket"):
        del sock
    gc.collect()
    with pytest.raises(OSError):
        os.fstat(fd)


def open_descriptors() -> int:
    """Count the descriptors of this process, where the system tells."""
    return len(list(Path("/proc/self/fd").iterdir())) if LINUX else 0


def test_registration_fails(loop: Loop, refuse: Callable[[OSError, int], None]) -> None:
    """When the loop does not want the socket, it does not stay open."""
    before = open_descriptors()
    refuse(OSError(errno.ENOSPC, "no more watches"), 0)
    with pytest.raises(OSError, match="no more watches"):
        UdpSocket.bind(loop, LOCAL, 0)
    with pytest.raises(OSError, match="no more watches"):
        UdpSocket.connect(loop, LOCAL, 1)
    assert open_descriptors() == before


# Faults ---------------------------------------------------------------------------------------------------------------

ROOM = "room"
NO_ROOM = "no room"
NETWORK = sorted(_icmp.NETWORK)
OTHERS = [errno.EINVAL, errno.EACCES, errno.ENOMEM, errno.EIO, errno.EBADF]


@final
class Kernel:
    """Stands in for the functions that make system calls: each call has the outcome that is next."""

    def __init__(self, outcomes: list[str | int]) -> None:
        self.outcomes = outcomes
        self.sent: list[bytes] = []

    def send(self, sock: socket.socket, fd: int, data: bytes) -> bool:
        """Take the datagram, have no room, or fail; for ever take it when the outcomes are used up."""
        outcome = self.outcomes.pop(0) if self.outcomes else ROOM
        if isinstance(outcome, int):
            raise OSError(outcome, os.strerror(outcome))
        if outcome == ROOM:
            self.sent.append(data)
        return outcome == ROOM

    def send_to(self, sock: socket.socket, fd: int, data: bytes, address: Address) -> bool:
        """Do the same."""
        return self.send(sock, fd, data)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    outcomes=st.lists(
        st.sampled_from([ROOM, NO_ROOM, errno.EMSGSIZE, errno.ENOBUFS, *NETWORK, *OTHERS]), min_size=1, max_size=12
    ),
    connected=st.booleans(),
)
def test_sending_with_faults(
    outcomes: list[str | int],
    connected: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the system answers: sent, or False with on_drain to follow, or on_error, or an exception."""
    kernel = Kernel(list(outcomes))
    clock = FakeClock()
    backend = FakeBackend(clock, edge=False)
    post = Post()
    with monkeypatch.context() as patch, Loop(backend, clock=clock) as loop:
        patch.setattr(_udp, "send", kernel.send)
        patch.setattr(_udp, "send_to", kernel.send_to)
        patch.setattr(_udp, "receive", lambda *_: [])
        make = UdpSocket.connect if connected else UdpSocket.bind
        with make(loop, LOCAL, 9 if connected else 0, on_error=post.on_error, on_drain=post.on_drain) as sock:
            owed = sent = told = 0
            raised: list[int | None] = []
            faults: list[int] = []
            while kernel.outcomes:
                first = kernel.outcomes[0]
                second = kernel.outcomes[1] if len(kernel.outcomes) > 1 else ROOM
                data = b"%d" % len(kernel.outcomes)
                if isinstance(first, int) and first in {errno.EMSGSIZE, *OTHERS}:
                    faults.append(first)
                try:
                    taken = sock.send(data) if connected else sock.send_to(data, (LOCAL, 9))
                except OSError as error:
                    raised.append(error.errno)
                    continue
                outcome = second if first in NETWORK else first  # such an error is about an earlier datagram
                told += first in NETWORK
                sent += outcome == ROOM
                assert taken is (outcome not in {NO_ROOM, errno.ENOBUFS} or (first in NETWORK and outcome != NO_ROOM))
                if not taken:
                    owed += 1
                    assert post.drains == owed - 1
                    backend.put(sock.fileno(), WRITE)
                    loop.call_later(0.02, lambda: None)
                    loop.run_once()
                    loop.run_once()
                    assert post.drains == owed
            loop.call_soon(lambda: None)
            loop.run_once(0)
            assert len(kernel.sent) == sent
            assert len(post.errors) == told
            assert post.drains == owed
            assert raised == faults


@pytest.mark.parametrize("fault", [NO_ROOM, errno.ENOBUFS])
def test_on_drain_may_do_anything(fault: str | int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may raise, which is reported, or close the socket; one that is closed before it comes hears nothing."""
    clock = FakeClock()
    backend = FakeBackend(clock, edge=False)
    reported: list[Exception] = []
    drained: list[UdpSocket] = []

    def fail(sock: UdpSocket) -> None:
        drained.append(sock)
        raise ValueError("mine")

    def close(sock: UdpSocket) -> None:
        drained.append(sock)
        sock.close()

    with monkeypatch.context() as patch, Loop(backend, clock=clock) as loop:
        loop.exception_handler = lambda error, _owner: reported.append(error)
        patch.setattr(_udp, "send", Kernel([fault] * 3).send)
        socks = [UdpSocket.connect(loop, LOCAL, 9, on_drain=each) for each in (fail, close, close)]
        assert [sock.send(b"") for sock in socks] == [False] * 3
        for sock in socks:
            backend.put(sock.fileno(), WRITE)
        socks[2].close()
        loop.run_once(0)
        clock.advance(0.02)
        loop.run_once(0)
        assert drained == socks[:2]
        assert [type(error) for error in reported] == [ValueError]
        assert [sock.closed for sock in socks] == [False, True, True]
        socks[0].close()


@pytest.mark.parametrize("fault", [NO_ROOM, errno.ENOBUFS])
def test_no_room_twice(fault: str | int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room for the next one either, on_drain comes once; nobody has to listen to it, and it may close."""
    clock = FakeClock()
    backend = FakeBackend(clock, edge=False)
    post = Post()
    with monkeypatch.context() as patch, Loop(backend, clock=clock) as loop:
        for on_drain in (post.on_drain, None):
            patch.setattr(_udp, "send", Kernel([fault, fault]).send)
            with UdpSocket.connect(loop, LOCAL, 9, on_drain=on_drain) as sock:
                assert [sock.send(b""), sock.send(b"")] == [False, False]
                backend.put(sock.fileno(), WRITE)
                clock.advance(0.02)
                loop.run_once(0)
                loop.run_once(0)
                assert post.drains == 1
                assert sock.send(b"") is True


def test_closed_by_on_drain(loop: Loop, until: Until, bare: socket.socket, post: Post) -> None:
    """A datagram that came with the room is not read any more."""
    sock = UdpSocket.bind(loop, LOCAL, 0, on_datagram=post.on_datagram, on_drain=UdpSocket.close)
    bare.sendto(b"late", sock.local)
    sock._no_room()  # no kernel at hand has none
    until(lambda: sock.closed)
    assert post.data == []


@final
class MuteSocket(socket.socket):
    """A socket that does not know its peer, for want of memory."""

    def getpeername(self) -> NoReturn:
        """Refuse."""
        raise OSError(errno.ENOBUFS, "no memory")


def test_socket_that_cannot_be_asked(loop: Loop) -> None:
    """Whether it has a peer is not guessed: the socket is refused, and stays the caller's."""
    with MuteSocket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        with pytest.raises(OSError, match="no memory"):
            UdpSocket(loop, sock)
        assert sock.fileno() >= 0


def test_errors_survive_pickling() -> None:
    """They may cross to another process."""
    error = DatagramRefusedError(errno.ECONNREFUSED, "nobody", (LOCAL, 9))
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is DatagramRefusedError
    assert (again.errno, str(again), again.address) == (error.errno, str(error), (LOCAL, 9))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(st.sampled_from([b"", b"x", *NETWORK, *OTHERS]), max_size=6), max_size=6))
def test_receiving_with_faults(batches: list[list[bytes | int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every datagram is delivered, every error of the network told, every other reported; the socket stays open."""
    clock = FakeClock()
    backend = FakeBackend(clock, edge=False)
    post = Post()
    reported: list[Exception] = []
    script: list[list[tuple[bytes, Address] | OSError]] = []
    for batch in batches:
        script.append([])
        for item in batch:
            script[-1].append(OSError(item, os.strerror(item)) if isinstance(item, int) else (item, (LOCAL, 9)))
            if isinstance(item, int):
                break  # an error comes last
    items = [item for batch in script for item in batch]
    with monkeypatch.context() as patch, Loop(backend, clock=clock) as loop:
        loop.exception_handler = lambda error, _owner: reported.append(error)
        patch.setattr(_udp, "receive", lambda *_: script.pop(0))
        with UdpSocket.bind(loop, LOCAL, 0, on_datagram=post.on_datagram, on_error=post.on_error) as sock:
            while script:
                backend.put(sock.fileno(), READ)
                loop.run_once(0)
            assert not sock.closed
    assert post.data == [item[0] for item in items if isinstance(item, tuple)]
    errors = [item.errno for item in items if isinstance(item, OSError)]
    assert [error.errno for error in post.errors] == [number for number in errors if number in NETWORK]
    assert [error.errno for error in reported if isinstance(error, OSError)] == [
        number for number in errors if number not in NETWORK
    ]


# The two twins --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_twins_agree(twin: str, family: socket.AddressFamily) -> None:
    """Both receive and send alike, down to the addresses and the errors."""
    module = _datagram_py if twin == "Python" else _datagram_c
    buffer = bytearray(module.BUFFER_BYTES)
    host = LOCAL if family == socket.AF_INET else "::1"
    with socket.socket(family, socket.SOCK_DGRAM) as here, socket.socket(family, socket.SOCK_DGRAM) as there:
        for sock in (here, there):
            sock.bind((host, 0))
            sock.setblocking(False)
        assert module.receive(here, here.fileno(), buffer) == []
        for number in range(20):
            assert module.send_to(there, there.fileno(), b"x" * number, here.getsockname()) is True
        first = module.receive(here, here.fileno(), buffer)
        second = module.receive(here, here.fileno(), buffer)
        assert first + second == [(b"x" * number, there.getsockname()) for number in range(20)]
        assert len(first) == _datagram_py.BATCH
        with pytest.raises(OSError) as caught:
            module.send(there, there.fileno(), b"no peer")
        assert caught.value.errno == errno.EDESTADDRREQ
        with pytest.raises(OSError) as caught:
            module.send_to(there, there.fileno(), bytes(70_000), here.getsockname())
        assert caught.value.errno == errno.EMSGSIZE
        with pytest.raises(TypeError):
            module.send_to(there, there.fileno(), "text", here.getsockname())
        there.connect((host, unused_port()))
        module.send(there, there.fileno(), b"x")
        (error,) = module.receive(there, there.fileno(), buffer)
        assert isinstance(error, ConnectionRefusedError)
        assert module.receive(there, there.fileno(), buffer) == []


def test_twins_without_room(twin: str, tmp_path: Path) -> None:
    """A kernel that has no room is no error. A Unix socket stands in, because a network would rather lose things."""
    module = _datagram_py if twin == "Python" else _datagram_c
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as here, socket.socket(socket.AF_UNIX, here.type) as there:
        here.bind(path)
        there.setblocking(False)
        if twin == "Python":  # the other takes addresses of the internet alone
            while module.send_to(there, there.fileno(), b"x", path):
                pass
        there.connect(path)
        while module.send(there, there.fileno(), b"x"):
            pass
        here.recv(1)
        assert module.send(there, there.fileno(), b"x") is True


def test_misuse_of_the_twin_in_c() -> None:
    """Wrong arguments raise, and do not crash."""
    if "C" not in TWINS:
        pytest.skip("not built")
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.close()
    with pytest.raises(OSError) as caught:
        _datagram_c.receive(sock, -1, bytearray(_datagram_c.BUFFER_BYTES))
    assert caught.value.errno == errno.EBADF
    with pytest.raises(ValueError):
        _datagram_c.receive(sock, 0, bytearray(10))
    for address in [("localhost", 1), (LOCAL,), ("::1", 1), (LOCAL, 1, 0, 0), (1, 1), (LOCAL, "1"), ("::1", 1, "", 0)]:
        with pytest.raises((ValueError, TypeError)):
            _datagram_c.send_to(sock, 0, b"", address)  # type: ignore[arg-type]
    for function in (_datagram_c.receive, _datagram_c.send, _datagram_c.send_to):
        with pytest.raises(TypeError):
            function()  # type: ignore[call-arg]
