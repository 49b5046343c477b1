"""The loop: what one thread may ask of it, and the few things that any other may.

What it does with that, over and over, is told in `nimloop_core._iteration`.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
import warnings
from math import ceil
from types import TracebackType
from typing import Final, Self, final

from nimloop_core import backends
from nimloop_core._buffers import BufferPool
from nimloop_core._guard import ThreadGuard
from nimloop_core._idle import IdleHandler
from nimloop_core._inbox import Inbox
from nimloop_core._iteration import Iteration
from nimloop_core._report import Reporter
from nimloop_core._signals import SignalHandler, SignalHub
from nimloop_core._stats import LoopStats, Monitor
from nimloop_core._timers import MAX_SECONDS, Timer, TimerWheel, to_ns
from nimloop_core._watchers import Backend, Watcher, WatcherTable
from nimloop_core.abc import Callback, Clock, EventCallback, ExceptionHandler, HasFileno
from nimloop_core.errors import DelayError, LoopRunningError

# Compiled, a builtin is looked up in its module by name for every call, which costs more than the call does.
_callable: Final = callable

READ_BUFFER_BYTES: Final = 65536
_SLOW_CALLBACK: Final = 0.1  # seconds: what a person begins to notice, and asyncio's choice too


@final
class Loop:
    """A single-threaded reactor.

    Only `stop` and `call_soon_threadsafe` may be called from other threads. Callbacks take no arguments, except the
    ones of `register`, which get the mask of events. A callback that raises never ends the loop: the exception goes
    to `exception_handler`.
    """

    def __init__(
        self,
        backend: str | Backend | None = None,
        *,
        clock: Clock = time.monotonic_ns,
        debug: bool | None = None,
        slow_callback: float | None = None,
    ) -> None:
        """Open a loop on the best backend of this system, on the named one, or on one made by the caller.

        The environment variable ``NIMLOOP_BACKEND`` names the default. Raises `BackendUnavailableError`.

        With `debug` (by default, in Python's development mode and with ``NIMLOOP_DEBUG=1``) calls from the wrong
        thread, to the loop or to a handle that it gave out, raise `WrongThreadError`, and the warning about a loop that
        nobody closed says where it was made.
        With `slow_callback`, every callback is measured, and one that takes that many seconds is logged; 0.1 is the
        default with `debug`, and without it nothing is measured. Raises `DelayError`.
        """
        if debug is None:
            debug = sys.flags.dev_mode or os.environ.get("NIMLOOP_DEBUG", "0") not in {"", "0"}
        if slow_callback is None and debug:
            slow_callback = _SLOW_CALLBACK
        slow_callback_ns = None if slow_callback is None else to_ns(slow_callback)  # before there is anything to close
        self._backend: Final = backends.create(backend) if backend is None or isinstance(backend, str) else backend
        self.clock: Final = clock
        self.buffers: Final = BufferPool(READ_BUFFER_BYTES)
        """Buffers for those who have to keep what they read for a while."""
        # Reads of all connections go through one buffer and are copied out at their true size before the next read:
        # a fresh 64 KiB object per read would cost more than the copy.
        self.read_buffer: Final = memoryview(self.buffers.acquire())
        """A buffer for everybody, whose content is gone when the callback returns."""
        self._guard: Final = ThreadGuard() if debug else None
        self._wheel: Final = TimerWheel(clock, self._guard)
        self._reporter: Final = Reporter()
        self._report: Final[ExceptionHandler] = self._reporter.report
        self._watchers: Final = WatcherTable(self._backend, self._report, self._guard)
        self._signals: Final = SignalHub(self._watchers, self._report)
        self._inbox: Final = Inbox(self._backend)
        self._iteration: Final = Iteration(self._backend, self._watchers, self._wheel, self._inbox, self._report)
        self._deferred: Final = self._iteration.deferred
        self._idle: Final = self._iteration.idle
        self._running = False
        self._debug: Final = debug
        self._monitor: Final = None if slow_callback_ns is None else Monitor(clock, slow_callback_ns)
        # Whether calls have to take the slow way in: nothing but this is looked at in the ordinary case.
        self._guarded = debug or self._monitor is not None
        self._made = _callers() if debug else None

    # What may be asked of a loop ------------------------------------------------------------------------------

    @property
    def backend(self) -> str:
        """The name of the backend, such as ``"epoll"``."""
        return self._backend.name

    @property
    def running(self) -> bool:
        """Whether `run` or `run_once` is in progress."""
        return self._running

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._inbox.closed

    @property
    def exception_handler(self) -> ExceptionHandler:
        """Told about every exception of a callback, with the callback's owner; `log_exception` unless replaced."""
        return self._reporter.handler

    @exception_handler.setter
    def exception_handler(self, handler: ExceptionHandler) -> None:
        self._reporter.handler = handler

    @property
    def debug(self) -> bool:
        """Whether the loop is in development mode."""
        return self._debug

    @property
    def stats(self) -> LoopStats:
        """A snapshot of what the loop has done and has to do."""
        monitor, iteration = self._monitor, self._iteration
        return LoopStats(
            backend=self._backend.name,
            iterations=iteration.count,
            events=iteration.events,
            timers_fired=iteration.timers_fired,
            watchers=len(self._watchers),
            timers=self._wheel.pending,
            ready=len(self._deferred) + len(self._inbox.calls),
            longest_callback=None if monitor is None else monitor.longest_ns / 1e9,
        )

    def fileno(self) -> int:
        """Return a descriptor that is readable when the loop has an event, so that another loop can wait for it.

        See `nimloop_core.interop`. Raises ValueError where the backend has none (poll, IOCP).
        """
        fd = self._backend.fileno()
        if fd < 0:
            raise ValueError(f"the {self._backend.name} backend has no descriptor to wait for")
        return fd

    def next_deadline(self) -> float | None:
        """Return in how many seconds the loop has to run again whatever its descriptor says; None for never."""
        if self._inbox.calls or self._wheel.late:  # left over when Ctrl+C ended an iteration
            return 0.0
        wait_ns = self._iteration.wait_ns(-1)
        return None if wait_ns < 0 else wait_ns / 1e9

    def time(self) -> float:
        """Return the loop's clock in seconds: monotonic, with no meaning beyond differences and `call_at`."""
        return self.clock() / 1e9

    # Scheduling -----------------------------------------------------------------------------------------------

    def call_soon(self, callback: Callback) -> None:
        """Call back before the loop waits next, after everything queued so far.

        What is queued meanwhile has to wait for the next iteration, so that events are never starved.
        """
        if self._guarded or not _callable(callback):
            callback = self._admit(callback)
        self._deferred.append(callback)

    def call_soon_threadsafe(self, callback: Callback) -> None:
        """Like `call_soon`, from any thread: the loop is woken up."""
        if self._monitor is not None or not _callable(callback):
            callback = self._measured(callback)
        self._inbox.post(callback)

    def call_later(self, delay: float, callback: Callback) -> Timer:
        """Call back once, `delay` seconds from now; never early.

        Rounding makes it late by less than two milliseconds: one for the tick, one for the kernel's own clock.
        """
        if self._guarded or not _callable(callback):
            callback = self._admit(callback)
        # What to_ns and TimerWheel.add do, without the calls: servers come here for every request.
        if not 0 <= delay <= MAX_SECONDS:
            to_ns(delay)  # raises
        wheel = self._wheel
        timer = Timer(wheel, 0, callback)
        wheel.arm(timer, self.clock() + ceil(delay * 1e9))
        return timer

    def call_at(self, when: float, callback: Callback) -> Timer:
        """Call back once, at `when` on the scale of `time`; as soon as possible when that has passed."""
        delay = when - self.time()
        return self.call_later(0.0 if delay < 0 else delay, callback)  # not max(), which would swallow a NaN

    def call_every(self, interval: float, callback: Callback) -> Timer:
        """Call back every `interval` seconds, first after one interval.

        The rate is fixed: a late call does not move the ones after it, and what a busy loop has missed altogether
        is skipped rather than made up for.
        """
        callback = self._admit(callback)
        interval_ns = to_ns(interval)
        if interval_ns == 0:
            raise DelayError("an interval must be longer than 0 seconds")
        return self._wheel.add(interval_ns, interval_ns, callback)

    def add_idle(self, callback: Callback) -> IdleHandler:
        """Call back after each iteration in which no descriptor had an event.

        It does not keep the loop from waiting: with nothing else to do, an iteration lasts until the next timer.
        """
        handler = IdleHandler(self._idle, self._admit(callback), self._guard)
        self._idle[handler] = None
        return handler

    def add_signal_handler(self, number: int, callback: Callback) -> SignalHandler:
        """Call back from the loop when the process gets signal `number`. Main thread only, else ValueError.

        `SignalHandler.cancel` and `close` put back what was installed before.
        """
        return self._signals.add(number, self._admit(callback))

    def register(self, fd: int | HasFileno, events: int, callback: EventCallback, *, edge: bool = False) -> Watcher:
        """Call back with a mask of events whenever `fd` is ready for ``READ``, ``WRITE`` or both.

        With `edge`, once per change instead of as long as it lasts, where the backend can do that: `Watcher.edge`
        tells. ``ERROR`` and ``HUP`` always come. The descriptor has to be non-blocking and stays the caller's:
        unregister first, then close. Raises `AlreadyRegisteredError` for a second watcher, OSError for a descriptor
        that the kernel cannot watch.
        """
        if self._guarded:
            self._check()
            if self._monitor is not None and callable(callback):
                callback = self._monitor.event_callback(callback)
        return self._watchers.register(fd if isinstance(fd, int) else fd.fileno(), events, callback, edge=edge)

    # Running --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until `stop`. A stop from before makes it return after one iteration that does not wait."""
        self._enter()
        try:
            while True:
                self._iteration.run(-1)
                if self._inbox.stopping:
                    return
        finally:
            self._leave()

    def run_once(self, timeout: float | None = None) -> None:
        """Run one iteration, waiting at most `timeout` seconds for something to happen (None: no limit)."""
        timeout_ns = -1 if timeout is None else to_ns(timeout)
        self._enter()
        try:
            self._iteration.run(timeout_ns)
        finally:
            self._leave()

    def stop(self) -> None:
        """Make `run` return at the end of its iteration, or the next `run` after its first one. Any thread."""
        self._inbox.stop()

    def close(self) -> None:
        """Run what `call_soon` has queued, then end everything: timers, watchers, signals, the backend.

        What is queued meanwhile is dropped. Closes no descriptor of others. Harmless when repeated. Raises
        `LoopRunningError` from inside `run`.
        """
        if self._running:
            raise LoopRunningError("a running loop cannot be closed: call stop() and close it after run() returns")
        if self.closed:
            return
        try:
            # Last words: the end of a connection, for one, is reported through the queue.
            for _ in range(len(self._deferred)):
                if self._deferred:  # not closed by one of them
                    self._iteration.call(self._deferred.popleft())
        finally:
            self._release()

    def _release(self) -> None:
        self._signals.close()
        self._inbox.close()  # from here, no other thread wakes the backend
        self._guarded = True
        self._watchers.clear()
        self._backend.close()
        self._deferred.clear()
        for idle in list(self._idle):
            idle.release()
        self._wheel.close()
        self.buffers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        inbox: Inbox | None = getattr(self, "_inbox", None)  # else there was an exception in the middle of __init__
        if inbox is not None and not inbox.closed:
            made = f"; made by\n{''.join(traceback.format_list(self._made))}" if self._made else ""
            try:
                warnings.warn(f"unclosed {self!r}{made}", ResourceWarning, source=self, stacklevel=2)
            finally:  # also where warnings are errors
                try:
                    self._signals.close()  # else the next signal is written to a descriptor that is not ours any more
                finally:
                    self._backend.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "running" if self._running else "idle"
        return f"<Loop {state} backend={self._backend.name} timers={self._wheel.pending}>"

    # Inside ---------------------------------------------------------------------------------------------------

    def _enter(self) -> None:
        self._inbox.check()
        if self._running:
            raise LoopRunningError("the loop is running already; a callback cannot run it again")
        if self._guard is not None:
            self._guard.owner = threading.get_ident()
        self._running = True

    def _leave(self) -> None:
        self._inbox.stopping = self._running = False
        if self._guard is not None:
            self._guard.owner = 0

    def _admit(self, callback: Callback) -> Callback:
        """Let a callback in by the slow way: check the call, and wrap the callback if it is to be measured."""
        self._check()
        return self._measured(callback)

    def _check(self) -> None:
        self._inbox.check()
        if self._guard is not None:
            self._guard.check()

    def _measured(self, callback: Callback) -> Callback:
        if not _callable(callback):
            raise TypeError(f"the callback must be callable, not {callback!r}")
        return callback if self._monitor is None else self._monitor.callback(callback)

    def _run_hosted(self, timeout: float | None) -> None:
        """Run one iteration for another loop, which may have got something to do as soon as anything was called."""
        timeout_ns = -1 if timeout is None else to_ns(max(0.0, timeout))
        self._enter()
        try:
            self._iteration.run(timeout_ns, hosted=True)
        finally:
            self._leave()


def _callers() -> list[traceback.FrameSummary]:
    """Return who made a loop: compiled, this module has no frames of its own to leave out."""
    return [frame for frame in traceback.extract_stack(limit=9) if frame.filename != __file__]
