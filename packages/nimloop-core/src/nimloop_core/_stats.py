"""What a loop can tell about itself: a snapshot of its counters, and a report of callbacks that hold it up."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final, final

from nimloop_core.abc import Callback, Clock, EventCallback

_log: Final = logging.getLogger("nimloop.core")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopStats:
    """A snapshot of a loop's counters; made by `Loop.stats`."""

    backend: str
    """The name of the backend, such as ``"epoll"``."""
    iterations: int
    """Since the loop was made."""
    events: int
    """Calls of watchers so far."""
    timers_fired: int
    """Calls of timers so far."""
    watchers: int
    """Registered now."""
    timers: int
    """Active now."""
    ready: int
    """Callbacks queued now, from this and from other threads."""
    longest_callback: float | None
    """Seconds that the slowest callback took so far; None unless the loop was made with ``slow_callback``."""


@final
class Monitor:
    """Measures the callbacks of a loop and logs the slow ones to ``nimloop.core``, at level WARNING."""

    __slots__ = ("_clock", "_threshold_ns", "longest_ns")

    def __init__(self, clock: Clock, threshold_ns: int) -> None:
        self._clock = clock
        self._threshold_ns = threshold_ns
        self.longest_ns = 0

    def callback(self, callback: Callback) -> Callback:
        """Wrap a callback so that its time is taken."""
        return MeasuredCallback(self, callback)

    def event_callback(self, callback: EventCallback) -> EventCallback:
        """Wrap a watcher's callback so that its time is taken."""
        return _MeasuredEventCallback(self, callback)

    def now(self) -> int:
        """Return the time that measuring begins at."""
        return self._clock()

    def done(self, started_ns: int, callback: object) -> None:
        """Note that a callback that began at `started_ns` has ended."""
        took_ns = self._clock() - started_ns
        self.longest_ns = max(self.longest_ns, took_ns)
        if took_ns >= self._threshold_ns:
            _log.warning("%r held up the loop for %.3f seconds", callback, took_ns / 1e9)


@final
class MeasuredCallback:
    """A callback whose time is taken; looks like the one it stands for."""

    __slots__ = ("_monitor", "callback")

    def __init__(self, monitor: Monitor, callback: Callback) -> None:
        self._monitor = monitor
        self.callback = callback

    def __call__(self) -> None:
        started_ns = self._monitor.now()
        try:
            self.callback()
        finally:
            self._monitor.done(started_ns, self.callback)

    def __repr__(self) -> str:
        return repr(self.callback)


@final
class _MeasuredEventCallback:
    __slots__ = ("_callback", "_monitor")

    def __init__(self, monitor: Monitor, callback: EventCallback) -> None:
        self._monitor = monitor
        self._callback = callback

    def __call__(self, events: int) -> None:
        started_ns = self._monitor.now()
        try:
            self._callback(events)
        finally:
            self._monitor.done(started_ns, self._callback)

    def __repr__(self) -> str:
        return repr(self._callback)
