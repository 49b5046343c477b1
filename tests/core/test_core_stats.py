"""What a loop tells about itself: counters that mean what they say, and callbacks that took too long."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import FrozenInstanceError

import pytest

from nimloop_core import READ, Deadline, DelayError, Loop, LoopStats
from nimloop_core.testing import FakeBackend, FakeClock

Pair = tuple[socket.socket, socket.socket]


def ignore(_events: int = 0) -> None:
    """Do nothing."""


class Slow:
    """A callback of any kind that lets the clock go on, and may fail after that."""

    def __init__(self, clock: FakeClock, seconds: float, *, fails: bool = False) -> None:
        self.clock = clock
        self.seconds = seconds
        self.fails = fails
        self.calls = 0

    def __call__(self, _events: int = 0) -> None:
        """Take that long."""
        self.calls += 1
        self.clock.advance(self.seconds)
        if self.fails:
            raise RuntimeError("slow and wrong")

    def __repr__(self) -> str:
        return f"<slow {self.seconds}>"


# How each kind of callback is given to a loop, and made to be called by its next iteration.
def soon(loop: Loop, fake: FakeBackend, callback: Slow) -> None:
    """Queue it."""
    loop.call_soon(callback)


def posted(loop: Loop, fake: FakeBackend, callback: Slow) -> None:
    """Queue it as another thread does."""
    loop.call_soon_threadsafe(callback)


def timer(loop: Loop, fake: FakeBackend, callback: Slow) -> None:
    """Let its time come."""
    loop.call_later(0.001, callback)


def timer_at(loop: Loop, fake: FakeBackend, callback: Slow) -> None:
    """Let its moment come."""
    loop.call_at(loop.time() + 0.001, callback)


def interval(loop: Loop, fake: FakeBackend, callback: Slow) -> None:
    """Let its time come for the first time."""
    loop.call_every(100, callback)


def deadline(loop: Loop, fake: FakeBackend, callback: Slow) -> None:
    """Let its deadline pass."""
    Deadline(loop, callback).set(0.001)


def idle(loop: Loop, fake: FakeBackend, callback: Slow) -> None:
    """Have nothing else to do."""
    loop.add_idle(callback)


def event(loop: Loop, fake: FakeBackend, callback: Slow) -> None:
    """Report an event."""
    loop.register(7, READ, callback)
    fake.put(7, READ)


KINDS = [soon, posted, timer, timer_at, interval, deadline, idle, event]
kinds = pytest.mark.parametrize("give", KINDS, ids=lambda give: str(give.__name__))


# Counters -----------------------------------------------------------------------------------------------------


def test_a_new_loop_has_done_nothing(loop: Loop) -> None:
    """Everything is 0, and what is not measured is None."""
    assert loop.stats == LoopStats(
        backend="fake", iterations=0, events=0, timers_fired=0, watchers=0, timers=0, ready=0, longest_callback=None
    )


def test_a_snapshot_stays_as_it_is(loop: Loop) -> None:
    """It neither changes later nor can be changed."""
    before = loop.stats
    loop.run_once(0)
    assert before.iterations == 0
    assert loop.stats.iterations == 1
    with pytest.raises(FrozenInstanceError):
        before.iterations = 1  # type: ignore[misc]


def test_iterations_are_counted_however_they_are_run(loop: Loop) -> None:
    """`run_once` is one, `run` is as many as it takes."""
    for _ in range(3):
        loop.run_once(0)
    left = iter(range(4))

    def stop_at_the_end() -> None:
        if next(left, None) is None:
            loop.stop()

    loop.call_every(1, stop_at_the_end)
    loop.run()
    assert loop.stats.iterations == 8


def test_events_are_calls_of_watchers(loop: Loop, fake: FakeBackend) -> None:
    """A failed call is one; an event that nobody wants, and being woken up, are none."""

    def fail(_events: int) -> None:
        raise RuntimeError("fail")

    loop.exception_handler = ignore_error
    loop.register(7, READ, ignore)
    loop.register(8, READ, fail)
    for _ in range(3):
        fake.put(7, READ)
        fake.put(8, READ)
        fake.put(9, READ)
        loop.call_soon_threadsafe(ignore)
        loop.run_once(0)
    assert loop.stats.events == 6


def ignore_error(error: Exception, owner: object) -> None:
    """Take no notice."""


def test_timers_fired_are_calls_of_timers(loop: Loop) -> None:
    """Every call of an interval timer is one; a cancelled timer is none."""
    loop.exception_handler = ignore_error
    loop.call_every(1, ignore)
    loop.call_later(1.5, Slow(FakeClock(), 0, fails=True))
    loop.call_later(1.6, ignore).cancel()
    end = loop.time() + 3.5
    while loop.time() < end:
        loop.run_once(end - loop.time())
    assert loop.stats.timers_fired == 4


def test_what_is_there_now_is_counted(loop: Loop, fake: FakeBackend) -> None:
    """Watchers, active timers and queued callbacks come and go."""
    watchers = [loop.register(fd, READ, ignore) for fd in (5, 6, 700)]
    timers = [loop.call_later(1, ignore), loop.call_every(1, ignore), loop.call_later(1, ignore)]
    for _ in range(4):
        loop.call_soon(ignore)
        loop.call_soon_threadsafe(ignore)
    stats = loop.stats
    assert (stats.watchers, stats.timers, stats.ready) == (3, 3, 8)
    watchers[0].unregister()
    timers[0].cancel()
    timers[1].pause()
    loop.run_once(0)
    stats = loop.stats
    assert (stats.watchers, stats.timers, stats.ready) == (2, 1, 0)


def test_ready_is_what_the_next_iteration_finds(loop: Loop) -> None:
    """Seen from inside a callback, those that were queued before and have not run yet are in it, and new ones too."""
    seen: list[int] = []

    def look() -> None:
        loop.call_soon(ignore)
        seen.append(loop.stats.ready)

    for _ in range(3):
        loop.call_soon(look)
    loop.run_once(0)
    assert seen == [3, 3, 3]


def test_a_closed_loop_still_tells(fake: FakeBackend, clock: FakeClock) -> None:
    """What it has done stays; there is nothing left to do."""
    with Loop(fake, clock=clock) as loop:
        loop.call_later(0, ignore)
        loop.run_once(1)
        loop.call_later(5, ignore)
        loop.register(7, READ, ignore)
    stats = loop.stats
    assert (stats.iterations, stats.timers_fired) == (1, 1)
    assert (stats.watchers, stats.timers, stats.ready) == (0, 0, 0)


def test_counters_of_real_backends(real: Loop, make_pair: Callable[[], Pair]) -> None:
    """The same numbers with a kernel."""
    ends = [make_pair() for _ in range(3)]
    for ours, theirs in ends:
        real.register(ours, READ, ignore)
        theirs.send(b"x")
    real.run_once(0)
    stats = real.stats
    assert stats.backend == real.backend
    assert (stats.iterations, stats.events, stats.watchers) == (1, 3, 3)


# Slow callbacks -----------------------------------------------------------------------------------------------


@kinds
def test_a_slow_callback_of_any_kind_is_reported_once(
    give: Callable[[Loop, FakeBackend, Slow], None],
    fake: FakeBackend,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By name, with the seconds that passed on the loop's clock."""
    with Loop(fake, clock=clock, slow_callback=0.5) as loop:
        slow = Slow(clock, 2.25)
        give(loop, fake, slow)
        loop.run_once(100)
        assert slow.calls == 1
        assert loop.stats.longest_callback == 2.25
    assert [(each.name, each.levelno, each.getMessage()) for each in caplog.records] == [
        ("nimloop.core", logging.WARNING, "<slow 2.25> held up the loop for 2.250 seconds")
    ]
    caplog.clear()


@kinds
def test_a_quick_callback_is_measured_and_not_reported(
    give: Callable[[Loop, FakeBackend, Slow], None],
    fake: FakeBackend,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The threshold is what counts as slow, and the longest time is known all the same."""
    with Loop(fake, clock=clock, slow_callback=0.5) as loop:
        give(loop, fake, Slow(clock, 0.499))
        loop.run_once(100)
        assert loop.stats.longest_callback == 0.499
    assert not caplog.records


@kinds
def test_a_slow_callback_that_fails_is_reported_and_handled(
    give: Callable[[Loop, FakeBackend, Slow], None],
    fake: FakeBackend,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Measuring hides neither the exception nor whose it was."""
    errors: list[tuple[Exception, object, str]] = []
    with Loop(fake, clock=clock, slow_callback=0.5) as loop:
        loop.exception_handler = lambda error, owner: errors.append((error, owner, repr(owner)))
        slow = Slow(clock, 0.5, fails=True)
        give(loop, fake, slow)
        loop.run_once(100)
    assert len(caplog.records) == 1
    caplog.clear()
    [(error, owner, shown)] = errors
    assert str(error) == "slow and wrong"
    assert "<slow 0.5>" in shown or "Deadline" in shown  # a compiled method does not show its object
    if give in {soon, posted, idle}:
        assert owner is slow


@kinds
def test_nothing_is_measured_unless_asked_for(
    give: Callable[[Loop, FakeBackend, Slow], None],
    fake: FakeBackend,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The clock is not read more often on account of a callback, and nothing is logged."""
    readings = 0

    def counting() -> int:
        nonlocal readings
        readings += 1
        return clock()

    with Loop(fake, clock=counting, debug=False) as loop:
        slow = Slow(clock, 1000)
        give(loop, fake, slow)
        before = readings
        loop.run_once(100)
        assert slow.calls == 1
        assert readings <= before + 4  # for timers and the wait, as in any iteration
        assert loop.stats.longest_callback is None
    assert not caplog.records


def test_without_measuring_a_callback_is_called_as_it_is(fake: FakeBackend, clock: FakeClock) -> None:
    """No wrapper is put around it anywhere, so that the ordinary case pays for no more than a test of a flag."""
    with Loop(fake, clock=clock, debug=False) as loop:
        assert not loop._guarded
        loop.call_soon(ignore)
        loop.call_soon_threadsafe(ignore)
        assert list(loop._deferred) == list(loop._inbox.calls) == [ignore]
        timers = [loop.call_later(1, ignore), loop.call_at(9e3, ignore), loop.call_every(1, ignore)]
        assert [each._callback for each in timers] == [ignore] * 3
        assert loop.add_idle(ignore).callback is ignore
        assert loop.register(7, READ, ignore).callback is ignore
        assert Deadline(loop, ignore)._callback is ignore


def test_measuring_wraps_once(fake: FakeBackend, clock: FakeClock) -> None:
    """`call_at` is `call_later`, and still reports once; what is wrapped looks like what it is."""
    with Loop(fake, clock=clock, slow_callback=1) as loop:
        timer = loop.call_at(loop.time() + 1, ignore)
        assert repr(timer) == f"<Timer pending callback={ignore!r}>"
        watcher = loop.register(7, READ, ignore)
        assert repr(watcher) == f"<Watcher fd=7 active callback={ignore!r}>"


def test_the_longest_callback_is_the_longest_so_far(
    fake: FakeBackend, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Shorter ones after it do not change it."""
    with Loop(fake, clock=clock, slow_callback=10) as loop:
        assert loop.stats.longest_callback == 0
        for seconds, longest in ((1, 1), (3, 3), (2, 3), (0, 3), (4, 4)):
            loop.call_soon(Slow(clock, seconds))
            loop.run_once(0)
            assert loop.stats.longest_callback == longest
    assert not caplog.records


def test_a_slow_signal_handler_is_reported(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """It runs in the loop like any other callback."""
    with Loop(clock=clock, slow_callback=0.1) as loop:
        slow = Slow(clock, 0.3)
        loop.add_signal_handler(signal.SIGTERM, slow)
        signal.raise_signal(signal.SIGTERM)
        loop.run_once(0)
        assert slow.calls == 1
    assert [each.getMessage() for each in caplog.records] == ["<slow 0.3> held up the loop for 0.300 seconds"]
    caplog.clear()


def test_a_slow_last_word_is_reported(fake: FakeBackend, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """What closing runs is measured, too."""
    loop = Loop(fake, clock=clock, slow_callback=0.1)
    loop.call_soon(Slow(clock, 5))
    loop.close()
    assert [each.getMessage() for each in caplog.records] == ["<slow 5> held up the loop for 5.000 seconds"]
    caplog.clear()


def test_a_slow_callback_that_ends_the_run_is_reported(
    fake: FakeBackend, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Ctrl+C during a long callback tells which one it was."""

    def interrupted() -> None:
        clock.advance(60)
        raise KeyboardInterrupt

    with Loop(fake, clock=clock, slow_callback=1) as loop:
        loop.call_soon(interrupted)
        with pytest.raises(KeyboardInterrupt):
            loop.run()
    assert len(caplog.records) == 1
    caplog.clear()


@pytest.mark.parametrize("threshold", [-1.0, float("nan"), float("inf")])
def test_a_threshold_that_makes_no_sense_is_refused(threshold: float) -> None:
    """And nothing was opened by then: the descriptors are compared after every test."""
    with pytest.raises(DelayError):
        Loop(slow_callback=threshold)


def test_callbacks_have_to_be_callable_with_measuring_too(fake: FakeBackend, clock: FakeClock) -> None:
    """A wrapper would be."""
    with Loop(fake, clock=clock, slow_callback=1) as loop:
        calls: list[Callable[[], object]] = [
            lambda: loop.call_soon(None),  # type: ignore[arg-type]
            lambda: loop.call_soon_threadsafe(None),  # type: ignore[arg-type]
            lambda: loop.call_later(1, None),  # type: ignore[arg-type]
            lambda: loop.call_every(1, None),  # type: ignore[arg-type]
            lambda: loop.add_idle(None),  # type: ignore[arg-type]
            lambda: loop.register(7, READ, None),  # type: ignore[arg-type]
        ]
        for call in calls:
            with pytest.raises(TypeError):
                call()
        stats = loop.stats
        assert (stats.ready, stats.timers, stats.watchers) == (0, 0, 0)


# For other loops ----------------------------------------------------------------------------------------------


def test_the_next_deadline_is_what_the_loop_would_wait_for(loop: Loop, clock: FakeClock, fake: FakeBackend) -> None:
    """Never with nothing to do, at once with something queued, else until the next timer."""
    assert loop.next_deadline() is None
    timer = loop.call_later(2, ignore)
    assert loop.next_deadline() == pytest.approx(2, abs=1e-3)
    clock.advance(5)
    assert loop.next_deadline() == 0
    timer.cancel()
    assert loop.next_deadline() is None
    loop.call_soon(ignore)
    assert loop.next_deadline() == 0
    loop.run_once(0)
    assert loop.next_deadline() is None
    loop.call_soon_threadsafe(ignore)
    assert loop.next_deadline() == 0
    loop.run_once(0)
    loop.stop()
    assert loop.next_deadline() == 0
    loop.run_once()
    assert loop.next_deadline() is None


def test_the_next_deadline_is_a_day_at_most(loop: Loop) -> None:
    """Like any wait."""
    loop.call_later(1e7, ignore)
    assert loop.next_deadline() == 86_400


@pytest.mark.parametrize("kind", ["posted", "timer"])
def test_what_an_interrupt_has_left_over_is_due(kind: str, loop: Loop, clock: FakeClock) -> None:
    """A loop that is driven by another one gets its turn for the callbacks that Ctrl+C has kept from running."""
    ran: list[str] = []

    def interrupt() -> None:
        raise KeyboardInterrupt

    for callback in (interrupt, lambda: ran.append(kind)):
        if kind == "posted":
            loop.call_soon_threadsafe(callback)
        else:
            loop.call_later(1, callback)
    clock.advance(2)
    with pytest.raises(KeyboardInterrupt):
        loop.run_once(0)
    assert loop.next_deadline() == 0
    loop.run_once(0)
    assert ran == [kind]
    assert loop.next_deadline() is None


def test_a_descriptor_stands_for_the_loop_where_there_is_one(real: Loop, make_pair: Callable[[], Pair]) -> None:
    """It is readable exactly while the loop has something to report; poll and IOCP have none."""
    if real.backend not in {"epoll", "kqueue"}:
        with pytest.raises(ValueError):
            real.fileno()
        return
    with Loop("poll") as other:
        seen: list[int] = []
        other.register(real.fileno(), READ, seen.append)
        ours, theirs = make_pair()
        real.register(ours, READ, lambda _events: ours.recv(10))
        other.run_once(0)
        assert seen == []
        theirs.send(b"x")
        other.run_once(0)
        assert len(seen) == 1
        real.run_once(0)
        other.run_once(0)
        assert len(seen) == 1
        thread = threading.Thread(target=real.call_soon_threadsafe, args=[ignore])
        thread.start()
        thread.join()
        other.run_once(0)
        assert len(seen) == 2
        real.run_once(0)
        other.run_once(0)
        assert len(seen) == 2


def test_a_fake_backend_has_no_descriptor(loop: Loop) -> None:
    """There is nothing to wait for."""
    with pytest.raises(ValueError):
        loop.fileno()
