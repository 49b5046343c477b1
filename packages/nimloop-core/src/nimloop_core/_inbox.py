"""What other threads and signal handlers may tell a loop: calls to make, and to stop; with the wake-up for both."""

from __future__ import annotations

import threading
from collections import deque
from typing import Final, final

from nimloop_core._watchers import Backend
from nimloop_core.abc import Callback
from nimloop_core.errors import LoopClosedError


@final
class Inbox:
    """Calls from other threads, in order; until `close`, whatever comes in ends the wait of the backend."""

    def __init__(self, backend: Backend) -> None:
        self._backend: Final = backend
        # Guards all the rest, and the backend's wake against its close. Re-entrant, because a signal may call `stop` in
        # its middle.
        self._lock: Final = threading.RLock()
        self.calls: Final[deque[Callback]] = deque()
        self.woken = False
        """Whether the backend was woken up since the last `collect`."""
        self.stopping = False
        """Whether `stop` was called; the loop takes it back."""
        self.closed = False

    def check(self) -> None:
        """Raise `LoopClosedError` after `close`."""
        if self.closed:
            raise LoopClosedError("the loop is closed")

    def post(self, callback: Callback) -> None:
        """Add a call. Any thread; raises `LoopClosedError`."""
        with self._lock:
            self.check()
            self.calls.append(callback)
            self._wake()

    def stop(self) -> None:
        """Ask the loop to stop. Any thread; harmless after `close`."""
        with self._lock:
            if not self.closed:
                self.stopping = True
                self._wake()

    def collect(self) -> int:
        """Return how many calls there are to make; whatever comes after this wakes the backend again."""
        with self._lock:
            # The flag first: what a signal handler posts right here then wakes the loop once more.
            self.woken = False
            return len(self.calls)

    def close(self) -> None:
        """Drop all calls and take no more; the backend is not woken from here on, and may be closed."""
        with self._lock:
            self.closed = True
            self.calls.clear()

    def _wake(self) -> None:
        if not self.woken:
            self.woken = True
            self._backend.wake()
