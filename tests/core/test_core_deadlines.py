"""Deadlines: examples, then whole programs against an oracle that only remembers what was set last."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimloop_core import Deadline, DelayError, Loop, LoopClosedError, TimerCancelledError
from nimloop_core._timers import TICK_NS, Timer, TimerWheel
from nimloop_core.testing import DeadlockError, FakeBackend, FakeClock

MS = 1_000_000
Errors = list[tuple[Exception, object]]


def ignore() -> None:
    """Do nothing, when the deadline is all that matters."""


@pytest.fixture
def armed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collect the deadline of every timer that is put into a wheel."""
    seen: list[int] = []
    arm = TimerWheel.arm

    def counted(wheel: TimerWheel, timer: Timer, deadline_ns: int) -> None:
        seen.append(deadline_ns)
        arm(wheel, timer, deadline_ns)

    monkeypatch.setattr(TimerWheel, "arm", counted)
    return seen


# Examples -----------------------------------------------------------------------------------------------------


def test_a_deadline_calls_back_once(loop: Loop) -> None:
    """It fires when its time has passed, and then waits to be set again."""
    fired: list[float] = []
    start = loop.time()
    deadline = Deadline(loop, lambda: fired.append(loop.time() - start))
    deadline.set(0.25)
    loop.run_once()
    assert fired == [pytest.approx(0.25, abs=1e-3)]
    with pytest.raises(DeadlockError):
        loop.run_once()
    deadline.set(0.5)
    loop.run_once()
    assert len(fired) == 2


def test_a_deadline_exists_without_a_timer(loop: Loop) -> None:
    """Nothing is armed, and nothing keeps the loop, before the first time is set."""
    deadline = Deadline(loop, ignore)
    assert not deadline.active
    assert deadline.deadline is None
    assert loop.stats.timers == 0


def test_a_deadline_tells_its_time(loop: Loop, clock: FakeClock) -> None:
    """`when` follows every change, and is None whenever there is nothing to come."""
    deadline = Deadline(loop, ignore)
    deadline.set(2)
    assert deadline.active
    assert deadline.deadline == pytest.approx(loop.time() + 2)
    clock.advance(1)
    deadline.set(3)
    assert deadline.deadline == pytest.approx(loop.time() + 3)
    deadline.clear()
    assert (deadline.active, deadline.deadline) == (False, None)
    deadline.set(1)
    loop.run_once()
    assert (deadline.active, deadline.deadline) == (False, None)


def test_pushing_a_deadline_back_costs_no_timer(loop: Loop, clock: FakeClock, armed: list[int]) -> None:
    """Ten thousand requests in a hundred seconds, with ten seconds each: eleven timers, and nobody is called."""
    fired: list[float] = []
    deadline = Deadline(loop, lambda: fired.append(loop.time()))
    for _ in range(10_000):
        deadline.set(10)
        clock.advance(0.01)
        loop.run_once(0)
    assert fired == []
    assert len(set(armed)) <= 11  # a timer is put in again, for the same time, as it falls to a lower level
    assert loop.stats.timers == 1
    last = deadline.deadline
    assert last is not None
    while deadline.active:
        loop.run_once()
    assert fired == [pytest.approx(last, abs=1e-3)]
    assert fired[0] >= last


@pytest.mark.interpreted
def test_pulling_a_deadline_forward_moves_its_timer(loop: Loop, armed: list[int]) -> None:
    """An earlier time cannot wait for the timer of the later one."""
    fired: list[float] = []
    start = loop.time()
    deadline = Deadline(loop, lambda: fired.append(loop.time() - start))
    deadline.set(10)
    deadline.set(1)
    assert len(armed) == 2
    loop.run_once()
    assert fired == [pytest.approx(1, abs=1e-3)]
    with pytest.raises(DeadlockError):
        loop.run_once()


def test_a_deadline_is_pulled_forward_by_less_than_a_tick(loop: Loop, clock: FakeClock) -> None:
    """It does not fire in the tick of the time before."""
    fired: list[int] = []
    deadline = Deadline(loop, lambda: fired.append(clock()))
    due = clock() + 4_950_000
    deadline.set_ns(5_900_000)
    deadline.set_ns(4_950_000)
    loop.run_once()
    assert len(fired) == 1
    assert due <= fired[0] < due + TICK_NS


@pytest.mark.interpreted
def test_a_cleared_deadline_can_be_set_again_before_and_after_its_timer(loop: Loop, armed: list[int]) -> None:
    """The timer that clearing has left behind is used again while it lasts."""
    fired: list[float] = []
    deadline = Deadline(loop, lambda: fired.append(loop.time()))
    deadline.set(1)
    deadline.clear()
    deadline.set(1.5)
    assert len(armed) == 1
    deadline.clear()
    loop.run_once()  # the timer has nothing to say, and goes
    assert fired == []
    assert loop.stats.timers == 0
    deadline.set(1)
    loop.run_once()
    assert len(fired) == 1


def test_a_cancelled_deadline_is_over(loop: Loop) -> None:
    """Its timer is gone at once, and setting it again is a mistake."""
    deadline = Deadline(loop, pytest.fail)
    deadline.set(1)
    deadline.cancel()
    deadline.cancel()
    assert not deadline.active
    assert loop.stats.timers == 0
    with pytest.raises(TimerCancelledError):
        deadline.set(1)
    with pytest.raises(TimerCancelledError):
        deadline.set_ns(1)
    deadline.clear()  # means nothing, and does no harm


def test_a_deadline_can_be_cancelled_before_it_was_set(loop: Loop) -> None:
    """There is no timer to cancel yet."""
    Deadline(loop, ignore).cancel()
    assert loop.stats.timers == 0


@pytest.mark.parametrize("verb", ["set", "clear", "cancel"])
def test_a_callback_of_the_same_batch_is_in_time(verb: str, loop: Loop, clock: FakeClock) -> None:
    """What was taken out as due is pushed back, cleared or cancelled by a timer that ran before it."""
    fired: list[float] = []
    deadline = Deadline(loop, lambda: fired.append(loop.time()))
    moves: dict[str, Callable[[], None]] = {
        "set": lambda: deadline.set(5),
        "clear": deadline.clear,
        "cancel": deadline.cancel,
    }
    loop.call_later(1, moves[verb])
    deadline.set(1)
    start = loop.time()
    clock.advance(2)
    loop.run_once(0)
    assert fired == []
    if verb == "set":
        loop.run_once()
        assert fired == [pytest.approx(start + 7, abs=1e-3)]


@pytest.mark.parametrize("verb", ["set", "clear", "cancel"])
def test_a_deadline_may_be_changed_by_its_own_callback(verb: str, loop: Loop) -> None:
    """It is inactive by then, so only setting it makes a difference to when it fires."""
    fired: list[float] = []
    start = loop.time()

    def on_deadline() -> None:
        fired.append(loop.time() - start)
        if len(fired) < 3:
            assert not deadline.active
            moves[verb]()

    deadline = Deadline(loop, on_deadline)
    moves: dict[str, Callable[[], None]] = {
        "set": lambda: deadline.set(1),
        "clear": deadline.clear,
        "cancel": deadline.cancel,
    }
    deadline.set(1)
    loop.run_once()
    if verb == "set":
        loop.run_once()
        loop.run_once()
        assert fired == [pytest.approx(each, abs=4e-3) for each in (1, 2, 3)]
    with pytest.raises(DeadlockError):
        loop.run_once()


@pytest.mark.interpreted
def test_an_exception_of_the_callback_goes_to_the_handler(loop: Loop, errors: Errors) -> None:
    """The owner that the handler is told shows whose deadline it was, and the deadline still works."""

    def fail() -> None:
        raise RuntimeError("fail")

    deadline = Deadline(loop, fail)
    for _ in range(2):
        deadline.set(1)
        loop.run_once()
    assert [str(error) for error, _ in errors] == ["fail", "fail"]
    assert all("fail" in repr(owner) for _, owner in errors)


def test_nanoseconds_are_taken_as_they_are(loop: Loop, clock: FakeClock) -> None:
    """`set_ns` is `set` without arithmetic."""
    fired: list[int] = []
    deadline = Deadline(loop, lambda: fired.append(clock()))
    due = clock() + 1_234_567
    deadline.set_ns(1_234_567)
    loop.run_once()
    assert len(fired) == 1
    assert due <= fired[0] < due + TICK_NS


@pytest.mark.parametrize("delay", [-1.0, -1e-9, math.nan, math.inf, -math.inf, 1e20])
def test_delays_that_make_no_sense_are_refused(delay: float, loop: Loop) -> None:
    """The time set before stays."""
    deadline = Deadline(loop, ignore)
    deadline.set(3)
    before = deadline.deadline
    with pytest.raises(DelayError):
        deadline.set(delay)
    assert deadline.deadline == before


def test_the_callback_has_to_be_callable(loop: Loop) -> None:
    """A mistake is told where it is made, not when the time has come."""
    with pytest.raises(TypeError):
        Deadline(loop, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("prepare", ["never set", "set", "cleared", "fired"])
def test_a_closed_loop_has_no_deadlines(prepare: str, fake: FakeBackend, clock: FakeClock) -> None:
    """Setting one raises instead of being forgotten, in whatever state the loop has left it."""
    with Loop(fake, clock=clock) as loop:
        deadline = Deadline(loop, ignore)
        if prepare != "never set":
            deadline.set(1)
        if prepare == "cleared":
            deadline.clear()
        if prepare == "fired":
            loop.run_once()
    assert not deadline.active
    assert deadline.deadline is None
    with pytest.raises(LoopClosedError):
        deadline.set(1)
    assert not deadline.active
    assert loop.stats.timers == 0
    deadline.clear()
    deadline.cancel()


class Target:
    """Something that a callback holds on to."""

    def on_deadline(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize("is_set", [False, True])
def test_cancelling_releases_the_callback_at_once(is_set: bool, loop: Loop) -> None:  # noqa: FBT001
    """No garbage collection is needed, whether or not there is a timer."""
    gc.disable()
    try:
        target = Target()
        deadline = Deadline(loop, target.on_deadline)
        if is_set:
            deadline.set(1)
        alive = weakref.ref(target)
        del target
        assert alive() is not None
        deadline.cancel()
        assert alive() is None
    finally:
        gc.enable()


def test_a_deadline_shows_its_state_and_callback(loop: Loop) -> None:
    """Logs name the callback."""
    deadline = Deadline(loop, ignore)
    assert repr(deadline) == f"<Deadline clear callback={ignore!r}>"
    deadline.set(1)
    assert repr(deadline) == f"<Deadline active callback={ignore!r}>"
    deadline.cancel()
    assert repr(deadline) == "<Deadline cancelled callback=None>"


# The oracle ---------------------------------------------------------------------------------------------------

Move = tuple[str, int]
DELAYS = st.one_of(st.integers(0, 3 * MS), st.integers(0, 400 * MS), st.sampled_from([0, MS, 256 * MS, 70_000 * MS]))
MOVES = st.one_of(
    st.tuples(st.just("set"), DELAYS),
    st.tuples(st.just("clear"), st.just(0)),
    st.tuples(st.just("pass"), DELAYS),
    st.tuples(st.just("pass"), DELAYS),
)


@dataclass
class Program:
    """A deadline on a virtual clock, and what is known about it: when it has to fire, and how often it was told to."""

    script: list[list[Move]]
    clock: FakeClock = field(default_factory=lambda: FakeClock(77.000_4))
    due_ns: int | None = None
    sets: int = 0
    fired: int = 0
    dropped: int = 0

    def __post_init__(self) -> None:
        self.loop = Loop(FakeBackend(self.clock), clock=self.clock, debug=False)
        self.loop.exception_handler = self.unexpected
        self.deadline = Deadline(self.loop, self.on_deadline)
        self.held_up_ns = self.clock()  # until when a callback kept the loop from firing anything

    def unexpected(self, error: Exception, owner: object) -> None:
        """Let a failed assertion of the callback end the test."""
        raise BaseExceptionGroup(f"{owner!r} failed", [error, KeyboardInterrupt()])

    def on_deadline(self) -> None:
        """Compare with what is known, then play one line of the script."""
        now = self.clock()
        assert self.due_ns is not None, "fired after clear, or twice"
        assert now >= self.due_ns, "early"
        assert now < max(self.due_ns, self.held_up_ns) + TICK_NS, "late"
        self.due_ns = None
        self.fired += 1
        if self.script:
            for name, amount in self.script.pop():
                if name == "pass":
                    self.clock.advance_ns(amount)
                    self.held_up_ns = self.clock()
                else:
                    self.play(name, amount)

    def play(self, name: str, amount: int) -> None:
        """Make one move."""
        if name == "pass":
            self.let_pass(amount)
            return
        if self.due_ns is not None:
            self.dropped += 1
        if name == "set":
            self.sets += 1
            self.deadline.set_ns(amount)
            self.due_ns = self.clock() + amount
        else:
            self.deadline.clear()
            self.due_ns = None

    def let_pass(self, amount: int) -> None:
        """Run the loop for a while, as it would run: waiting no longer than for its next timer."""
        end = self.clock() + amount
        while True:
            left = max(0, end - self.clock())
            self.loop.run_once(left / 1e9)
            self.agree()
            if self.clock() >= end:
                return

    def agree(self) -> None:
        """Check that the deadline says of itself what is known about it."""
        assert self.deadline.active == (self.due_ns is not None)
        assert self.deadline.deadline == (None if self.due_ns is None else self.due_ns / 1e9)
        assert self.loop.stats.timers <= 1

    def finish(self) -> None:
        """Let what is set fire, and see that nothing is left; then cancel."""
        self.script.clear()
        while self.due_ns is not None:
            self.let_pass(1_000 * MS)
        assert self.fired == self.sets - self.dropped
        self.deadline.set_ns(5 * MS)
        self.deadline.cancel()
        with pytest.raises(DeadlockError):
            self.loop.run_once()


@given(moves=st.lists(MOVES, max_size=60), script=st.lists(st.lists(MOVES, max_size=3), max_size=20))
def test_a_deadline_fires_once_for_each_time_that_was_set(moves: list[Move], script: list[list[Move]]) -> None:
    """Never early, at most a tick late, and never for a time that was cleared or replaced."""
    program = Program(script)
    with program.loop:
        for name, amount in moves:
            program.play(name, amount)
            program.agree()
        program.finish()


@given(st.lists(st.tuples(st.integers(1, 100), st.integers(0, 50)), min_size=1, max_size=50))
def test_a_time_that_only_moves_back_arms_one_timer_per_period(steps: list[tuple[int, int]]) -> None:
    """Timers are armed at most once for each of the shortest delays that fits into the time passed, and once more."""
    clock = FakeClock(5.5)
    armed: list[int] = []
    arm = TimerWheel.arm

    def counted(wheel: TimerWheel, timer: Timer, deadline_ns: int) -> None:
        armed.append(deadline_ns)
        arm(wheel, timer, deadline_ns)

    with pytest.MonkeyPatch.context() as patch, Loop(FakeBackend(clock), clock=clock, debug=False) as loop:
        patch.setattr(TimerWheel, "arm", counted)
        deadline = Deadline(loop, pytest.fail)
        start, latest = clock(), 0
        for delay, passed in steps:
            if clock() + delay * 50 * MS < latest:
                continue  # would move it forward
            latest = clock() + delay * 50 * MS
            deadline.set_ns(delay * 50 * MS)
            clock.advance_ns(min(passed * MS, delay * 50 * MS - TICK_NS))
            loop.run_once(0)
        assert len(set(armed)) <= 1 + (clock() - start) // (50 * MS - TICK_NS)
