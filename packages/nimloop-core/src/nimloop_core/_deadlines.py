"""A deadline that moves with every event, on a timer that hardly ever does.

Servers keep one deadline per connection and push it back with every request. Re-arming a timer each time, cheap as the
wheel makes it, is still most of what such a deadline costs. So `Deadline.set` only writes down the new time; the timer
stays where it is, and when it fires too early, it is armed again for what is left. Only a deadline that moves to an
earlier time than the timer's moves the timer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from nimloop_core._timers import NEVER_NS, Timer, TimerWheel, to_ns
from nimloop_core.abc import Callback
from nimloop_core.errors import TimerCancelledError

if TYPE_CHECKING:
    from nimloop_core._loop import Loop


@final
class Deadline:
    """Calls back once when the time set last has passed; until `set` is called, and after `clear`, never."""

    __slots__ = ("_callback", "_deadline_ns", "_timer", "_wheel")

    def __init__(self, loop: Loop, callback: Callback) -> None:
        """Prepare a deadline on `loop`; no timer exists before `set`."""
        self._wheel: TimerWheel = loop._wheel
        self._callback: Callback | None = callback
        self._deadline_ns = NEVER_NS
        self._timer: Timer | None = None

    @property
    def active(self) -> bool:
        """Whether a time is set that has not passed."""
        return self._deadline_ns != NEVER_NS

    @property
    def when(self) -> float | None:
        """The time that is set, in seconds on the scale of `Loop.time`, or None."""
        return None if self._deadline_ns == NEVER_NS else self._deadline_ns / 1e9

    def set(self, delay: float) -> None:
        """Call back `delay` seconds from now, and not at the time set before. Raises `DelayError`."""
        self.set_ns(to_ns(delay))

    def set_ns(self, delay_ns: int) -> None:
        """Do the same with whole nanoseconds, for those who set the same delay over and over."""
        if self._callback is None:
            raise TimerCancelledError("the deadline was cancelled; make a new one")
        deadline_ns = self._wheel.clock() + delay_ns
        self._deadline_ns = deadline_ns
        timer = self._timer
        if timer is None:
            self._timer = self._wheel.add(delay_ns, 0, self._on_timer)
        elif not timer.active or timer.deadline_ns > deadline_ns:
            timer.rearm_at(deadline_ns)

    def clear(self) -> None:
        """Do not call back until `set` is called again."""
        self._deadline_ns = NEVER_NS

    def cancel(self) -> None:
        """Never call back again, and release the callback. Harmless when repeated."""
        self._deadline_ns = NEVER_NS
        self._callback = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        deadline_ns = self._deadline_ns
        if deadline_ns == NEVER_NS:
            return
        timer = self._timer
        if timer is not None and deadline_ns > self._wheel.clock():
            timer.rearm_at(deadline_ns)
            return
        self._deadline_ns = NEVER_NS
        if self._callback is not None:
            self._callback()
