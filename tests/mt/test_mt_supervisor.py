"""When the supervisor starts a worker again: on a clock that moves when told to, with workers that obey."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from collections.abc import Iterator
from typing import final

import pytest
from tests.mt.conftest import Provoked

from nimloop_core import Loop
from nimloop_core.testing import FakeClock
from nimloop_mt._handover import Handover
from nimloop_mt._member import Member, State
from nimloop_mt._supervisor import Care, Report, Supervisor

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pairs of Unix sockets")


@final
class Puppet:
    """A worker's process that exists on this side only."""

    pid = 0

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.how: str | None = None
        self.begun = self.immortal = False

    def say(self, what: str) -> None:
        """Tell the supervisor something."""
        self.begun = True
        self.channel.send(json.dumps({"is": what, "stats": {}, "memory": 0}).encode() + b"\n")

    def die(self) -> None:
        """Be gone."""
        self.how = "signal SIGKILL"
        self.channel.close()

    def ended(self) -> str | None:
        """Tell how."""
        return self.how

    def interrupt(self) -> None:
        """End as a process does that has not begun yet; else wait for the test to say so."""
        if not self.begun:
            self.kill()

    def kill(self) -> bool:
        """End at once, which a puppet can, unless it is to be like a process that the kernel holds on to."""
        if not self.immortal:
            self.die()
        return True


@final
class Stage:
    """A supervisor of puppets; `born` has the time of each."""

    def __init__(self, places: int, *, watchdog: float | None = None) -> None:
        self.clock = FakeClock()
        self.loop = Loop(clock=self.clock)
        self.puppets: list[Puppet] = []
        self.born: list[float] = []
        self.started: list[str | None] = []
        self.reports: list[Report] = []
        self.refused = 0  # how many of the next ones cannot be made
        care = Care(grace=1.0, watchdog=watchdog, start_timeout=60.0, max_requests=None, max_memory=None)
        self.supervisor = Supervisor(
            self.loop,
            places,
            launch=self.launch,
            care=care,
            handover=None,
            relieve=lambda _place: Handover(self.loop, [], list),
            on_started=self.started.append,
            on_stopping=lambda: None,
            on_end=self.reports.append,
        )
        self.supervisor.start()

    def launch(self, _member: Member, control: socket.socket) -> Puppet:
        """Make a puppet, unless there is to be no process left for it."""
        if self.refused:
            self.refused -= 1
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self.puppets.append(Puppet(control.dup()))
        self.born.append(self.loop.time())
        return self.puppets[-1]

    def turn(self, seconds: float = 0.0) -> None:
        """Let time pass, and everything happen that is due."""
        self.clock.advance(seconds)
        for _ in range(8):
            self.loop.run_once(0)

    def pause(self) -> float:
        """Let the newest puppet die, and return how long it takes until the next one is born."""
        count, died = len(self.puppets), self.loop.time()
        self.puppets[-1].die()
        while len(self.puppets) == count:
            self.turn(0.01)
        return self.born[-1] - died

    def stop(self, grace: float) -> None:
        """Stop, and let each puppet end as soon as it has been told to drain."""
        self.supervisor.stop(grace)
        for puppet in self.puppets:
            if puppet.how is None:
                assert b'"drain"' in puppet.channel.recv(1000)
                puppet.die()
        self.turn()
        self.turn(0.1)  # looking for the end of a process takes a while

    def close(self) -> None:
        """Leave nothing behind."""
        for puppet in self.puppets:
            puppet.channel.close()
        for member in self.supervisor.members.copy():
            member.channel.close()
        self.loop.close()


def on_stage(places: int, *, watchdog: float | None = None) -> Iterator[Stage]:
    """Give a supervisor whose workers are ready; leave nothing behind."""
    stage = Stage(places, watchdog=watchdog)
    for puppet in stage.puppets:
        puppet.say("ready")
    stage.turn()
    yield stage
    stage.close()


@pytest.fixture
def one() -> Iterator[Stage]:
    """A supervisor with one place, whose worker is ready."""
    yield from on_stage(1)


@pytest.fixture
def two() -> Iterator[Stage]:
    """A supervisor with two places, whose workers are ready."""
    yield from on_stage(2)


@pytest.fixture
def watched() -> Iterator[Stage]:
    """A supervisor with one place, whose worker is ready and has to answer within five seconds."""
    yield from on_stage(1, watchdog=5.0)


def test_the_watchdog_does_not_judge_by_a_look_that_is_late(watched: Stage, provoked: Provoked) -> None:
    """Supervisor and worker may have stood still together: it gets the time to answer, but not for ever."""
    for _ in range(3):
        watched.turn(0.5)
        watched.turn(10.0)
        watched.puppets[0].say("alive")
        watched.turn()
    assert len(watched.puppets) == 1
    provoked("has not answered for 5 s")
    for _ in range(4):
        watched.turn(10.0)
    assert len(watched.puppets) == 2
    watched.supervisor.stop(0)
    watched.turn()
    watched.turn(1)
    assert watched.reports[0].killed == 1


def test_only_repeated_early_deaths_are_damped(one: Stage, provoked: Provoked) -> None:
    """The first replacement comes at once; then the pauses double, up to half a minute, until one has lived long."""
    assert one.started == [None]
    pauses = []
    for _ in range(12):
        provoked("signal SIGKILL")
        pauses.append(one.pause())
        one.puppets[-1].say("ready")
        one.turn()
    slack = 0.05  # what looking for the end of a process takes
    wanted = [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30]
    assert all(expected <= pause <= expected + slack for expected, pause in zip(wanted, pauses, strict=True)), pauses
    one.turn(11)
    provoked("signal SIGKILL")
    assert one.pause() <= slack


def test_a_replacement_that_cannot_begin_is_damped_like_a_death(one: Stage, provoked: Provoked) -> None:
    """It never said it was ready: the source is broken, say."""
    pauses = []
    for _ in range(4):
        provoked("signal SIGKILL")
        pauses.append(one.pause())
    assert [round(pause, 1) for pause in pauses] == [0, 0.1, 0.2, 0.4]
    assert one.supervisor.ready is False


def test_a_roll_that_fails_leaves_the_old_worker(one: Stage, provoked: Provoked) -> None:
    """The one that serves is not told to go before the new one is ready, and no third is started."""
    provoked("signal SIGKILL")
    one.supervisor.roll()
    one.turn()
    assert len(one.puppets) == 2
    one.puppets[1].die()
    for _ in range(10):
        one.turn(1)
    assert one.supervisor.ready
    assert len(one.puppets) == 2
    one.supervisor.roll()
    one.turn()
    assert len(one.puppets) == 3


def test_a_worker_that_dies_before_all_have_begun_ends_the_start() -> None:
    """With its reason; nobody is started again."""
    stage = Stage(2)
    stage.puppets[0].say("ready")
    stage.turn()
    stage.puppets[1].die()
    for _ in range(10):
        stage.turn(1)
    assert stage.started == ["signal SIGKILL"]
    assert len(stage.puppets) == 2
    assert [report.restarts for report in stage.reports] == [0]
    stage.close()


def test_the_watchdog_counts_from_the_question(watched: Stage, provoked: Provoked) -> None:
    """A worker that answers in time lives; one that does not is killed once, and replaced."""
    for _ in range(20):
        watched.turn(0.5)
        watched.puppets[0].say("alive")
        watched.turn()
    assert len(watched.puppets) == 1
    provoked("has not answered for 5 s")
    while len(watched.puppets) == 1:
        watched.turn(0.5)
    assert 15 <= watched.born[1] <= 17
    watched.supervisor.stop(0)
    watched.turn()
    for _ in range(10):
        watched.turn(1)
    assert watched.reports[0].killed == 1


def test_no_worker_is_started_once_it_stops(two: Stage) -> None:
    """Not even in the middle of a roll, when the next worker has just said that it is ready, and nobody has read it."""
    two.supervisor.roll()
    two.turn()
    two.puppets[2].say("ready")
    two.stop(1.0)
    assert len(two.puppets) == 3
    assert [(report.killed, report.aborted) for report in two.reports] == [(0, 0)]


@pytest.mark.parametrize("signals", [1, 2, 3])
def test_it_ends_whatever_its_workers_do(two: Stage, signals: int, provoked: Provoked) -> None:
    """One that starts, one that serves and one that drains are killed; when that does not help, given up."""
    two.supervisor.roll()
    two.turn()
    two.puppets[2].say("ready")
    two.turn()  # the first place has two workers now, the second one's next is on its way
    assert [member.state for member in two.supervisor.members] == [
        State.DRAINING,
        State.READY,
        State.READY,
        State.STARTING,
    ]
    for puppet in two.puppets:
        puppet.immortal = True
        provoked("was killed, and does not end")
    for _ in range(signals):
        two.supervisor.stop()
    for _ in range(30):
        assert two.reports == [] or two.loop.time() >= 10
        two.turn(0.5)
    assert [report.killed for report in two.reports] == [4]
    assert len(two.puppets) == 4


def test_a_worker_that_cannot_be_killed_is_replaced(one: Stage, provoked: Provoked) -> None:
    """Its place does not wait for the kernel to let go of it."""
    one.puppets[0].immortal = True
    provoked("was killed, and does not end")
    provoked("has ended: too slow")
    (member,) = one.supervisor.members
    assert repr(member) == "<Member ready place=0 pid=0>"
    member.kill("too slow")
    assert not one.supervisor.ready
    for _ in range(22):
        one.turn(0.5)
    assert len(one.puppets) == 2
    one.puppets[1].say("ready")
    one.turn()
    assert one.supervisor.ready


def test_without_a_process_left_it_tries_again(one: Stage, provoked: Provoked) -> None:
    """fork(2): EAGAIN. That is damped like any death, and told."""
    provoked("signal SIGKILL")
    provoked("cannot be started: [Errno 11] Resource temporarily unavailable")
    one.refused = 1
    one.pause()
    assert len(one.puppets) == 2
    one.puppets[1].say("ready")
    one.turn()
    assert one.supervisor.ready


@pytest.mark.parametrize("rolling", [False, True])
def test_without_a_descriptor_left_it_tries_again(
    one: Stage, provoked: Provoked, monkeypatch: pytest.MonkeyPatch, *, rolling: bool
) -> None:
    """socketpair(2): EMFILE. Like a process that cannot be made. A roll is given up; the next one is another try."""
    errors = [errno.EMFILE] * 2
    pair = socket.socketpair

    def socketpair() -> tuple[socket.socket, socket.socket]:
        if errors:
            raise OSError(errors.pop(), os.strerror(errno.EMFILE))
        return pair()

    monkeypatch.setattr(socket, "socketpair", socketpair)
    for _ in range(2):
        provoked("worker 0 cannot be started: [Errno 24] Too many open files")
    if rolling:
        for _ in range(3):
            assert len(one.puppets) == 1
            one.supervisor.roll()
            one.turn()
    else:
        provoked("signal SIGKILL")
        assert one.pause() >= 0.1
    assert len(one.puppets) == 2
    one.puppets[1].say("ready")
    one.turn()
    assert one.supervisor.ready


def test_a_roll_before_the_start_and_after_the_end_is_nothing(two: Stage) -> None:
    """There is nobody to replace, or nobody wanted any more."""
    early = Stage(1)
    early.supervisor.roll()
    early.turn()
    assert len(early.puppets) == 1
    early.close()
    two.stop(1.0)
    two.supervisor.roll()
    two.turn(1)
    assert len(two.puppets) == 2


def test_a_stop_during_a_pause_is_the_end(one: Stage, provoked: Provoked) -> None:
    """Who would have been started after it never is."""
    for _ in range(2):
        provoked("signal SIGKILL")
        one.pause()
    provoked("signal SIGKILL")
    one.puppets[-1].die()
    one.turn()
    one.turn(0.05)
    assert one.supervisor.members == []
    one.supervisor.stop()
    one.turn(60)
    assert len(one.puppets) == 3
    assert [report.restarts for report in one.reports] == [2]


def test_an_end_is_noticed_once(one: Stage, provoked: Provoked) -> None:
    """Also of one whose channel has ended before it, and that is given up meanwhile."""
    provoked("given up")
    (member,) = one.supervisor.members
    one.puppets[0].channel.close()
    one.turn()
    one.turn(0.05)  # it is looked at, and still runs
    assert one.supervisor.members == [member]
    member.give_up()
    member.give_up()
    one.turn()
    assert len(one.puppets) == 2
