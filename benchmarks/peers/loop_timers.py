"""Timers of one loop, measured in this process."""

import asyncio
import gc
import os
import random
import sched
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Generic, TypeVar

from _peer import need, parser, say_build, say_compiled, say_result, skip

try:
    import nimloop_core
    from nimloop_core import Loop, Timer
except ImportError as missing:
    skip(missing)

T = TypeVar("T")
Callback = Callable[[], object]

# The timers in the background, in seconds and by weight: keep-alive and idle time-outs, sessions, daily chores. Each
# is jittered up to twice its length. None is short enough to come due while this runs.
_BACKGROUND_SECONDS: Final = (60.0, 120.0, 300.0, 3600.0, 86_400.0)
_WEIGHTS: Final = (50, 20, 15, 10, 5)
# Time-outs of requests, which hardly ever fire; here they never must, though a garbage collection among a million
# handles takes seconds on a busy machine.
_SHORT_SECONDS: Final = (10.0, 60.0)
# How many short ones there are at a time, and how many are replaced in one turn of the loop, while the loop runs.
_WINDOW: Final = 1024
_PER_TURN: Final = 256
_FIRING_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Timers(Generic[T]):
    """What a loop can do with timers, in its own words."""

    add: Callable[[float, Callback], T]
    cancel: Callable[[T], object]
    rearm: Callable[[T, float], object] | None
    # Calls back once per turn of the running loop, until that returns False.
    drive: Callable[[Callable[[], bool]], None]
    close: Callback
    # How many cancellations one can wait for.
    patience: int


def of_nimloop() -> Timers[Timer]:
    """Timers on nimloop's wheel."""
    loop = Loop()

    def drive(step: Callable[[], bool]) -> None:
        def turn() -> None:
            if step():
                loop.call_soon(turn)
            else:
                loop.stop()

        loop.call_soon(turn)
        loop.run()

    return Timers(loop.call_later, Timer.cancel, Timer.reschedule, drive, loop.close, 1_000_000)


def of_asyncio(loop: asyncio.AbstractEventLoop) -> Timers[asyncio.TimerHandle]:
    """Timers in asyncio's heap or in uvloop's."""

    def drive(step: Callable[[], bool]) -> None:
        def turn() -> None:
            if step():
                loop.call_soon(turn)
            else:
                loop.stop()

        loop.call_soon(turn)
        loop.run_forever()

    handle = loop.call_later(60.0, turn_nothing)  # uvloop makes another kind of handle when there is no delay
    handle.cancel()
    cancel: Callable[[asyncio.TimerHandle], object] = type(handle).cancel
    return Timers(loop.call_later, cancel, None, drive, loop.close, 1_000_000)


def of_sched(pending: int) -> Timers[sched.Event]:  # type: ignore[explicit-any] # an event's action has any arguments
    """Events in the standard library's heap; a cancellation there takes time in proportion to all of them."""
    scheduler = sched.scheduler(time.monotonic, time.sleep)
    enter = scheduler.enter

    def add(delay: float, callback: Callback) -> sched.Event:  # type: ignore[explicit-any]
        return enter(delay, 0, callback)

    def drive(step: Callable[[], bool]) -> None:
        more = True
        while more:
            scheduler.run(blocking=False)
            more = step()

    return Timers(add, scheduler.cancel, None, drive, turn_nothing, max(4, 4_000_000 // pending))


def turn_nothing() -> None:
    """The callback of timers that are only there."""


def must_not() -> None:
    """The callback of timers that are cancelled in time."""
    raise SystemExit("a cancelled timer fired")


def resident_bytes() -> int:
    """Memory of this process that is really there; allocations by C libraries count too."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def cpu_ns(work: Callable[[], object], count: int) -> float:
    """CPU time of `work` per operation; garbage from before is not charged to it."""
    gc.collect()
    before = time.process_time_ns()
    work()
    return (time.process_time_ns() - before) / count


class Measurement(Generic[T]):
    """Puts `pending` timers into the background, then measures."""

    def __init__(self, timers: Timers[T], pending: int, count: int) -> None:
        self.timers = timers
        self.chance = random.Random(1)
        self.count = count
        self.cancels = min(count, timers.patience)
        gc.collect()
        before = resident_bytes()
        kinds = self.chance.choices(range(len(_WEIGHTS)), _WEIGHTS, k=4096)

        def filling() -> None:
            for number in range(pending):
                timers.add(_BACKGROUND_SECONDS[kinds[number & 4095]] * (1.0 + self.chance.random()), turn_nothing)

        self.fill_ns = cpu_ns(filling, pending)
        gc.collect()
        self.memory_bytes = (resident_bytes() - before) / pending

    def short(self, count: int) -> list[float]:
        """Delays of requests."""
        return [self.chance.uniform(*_SHORT_SECONDS) for _ in range(count)]

    def add_and_cancel(self) -> tuple[float, float]:
        """Add many, then cancel them in another order, with the turn of the loop that clears up after it."""
        add, cancel = self.timers.add, self.timers.cancel
        delays = self.short(self.count)
        made: list[T] = []
        callback = must_not if self.cancels == self.count else turn_nothing

        def adding() -> None:
            for delay in delays:
                made.append(add(delay, callback))  # noqa: PERF401 - what users do

        def cancelling() -> None:
            for timer in victims:
                cancel(timer)
            self.timers.drive(lambda: False)

        adding_ns = cpu_ns(adding, self.count)
        self.chance.shuffle(made)
        victims = made[: self.cancels]
        return adding_ns, cpu_ns(cancelling, self.cancels)

    def churn(self) -> float:
        """Replace the oldest timer by a new one, over and over, while the loop runs: requests that are answered."""
        add, cancel = self.timers.add, self.timers.cancel
        window = min(_WINDOW, self.cancels)
        delays = self.short(_PER_TURN)[: self.cancels]
        ring = [add(delay, must_not) for delay in self.short(window)]
        left = turns = max(1, self.cancels // len(delays))
        place = 0

        def step() -> bool:
            nonlocal left, place
            for delay in delays:
                cancel(ring[place])
                ring[place] = add(delay, must_not)
                place = (place + 1) % window
            left -= 1
            return left > 0

        spent = cpu_ns(lambda: self.timers.drive(step), turns * len(delays))
        for timer in ring[: self.cancels]:
            cancel(timer)
        return spent

    def rearm(self) -> float:
        """Move timers to another deadline, while the loop runs; where there is no such thing, by cancel and add."""
        add, cancel, rearm = self.timers.add, self.timers.cancel, self.timers.rearm
        window = min(_WINDOW, self.cancels)
        delays = self.short(_PER_TURN)[: self.cancels]
        ring = [add(delay, must_not) for delay in self.short(window)]
        order = list(range(window))
        self.chance.shuffle(order)
        left = turns = max(1, self.cancels // len(delays))
        place = 0

        def step() -> bool:
            nonlocal left, place
            if rearm is None:
                for delay in delays:
                    cancel(ring[order[place]])
                    ring[order[place]] = add(delay, must_not)
                    place = (place + 1) % window
            else:
                for delay in delays:
                    rearm(ring[order[place]], delay)
                    place = (place + 1) % window
            left -= 1
            return left > 0

        spent = cpu_ns(lambda: self.timers.drive(step), turns * len(delays))
        for timer in ring[: self.cancels]:
            cancel(timer)
        return spent

    def fire(self) -> float:
        """Let many come due at different times, then run them all; each second one cancelled must not come."""
        fired: list[int] = []
        for number in range(self.count):
            self.timers.add(self.chance.uniform(0, _FIRING_SECONDS), partial(fired.append, number))
        for timer in [self.timers.add(_FIRING_SECONDS / 2, must_not) for _ in range(min(100, self.cancels))]:
            self.timers.cancel(timer)
        time.sleep(_FIRING_SECONDS * 1.5)
        deadline = time.monotonic() + 10

        def step() -> bool:
            return len(fired) < self.count and time.monotonic() < deadline

        spent = cpu_ns(lambda: self.timers.drive(step), self.count)
        if sorted(fired) != list(range(self.count)):
            raise SystemExit(f"of {self.count} timers {len(fired)} fired, {len(set(fired))} of them different")
        return spent

    def results(self, repeats: int) -> dict[str, float]:
        """Medians of all figures."""
        both = [self.add_and_cancel() for _ in range(repeats)]
        return {
            "fill_ns": self.fill_ns,
            "add_ns": statistics.median(adding for adding, _ in both),
            "cancel_ns": statistics.median(cancelling for _, cancelling in both),
            "churn_ns": statistics.median(self.churn() for _ in range(repeats)),
            "rearm_ns": statistics.median(self.rearm() for _ in range(repeats)),
            "fire_ns": statistics.median(self.fire() for _ in range(repeats)),
            "memory_bytes": self.memory_bytes,
        }


def measure(timers: Timers[T], pending: int, *, quick: bool) -> None:
    """Measure and tell."""
    # The rest of what sched cannot cancel in time stays pending: fewer of them, once, keep its number about right.
    slow = timers.patience < pending
    measurement = Measurement(timers, pending, 1_000 if quick or slow else 20_000)
    figures = measurement.results(1 if quick or slow else 5)
    timers.close()
    say_result(figures)


def main() -> None:
    """Measure the loop that is asked for."""
    arguments = parser()
    arguments.add_argument("--loop", required=True)
    arguments.add_argument("--pending", type=int, required=True)
    arguments.add_argument("--quick", action="store_true")
    given = arguments.parse_args()
    if given.loop == "nimloop":
        say_build(nimloop_core)
        say_compiled()
        measure(of_nimloop(), given.pending, quick=given.quick)
    elif given.loop == "sched":
        say_build(sched)
        measure(of_sched(given.pending), given.pending, quick=given.quick)
    else:
        library = asyncio if given.loop == "asyncio" else need(given.loop)
        say_build(library)
        measure(of_asyncio(library.new_event_loop()), given.pending, quick=given.quick)


if __name__ == "__main__":
    main()
