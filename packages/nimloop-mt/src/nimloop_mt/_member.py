"""One worker as the supervisor sees it.

========  ==================================  ============================
state     what holds                          leaves it by
========  ==================================  ============================
STARTING  runs, does not accept yet           its "ready", or its end
READY     accepts and serves                  being told to drain, its end
DRAINING  accepts no more, answers the rest   its end, being killed
KILLED    nobody hears it any more            its end, being given up
DEAD      its process or thread is gone       nothing
========  ==================================  ============================

Each state but READY and DEAD has a deadline, so that nothing waits for ever for a worker that is to go.

A member owns its host, its channel and whatever watches for its end; the supervisor owns the members.
"""

from __future__ import annotations

import enum
import os
import socket
from collections.abc import Mapping
from typing import Final, Protocol, cast, final

from nimloop_core import READ, Loop, Timer, Watcher
from nimloop_http import ServerStats
from nimloop_mt._channel import Channel, Message
from nimloop_mt._guard import SLACK
from nimloop_mt._hosts import Host

_POLL: Final = 0.02  # seconds between two looks, where the kernel does not tell of the end
_LINGER: Final = 5.0  # seconds to end in, once the channel is closed
_UNKILLABLE: Final = 10.0  # seconds; then the kernel itself holds on to it, in a read from a lost disk for instance
_SLOW: Final = 1.0  # seconds without a report, after which somebody else had better take its connections


class State(enum.Enum):
    """Where a worker is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    KILLED = "killed"
    DEAD = "dead"


class Observer(Protocol):
    """Who hears what happens to a member."""

    def on_ready(self, member: Member) -> None: ...
    def on_report(self, member: Member) -> None: ...
    def on_end(self, member: Member, how: str) -> None: ...


@final
class Member:
    """A worker, from its start to its end."""

    def __init__(self, loop: Loop, place: int, observer: Observer, control: socket.socket, *, deadline: float) -> None:
        self.place: Final = place
        self.state = State.STARTING
        self.stats: Mapping[str, object] = {}
        self.memory = 0
        self.started: Final = loop.time()
        self.why: str | None = None  # it could not begin
        self.aborted = 0
        self.deadline: float | None = self.started + deadline
        """When it has to have left its state, or is killed; when it was, given up."""
        self.asked: float | None = None
        """Since when it owes a report."""
        self.host: Host | None = None
        self._loop: Final = loop
        self._observer: Final = observer
        self.channel: Final = Channel(loop, control, self._on_message, self._on_channel_end)
        self._pidfd = -1
        self._watcher: Watcher | None = None
        self._timer: Timer | None = None

    @property
    def pid(self) -> int:
        """Its process, 0 for a thread."""
        return 0 if self.host is None else self.host.pid

    @property
    def hangs(self) -> bool:
        """Whether it has not answered for a while."""
        return self.asked is not None and self._loop.time() - self.asked >= _SLOW

    @property
    def serves(self) -> bool:
        """Whether it would take a connection now."""
        return self.state is State.READY and not self.hangs

    def attach(self, host: Host) -> None:
        """Watch over what it runs in."""
        self.host = host
        if host.pid and hasattr(os, "pidfd_open"):
            try:
                self._pidfd = os.pidfd_open(host.pid)  # pidfd_open(2): readable once the process has ended
            except OSError:
                return
            self._watcher = self._loop.register(self._pidfd, READ, lambda _events: self._check())

    def drain(self, grace: float) -> None:
        """Have it finish within `grace` seconds; at once, if it has not begun.

        Whether it has is for the worker to say: it may accept already, and its word be on the way to us.
        """
        if self.state not in {State.STARTING, State.READY}:
            return
        starting = self.state is State.STARTING
        self.state = State.DRAINING
        self.deadline = self._loop.time() + grace + SLACK
        self.channel.send({"do": "drain", "grace": grace})
        if starting and self.host is not None:
            self.host.interrupt()

    def ask(self) -> None:
        """Have it report, unless it owes a report already."""
        if self.asked is None and self.state in {State.READY, State.DRAINING} and self.channel.send({"do": "report"}):
            self.asked = self._loop.time()

    def kill(self, why: str) -> None:
        """End it now. A thread cannot be: it is given up, and counts as ended."""
        self.why = self.why or why
        if self.state is not State.KILLED:
            self.state = State.KILLED
            self.deadline = self._loop.time() + _UNKILLABLE
            self.asked = None
        if self.host is None or not self.host.kill():
            self.give_up()

    def give_up(self) -> None:
        """Count it as ended, whatever it does."""
        self._end("given up")

    def total(self) -> ServerStats:
        """Return its numbers as of its last report."""
        return read_stats(self.stats)

    def __repr__(self) -> str:
        return f"<Member {self.state.value} place={self.place} pid={self.pid}>"

    def _on_message(self, message: Message) -> None:
        if "stats" in message:
            self.stats = cast("Mapping[str, object]", message["stats"])
            self.memory = cast("int", message["memory"])
            self.asked = None
        match message:
            case {"is": "ready"} if self.state is State.STARTING:
                self.state = State.READY
                self.deadline = None
                self._observer.on_ready(self)
            case {"is": "alive"}:
                self._observer.on_report(self)
            case {"is": "done", "aborted": int() as aborted}:
                self.aborted = aborted
            case {"is": "failed", "why": str() as why}:
                self.why = why

    def _on_channel_end(self) -> None:
        if self.state is not State.KILLED:
            self.deadline = self._loop.time() + _LINGER
        if self._watcher is None and self.state is not State.DEAD:
            self._timer = self._loop.call_every(_POLL, self._check)

    def _check(self) -> None:
        how = None if self.host is None else self.host.ended()
        if how is not None:
            self.channel.read_rest()
            self._end(how)

    def _end(self, how: str) -> None:
        if self.state is State.DEAD:
            return
        was_serving = self.state
        self.state = State.DEAD
        self.channel.close()
        if self._watcher is not None:
            self._watcher.unregister()
            os.close(self._pidfd)
        if self._timer is not None:
            self._timer.cancel()
        expected = was_serving is State.DRAINING
        self._observer.on_end(self, "drained" if expected and self.why is None else self.why or how)


def read_stats(numbers: Mapping[str, object]) -> ServerStats:
    """Return what a worker has reported; JSON has made strings of the statuses."""
    statuses = cast("Mapping[str, int]", numbers.get("statuses", {}))

    def number(name: str) -> int:
        return cast("int", numbers.get(name, 0))

    return ServerStats(
        connections=number("connections"),
        accepted=number("accepted"),
        rejected=number("rejected"),
        responses=number("responses"),
        statuses={int(status): count for status, count in statuses.items()},
        lost=number("lost"),
        bytes_sent=number("bytes_sent"),
    )


def add_stats(one: ServerStats, other: ServerStats) -> ServerStats:
    """Return the sums."""
    statuses = dict(one.statuses)
    for status, count in other.statuses.items():
        statuses[status] = statuses.get(status, 0) + count
    return ServerStats(
        connections=one.connections + other.connections,
        accepted=one.accepted + other.accepted,
        rejected=one.rejected + other.rejected,
        responses=one.responses + other.responses,
        statuses=statuses,
        lost=one.lost + other.lost,
        bytes_sent=one.bytes_sent + other.bytes_sent,
    )
