"""A hierarchical timer wheel: insert, cancel and re-arm in constant time.

Facts and consequences
----------------------
Time is cut into ticks of 1 ms, counted from the birth of the wheel. A timer is due in the first tick that begins
at or after its deadline, so it is never early and at most one tick late by rounding.

There are four levels of 256 slots. Write the due tick and the current tick in base 256: the highest digit in
which they differ is the timer's level, and its value there is the slot. Three things follow.

* A timer on level 0 shares all higher digits with now, so **the lowest level that is not empty holds the earliest
  timer**; within a level, the lowest occupied slot does. One 256-bit integer per level, a bit for each slot,
  finds it without a scan.
* No slot at or below the current digit is ever occupied above level 0, so bits never have to be rotated.
* When the wheel reaches the beginning of a slot above level 0, the timers in it differ from now in a lower
  digit only: they are placed again and fall to a lower level. Each timer falls at most four times.

Ticks that differ above the fourth digit (more than 49 days away) wait in one more slot, looked at every 2^32 ticks.

A slot is a ``dict`` used as an ordered set: adding, removing and taking the lot are each one operation in C, and a
cancelled timer leaves nothing behind. A timer can be added to a slot directly only after the slot above was emptied
into it, so the order in a slot is the order of arming, and equal deadlines stay first come, first served. A bit may
outlive the last timer of its slot; it is cleared when the wheel gets there, at the price of one wake-up for nothing.

Due timers are taken out before the first of them runs, so a callback may add, cancel and re-arm as it likes.
"""

from __future__ import annotations

from collections import deque
from math import ceil
from operator import attrgetter
from typing import Final, final

from nimloop_core._guard import ThreadGuard
from nimloop_core.abc import Callback, Clock, ExceptionHandler
from nimloop_core.errors import DelayError, LoopClosedError, TimerCancelledError

TICK_NS: Final = 1_000_000
NEVER_NS: Final = 1 << 63
"""Later than any deadline: 292 years of nanoseconds."""

MAX_SECONDS: Final = 3_155_760_000.0  # a hundred years; beyond it a delay is a mistake
_LEVELS: Final = 4
_FAR: Final = _LEVELS * 256  # index of the slot for what lies beyond the last level

# The life of a timer. PENDING: in a slot. DUE: taken out, about to run. PAUSED: keeps what was left.
# DONE: fired for the last time; may be re-armed. CANCELLED: final, the callback is gone.
_PENDING: Final = 0
_DUE: Final = 1
_PAUSED: Final = 2
_DONE: Final = 3
_CANCELLED: Final = 4


def to_ns(seconds: float) -> int:
    """Turn a delay into nanoseconds, rounded up so that nothing can be early.

    Raises `DelayError` for a negative, NaN, infinite or absurd number of seconds.
    """
    if not 0 <= seconds <= MAX_SECONDS:  # NaN fails every comparison
        raise DelayError(f"a delay must be between 0 and {MAX_SECONDS:.0f} seconds, not {seconds!r}")
    return ceil(seconds * 1e9)


@final
class Timer:
    """A callback that the loop will call at a deadline, once or at a fixed rate."""

    __slots__ = ("_callback", "_deadline_ns", "_interval_ns", "_slot", "_state", "_wheel")

    # Set by TimerWheel.arm, without which a timer is of no use.
    _deadline_ns: int  # while paused: what was left
    _slot: dict[Timer, None] | None
    _state: int

    def __init__(self, wheel: TimerWheel, interval_ns: int, callback: Callback) -> None:
        self._wheel = wheel
        self._interval_ns = interval_ns  # 0: one shot
        self._callback: Callback | None = callback

    @property
    def active(self) -> bool:
        """Whether the timer is going to fire: neither fired for good, cancelled nor paused."""
        return self._state <= _DUE

    @property
    def paused(self) -> bool:
        """Whether `pause` has stopped the timer and `resume` has not been called yet."""
        return self._state == _PAUSED

    @property
    def deadline(self) -> float | None:
        """When the timer fires next, in seconds on the scale of `Loop.time`; None when it is not active."""
        return self._deadline_ns / 1e9 if self._state <= _DUE else None

    @property
    def deadline_ns(self) -> int:
        """The same in nanoseconds; of no meaning when the timer is not active."""
        return self._deadline_ns

    def cancel(self) -> None:
        """Make sure the timer never fires (again), and release its callback at once; harmless when repeated."""
        wheel = self._wheel
        if wheel.guard is not None:
            wheel.guard.check()
        # What _leave does, without the call: nearly every timer ends here.
        slot = self._slot
        if slot is not None:
            del slot[self]
            self._slot = None
            wheel.pending -= 1
        elif self._state == _DUE:
            wheel.pending -= 1
        self._state = _CANCELLED
        self._callback = None

    def reschedule(self, delay: float) -> None:
        """Fire `delay` seconds from now instead, also when already fired or paused.

        An interval timer goes on at its interval from there. Raises `TimerCancelledError` after `cancel`, and
        `LoopClosedError` when there is no loop any more.
        """
        delay_ns = to_ns(delay)
        if self._state == _CANCELLED:
            raise TimerCancelledError("the timer was cancelled; make a new one with call_later or call_every")
        wheel = self._wheel
        if wheel.closed:
            raise LoopClosedError("the loop of this timer is closed")
        if wheel.guard is not None:
            wheel.guard.check()
        self._leave()
        wheel.arm(self, wheel.clock() + delay_ns)

    def rearm_at(self, deadline_ns: int) -> None:
        """Fire at a time on the loop's clock instead. For those in this package who know that it can be armed."""
        self._leave()
        self._wheel.arm(self, deadline_ns)

    def pause(self) -> None:
        """Stop the clock of this timer; `resume` goes on with what was left. No effect unless active."""
        if self._state <= _DUE:
            if self._wheel.guard is not None:
                self._wheel.guard.check()
            self._leave()
            self._state = _PAUSED
            self._deadline_ns = max(0, self._deadline_ns - self._wheel.clock())

    def resume(self) -> None:
        """Go on after `pause`, with the time that was left then. No effect unless paused.

        Raises `LoopClosedError` when there is no loop any more.
        """
        if self._state == _PAUSED:
            wheel = self._wheel
            if wheel.closed:
                raise LoopClosedError("the loop of this timer is closed")
            if wheel.guard is not None:
                wheel.guard.check()
            wheel.arm(self, wheel.clock() + self._deadline_ns)

    def _leave(self) -> None:
        slot = self._slot
        if slot is not None:
            del slot[self]
            self._slot = None
            self._wheel.pending -= 1
        elif self._state == _DUE:
            self._wheel.pending -= 1

    def __repr__(self) -> str:
        state = ("pending", "due", "paused", "done", "cancelled")[self._state]
        return f"<Timer {state} callback={self._callback!r}>"


_deadline: Final = attrgetter("_deadline_ns")


@final
class TimerWheel:
    """All the timers of one loop.

    `pending` is the number of active timers; `next_ns` is never later than the tick in which the first of them is
    due, and `NEVER_NS` when there is none.
    """

    __slots__ = (
        "_base_ns",
        "_before_ns",
        "_bits",
        "_due",
        "_slots",
        "_tick",
        "clock",
        "closed",
        "guard",
        "next_ns",
        "pending",
    )

    def __init__(self, clock: Clock, guard: ThreadGuard | None = None) -> None:
        self.clock: Clock = clock
        self.guard: Final = guard
        self.closed: bool = False
        self.pending: int = 0
        self.next_ns: int = NEVER_NS
        self._base_ns = clock()
        self._before_ns = self._base_ns - (TICK_NS - 1)  # from here, whole ticks round a deadline up
        self._tick = 0
        self._bits = [0] * (_LEVELS + 1)
        self._slots: list[dict[Timer, None] | None] = [None] * (_FAR + 1)
        self._due: deque[Timer] = deque()

    def add(self, delay_ns: int, interval_ns: int, callback: Callback) -> Timer:
        """Arm a new timer `delay_ns` from now; an `interval_ns` above 0 repeats it."""
        timer = Timer(self, interval_ns, callback)
        self.arm(timer, self.clock() + delay_ns)
        return timer

    def arm(self, timer: Timer, deadline_ns: int) -> None:
        """Put a timer that is in no slot into the one for its deadline, last among equals."""
        now = self._tick
        tick = (deadline_ns - self._before_ns) // TICK_NS
        if tick <= now:
            tick = now
        difference = tick ^ now
        if difference < 1 << 8:
            index = tick & 255
        elif difference < 1 << 16:
            index = 256 | tick >> 8 & 255
        elif difference < 1 << 24:
            index = 512 | tick >> 16 & 255
        elif difference < 1 << 32:
            index = 768 | tick >> 24 & 255
        else:
            index = _FAR
        slot = self._slots[index]
        if slot is None:
            slot = self._slots[index] = {}
            self._bits[index >> 8] |= 1 << (index & 255)
        slot[timer] = None
        timer._slot = slot
        timer._deadline_ns = deadline_ns
        timer._state = _PENDING
        self.pending += 1
        if deadline_ns < self.next_ns:  # and so perhaps its tick, which begins no earlier
            self.next_ns = min(self.next_ns, self._base_ns + tick * TICK_NS)

    def _first(self) -> tuple[int, int]:
        """Return index and first tick of the earliest occupied slot; index −1 when all are empty."""
        now = self._tick
        for level in range(_LEVELS):
            bits = self._bits[level]
            if bits:
                digit = (bits & -bits).bit_length() - 1
                above = now >> 8 * (level + 1) << 8
                return level << 8 | digit, (above | digit) << 8 * level
        if self._slots[_FAR] is not None:
            return _FAR, ((now >> 32) + 1) << 32
        return -1, 0

    def _advance(self, now_ns: int) -> None:
        """Move the wheel to now, and every timer that is due by then to the end of the due queue."""
        now = (now_ns - self._base_ns) // TICK_NS
        while True:
            index, tick = self._first()
            if index < 0:
                self.next_ns = NEVER_NS
                break
            if tick > now:
                self.next_ns = self._base_ns + tick * TICK_NS
                break
            self._tick = tick
            slot = self._slots[index]
            self._slots[index] = None
            self._bits[index >> 8] &= ~(1 << (index & 255))
            if not slot:
                continue  # all were cancelled
            if index >= 256:
                for timer in slot:
                    self.pending -= 1
                    self.arm(timer, timer._deadline_ns)
                continue
            for timer in sorted(slot, key=_deadline) if len(slot) > 1 else slot:
                timer._slot = None
                timer._state = _DUE
                self._due.append(timer)
        self._tick = max(self._tick, now)

    @property
    def late(self) -> bool:
        """Whether a `BaseException` has left over what `fire_due` had taken out."""
        return bool(self._due)

    def fire_due(self, now_ns: int, on_error: ExceptionHandler) -> int:
        """Call back every timer that is due at `now_ns`, in deadline order; return how many were called.

        An exception goes to `on_error` and the rest still run. What a `BaseException` leaves over runs next time.
        """
        if now_ns >= self.next_ns:
            self._advance(now_ns)
        due = self._due
        fired = 0
        for _ in range(len(due)):
            timer = due.popleft()
            callback = timer._callback
            if timer._state != _DUE or callback is None:
                continue  # cancelled, paused or re-armed by a callback before it
            self.pending -= 1
            if timer._interval_ns:
                # Fixed rate: what was missed while the loop was busy is skipped, the phase is kept.
                missed = (now_ns - timer._deadline_ns) // timer._interval_ns
                self.arm(timer, timer._deadline_ns + (missed + 1) * timer._interval_ns)
            else:
                timer._state = _DONE
            fired += 1
            try:
                callback()
            except Exception as error:
                on_error(error, timer)
        return fired

    def close(self) -> None:
        """Cancel every timer that is active; no timer can be armed any more."""
        self.closed = True
        for slot in self._slots:
            for timer in list(slot or ()):
                timer.cancel()
        while self._due:
            self._due.popleft().cancel()
        self.next_ns = NEVER_NS
