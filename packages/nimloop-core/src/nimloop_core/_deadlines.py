"""A deadline that moves with every event, on a timer that hardly ever does.

Servers keep one deadline per connection and push it back with every request. Re-arming a timer each time, cheap as the
wheel makes it, is still most of what such a deadline costs. So `Deadline.set` only writes down the new time; the timer
stays where it is, and when it fires too early, it is armed again for what is left. Only a deadline that moves to an
earlier time than the timer's moves the timer.
"""

from __future__ import annotations

from typing import final

from nimloop_core._loop import Loop
from nimloop_core._timers import NEVER_NS, Timer, TimerWheel, to_ns
from nimloop_core.abc import Callback
from nimloop_core.errors import LoopClosedError, TimerCancelledError


@final
class Deadline:
    """Calls back once when the time set last has passed; until `set` is called, and after `clear`, never."""

    __slots__ = ("_callback", "_deadline_ns", "_timer", "_wheel")

    def __init__(self, loop: Loop, callback: Callback) -> None:
        """Prepare a deadline on `loop`; no timer exists before `set`."""
        self._wheel: TimerWheel = loop._wheel
        self._callback: Callback | None = loop._measured(callback)
        self._deadline_ns = NEVER_NS
        self._timer: Timer | None = None

    @property
    def active(self) -> bool:
        """Whether it is going to call back."""
        return self._deadline_ns != NEVER_NS and not self._wheel.closed

    @property
    def deadline(self) -> float | None:
        """The time that is set, in seconds on the scale of `Loop.time`, or None."""
        return self._deadline_ns / 1e9 if self.active else None

    def set(self, delay: float) -> None:
        """Call back `delay` seconds from now, and not at the time set before.

        Raises `DelayError`, `TimerCancelledError` after `cancel`, and `LoopClosedError`.
        """
        self.set_ns(to_ns(delay))

    def set_ns(self, delay_ns: int) -> None:
        """Do the same with whole nanoseconds, unchecked, for those who set the same delay over and over."""
        if self._callback is None:
            raise TimerCancelledError("the deadline was cancelled; make a new one")
        wheel = self._wheel
        if wheel.guard is not None:
            wheel.guard.check()
        deadline_ns = wheel.clock() + delay_ns
        timer = self._timer
        if timer is None or not timer.active:
            if wheel.closed:
                raise LoopClosedError("the loop of this deadline is closed")
            if timer is None:
                timer = self._timer = Timer(wheel, 0, self._on_timer)
            wheel.arm(timer, deadline_ns)
        elif timer.deadline_ns > deadline_ns:
            timer.rearm_at(deadline_ns)
        self._deadline_ns = deadline_ns

    def clear(self) -> None:
        """Do not call back until `set` is called again."""
        if self._wheel.guard is not None:
            self._wheel.guard.check()
        self._deadline_ns = NEVER_NS

    def cancel(self) -> None:
        """Never call back again, and release the callback. Harmless when repeated."""
        if self._wheel.guard is not None:
            self._wheel.guard.check()
        self._deadline_ns = NEVER_NS
        self._callback = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        deadline_ns = self._deadline_ns
        if deadline_ns == NEVER_NS:
            return
        timer, callback = self._timer, self._callback
        assert timer is not None
        assert callback is not None  # else the timer would be cancelled
        if deadline_ns > self._wheel.clock():
            timer.rearm_at(deadline_ns)
            return
        self._deadline_ns = NEVER_NS
        callback()

    def __repr__(self) -> str:
        state = "cancelled" if self._callback is None else "active" if self.active else "clear"
        return f"<Deadline {state} callback={self._callback!r}>"
