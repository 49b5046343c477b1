"""Help for tests of anything that runs on a loop: time that moves when told to, events that come when told to."""

from __future__ import annotations

from typing import final

from nimloop_core._timers import to_ns
from nimloop_core._watchers import ERROR, HUP, WatcherTable

__all__ = ["DeadlockError", "FakeBackend", "FakeClock"]


class DeadlockError(AssertionError):
    """The loop would wait for ever: no timer, no event, nobody to wake it."""


@final
class FakeClock:
    """A clock that stands still until `advance`. Give it to ``Loop(clock=…)``."""

    def __init__(self, start: float = 0.0) -> None:
        self._now_ns = to_ns(start)

    def __call__(self) -> int:
        """Return the time in nanoseconds."""
        return self._now_ns

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass. Raises `DelayError` for a step back."""
        self._now_ns += to_ns(seconds)

    def advance_ns(self, nanoseconds: int) -> None:
        """Let some nanoseconds pass."""
        self._now_ns += nanoseconds


@final
class FakeBackend:
    """A backend without a kernel: events are put in with `put`, and waiting moves a `FakeClock` instead of taking time.

    ``Loop(FakeBackend(clock), clock=clock)`` runs through a year of timers in an instant.
    """

    def __init__(self, clock: FakeClock, *, edge: bool = True) -> None:
        self.name = "fake"
        self.edge = edge
        self.wake_fd = -1
        self.interest: dict[int, int] = {}
        self.waits: list[int] = []
        self._clock = clock
        self._events: list[tuple[int, int]] = []
        self._woken = False

    def put(self, fd: int, events: int) -> None:
        """Report `events` on `fd` in the next batch."""
        self._events.append((fd, events))

    def add(self, fd: int, events: int, *, edge: bool) -> None:
        """Note the interest."""
        del edge
        self.interest[fd] = events

    def modify(self, fd: int, events: int, *, edge: bool) -> None:
        """Note the new interest."""
        del edge
        self.interest[fd] = events

    def remove(self, fd: int) -> None:
        """Forget the interest."""
        self.interest.pop(fd, None)

    def wake(self) -> None:
        """End the next wait at once."""
        self._woken = True

    def poll(self, timeout_ns: int, table: WatcherTable) -> int:
        """Dispatch what was put in and is wanted; else let the time pass. Every wait is noted in `waits`."""
        self.waits.append(timeout_ns)
        batch = [(fd, wanted) for fd, events in self._events if (wanted := self._wanted(fd, events))]
        told = bool(self._events)
        self._events.clear()
        if not told and not self._woken:
            if timeout_ns < 0:
                raise DeadlockError("the loop would wait for ever")
            self._clock.advance_ns(timeout_ns)
        self._woken = False
        return table.dispatch(batch)

    def _wanted(self, fd: int, events: int) -> int:
        # As a kernel does it: what nobody asked for is not reported, errors and hang-ups are, where there is interest.
        interest = self.interest.get(fd, 0)
        return events & (interest | ERROR | HUP) if interest else 0

    def fileno(self) -> int:
        """Return −1: there is nothing that another loop could wait for."""
        return -1

    def close(self) -> None:
        """Forget everything."""
        self.interest.clear()
        self._events.clear()
