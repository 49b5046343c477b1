"""Listening sockets: every address of a name on one port or none at all, and Unix paths that are nobody else's."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn, Protocol

import pytest

from nimloop_net import AddressError
from nimloop_net._channel import address_of
from nimloop_net._sockets import UnixListener, adopt_connected, adopt_listening, listen_tcp

Pair = Callable[[], tuple[socket.socket, socket.socket]]
AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]


class Listen(Protocol):
    """What `listen` gives."""

    def __call__(self, host: str | None, port: int, *, reuse_port: bool = False) -> list[socket.socket]:
        """Listen on TCP."""


class Unix(Protocol):
    """What `unix` gives."""

    def __call__(self, path: str | Path, mode: int = 0o600) -> UnixListener:
        """Listen on a path."""


def has_ipv6() -> bool:
    """Tell whether this machine has an IPv6 loopback address."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Listen, and close everything after the test."""
    made: list[socket.socket] = []

    def start(host: str | None, port: int, *, reuse_port: bool = False) -> list[socket.socket]:
        sockets = listen_tcp(host, port, backlog=10, reuse_port=reuse_port)
        made.extend(sockets)
        return sockets

    yield start
    for sock in made:
        sock.close()


@pytest.fixture
def unix() -> Iterator[Unix]:
    """Listen on paths, and close everything after the test."""
    made: list[UnixListener] = []

    def start(path: str | Path, mode: int = 0o600) -> UnixListener:
        listener = UnixListener(str(path), mode=mode, backlog=10)
        made.append(listener)
        return listener

    yield start
    for listener in made:
        listener.close()


def resolve_to(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    """Make every name stand for these addresses."""

    def getaddrinfo(_host: str | None, port: int, **_: object) -> list[AddressInfo]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, 0))
            if ":" in host
            else (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))
            for host in hosts
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


# TCP ------------------------------------------------------------------------------------------------------------------


def test_options(listen: Listen) -> None:
    """Listening sockets do not block, and pass TCP_NODELAY on to what they accept."""
    (sock,) = listen("127.0.0.1", 0)
    assert not sock.getblocking()
    assert not os.get_inheritable(sock.fileno())
    with socket.create_connection(sock.getsockname()):
        sock.setblocking(True)
        accepted, _ = sock.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("host", [None, ""])
@needs_ipv6
def test_every_address(host: str | None, listen: Listen) -> None:
    """No host means IPv4 and IPv6, each with a socket of its own, on one port."""
    sockets = listen(host, 0)
    assert {sock.family for sock in sockets} == {socket.AF_INET, socket.AF_INET6}
    assert len({sock.getsockname()[1] for sock in sockets}) == 1
    port = sockets[0].getsockname()[1]
    for address in ("127.0.0.1", "::1"):
        socket.create_connection((address, port)).close()


def test_port_in_use(listen: Listen) -> None:
    """A second server on a port is refused, with the address in the message, whether it would share or not."""
    port = listen("127.0.0.1", 0)[0].getsockname()[1]
    for reuse_port in (False, True):
        with pytest.raises(OSError, match=f"127.0.0.1 port {port}") as caught:
            listen("127.0.0.1", port, reuse_port=reuse_port)
        assert caught.value.errno == errno.EADDRINUSE


def test_shared_port(listen: Listen) -> None:
    """Those who all ask for it share a port; one who does not is refused."""
    port = listen("127.0.0.1", 0, reuse_port=True)[0].getsockname()[1]
    listen("127.0.0.1", port, reuse_port=True)
    with pytest.raises(OSError, match="cannot listen"):
        listen("127.0.0.1", port)


def test_port_again(listen: Listen) -> None:
    """A port is free again at once, although the kernel still remembers a connection to it."""
    (sock,) = listen("127.0.0.1", 0)
    address = sock.getsockname()
    with socket.create_connection(address) as client:
        sock.setblocking(True)
        accepted, _ = sock.accept()
        accepted.close()
        assert client.recv(1) == b""
        sock.close()
    listen(*address)


@pytest.mark.parametrize("port", [-1, 65536, 10**9])
def test_impossible_port(port: int, listen: Listen) -> None:
    """A number that is no port says so."""
    with pytest.raises(AddressError, match="between 0 and 65535"):
        listen("127.0.0.1", port)


@pytest.mark.parametrize("host", ["a" * 64 + ".test", "\udcff", "a..b"])
def test_impossible_host(host: str, listen: Listen) -> None:
    """What can be no name at all is an error of addresses, not of text."""
    with pytest.raises(AddressError, match="name of a host"):
        listen(host, 0)


def test_unknown_host(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the resolver says about a name reaches the caller."""

    def getaddrinfo(*_: object, **__: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(socket.gaierror):
        listen("nowhere.invalid", 0)


def test_address_of_another_machine(listen: Listen) -> None:
    """An address that is not this machine's is refused."""
    with pytest.raises(OSError, match=r"192\.0\.2\.1") as caught:
        listen("192.0.2.1", 0)
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_all_or_nothing(listen: Listen, monkeypatch: pytest.MonkeyPatch, descriptors: Callable[[], set[str]]) -> None:
    """When one address of a name fails, the others are given back."""
    resolve_to(monkeypatch, "127.0.0.1", "192.0.2.1")
    before = descriptors()
    with pytest.raises(OSError, match=r"192\.0\.2\.1"):
        listen("two.test", 0)
    assert descriptors() == before


def test_address_named_twice(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that gives an address twice does not make us collide with ourselves."""
    resolve_to(monkeypatch, "127.0.0.1", "127.0.0.1")
    assert len(listen("twice.test", 0)) == 1


def test_free_port_taken_for_the_next_address(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that is free for the first address and taken for the next is given up for another."""
    resolve_to(monkeypatch, "127.0.0.1", "127.0.0.2")
    blockers: list[socket.socket] = []
    bind = socket.socket.bind

    def contended(sock: socket.socket, address: tuple[str, int]) -> None:
        if address[0] == "127.0.0.2" and len(blockers) < 3:
            blocker = socket.socket()
            blockers.append(blocker)
            bind(blocker, address)
        bind(sock, address)

    monkeypatch.setattr(socket.socket, "bind", contended)
    sockets = listen("two.test", 0)
    assert len(blockers) == 3
    assert len({sock.getsockname()[1] for sock in sockets}) == 1
    for blocker in blockers:
        blocker.close()


def test_no_free_port(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    """After some attempts at a free port the error is the kernel's."""
    attempts = 0

    def taken(*_: object) -> NoReturn:
        nonlocal attempts
        attempts += 1
        raise OSError(errno.EADDRINUSE, "taken")

    monkeypatch.setattr(socket.socket, "bind", taken)
    with pytest.raises(OSError, match="taken"):
        listen("127.0.0.1", 0)
    assert 1 < attempts < 20


def test_family_that_the_system_lacks(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without IPv6 listens on the other addresses of a name."""
    resolve_to(monkeypatch, "::1", "127.0.0.1")
    real = socket.socket

    def only_ipv4(family: int, kind: int, protocol: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "no IPv6")
        return real(family, kind, protocol)

    monkeypatch.setattr(socket, "socket", only_ipv4)
    (sock,) = listen("localhost", 0)
    assert sock.family == socket.AF_INET
    resolve_to(monkeypatch, "::1")
    with pytest.raises(AddressError, match="no address"):
        listen("localhost", 0)


def test_family_that_is_switched_off(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    """An IPv6 address that this machine does not have is left out of a name's, but not if it was all that was asked."""
    resolve_to(monkeypatch, "2001:db8::1", "127.0.0.1")
    (sock,) = listen("localhost", 0)
    assert sock.family == socket.AF_INET
    resolve_to(monkeypatch, "2001:db8::1")
    with pytest.raises(OSError, match="2001:db8::1"):
        listen("localhost", 0)


def test_no_socket(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Running out of descriptors is the caller's to hear of."""

    def exhausted(*_: object) -> NoReturn:
        raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr(socket, "socket", exhausted)
    with pytest.raises(OSError, match="too many"):
        listen("127.0.0.1", 0)


def test_system_without_shared_ports(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no SO_REUSEPORT, asking for it is an error rather than ignored."""
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    with pytest.raises(AddressError, match="SO_REUSEPORT"):
        listen("127.0.0.1", 0, reuse_port=True)


def test_adopt(tmp_path: Path) -> None:
    """A socket that listens is made like ours, whatever its family; any other is refused."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        adopt_listening(sock)
        assert not sock.getblocking()
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
        with pytest.raises(AddressError, match="does not listen"):
            adopt_listening(sock)
        sock.listen()
        adopt_listening(sock)
    with socket.socket(type=socket.SOCK_DGRAM) as sock, pytest.raises(AddressError, match="does not listen"):
        adopt_listening(sock)


def test_adopt_connected(tcp_pair: Pair, unix_pair: Pair) -> None:
    """A connected stream is made like one that we have accepted; anything else is refused."""
    for here, there in (tcp_pair(), unix_pair()):
        here.setblocking(True)
        assert adopt_connected(here) == address_of(there.getsockname())
        assert not here.getblocking()
    with socket.socket() as sock, pytest.raises(AddressError, match="not connected"):
        adopt_connected(sock)
    here, there = socket.socketpair(type=socket.SOCK_DGRAM)
    with here, there, pytest.raises(AddressError, match="stream"):
        adopt_connected(here)


# Unix -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0o777])
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_mode(mode: int, umask: int, unix: Unix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The permissions are those asked for from the moment the path exists, and the umask is as before afterwards."""
    path = tmp_path / "s"
    seen: list[int] = []
    real = socket.socket.listen

    def look(sock: socket.socket, backlog: int) -> None:
        seen.append(stat.S_IMODE(path.stat().st_mode))
        real(sock, backlog)

    monkeypatch.setattr(socket.socket, "listen", look)
    before = os.umask(umask)
    try:
        unix(path, mode)
    finally:
        now = os.umask(before)
    assert now == umask
    assert seen == [mode]
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_stale_path_is_taken_over(unix: Unix, tmp_path: Path) -> None:
    """What a dead server has left behind is replaced."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    unix(path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_living_server_is_left_alone(unix: Unix, tmp_path: Path) -> None:
    """The path of a server that listens is refused, and it goes on serving."""
    path = tmp_path / "s"
    first = unix(path)
    with pytest.raises(AddressError, match="listening"):
        unix(path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    assert repr(first) == f"<UnixListener listening on '{path}'>"
    assert path.exists()
    first.close()
    assert repr(first) == "<UnixListener closed>"
    assert not path.exists()


def test_busy_server_is_left_alone(unix: Unix, tmp_path: Path) -> None:
    """A server with a full backlog is alive, too."""
    path = tmp_path / "s"
    clients = []
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(path))
        busy.listen(0)
        try:
            while True:
                client = socket.socket(socket.AF_UNIX)
                clients.append(client)
                client.setblocking(False)
                client.connect(str(path))
        except BlockingIOError:
            pass
        with pytest.raises(AddressError, match="in use"):
            unix(path)
        assert path.exists()
        for client in clients:
            client.close()


@pytest.mark.parametrize("what", ["file", "directory", "link to nothing", "datagram socket"])
def test_what_is_no_listener_is_left_alone(what: str, unix: Unix, tmp_path: Path) -> None:
    """Nothing but a dead stream socket is ever removed."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        if what == "file":
            path.write_text("precious")
        elif what == "directory":
            path.mkdir()
        elif what == "link to nothing":
            path.symlink_to(tmp_path / "nothing")
        else:
            datagrams.bind(str(path))
        before = path.lstat()
        with pytest.raises(AddressError):
            unix(path)
        assert path.lstat() == before


def test_impossible_paths(unix: Unix, tmp_path: Path) -> None:
    """A path that is too long, holds a NUL or is empty is refused before anything happens."""
    room = 107 - len(os.fsencode(tmp_path)) - 1
    if room < 1:
        pytest.skip("the temporary directory's own name is too long")
    with pytest.raises(AddressError, match="107"):
        unix(tmp_path / ("x" * (room + 1)))
    with pytest.raises(AddressError, match="NUL"):
        unix("not\0abstract")
    with pytest.raises(AddressError, match="NUL"):
        unix("\0")  # unix(7): a name that the kernel makes up
    with pytest.raises(AddressError):
        unix("")
    assert list(tmp_path.iterdir()) == []
    unix(tmp_path / ("x" * room))


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux'")
def test_abstract_name(unix: Unix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there as long as the socket is, and nowhere among the files; a second one finds it taken."""
    monkeypatch.chdir(tmp_path)
    name = f"\0nimloop-test-{os.getpid()}"
    listener = unix(name)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(name)
    with pytest.raises(OSError, match="nimloop-test") as caught:
        unix(name)
    assert caught.value.errno == errno.EADDRINUSE
    listener.close()
    listener.close()
    unix(name)
    assert list(tmp_path.iterdir()) == []


def test_system_without_unix_sockets(unix: Unix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so."""
    monkeypatch.delattr(socket, "AF_UNIX")
    with pytest.raises(AddressError, match="no Unix sockets"):
        unix(tmp_path / "s")


def test_two_who_take_over_at_once(unix: Unix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slower of two servers that both found a dead one's path does not remove the path of the faster."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    faster: list[UnixListener] = []
    connect = socket.socket.connect

    def slowly(sock: socket.socket, address: str) -> None:
        try:
            connect(sock, address)
        finally:
            if not faster:
                monkeypatch.setattr(socket.socket, "connect", connect)
                faster.append(unix(path))

    monkeypatch.setattr(socket.socket, "connect", slowly)
    with pytest.raises(OSError, match="in use"):
        unix(path)
    with socket.socket(socket.AF_UNIX) as client:
        connect(client, str(path))


def test_missing_directory(unix: Unix, tmp_path: Path, descriptors: Callable[[], set[str]]) -> None:
    """What the kernel refuses to bind raises as it is, and leaves nothing behind."""
    before = descriptors()
    with pytest.raises(FileNotFoundError):
        unix(tmp_path / "missing" / "s")
    assert descriptors() == before


def test_path_is_removed(unix: Unix, tmp_path: Path) -> None:
    """Closing removes the path, once."""
    path = tmp_path / "s"
    listener = unix(path)
    listener.close()
    assert not path.exists()
    path.write_text("somebody else's")
    listener.close()
    assert path.exists()


def test_path_of_a_successor_is_left_alone(unix: Unix, tmp_path: Path) -> None:
    """A path that was taken away and given to another server stays that server's."""
    path = tmp_path / "s"
    first = unix(path)
    path.unlink()
    second = unix(path)
    first.close()
    assert path.exists()
    second.close()
    assert not path.exists()


def test_path_goes_before_the_listener(unix: Unix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the path exists the socket listens: nobody can mistake it for a dead server's and take it over."""
    path = tmp_path / "s"
    listener = unix(path)
    real = socket.socket.close
    seen: list[bool] = []

    def look(sock: socket.socket) -> None:
        seen.append(path.exists())
        real(sock)

    monkeypatch.setattr(socket.socket, "close", look)
    listener.close()
    assert seen == [False]


def test_path_that_is_gone(unix: Unix, tmp_path: Path) -> None:
    """Closing does not mind that the path is gone already."""
    path = tmp_path / "s"
    listener = unix(path)
    path.unlink()
    listener.close()


def test_relative_path(unix: Unix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is found again after the working directory has changed."""
    monkeypatch.chdir(tmp_path)
    listener = unix("s")
    assert (tmp_path / "s").exists()
    monkeypatch.chdir("/")
    listener.close()
    assert not (tmp_path / "s").exists()
