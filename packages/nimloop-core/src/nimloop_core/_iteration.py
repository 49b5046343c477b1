"""One iteration of the loop: eight steps, over and over.

1. deferred callbacks that were queued before this iteration
2. calls from other threads
3. timers that are due, all taken out before any runs
4. wait, no longer than the next timer, and not at all when something is ready
5. dispatch, skipping stale events (4 and 5 are the backend's `poll`)
6. timers that came due meanwhile
7. sweep retired watchers
8. idle callbacks, if step 5 called nobody
"""

from __future__ import annotations

from collections import deque
from typing import Final, final

from nimloop_core._idle import IdleHandler
from nimloop_core._inbox import Inbox
from nimloop_core._stats import MeasuredCallback
from nimloop_core._timers import TimerWheel
from nimloop_core._watchers import Backend, WatcherTable
from nimloop_core.abc import Callback, ExceptionHandler

# Kernels count a wait in milliseconds in a C int, 24 days at most; Python raises OverflowError beyond. A day is short
# of that, and waking up once a day costs nothing.
_MAX_WAIT_NS: Final = 86_400 * 1_000_000_000


@final
class Iteration:
    """The queues of a loop, and the steps that work them off; the loop sees to who may call them."""

    def __init__(
        self, backend: Backend, watchers: WatcherTable, wheel: TimerWheel, inbox: Inbox, report: ExceptionHandler
    ) -> None:
        self._backend: Final = backend
        self._watchers: Final = watchers
        self._wheel: Final = wheel
        self._inbox: Final = inbox
        self._report: Final = report
        self.deferred: Final[deque[Callback]] = deque()
        self.idle: Final[dict[IdleHandler, None]] = {}
        self.count = 0
        """How many iterations there were."""
        self.events = 0
        self.timers_fired = 0

    def run(self, timeout_ns: int, *, hosted: bool = False) -> None:
        """Take the steps once, waiting at most `timeout_ns` (negative: no limit), and not at all after a callback.

        The last only if `hosted` by another loop, which may have got something to do as soon as anything was called.
        """
        wheel = self._wheel
        # 1. deferred
        deferred = self.deferred
        called = len(deferred)
        for _ in range(called):
            self.call(deferred.popleft())
        # 2. from other threads
        if self._inbox.woken or self._inbox.calls:
            called += 1
            self._run_posted()
        # 3. timers
        if wheel.pending:
            fired = wheel.fire_due(wheel.clock(), self._report)
            called += fired
            self.timers_fired += fired
        # 4. wait, 5. dispatch
        wait_ns = 0 if hosted and called else self.wait_ns(timeout_ns)
        called = self._backend.poll(wait_ns, self._watchers)
        self.count += 1
        self.events += called
        # 6. timers again
        if wheel.pending:
            self.timers_fired += wheel.fire_due(wheel.clock(), self._report)
        # 7. sweep
        if self._watchers.retired:
            self._watchers.sweep()
        # 8. idle
        if called == 0 and self.idle:
            for handler in list(self.idle):
                if handler in self.idle:  # not cancelled by one before it
                    self.call(handler.callback)

    def wait_ns(self, timeout_ns: int) -> int:
        """Return how long the loop may wait now, given that nobody wants it to wait longer than `timeout_ns`."""
        if self.deferred or self._inbox.woken or self._inbox.stopping:
            return 0
        wheel = self._wheel
        if wheel.pending:  # else next_ns may be the past, where a cancelled timer was
            left = max(0, wheel.next_ns - wheel.clock())
            if timeout_ns < 0 or left < timeout_ns:
                timeout_ns = left
        return min(timeout_ns, _MAX_WAIT_NS)

    def _run_posted(self) -> None:
        calls = self._inbox.calls
        for _ in range(self._inbox.collect()):
            self.call(calls.popleft())

    def call(self, callback: Callback) -> None:
        """Call back; an exception goes to the exception handler."""
        try:
            callback()
        except Exception as error:
            self._report(error, callback.callback if isinstance(callback, MeasuredCallback) else callback)
