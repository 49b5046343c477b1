"""Events of many descriptors on one loop, measured in this process.

The descriptors are eventfds: one each, where a pipe would take two, and readable as soon as something is written. They
are watched for levels and nobody reads them, so each iteration of the loop finds the same ones ready: what is
measured is waiting and dispatching, nothing else.
"""

import asyncio
import gc
import os
import random
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from _peer import need, parser, say_build, say_compiled, say_result, skip

try:
    import nimloop_core
    from nimloop_core import READ, Loop, Watcher
except ImportError as missing:
    skip(missing)

Callback = Callable[[], object]

# The same as in ../fds.py.
_ACTIVE: Final = (1, 64, 1024)
# CPU time to be spent on each figure: short enough to be repeated, long enough for the clock.
_SECONDS: Final = 0.2
_QUICK_SECONDS: Final = 0.02
# Iterations to find out how many that makes; a loop may begin with small batches and let them grow.
_TRIAL: Final = 16


class OnEvent(Protocol):
    """A callback that can do with and without a mask of events: nimloop tells one, the others do not."""

    def __call__(self, events: int = 0, /) -> object:
        """Count the event."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A loop that watches descriptors."""

    watch: Callable[[int, OnEvent], object]
    forget: Callable[[int], object]
    run: Callback
    stop: Callback
    close: Callback


def of_nimloop(backend: str) -> Subject:
    """A loop of nimloop."""
    loop = Loop(backend)
    watchers: dict[int, Watcher] = {}

    def watch(fd: int, callback: OnEvent) -> None:
        watchers[fd] = loop.register(fd, READ, callback)

    def forget(fd: int) -> None:
        watchers.pop(fd).unregister()

    return Subject(watch, forget, loop.run, loop.stop, loop.close)


def of_asyncio(loop: asyncio.AbstractEventLoop) -> Subject:
    """A loop of asyncio or uvloop."""

    def watch(fd: int, callback: OnEvent) -> None:
        loop.add_reader(fd, callback)

    return Subject(watch, loop.remove_reader, loop.run_forever, loop.stop, loop.close)


class Counter:
    """Counts the events of each descriptor, and stops the loop after so many."""

    def __init__(self, subject: Subject, size: int) -> None:
        self.counts = [0] * size
        self._subject = subject
        self._left = 0

    def callback(self, number: int) -> OnEvent:
        """The callback of one descriptor."""

        def on_event(_events: int = 0) -> None:
            self.counts[number] += 1
            self._left -= 1
            if self._left == 0:
                self._subject.stop()

        return on_event

    def run(self, active: Sequence[int], iterations: int) -> tuple[float, int]:
        """Return CPU seconds and events of that many iterations; ends the program when an event went astray."""
        self.counts[:] = [0] * len(self.counts)
        self._left = len(active) * iterations
        gc.collect()
        before = time.process_time()
        self._subject.run()
        spent = time.process_time() - before
        heard = [self.counts[number] for number in active]
        events = sum(heard)
        if events != sum(self.counts):
            raise SystemExit(f"{sum(self.counts) - events} events of descriptors that were not ready")
        if min(heard) * 2 < max(heard):
            raise SystemExit(f"one descriptor was told {min(heard)} times, another {max(heard)} times")
        return spent, events


def measure(subject: Subject, size: int, seconds: float) -> None:
    """Watch that many descriptors, make some of them ready, and tell what it cost."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    fds = [os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(size)]
    counter = Counter(subject, size)
    callbacks = [counter.callback(number) for number in range(size)]
    before = time.process_time()
    for fd, callback in zip(fds, callbacks, strict=True):
        subject.watch(fd, callback)
    figures = {"register_us": (time.process_time() - before) / size * 1e6}
    chance = random.Random(1)
    for count in _ACTIVE:
        if count > size:
            continue
        active = chance.sample(range(size), count)
        for number in active:
            os.eventfd_write(fds[number], 1)
        spent, _ = counter.run(active, _TRIAL)
        spent, events = counter.run(active, max(_TRIAL, int(_TRIAL * seconds / max(spent, 1e-6))))
        figures[f"active_{count}_us"] = spent / events * 1e6
        for number in active:
            os.eventfd_read(fds[number])
    before = time.process_time()
    for fd in fds:
        subject.forget(fd)
    figures["unregister_us"] = (time.process_time() - before) / size * 1e6
    subject.close()
    for fd in fds:
        os.close(fd)
    say_result(figures)


def main() -> None:
    """Measure the loop that is asked for."""
    arguments = parser()
    arguments.add_argument("--loop", required=True)
    arguments.add_argument("--watched", type=int, required=True)
    arguments.add_argument("--quick", action="store_true")
    given = arguments.parse_args()
    if given.loop in {"nimloop", "nimloop-poll"}:
        say_build(nimloop_core)
        say_compiled()
        subject = of_nimloop("epoll" if given.loop == "nimloop" else "poll")
    else:
        library = asyncio if given.loop == "asyncio" else need(given.loop)
        say_build(library)
        subject = of_asyncio(library.new_event_loop())
    measure(subject, given.watched, _QUICK_SECONDS if given.quick else _SECONDS)


if __name__ == "__main__":
    main()
