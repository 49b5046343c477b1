"""Keeps one worker in each place: starts, replaces, recycles and ends them.

A place is a set of listening sockets with a queue each. A replacement is ready before the worker it replaces is told to
drain. A place whose worker has died is filled again at once; when that one dies early, too, after a pause that doubles
each time. As long as a place has no worker that answers, the others serve its queue. All of it runs on one loop, in
one thread.
"""

from __future__ import annotations

import logging
import math
import socket
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Final, final

from nimloop_core import Loop
from nimloop_http import ServerStats
from nimloop_mt._handover import Handover
from nimloop_mt._hosts import Host
from nimloop_mt._member import Member, State, add_stats, read_stats

_log: Final = logging.getLogger("nimloop.mt")

_TICK: Final = 0.5  # seconds between two looks at all workers
_EARLY: Final = 10.0  # seconds; who dies younger is not started again and again without a pause
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 30.0

Launch = Callable[[Member, socket.socket], Host]
Relieve = Callable[[int], Handover]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How a server has ended."""

    aborted: int
    """Connections that were cut off because the grace was over."""
    killed: int
    """Workers that did not end by themselves."""
    restarts: int
    """Workers that were started in place of one that had died, in all its life."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Care:
    """When a worker is to be replaced, and how long it may take over what; seconds and bytes."""

    grace: float
    watchdog: float | None
    start_timeout: float
    max_requests: int | None
    max_memory: int | None

    def __post_init__(self) -> None:
        """Refuse what would replace every worker as soon as it has begun."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{field.name} has to be more than 0, and finite, not {value}")


@final
class _Place:
    __slots__ = ("current", "deaths", "next", "not_before", "pausing", "relief")

    def __init__(self) -> None:
        self.current: Member | None = None
        self.next: Member | None = None
        self.deaths = 0  # early ones, in a row
        self.pausing = False
        self.relief: Handover | None = None  # hands its queue to the others
        self.not_before = 0.0  # when it may be recycled again, after a replacement that could not begin


@final
class Supervisor:
    """The owner of all workers. ``on_started(why)`` is called once: None when all are ready, else why they are not."""

    def __init__(
        self,
        loop: Loop,
        places: int,
        *,
        launch: Launch,
        care: Care,
        handover: Handover | None,
        relieve: Relieve,
        on_started: Callable[[str | None], object],
        on_stopping: Callable[[], object],
        on_end: Callable[[Report], object],
    ) -> None:
        self._loop: Final = loop
        self._launch: Final = launch
        self._care: Final = care
        self._handover: Final = handover
        self._relieve: Final = relieve
        self._on_started: Final = on_started
        self._on_stopping: Final = on_stopping
        self._on_end: Final = on_end
        self._places: Final = [_Place() for _ in range(places)]
        self.members: Final[list[Member]] = []
        self._rolling: Final[list[int]] = []
        self._past = read_stats({})
        self._started = self._stopping = self._ended = False
        self._aborted = self._killed = self._restarts = 0
        self._looked = loop.time()
        self._fair = True  # the last look was not late
        self._tick: Final = loop.call_every(_TICK, self._look)

    def start(self) -> None:
        """Start a worker in each place."""
        for index in range(len(self._places)):
            self._start(index)

    @property
    def ready(self) -> bool:
        """Whether each place has a worker that serves."""
        return not self._stopping and all(
            place.current is not None and place.current.state is State.READY for place in self._places
        )

    @property
    def stats(self) -> ServerStats:
        """All numbers added up, those of workers that have ended included."""
        total = self._past
        for member in self.members:
            total = add_stats(total, member.total())
        return total

    def roll(self) -> None:
        """Replace all workers, one place after the other; each goes when its replacement is ready."""
        if self._started and not self._stopping:
            idle = not self._rolling
            self._rolling.extend(index for index in range(len(self._places)) if index not in self._rolling[1:])
            if idle:
                self._roll_next()

    def recycle(self, place: int, why: str) -> None:
        """Replace the worker of one place."""
        state = self._places[place]
        if not self._stopping and state.next is None and self._loop.time() >= state.not_before:
            _log.info("worker %d is replaced: %s", place, why)
            self._start(place)

    def stop(self, grace: float | None = None) -> None:
        """Drain all workers, and end. A second time: at once."""
        if self._stopping:
            for member in list(self.members):
                self._kill(member, "stopped at once")
            return
        self._stopping = True
        for handover in self._handovers():
            handover.finish()
        self._on_stopping()
        for member in list(self.members):
            member.drain(self._care.grace if grace is None else grace)
        self._end_if_done()

    # What the members tell ------------------------------------------------------------------------------------

    def on_ready(self, member: Member) -> None:
        """It accepts: who was there before may go."""
        place = self._places[member.place]
        old, place.current, place.next = place.current, member, None
        self._see_to(member.place)
        for handover in self._handovers():
            handover.resume()
        if old is not None:
            old.drain(self._care.grace)
        if not self._started and self.ready:
            self._started = True
            self._on_started(None)
        self._roll_on(member.place)

    def on_report(self, member: Member) -> None:
        """See whether it has done its share."""
        if member is not self._places[member.place].current:
            return
        self._see_to(member.place)
        care = self._care
        if care.max_requests is not None and member.total().responses >= care.max_requests:
            self.recycle(member.place, f"it has answered {member.total().responses} requests")
        elif care.max_memory is not None and member.memory >= care.max_memory:
            self.recycle(member.place, f"it uses {member.memory} bytes of memory")

    def on_end(self, member: Member, how: str) -> None:
        """It is gone: fill its place again, if it was needed there."""
        self.members.remove(member)
        self._aborted += member.aborted
        self._past = add_stats(self._past, replace(member.total(), connections=0))
        place = self._places[member.place]
        if place.next is member:
            place.next = None
            place.not_before = self._loop.time() + _EARLY
        if place.current is member:
            place.current = None
        if self._stopping:
            self._end_if_done()
        elif not self._started:
            self._stopping = True
            self._on_started(how)
            for other in list(self.members):
                other.kill("another worker could not begin")
            self._end_if_done()
        else:
            if how != "drained":
                _log.error("worker %d (process %d) has ended: %s", member.place, member.pid, how)
                self._restart(member.place, early=self._loop.time() - member.started < _EARLY)
            self._see_to(member.place)
            self._roll_on(member.place)

    # Inside ---------------------------------------------------------------------------------------------------

    def _start(self, index: int) -> None:
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:  # no descriptors left
            if not self._started:
                raise
            _log.error("worker %d cannot be started: %s", index, error)
            self._rolling.clear()
            self._restart(index, early=True)
            return
        member = Member(self._loop, index, self, ours, deadline=self._care.start_timeout)
        self._places[index].next = member
        self.members.append(member)
        try:
            member.attach(self._launch(member, theirs))
        except (OSError, RuntimeError) as error:  # no process, no thread or no memory left
            member.kill(f"cannot be started: {error}")
        finally:
            theirs.close()

    def _restart(self, index: int, *, early: bool) -> None:
        place = self._places[index]
        if place.current is not None or place.next is not None or place.pausing:
            return  # a replacement that could not begin: the one to be replaced serves on
        place.deaths = place.deaths + 1 if early else 0
        pause = 0.0 if place.deaths <= 1 else min(_FIRST_PAUSE * 2 ** min(place.deaths - 2, 16), _LONGEST_PAUSE)
        place.pausing = True

        def again() -> None:
            place.pausing = False
            if not self._stopping and place.current is None and place.next is None:
                self._restarts += 1
                self._start(index)

        self._loop.call_later(pause, again)

    def _roll_next(self) -> None:
        # Where one is on its way already, that will be the new one.
        if self._rolling and self._places[self._rolling[0]].next is None:
            self._start(self._rolling[0])

    def _roll_on(self, place: int) -> None:
        if self._rolling and self._rolling[0] == place and self._places[place].next is None:
            self._rolling.pop(0)
            self._roll_next()

    def _look(self) -> None:
        now = self._loop.time()
        # A look that is late finds answers unread, and workers that may have stood still with us: the next one judges.
        self._fair = now - self._looked <= 2 * _TICK or not self._fair
        self._looked = now
        watchdog = self._care.watchdog if self._fair else None
        for member in list(self.members):
            if member.deadline is not None and now >= member.deadline:
                if member.state is State.KILLED:
                    _log.error("process %d was killed, and does not end", member.pid)
                    member.give_up()
                    continue
                self._kill(member, f"was {member.state.value} for too long")
            elif watchdog is not None and member.asked is not None and now - member.asked >= watchdog:
                self._kill(member, f"has not answered for {watchdog:g} s")
            else:
                member.ask()
        for index in range(len(self._places)):
            self._see_to(index)
        for handover in self._handovers():
            handover.resume()

    def _see_to(self, index: int) -> None:
        """Have the others serve the queue of a place as long as nobody there does."""
        place = self._places[index]
        served = self._handover is not None or (place.current is not None and place.current.serves)
        if served and place.relief is not None:
            place.relief.close()
            place.relief = None
        elif not served and place.relief is None and self._started and not self._stopping:
            place.relief = self._relieve(index)
            place.relief.resume()

    def _handovers(self) -> list[Handover]:
        every = [self._handover, *(place.relief for place in self._places)]
        return [each for each in every if each is not None]

    def _kill(self, member: Member, why: str) -> None:
        self._killed += member.state is not State.KILLED
        member.kill(why)

    def _end_if_done(self) -> None:
        if not self.members and not self._ended:
            self._ended = True
            self._tick.cancel()
            for handover in self._handovers():
                handover.close()
            self._on_end(Report(aborted=self._aborted, killed=self._killed, restarts=self._restarts))
