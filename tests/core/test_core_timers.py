"""The timer wheel: examples, then whole programs against an oracle that keeps a sorted list.

`NIMLOOP_SOAK_OPERATIONS=1000000 pytest tests/core/test_core_timers.py -k soak` runs the oracle for longer.
"""

from __future__ import annotations

import bisect
import gc
import math
import os
import random
import tracemalloc
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimloop_core import DelayError, Loop, LoopClosedError, Timer, TimerCancelledError
from nimloop_core._timers import NEVER_NS, TICK_NS, TimerWheel, to_ns
from nimloop_core.testing import DeadlockError, FakeBackend, FakeClock

MS = 1_000_000
SECOND = 1_000_000_000
DAY = 86_400 * SECOND
YEAR = 365 * DAY
SOAK_OPERATIONS = int(os.environ.get("NIMLOOP_SOAK_OPERATIONS", "30000"))


def unexpected(error: Exception, owner: object) -> None:
    """Let an exception that no callback should have raised fail the test."""
    raise AssertionError(f"{owner!r} failed") from error


def ignore() -> None:
    """Do nothing, when the timer is all that matters."""


def tick_ns(wheel: TimerWheel, deadline_ns: int) -> int:
    """Return the beginning of the first tick at or after a deadline."""
    return wheel._base_ns + -(-(deadline_ns - wheel._base_ns) // TICK_NS) * TICK_NS


# The oracle ---------------------------------------------------------------------------------------------------


@dataclass
class Entry:
    """What the oracle knows about one timer, and what the timer's callback is going to do."""

    timer: Timer
    interval_ns: int
    state: str = "pending"
    deadline_ns: int = 0
    sequence: int = 0
    script: list[tuple[str, int, int]] = field(default_factory=list)


class Oracle:
    """Does everything twice: with the wheel, and with a sorted list of deadlines."""

    def __init__(self) -> None:
        self.clock = FakeClock(77.000_4)
        self.wheel = TimerWheel(self.clock)
        self.entries: list[Entry] = []
        self.order: list[tuple[int, int, int]] = []  # deadline, sequence, index into entries
        self.batch: list[tuple[int, int, int]] = []
        self.batch_ns = 0
        self.sequence = 0
        self.operations = 0
        self.fired = 0
        self.settling = False  # no new intervals from scripts, so that there is an end

    # Moves; numbers stand for timers and are taken modulo their count

    def add(self, delay_ns: int, interval_ns: int = 0, script: list[tuple[str, int, int]] | None = None) -> None:
        """Make a timer whose callback plays `script`, once for each line at most."""
        index = len(self.entries)
        timer = self.wheel.add(delay_ns, interval_ns, lambda: self.called(index))
        entry = Entry(timer, interval_ns, script=list(script or ()))
        self.entries.append(entry)
        self.arm(index, self.clock() + delay_ns)

    def cancel(self, number: int) -> None:
        """Cancel some timer."""
        index = number % len(self.entries)
        self.entries[index].timer.cancel()
        self.leave(index, "cancelled")

    def reschedule(self, number: int, delay_ns: int) -> None:
        """Re-arm some timer, fired or not; a cancelled one refuses."""
        index = number % len(self.entries)
        entry = self.entries[index]
        seconds = delay_ns / 1e9
        if entry.state == "cancelled":
            with pytest.raises(TimerCancelledError):
                entry.timer.reschedule(seconds)
            return
        entry.timer.reschedule(seconds)
        self.leave(index, "done")
        self.arm(index, self.clock() + to_ns(seconds))

    def pause(self, number: int) -> None:
        """Pause some timer."""
        index = number % len(self.entries)
        entry = self.entries[index]
        entry.timer.pause()
        if entry.state in {"pending", "due"}:
            self.leave(index, "paused")
            entry.deadline_ns = max(0, entry.deadline_ns - self.clock())

    def resume(self, number: int) -> None:
        """Resume some timer."""
        index = number % len(self.entries)
        entry = self.entries[index]
        entry.timer.resume()
        if entry.state == "paused":
            self.arm(index, self.clock() + entry.deadline_ns)

    def fire(self) -> None:
        """Fire what is due; `called` checks each call, this that none is missing."""
        now_ns = self.batch_ns = self.clock()
        cut = 0
        while cut < len(self.order) and tick_ns(self.wheel, self.order[cut][0]) <= now_ns:
            self.entries[self.order[cut][2]].state = "due"
            cut += 1
        self.batch, self.order = self.order[:cut], self.order[cut:]
        before = self.fired
        count = self.wheel.fire_due(now_ns, unexpected)
        assert self.next_due() is None, "a timer was lost"
        assert count == self.fired - before
        self.check()

    def play(self, action: str, number: int, delay_ns: int) -> None:
        """Make one move by name."""
        self.operations += 1
        if action == "add" or (action == "every" and self.settling):
            self.add(delay_ns)
        elif action == "every":
            self.add(delay_ns + 1, delay_ns + 1)
        elif action == "advance":
            self.clock.advance_ns(delay_ns)
        elif not self.entries:
            return
        elif action == "cancel":
            self.cancel(number)
        elif action == "reschedule":
            self.reschedule(number, delay_ns)
        elif action == "pause":
            self.pause(number)
        else:
            self.resume(number)

    # Book-keeping

    def arm(self, index: int, deadline_ns: int) -> None:
        """Note a deadline."""
        entry = self.entries[index]
        self.sequence += 1
        entry.state, entry.deadline_ns, entry.sequence = "pending", deadline_ns, self.sequence
        bisect.insort(self.order, (deadline_ns, self.sequence, index))

    def leave(self, index: int, state: str) -> None:
        """Forget a deadline."""
        entry = self.entries[index]
        if entry.state == "pending":
            where = bisect.bisect_left(self.order, (entry.deadline_ns, entry.sequence, index))
            assert self.order.pop(where)[2] == index
        entry.state = state

    def next_due(self) -> int | None:
        """Take the timer that has to be called next out of the batch."""
        while self.batch:
            _, sequence, index = self.batch.pop(0)
            entry = self.entries[index]
            if entry.state == "due" and entry.sequence == sequence:
                return index
        return None

    def called(self, index: int) -> None:
        """Stand behind every callback: the right one, in the right order, never early; then play its script."""
        assert self.next_due() == index, "out of order, or twice"
        entry = self.entries[index]
        assert self.clock() >= entry.deadline_ns, "early"
        self.fired += 1
        if entry.interval_ns:
            missed = (self.batch_ns - entry.deadline_ns) // entry.interval_ns
            self.arm(index, entry.deadline_ns + (missed + 1) * entry.interval_ns)
        else:
            entry.state = "done"
        if entry.script:
            self.play(*entry.script.pop())

    def check(self) -> None:
        """Compare what can be seen from outside."""
        assert self.wheel.pending == len(self.order)
        if self.order:
            assert self.wheel.next_ns <= max(tick_ns(self.wheel, self.order[0][0]), self.clock())

    def check_timers(self) -> None:
        """Compare every timer with its entry."""
        for entry in self.entries:
            assert entry.timer.active == (entry.state == "pending")
            assert entry.timer.paused == (entry.state == "paused")
            assert entry.timer.deadline == (entry.deadline_ns / 1e9 if entry.state == "pending" else None)

    def settle(self) -> None:
        """Stop the intervals and run the rest out; nothing may be left."""
        for index, entry in enumerate(self.entries):
            if entry.interval_ns:
                self.cancel(index)
            self.resume(index)
        self.settling = True
        rounds = 0
        while self.order:
            rounds += 1
            assert rounds < 1_000 + 10 * len(self.entries), "the wheel wakes up too often"
            self.clock.advance_ns(max(0, self.wheel.next_ns - self.clock()))
            self.fire()
        assert self.wheel.pending == 0


ACTIONS = ["add", "add", "every", "cancel", "reschedule", "pause", "resume", "advance"]
delays_ns = st.one_of(
    st.just(0),
    st.integers(0, 3 * MS),
    st.integers(0, 600).map(lambda ticks: ticks * MS),
    st.sampled_from([1 << 8, 1 << 16, 1 << 24, 1 << 32]).flatmap(
        lambda ticks: st.integers(-2, 2).map(lambda offset: (ticks + offset) * MS)
    ),
    st.integers(0, 100 * DAY),
    st.integers(0, 5 * YEAR),
)
moves = st.tuples(st.sampled_from(ACTIONS), st.integers(0, 30), delays_ns)
programs = st.lists(st.tuples(moves, st.lists(moves, max_size=3), st.booleans()), max_size=40)


@given(programs)
def test_any_program_agrees_with_a_sorted_list(
    program: list[tuple[tuple[str, int, int], list[tuple[str, int, int]], bool]],
) -> None:
    """Whatever is done to timers, also from their callbacks: the due ones are called in order, each once."""
    oracle = Oracle()
    for (action, number, delay_ns), script, fire in program:
        if action == "add":
            oracle.add(delay_ns, 0, script)
        else:
            oracle.play(action, number, delay_ns)
        oracle.check()
        if fire:
            oracle.fire()
    oracle.check_timers()
    oracle.settle()


def random_delay_ns(chance: random.Random) -> int:
    """Choose a delay: mostly short, some on a grid so that equals occur, some for years."""
    kind = chance.random()
    if kind < 0.3:
        return chance.randrange(20) * MS
    if kind < 0.6:
        return chance.randrange(400 * MS)
    if kind < 0.8:
        return chance.randrange(100 * SECOND)
    return int(10 ** chance.uniform(0, 17.2))


def test_soak_against_a_sorted_list() -> None:
    """Tens of thousands of random operations, or as many as the environment asks for, agree with the oracle."""
    done = fired = seed = 0
    while done < SOAK_OPERATIONS:
        chance = random.Random(seed)
        oracle = Oracle()
        population = chance.choice([3, 30, 200])

        def move(chance: random.Random = chance, population: int = population) -> tuple[str, int, int]:
            # Counted from the end: the youngest, most of which are alive.
            return chance.choice(ACTIONS), chance.randrange(-population, 0), random_delay_ns(chance)

        while oracle.operations < 1_000:
            action, number, delay_ns = move()
            if action == "add":
                oracle.operations += 1
                oracle.add(delay_ns, 0, [move() for _ in range(chance.randrange(3))])
            elif action == "advance" and chance.random() < 0.5:
                # Right onto, right before or right after the next deadline: where mistakes live.
                oracle.operations += 1
                near = oracle.wheel.next_ns - oracle.clock() + chance.choice([-1, 0, 1])
                oracle.clock.advance_ns(min(max(0, near), 10 * YEAR))
            else:
                oracle.play(action, number, delay_ns)
            oracle.check()
            if chance.random() < 0.4:
                oracle.fire()
        oracle.check_timers()
        oracle.settle()
        done += oracle.operations
        fired += oracle.fired
        seed += 1
    assert fired > done // 20  # or else the programs prove nothing


@given(st.lists(st.tuples(st.integers(0, 2 * SECOND), delays_ns), min_size=1, max_size=30))
def test_an_idle_loop_is_never_early_and_at_most_a_tick_late(program: list[tuple[int, int]]) -> None:
    """With any mix of timers added at any time, each fires in the first tick at or after its deadline."""
    clock = FakeClock(5.000_000_7)
    fake = FakeBackend(clock)
    late: list[int] = []

    def note(deadline_ns: int) -> None:
        late.append(clock() - deadline_ns)

    with Loop(fake, clock=clock) as loop:

        def insert(delay_ns: int) -> None:
            deadline_ns = clock() + to_ns(delay_ns / 1e9)
            loop.call_later(delay_ns / 1e9, lambda: note(deadline_ns))

        for when_ns, delay_ns in program:
            loop.call_later(when_ns / 1e9, lambda delay_ns=delay_ns: insert(delay_ns))  # type: ignore[misc]
        with pytest.raises(DeadlockError):  # once there are no timers left
            loop.run()
    assert len(late) == len(program)
    assert all(0 <= each < TICK_NS for each in late)
    # A timer falls four levels at most, and what lies beyond the fourth is looked at every 49 days. The loop itself
    # looks up once a day.
    assert len(fake.waits) <= 12 * len(program) + (clock() // DAY) + 2


# Examples -----------------------------------------------------------------------------------------------------


def fire(wheel: TimerWheel, clock: FakeClock, milliseconds: float = 0) -> int:
    """Let time pass and fire once."""
    clock.advance(milliseconds / 1000)
    return wheel.fire_due(clock(), unexpected)


@pytest.fixture
def wheel(clock: FakeClock) -> TimerWheel:
    """Make a wheel on the virtual clock."""
    return TimerWheel(clock)


def test_a_timer_on_a_higher_level_does_not_wait_for_a_lower_one(wheel: TimerWheel, clock: FakeClock) -> None:
    """A due in 300 ms, and after 100 ms B due in 250 ms: A comes first, on time."""
    fired: list[tuple[str, int]] = []
    start = clock()
    wheel.add(300 * MS, 0, lambda: fired.append(("A", clock() - start)))
    clock.advance_ns(100 * MS)
    wheel.add(250 * MS, 0, lambda: fired.append(("B", clock() - start)))
    while wheel.pending:
        clock.advance_ns(max(0, wheel.next_ns - clock()))
        wheel.fire_due(clock(), unexpected)
    assert fired == [("A", 300 * MS), ("B", 350 * MS)]


def test_a_callback_may_add_to_the_slot_that_is_being_fired(wheel: TimerWheel, clock: FakeClock) -> None:
    """The first of two equals adds a timer without delay: the second still comes, the new one in the next round."""
    fired: list[str] = []

    def first() -> None:
        fired.append("first")
        wheel.add(0, 0, lambda: fired.append("new"))

    wheel.add(10 * MS, 0, first)
    wheel.add(10 * MS, 0, lambda: fired.append("second"))
    assert fire(wheel, clock, 10) == 2
    assert (fired, wheel.pending) == (["first", "second"], 1)
    assert fire(wheel, clock) == 1
    assert (fired, wheel.pending) == (["first", "second", "new"], 0)


def test_a_late_batch_comes_in_deadline_order(wheel: TimerWheel, clock: FakeClock) -> None:
    """Deadlines 20, 24, 30 and 60, inserted in another order, fire in theirs when all are late."""
    fired: list[int] = []
    for deadline in (30, 60, 20, 300, 24):
        wheel.add(deadline * MS, 0, lambda deadline=deadline: fired.append(deadline))  # type: ignore[misc]
    fire(wheel, clock, 10_000)
    assert fired == [20, 24, 30, 60, 300]


def test_equals_come_first_in_first_out(wheel: TimerWheel, clock: FakeClock) -> None:
    """Timers with one deadline fire in the order of insertion, more of them than a level has slots."""
    fired: list[int] = []
    for number in range(600):
        wheel.add(70_000 * MS, 0, lambda number=number: fired.append(number))  # type: ignore[misc]
    fire(wheel, clock, 70_000)
    assert fired == list(range(600))


def test_never_early_within_a_tick(wheel: TimerWheel, clock: FakeClock) -> None:
    """A nanosecond before the end of its tick a timer is not due, at the end it is."""
    clock.advance_ns(700_000)
    wheel.add(300_001, 0, ignore)
    clock.advance_ns(1_299_999)
    assert wheel.fire_due(clock(), unexpected) == 0
    clock.advance_ns(1)
    assert wheel.fire_due(clock(), unexpected) == 1


def test_ten_thousand_with_half_of_them_cancelled(wheel: TimerWheel, clock: FakeClock) -> None:
    """Exactly the other half fires, and the count returns to 0."""
    fired: list[int] = []
    timers = [
        wheel.add(number * MS // 7, 0, lambda number=number: fired.append(number))  # type: ignore[misc]
        for number in range(10_000)
    ]
    for timer in timers[::2]:
        timer.cancel()
    assert wheel.pending == 5_000
    fire(wheel, clock, 2_000)
    assert fired == list(range(1, 10_000, 2))
    assert wheel.pending == 0
    assert fire(wheel, clock, 10**9) == 0
    assert wheel.next_ns == NEVER_NS


def test_two_thousand_intervals_of_a_tick(wheel: TimerWheel, clock: FakeClock) -> None:
    """Each is called in each of a hundred ticks, and none after it was cancelled."""
    fired = [0] * 2_000

    def call(number: int) -> None:
        fired[number] += 1

    timers = [wheel.add(MS, MS, partial(call, number)) for number in range(2_000)]
    for _ in range(100):
        assert fire(wheel, clock, 1) == 2_000
    assert fired == [100] * 2_000
    for timer in timers:
        timer.cancel()
    assert (wheel.pending, fire(wheel, clock, 10)) == (0, 0)


def test_the_count_returns_to_nothing_from_every_level(wheel: TimerWheel, clock: FakeClock) -> None:
    """However often a timer fell to a lower level, was paused, or fired as an interval, it counts once."""
    delays = (0, 1, 255, 256, 65_535, 65_536, 16_777_216, 2**32 + 5)
    once = [wheel.add(delay * MS, 0, ignore) for delay in delays]
    again = [wheel.add(delay * MS, delay * MS, ignore) for delay in delays[1:]]
    assert wheel.pending == 15
    again[0].pause()
    assert wheel.pending == 14
    fired = 0
    for delay in (2, 300, 70_000, 20_000_000, 2**32):
        fired += fire(wheel, clock, delay)
    assert not any(timer.active for timer in once)
    assert wheel.pending == 6
    for timer in again:
        timer.cancel()
    assert (wheel.pending, fire(wheel, clock, 10**10), wheel.next_ns) == (0, 0, NEVER_NS)


def test_a_paused_interval_is_silent(wheel: TimerWheel, clock: FakeClock) -> None:
    """It goes on with what was left, at its rate; paused and then cancelled, it never does."""
    fired: list[str] = []
    timer = wheel.add(10 * MS, 10 * MS, lambda: fired.append("resumed"))
    ended = wheel.add(10 * MS, 10 * MS, lambda: fired.append("cancelled"))
    fire(wheel, clock, 6)
    for each in (timer, ended):
        each.pause()
    assert fire(wheel, clock, 1_000) == 0
    ended.cancel()
    for each in (timer, ended):
        each.resume()
    assert fire(wheel, clock, 4) == 1
    assert fire(wheel, clock, 9) == 0
    assert fire(wheel, clock, 1) == 1
    assert fired == ["resumed", "resumed"]
    assert not ended.active


def test_what_is_over_may_be_paused_and_cancelled(wheel: TimerWheel, clock: FakeClock) -> None:
    """Nothing happens to a timer that has fired, however often it is asked to."""
    timer = wheel.add(0, 0, ignore)
    assert fire(wheel, clock, 1) == 1
    for call in (timer.pause, timer.resume, timer.cancel, timer.cancel, timer.pause, timer.resume):
        call()
        assert (timer.active, wheel.pending) == (False, 0)
    assert fire(wheel, clock, 1_000) == 0


def test_an_interval_keeps_its_phase_and_skips_what_it_missed(wheel: TimerWheel, clock: FakeClock) -> None:
    """Late calls do not move later ones, and a busy second is no reason for a burst."""
    start = clock()
    fired: list[int] = []
    timer = wheel.add(10 * MS, 10 * MS, lambda: fired.append((clock() - start) // MS))
    fire(wheel, clock, 10)
    fire(wheel, clock, 14)  # 4 late
    fire(wheel, clock, 6)  # 30: on time again
    fire(wheel, clock, 35)  # 65: 40 and 50 are gone, 60 comes late
    fire(wheel, clock, 5)
    assert fired == [10, 24, 30, 65, 70]
    assert timer.deadline == pytest.approx((start + 80 * MS) / 1e9, abs=1e-9)
    timer.cancel()
    assert wheel.pending == 0


def test_an_interval_shorter_than_a_tick_fires_once_per_tick(wheel: TimerWheel, clock: FakeClock) -> None:
    """A hundred calls per millisecond are one."""
    fired: list[None] = []
    wheel.add(10_000, 10_000, lambda: fired.append(None))
    for _ in range(20):
        fire(wheel, clock, 1)
    assert len(fired) == 20


def test_an_interval_can_be_cancelled_from_its_own_callback(wheel: TimerWheel, clock: FakeClock) -> None:
    """It fires exactly as often as it wanted."""
    fired: list[None] = []

    def call() -> None:
        fired.append(None)
        if len(fired) == 3:
            timer.cancel()

    timer = wheel.add(MS, MS, call)
    for _ in range(10):
        fire(wheel, clock, 1)
    assert len(fired) == 3
    assert not timer.active


def test_rescheduling_an_interval_moves_its_phase(wheel: TimerWheel, clock: FakeClock) -> None:
    """It goes on at its interval from the new deadline."""
    start = clock()
    fired: list[int] = []
    timer = wheel.add(10 * MS, 10 * MS, lambda: fired.append((clock() - start) // MS))
    fire(wheel, clock, 5)
    timer.reschedule(0.003)
    for _ in range(25):
        fire(wheel, clock, 1)
    assert fired == [8, 18, 28]


def test_pause_keeps_what_was_left(wheel: TimerWheel, clock: FakeClock) -> None:
    """Ten milliseconds, six of them gone before the pause: four more after it, however long it was."""
    timer = wheel.add(10 * MS, 0, ignore)
    fire(wheel, clock, 6)
    timer.pause()
    timer.pause()
    assert (timer.paused, timer.active, timer.deadline, wheel.pending) == (True, False, None, 0)
    assert fire(wheel, clock, 10_000) == 0
    timer.resume()
    timer.resume()
    assert (timer.paused, timer.active, wheel.pending) == (False, True, 1)
    assert fire(wheel, clock, 3) == 0
    assert fire(wheel, clock, 1) == 1
    timer.pause()
    timer.resume()
    assert fire(wheel, clock, 100) == 0


def test_a_due_timer_can_be_stopped_by_one_before_it(wheel: TimerWheel, clock: FakeClock) -> None:
    """Cancelled, paused or re-armed in the same batch, it is not called in this batch."""
    fired: list[str] = []

    def stop() -> None:
        cancelled.cancel()
        paused.pause()
        moved.reschedule(0.005)
        again.pause()
        again.resume()

    wheel.add(MS, 0, stop)
    cancelled, paused, moved, again = (
        wheel.add(MS, 0, lambda name=name: fired.append(name))  # type: ignore[misc]
        for name in ("cancelled", "paused", "moved", "again")
    )
    assert fire(wheel, clock, 1) == 1
    assert wheel.pending == 2
    fire(wheel, clock)
    assert fired == ["again"]
    fire(wheel, clock, 5)
    assert fired == ["again", "moved"]
    paused.resume()
    fire(wheel, clock)
    assert fired == ["again", "moved", "paused"]


def test_what_a_base_exception_left_over_runs_next_time(wheel: TimerWheel, clock: FakeClock) -> None:
    """The timer that raised is done; the ones behind it are still due, and count as pending."""
    fired: list[int] = []

    def interrupt() -> None:
        raise KeyboardInterrupt

    wheel.add(MS, 0, lambda: fired.append(1))
    wheel.add(2 * MS, 0, interrupt)
    kept = wheel.add(3 * MS, 0, lambda: fired.append(3))
    moved = wheel.add(4 * MS, 5 * MS, lambda: fired.append(4))
    with pytest.raises(KeyboardInterrupt):
        fire(wheel, clock, 10)
    assert (fired, wheel.pending, kept.active) == ([1], 2, True)
    moved.reschedule(0)  # stands in the queue twice now, and still has to come once
    assert fire(wheel, clock) == 2
    assert sorted(fired) == [1, 3, 4]
    assert wheel.pending == 1


def test_closing_cancels_what_a_base_exception_left_over(wheel: TimerWheel, clock: FakeClock) -> None:
    """A timer that was taken out and never called is cancelled like the others."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    wheel.add(MS, 0, interrupt)
    left = wheel.add(MS, 0, ignore)
    with pytest.raises(KeyboardInterrupt):
        fire(wheel, clock, 1)
    assert left.active
    wheel.close()
    assert (left.active, wheel.pending) == (False, 0)


def test_an_exception_goes_to_the_handler_and_the_rest_still_runs(wheel: TimerWheel, clock: FakeClock) -> None:
    """The handler gets the error and the timer; the wheel goes on."""
    told: list[tuple[Exception, object]] = []
    error = RuntimeError()

    def fail() -> None:
        raise error

    failing = wheel.add(MS, 0, fail)
    wheel.add(MS, 0, ignore)
    clock.advance(0.001)
    assert wheel.fire_due(clock(), lambda error, owner: told.append((error, owner))) == 2
    assert told == [(error, failing)]


def test_cancelled_timers_never_come_back(wheel: TimerWheel, clock: FakeClock) -> None:
    """Five hundred timers are cancelled, some twice, while others share their slots: only the others fire."""
    fired: list[str] = []
    for _ in range(500):
        timer = wheel.add(SECOND, 0, lambda: fired.append("cancelled"))
        wheel.add(SECOND, 0, lambda: fired.append("kept"))
        timer.cancel()
        timer.cancel()
        for call in (timer.pause, timer.resume):
            call()
        with pytest.raises(TimerCancelledError):
            timer.reschedule(0)
    for _ in range(3):
        fire(wheel, clock, 1_000)
    assert fired == ["kept"] * 500
    assert wheel.pending == 0


class Target:
    """A callback that can be watched as it goes."""

    def __call__(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize("state", ["pending", "paused", "done", "due"])
def test_cancelling_releases_the_callback_at_once(state: str, wheel: TimerWheel, clock: FakeClock) -> None:
    """Whatever the timer was doing, its callback is gone before `cancel` returns."""
    gc.disable()
    try:
        gone: list[bool] = []

        def cancel() -> None:
            timer.cancel()
            gone.append(reference() is None)

        if state == "due":
            wheel.add(10 * MS, 0, cancel)
        target = Target()
        reference = weakref.ref(target)
        timer = wheel.add(10 * MS, 0, target)
        del target
        if state == "paused":
            timer.pause()
        elif state != "pending":
            fire(wheel, clock, 10)
        cancel()
        assert gone[0]
    finally:
        gc.enable()


def test_a_fired_timer_is_freed_without_the_garbage_collector(wheel: TimerWheel, clock: FakeClock) -> None:
    """Nothing refers to a one-shot timer that nobody has kept, nor to its callback."""
    gc.collect()
    gc.disable()
    try:
        references = []
        for delay in (0, 5, 300, 70_000):
            target = Target()
            references.append(weakref.ref(target))
            wheel.add(delay * MS, 0, target)
        del target
        before = sum(isinstance(each, Timer) for each in gc.get_objects())
        fire(wheel, clock, 70_000)
        assert all(reference() is None for reference in references)
        assert sum(isinstance(each, Timer) for each in gc.get_objects()) == before - 4
    finally:
        gc.enable()


@pytest.mark.parametrize("move", [0, 1])
def test_memory_is_bounded_under_churn(move: int, wheel: TimerWheel, clock: FakeClock) -> None:
    """Timers that are added, re-armed and cancelled all the time, as deadlines are, leave nothing behind."""
    gc.disable()
    try:

        def churn(rounds: int) -> None:
            for _ in range(rounds):
                timer = wheel.add(30 * SECOND, 0, ignore)
                timer.reschedule(15.0)
                timer.cancel()
                clock.advance_ns(move * MS)
                wheel.fire_due(clock(), unexpected)

        churn(70_000)  # once around the second level: every slot has been used
        tracemalloc.start()
        before = tracemalloc.take_snapshot()
        churn(2_000)
        after = tracemalloc.take_snapshot()
        grown = sum(each.size_diff for each in after.compare_to(before, "filename") if "nimloop" in str(each.traceback))
        assert grown < 20_000
    finally:
        tracemalloc.stop()
        gc.enable()


@pytest.mark.parametrize("days", [20, 49, 50, 60, 400, 36_000])
def test_deadlines_beyond_the_last_level(days: int, wheel: TimerWheel, clock: FakeClock) -> None:
    """Weeks, months and a century are as exact as milliseconds, with few wake-ups on the way."""
    deadline_ns = clock() + days * DAY + 1
    wheel.add(days * DAY + 1, 0, ignore)
    fired = rounds = 0
    while not fired:
        clock.advance_ns(max(0, wheel.next_ns - clock()))
        fired = wheel.fire_due(clock(), unexpected)
        rounds += 1
    assert 0 <= clock() - deadline_ns < TICK_NS
    assert rounds <= 6 + days // 49


def test_a_wheel_that_slept_for_months_is_exact_again(wheel: TimerWheel, clock: FakeClock) -> None:
    """A wheel without timers does not turn; the first one after 60 idle days is on time all the same."""
    clock.advance_ns(160 * DAY)
    wheel.add(5 * MS, 0, ignore)
    assert wheel.next_ns - clock() == 5 * MS
    assert fire(wheel, clock, 4) == 0
    assert fire(wheel, clock, 1) == 1


def test_a_clock_that_goes_back_makes_nothing_early() -> None:
    """What is armed for a time that the wheel has left behind comes next; the wheel does not turn back for it."""
    now_ns = 0
    wheel = TimerWheel(lambda: now_ns)
    fired: list[str] = []
    for due in (300, 310):
        wheel.add(due * MS, 0, lambda due=due: fired.append(str(due)))  # type: ignore[misc]
    now_ns = 300 * MS
    wheel.fire_due(now_ns, unexpected)
    now_ns = 100 * MS
    wheel.add(0, 0, lambda: fired.append("past"))
    now_ns = 301 * MS
    wheel.fire_due(now_ns, unexpected)
    assert fired == ["300", "past"]
    now_ns = 310 * MS
    wheel.fire_due(now_ns, unexpected)
    assert fired == ["300", "past", "310"]


def test_more_timers_due_at_once_than_a_level_has_slots(wheel: TimerWheel, clock: FakeClock) -> None:
    """A thousand timers in a thousand ticks fire in one batch."""
    for delay in range(1_000):
        wheel.add(delay * MS, 0, ignore)
    assert fire(wheel, clock, 1_000) == 1_000


def test_next_ns_is_never_when_there_is_nothing(wheel: TimerWheel, clock: FakeClock) -> None:
    """An empty wheel wakes nobody; one whose timers were cancelled says so after one look."""
    assert wheel.next_ns == NEVER_NS
    wheel.add(MS, 0, ignore).cancel()
    wheel.add(300 * MS, 0, ignore).cancel()
    fire(wheel, clock, 1)
    fire(wheel, clock, 300)
    assert wheel.next_ns == NEVER_NS


def test_closing_cancels_everything(wheel: TimerWheel, clock: FakeClock) -> None:
    """Near, far and paused timers are over; being re-armed is refused, being cancelled is fine."""
    timers = [wheel.add(delay, 0, ignore) for delay in (0, 300 * MS, 70 * SECOND, DAY, YEAR)]
    done = wheel.add(0, 0, ignore)
    fire(wheel, clock)
    paused = wheel.add(5 * MS, 0, ignore)
    paused.pause()
    wheel.close()
    assert (wheel.pending, wheel.next_ns) == (0, NEVER_NS)
    assert not any(timer.active for timer in timers)
    with pytest.raises(LoopClosedError):
        done.reschedule(0)
    with pytest.raises(LoopClosedError):
        paused.resume()
    for timer in (*timers, done, paused):
        timer.cancel()
        timer.pause()
    assert wheel.pending == 0


# Compiled, what is no float is refused with a TypeError before anything else is looked at.
HUGE = pytest.param(10**400, marks=pytest.mark.interpreted, id="huge")


@pytest.mark.parametrize("seconds", [-1e-9, -1, math.nan, math.inf, -math.inf, 1e10, HUGE])
def test_delays_that_make_no_sense_are_refused(seconds: float, wheel: TimerWheel) -> None:
    """Negative, NaN, infinite, longer than a century: an error, and a timer that is left as it was."""
    with pytest.raises(DelayError):
        to_ns(seconds)
    timer = wheel.add(MS, 0, ignore)
    with pytest.raises(DelayError):
        timer.reschedule(seconds)
    assert timer.active
    assert wheel.pending == 1


def test_a_century_is_the_longest_delay() -> None:
    """The limit is one that may be asked for, and nothing above it."""
    century = 36_525 * 86_400.0
    assert to_ns(century) == 36_525 * DAY
    with pytest.raises(DelayError):
        to_ns(math.nextafter(century, math.inf))


def test_delays_are_rounded_up() -> None:
    """No delay becomes shorter by being counted in nanoseconds."""
    assert [to_ns(each) for each in (0, 0.0, 1, 0.001, 1e-9, 1e-12, 1.5e-9)] == [0, 0, SECOND, MS, 1, 1, 2]


@given(st.floats(0, 1e9))
def test_rounding_up_adds_less_than_a_nanosecond(seconds: float) -> None:
    """What comes out is what went in, rounded up to the next whole number."""
    assert to_ns(seconds) == math.ceil(seconds * 1e9)


def test_a_timer_shows_its_state(wheel: TimerWheel, clock: FakeClock) -> None:
    """Each state has its name in `repr`, with the callback as long as there is one."""
    shown: list[str] = []
    wheel.add(MS, 0, lambda: shown.append(repr(timer)))
    timer = wheel.add(MS, 0, ignore)
    steps: list[Callable[[], object]] = [ignore, timer.pause, timer.resume, lambda: fire(wheel, clock, 1), timer.cancel]
    for step in steps:
        step()
        shown.append(repr(timer))
    words = [text.split()[1] for text in shown]
    assert words == ["pending", "paused", "pending", "due", "done", "cancelled"]
    assert "ignore" in shown[0]
    assert "None" in shown[-1]
