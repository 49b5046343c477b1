"""Threads for what would block the loop: a bounded number of them, and a bounded number of jobs that wait for one."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, final

from nimloop_core import Loop

Job = Callable[[], object]

_log: Final = logging.getLogger("nimloop.http")


@final
class WorkerPool:
    """Runs jobs in up to `threads` threads, first come, first served; up to `waiting` more wait for their turn.

    A thread is started when there is work and none is free. They do not keep the program from ending, because a job
    that never ends could not be stopped by anybody.
    """

    __slots__ = ("_changed", "_closed", "_count", "_idle", "_jobs", "_name", "threads", "waiting")

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        if threads < 1 or waiting < 0:
            raise ValueError(f"a pool has at least one thread, and no less than no jobs waiting: {threads}, {waiting}")
        self.threads: Final = threads
        self.waiting: Final = waiting
        self._name: Final = name
        self._jobs: Final[deque[Job]] = deque()
        self._changed: Final = threading.Condition()
        self._count = 0
        self._idle = 0  # threads without a job, those that are only starting too
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether it takes no more jobs."""
        return self._closed

    def submit(self, job: Job) -> bool:
        """Have a job run, from any thread; False when too many are waiting or the pool is closed, and it will not."""
        with self._changed:
            free = self._idle + self.threads - self._count
            if self._closed or len(self._jobs) >= self.waiting + free:
                return False
            self._jobs.append(job)
            if len(self._jobs) > self._idle and self._count < self.threads:
                self._count += 1
                self._idle += 1
                threading.Thread(target=self._work, name=f"{self._name}-{self._count}", daemon=True).start()
            else:
                self._changed.notify()
            return True

    def close(self) -> None:
        """Take no more jobs, and let the threads end after those that are there. Harmless when repeated."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._jobs:
                    if self._closed:
                        self._count -= 1
                        self._idle -= 1
                        return
                    self._changed.wait()
                job = self._jobs.popleft()
                self._idle -= 1
            try:
                job()
            except BaseException:
                _log.exception("a job of %s failed", self._name)
            with self._changed:
                self._idle += 1
            del job  # or it would be kept, with all that it knows, until the next one comes


def call_soon(loop: Loop, callback: Callable[[], object]) -> None:
    """Have a callback called in the thread of the loop, from any; not at all when that is closed and nobody waits."""
    try:
        loop.call_soon_threadsafe(callback)
    except Exception:
        if not loop.closed:
            raise
