"""Receiving and sending in C and in Python: the same outcome for the same socket."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.twins import implementation

from nimloop_net import _io, _io_py
from nimloop_net._channel import address_of
from nimloop_net._io import Accept, Receive, Send

if TYPE_CHECKING:
    from nimloop_net._accepted import AcceptedSocket

Pair = tuple[socket.socket, socket.socket]

TWINS: dict[str, tuple[Receive, Send]] = {"Python": (_io_py.receive, _io_py.send)}
ACCEPT: dict[str, Accept] = {"Python": _io_py.accept}
try:
    from nimloop_net import _accepted, _io_c
except ImportError:
    pass
else:
    TWINS["C"] = _io_c.receive, _io_c.send
    ACCEPT["C"] = _accepted.accept


@pytest.fixture(params=TWINS)
def twin(request: pytest.FixtureRequest) -> tuple[Receive, Send]:
    """Take each twin that is there."""
    return TWINS[request.param]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Connect two sockets that never wait."""
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        yield near, far


def buffer() -> memoryview:
    """Make what the loop lends to everybody."""
    return memoryview(bytearray(65536))


def received(receive: Receive, sock: socket.socket) -> list[int]:
    """Receive what is there; return the sizes of the pieces."""
    sizes: list[int] = []
    while data := receive(sock, sock.fileno(), buffer()):
        sizes.append(len(data))
    return sizes


@given(data=st.binary(max_size=2_000))
def test_what_is_sent_arrives(data: bytes) -> None:
    """All pairings of the twins."""
    for _, send in TWINS.values():
        for receive, _ in TWINS.values():
            near, far = socket.socketpair()
            with near, far:
                near.setblocking(False)
                far.setblocking(False)
                assert send(near, near.fileno(), data) == len(data)
                assert receive(far, far.fileno(), buffer()) == (data or None)


def test_nothing_yet_is_not_the_end(twin: tuple[Receive, Send], pair: Pair) -> None:
    """None while the peer is silent, empty bytes once it has ended its side."""
    receive, _ = twin
    near, far = pair
    assert receive(near, near.fileno(), buffer()) is None
    far.shutdown(socket.SHUT_WR)
    assert receive(near, near.fileno(), buffer()) == b""


def test_no_room_is_told_apart(twin: tuple[Receive, Send], pair: Pair) -> None:
    """A full socket takes nothing; a memoryview is as good as bytes."""
    _, send = twin
    near, _ = pair
    while send(near, near.fileno(), memoryview(bytes(65536))) > 0:
        pass
    assert send(near, near.fileno(), b"x") == -1


def test_errors_are_the_systems(twin: tuple[Receive, Send], pair: Pair) -> None:
    """A peer that is gone breaks the pipe, without SIGPIPE; a closed descriptor is a bad one."""
    receive, send = twin
    near, far = pair
    far.close()
    with pytest.raises(BrokenPipeError):
        send(near, near.fileno(), b"x")
    near.close()
    for call in (lambda: receive(near, -1, buffer()), lambda: send(near, -1, b"x")):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.EBADF


def test_a_read_is_as_long_as_the_buffer_at_most(twin: tuple[Receive, Send], pair: Pair) -> None:
    """A shorter one proves that the socket is empty, so both twins have to cut at the same place."""
    receive, _ = twin
    near, far = pair
    far.send(bytes(70_000))
    assert received(receive, near) == [65_536, 4_464]


def test_a_class_of_its_own_keeps_its_methods(pair: Pair) -> None:
    """Somebody who overrides `recv_into` wants to be asked."""

    class Mine(socket.socket):
        """A subclass, as a wrapper for tests or another transport would be."""

    near, _ = pair
    with Mine(fileno=os.dup(near.fileno())) as mine:
        assert _io.receiver(mine) is _io_py.receive
        assert _io.sender(mine) is _io_py.send
    if _io.IMPLEMENTATION == "C":
        assert _io.receiver(near) is not _io_py.receive


# Accepting -----------------------------------------------------------------------------------------------------------

FAMILIES = ("127.0.0.1", "::1", "named", "abstract", "unnamed")


@contextmanager
def listening(kind: str, tmp_path: Path) -> Iterator[socket.socket]:
    """Open a listening socket that never waits."""
    family = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}.get(kind, socket.AF_UNIX)
    with socket.socket(family) as listener:
        try:
            listener.bind(str(tmp_path / "server") if family == socket.AF_UNIX else (kind, 0))
        except OSError as error:  # a machine without IPv6
            pytest.skip(str(error))
        listener.listen()
        listener.setblocking(False)
        yield listener


def dial(listener: socket.socket, kind: str, tmp_path: Path) -> socket.socket:
    """Connect to it."""
    client = socket.socket(listener.family)
    if kind == "named":
        client.bind(str(tmp_path / ("client" + "x" * max(0, 100 - len(str(tmp_path))))))
    if kind == "abstract":
        client.bind(b"\0nimloop" + os.urandom(8).hex().encode())
    client.connect(listener.getsockname())
    return client


@pytest.fixture(params=ACCEPT)
def accept(request: pytest.FixtureRequest) -> Accept:
    """Take each twin that is there."""
    return ACCEPT[request.param]


@pytest.mark.parametrize("kind", FAMILIES)
def test_who_was_accepted(kind: str, accept: Accept, tmp_path: Path) -> None:
    """None for nobody; else a connection that works, and knows its peer even when that one has gone."""
    if kind == "abstract" and sys.platform != "linux":
        pytest.skip("abstract names are Linux's")
    with listening(kind, tmp_path) as listener:
        assert accept(listener, listener.fileno()) is None
        with dial(listener, kind, tmp_path) as client:
            name = address_of(client.getsockname())
            accepted = accept(listener, listener.fileno())
            assert accepted is not None
            sock, peer = accepted
            assert os.get_blocking(sock.fileno()) is False
            assert os.get_inheritable(sock.fileno()) is False
            receive, send = _io.receiver(sock), _io.sender(sock)
            assert receive(sock, sock.fileno(), buffer()) is None
            client.send(b"from the client")
            assert receive(sock, sock.fileno(), buffer()) == b"from the client"
            assert send(sock, sock.fileno(), b"from the server") == 15
            assert client.recv(100) == b"from the server"
        assert receive(sock, sock.fileno(), buffer()) == b""
        assert (address_of(sock.getpeername()) if peer is None else peer) == name
        sock.close()


def test_accepting_fails_as_the_system_says(accept: Accept) -> None:
    """A socket that does not listen, and one that is closed."""
    with socket.socket() as sock:
        sock.setblocking(False)
        with pytest.raises(OSError) as caught:
            accept(sock, sock.fileno())
        assert caught.value.errno == errno.EINVAL
    with pytest.raises(OSError) as caught:
        accept(sock, -1)
    assert caught.value.errno == errno.EBADF


@pytest.fixture
def accepted_pair(tmp_path: Path) -> Iterator[tuple[AcceptedSocket, socket.socket]]:
    """Accept a connection in C."""
    if "C" not in ACCEPT:
        pytest.skip("not built")
    with listening("127.0.0.1", tmp_path) as listener, dial(listener, "127.0.0.1", tmp_path) as client:
        accepted = ACCEPT["C"](listener, listener.fileno())
        assert accepted is not None
        sock = accepted[0]
        assert isinstance(sock, _accepted.AcceptedSocket)
        yield sock, client
        sock.close()


def test_an_accepted_socket_does_all_that_a_socket_does(accepted_pair: tuple[AcceptedSocket, socket.socket]) -> None:
    """The socket that is made for what is seldom asked works on the same descriptor, and closes with it."""
    sock, client = accepted_pair
    fd = sock.fileno()
    assert address_of(sock.getsockname()) == address_of(client.getpeername())
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0
    assert sock.send(b"1") == 1
    if sys.platform != "win32":
        assert sock.sendmsg([b"2", memoryview(b"3")]) == 2
    with pytest.raises(BlockingIOError):
        sock.recv_into(buffer())
    sock.shutdown(socket.SHUT_WR)
    assert client.recv(100) + client.recv(100) == b"123"
    assert sock.fileno() == fd
    sock.close()
    assert sock.fileno() == -1
    with pytest.raises(OSError):
        os.fstat(fd)
    sock.close()


def test_a_closed_one_is_asked_in_vain(accepted_pair: tuple[AcceptedSocket, socket.socket]) -> None:
    """Whatever has got the number since is left alone."""
    sock, client = accepted_pair
    fd = sock.fileno()
    sock.close()
    while (other := os.open(os.devnull, os.O_RDONLY)) < fd:
        pass
    try:
        for call in (sock.getsockname, lambda: sock.shutdown(socket.SHUT_WR), lambda: sock.send(b"x")):
            with pytest.raises(OSError) as caught:
                call()
            assert caught.value.errno == errno.EBADF
        sock.close()
        os.fstat(other)
    finally:
        os.close(other)
    assert address_of(sock.getpeername()) == address_of(client.getsockname())


def test_its_socket_may_be_taken_over(accepted_pair: tuple[AcceptedSocket, socket.socket]) -> None:
    """As TLS does: who has the socket closes it."""
    sock, client = accepted_pair
    taken = _io.socket_of(sock) if _io.IMPLEMENTATION == "C" else sock.release()
    assert taken is not None
    with taken:
        sock.close()
        taken.send(b"still open")
        assert client.recv(100) == b"still open"
    assert _io.socket_of(client) is client


@pytest.mark.parametrize("made", [False, True])
def test_a_dropped_one_is_closed(*, made: bool, tmp_path: Path) -> None:
    """With a warning, like a socket."""
    if "C" not in ACCEPT:
        pytest.skip("not built")
    with listening("127.0.0.1", tmp_path) as listener, dial(listener, "127.0.0.1", tmp_path) as client:
        accepted = ACCEPT["C"](listener, listener.fileno())
        assert accepted is not None
        sock, _ = accepted
        if made:
            sock.getsockname()
        with pytest.warns(ResourceWarning, match="unclosed"):
            del sock, accepted
        assert client.recv(1) == b""


def test_wrong_arguments_are_type_errors() -> None:
    """The C has no checks by a signature; it must not crash."""
    if "C" not in TWINS:
        pytest.skip("not built")
    receive, send = TWINS["C"]
    with socket.socket() as sock:
        for arguments in ((sock,), (sock, "1", b""), (sock, None, b""), (sock, 1 << 80, b"")):
            with pytest.raises((TypeError, OverflowError)):
                receive(*arguments)
            with pytest.raises((TypeError, OverflowError)):
                send(*arguments)
        with pytest.raises(TypeError):
            send(sock, sock.fileno(), "text")  # type: ignore[arg-type]
        for wrong in ((), (sock,), (sock, "1"), (sock, 1 << 80), (sock, 1, 2)):
            with pytest.raises((TypeError, OverflowError)):
                _io_c.accept(*wrong)
    for raw in ("text", None, 5):
        with pytest.raises(TypeError):
            _io_c.address(raw)  # type: ignore[arg-type]
    assert _io_c.address(b"") == ""
    assert _io_c.address(bytes(1000)) == ""


@pytest.mark.parametrize("wanted", ["off", "auto"])
def test_the_environment_chooses_the_twin(wanted: str) -> None:
    """``NIMLOOP_EXTENSION=off`` means the Python, also where the C is built."""
    output = implementation("nimloop_net._io", wanted)
    assert output == ("Python" if wanted == "off" or "C" not in TWINS else "C")


def test_the_python_is_taken_where_the_c_is_not_built() -> None:
    """Without being asked to, for streams and for datagrams."""
    script = (
        "import sys; sys.modules['nimloop_net._io_c'] = sys.modules['nimloop_net._datagram_c'] = None; "
        "from nimloop_net import _datagram, _datagram_py, _io, build; "
        "assert _datagram.receive is _datagram_py.receive; "
        "assert build.IMPLEMENTATION in {'Python', 'mypyc'}; print(_io.IMPLEMENTATION)"
    )
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert output.strip() == "Python"
