"""Receiving and sending in C and in Python: the same outcome for the same socket."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimloop_net import _io, _io_py
from nimloop_net._io import Receive, Send

Pair = tuple[socket.socket, socket.socket]

TWINS: dict[str, tuple[Receive, Send]] = {"Python": (_io_py.receive, _io_py.send)}
try:
    from nimloop_net import _io_c
except ImportError:
    pass
else:
    TWINS["C"] = _io_c.receive, _io_c.send


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


@pytest.mark.parametrize("wanted", ["off", "auto"])
def test_the_environment_chooses_the_twin(wanted: str) -> None:
    """``NIMLOOP_EXTENSION=off`` means the Python, also where the C is built."""
    output = subprocess.run(
        [sys.executable, "-c", "from nimloop_net._io import IMPLEMENTATION; print(IMPLEMENTATION)"],
        env=os.environ | {"NIMLOOP_EXTENSION": wanted},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    assert output == ("Python" if wanted == "off" or "C" not in TWINS else "C")
