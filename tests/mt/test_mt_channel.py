"""The channel between supervisor and worker: lines that were sent, descriptors beside them, and what nobody took."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator

import pytest

from nimloop_core import Loop
from nimloop_mt._channel import Channel, Message

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="descriptors that travel")


@pytest.fixture
def loop() -> Iterator[Loop]:
    """Run on real time."""
    with Loop() as loop:
        yield loop


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Connect two ends, closed after the test."""
    near, far = socket.socketpair()
    with near, far:
        yield near, far


def test_what_was_sent_before_the_end_is_delivered(loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    """All of it, then the end, once; nothing can be sent any more."""
    near, far = pair
    got: list[object] = []
    channel = Channel(loop, near, got.append, lambda: got.append("end"))
    for number in range(3):
        far.send(b'{"n": %d}\n' % number)
    far.close()
    channel.read_rest()
    channel.read_rest()
    assert got == [{"n": 0}, {"n": 1}, {"n": 2}, "end"]
    assert channel.closed
    assert channel.fileno() == -1
    assert not channel.send({"too": "late"})


def test_a_line_may_come_in_pieces(loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    """It is delivered when it is complete."""
    near, far = pair
    got: list[Message] = []
    channel = Channel(loop, near, got.append, lambda: None)
    far.send(b'{"do": "re')
    channel.read_rest()
    assert got == []
    far.send(b'port"}\n{"do"')
    channel.read_rest()
    assert got == [{"do": "report"}]
    channel.close()


def test_nothing_is_delivered_after_it_was_closed(loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    """Not even the second line of two that came together."""
    near, far = pair
    got: list[Message] = []

    def close(message: Message) -> None:
        got.append(message)
        channel.close()

    channel = Channel(loop, near, close, lambda: got.append({"never": "called"}))
    far.send(b'{"n": 1}\n{"n": 2}\n')
    loop.run_once(0)
    channel.close()
    assert got == [{"n": 1}]


def test_descriptors_that_nobody_took_are_closed(
    loop: Loop, pair: tuple[socket.socket, socket.socket], descriptors: Callable[[], set[str]]
) -> None:
    """Those that were taken are the taker's."""
    near, far = pair
    before = descriptors()
    channel = Channel(loop, near, lambda _message: None, lambda: None)
    for _ in range(3):
        with socket.socket() as sock:
            socket.send_fds(far, [b'{"do": "serve"}\n'], [sock.fileno()])
    channel.read_rest()
    taken = channel.take_socket()
    assert taken is not None
    channel.close()
    assert channel.take_socket() is None
    with taken:
        assert taken.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
    assert len(descriptors()) == len(before) - 1  # the channel's own
