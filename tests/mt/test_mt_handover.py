"""Accepting for others: in turn, as long as somebody serves, and with patience where the system has none left."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest
from tests.mt.test_mt_supervisor import Puppet, Stage

from nimloop_mt._handover import _BACK_OFF, Handover

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="descriptors that travel")


class Listening(socket.socket):
    """A listening socket whose next calls of `accept` fail with these numbers."""

    errors: tuple[int, ...] = ()

    def accept(self) -> tuple[socket.socket, object]:
        """Fail, or accept."""
        if self.errors:
            number, *rest = self.errors
            self.errors = tuple(rest)
            raise OSError(number, os.strerror(number))
        return super().accept()


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A supervisor with two places, whose workers are not ready yet."""
    stage = Stage(2)
    yield stage
    stage.close()


@pytest.fixture
def listening() -> Iterator[Listening]:
    """Listen on a free port."""
    with Listening() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        sock.setblocking(False)
        yield sock


@pytest.fixture
def client(listening: Listening) -> Iterator[socket.socket]:
    """A client that is connected, and waits to be accepted."""
    with socket.create_connection(listening.getsockname()) as client:
        yield client


@pytest.fixture
def handover(stage: Stage, listening: Listening) -> Iterator[Handover]:
    """Accept for the workers of the stage."""
    handover = Handover(stage.loop, [listening], lambda: stage.supervisor.members)
    yield handover
    handover.close()


def ready(stage: Stage) -> None:
    """Let all workers say that they serve."""
    for puppet in stage.puppets:
        puppet.say("ready")
    stage.turn()


def handed(puppet: Puppet) -> list[socket.socket]:
    """Take what a worker was handed."""
    found: list[socket.socket] = []
    puppet.channel.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            _, fds, _, _ = socket.recv_fds(puppet.channel, 1 << 16, 10)
            found += [socket.socket(fileno=fd) for fd in fds]
    return found


def serves(puppet: Puppet, client: socket.socket) -> bool:
    """Whether a worker was handed the client's connection, and no other."""
    (sock,) = handed(puppet)
    with sock:
        return bool(sock.getpeername() == client.getsockname())


def test_while_nobody_serves_connections_wait(
    stage: Stage, handover: Handover, listening: Listening, client: socket.socket
) -> None:
    """They stay in the queue, which nobody looks at until somebody is ready."""
    handover.resume()
    stage.turn()
    listening.errors = (errno.EBADF,)  # would be met by whoever accepts
    stage.turn()
    assert listening.errors == (errno.EBADF,)
    listening.errors = ()
    ready(stage)
    handover.resume()
    stage.turn()
    assert serves(stage.puppets[1], client)


@pytest.mark.parametrize("failure", [(errno.ECONNABORTED, 0.0), (errno.EMFILE, _BACK_OFF)])
def test_an_accept_that_fails_is_tried_again(
    stage: Stage, handover: Handover, listening: Listening, client: socket.socket, failure: tuple[int, float]
) -> None:
    """At once when it was about one client only (accept(2)); later, without spinning, when there are no descriptors."""
    number, pause = failure
    ready(stage)
    listening.errors = (number,)
    handover.resume()
    stage.turn()
    if pause:
        assert [handed(puppet) for puppet in stage.puppets] == [[], []]
        stage.turn(pause)
    assert serves(stage.puppets[1], client)


def test_a_worker_whose_channel_is_full_is_passed_over(stage: Stage, handover: Handover, client: socket.socket) -> None:
    """It hangs; the next one is handed the connection."""
    ready(stage)
    while stage.supervisor.members[1].channel.send({"do": "nothing"}):
        pass
    handover.resume()
    stage.turn()
    assert handed(stage.puppets[1]) == []
    assert serves(stage.puppets[0], client)


def test_a_connection_that_nobody_can_be_handed_is_closed(
    stage: Stage, handover: Handover, client: socket.socket
) -> None:
    """All of them hang: its client may try elsewhere."""
    ready(stage)
    for member in stage.supervisor.members:
        while member.channel.send({"do": "nothing"}):
            pass
    handover.resume()
    stage.turn()
    client.settimeout(20)
    assert client.recv(1) == b""
