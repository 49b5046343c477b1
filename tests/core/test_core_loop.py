"""The loop: the order of its steps, how it starts, waits, stops and closes, and what its callbacks may do to it."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType

import pytest
from tests.core.portable import USER_SIGNAL, send

from nimloop_core import (
    READ,
    WRITE,
    DelayError,
    IdleHandler,
    Loop,
    LoopClosedError,
    LoopRunningError,
    NotRegisteredError,
    Timer,
    Watcher,
    log_exception,
)
from nimloop_core._iteration import Iteration
from nimloop_core.backends import available
from nimloop_core.testing import DeadlockError, FakeBackend, FakeClock

DAY_NS = 86_400 * 1_000_000_000
Pair = tuple[socket.socket, socket.socket]
Errors = list[tuple[Exception, object]]


def ignore(_events: int = 0) -> None:
    """Do nothing."""


def fail() -> None:
    """Raise what goes to the exception handler."""
    raise RuntimeError("fail")


def interrupt() -> None:
    """Raise what leaves `run`."""
    raise KeyboardInterrupt


# One iteration ------------------------------------------------------------------------------------------------


def test_the_eight_steps_come_in_their_order(loop: Loop, fake: FakeBackend, clock: FakeClock) -> None:
    """Deferred, posted, timers, wait, events, timers that came due meanwhile, sweep, idle."""
    steps: list[str] = []

    def on_event(_events: int) -> None:
        steps.append("5 event")
        clock.advance(1)
        watcher.unregister()

    watcher = loop.register(7, READ, on_event)
    fake.put(7, READ)
    loop.add_idle(lambda: steps.append(f"8 idle, {len(loop._watchers.retired)} retired"))
    loop.call_later(1, lambda: steps.append(f"6 timer, {len(loop._watchers.retired)} retired"))
    loop.call_later(0, lambda: steps.append("3 timer"))
    loop.call_soon_threadsafe(lambda: steps.append("2 posted"))
    loop.call_soon(lambda: steps.append("1 deferred"))
    loop.run_once()
    assert steps == ["1 deferred", "2 posted", "3 timer", "5 event", "6 timer, 1 retired"]
    loop.run_once(0)  # no event this time
    assert steps[5:] == ["8 idle, 0 retired"]


def test_a_timer_takes_place_before_and_after_the_wait(loop: Loop, clock: FakeClock) -> None:
    """A timer that comes due during the wait fires in the same iteration."""
    fired: list[float] = []
    start = loop.time()
    loop.call_later(0.25, lambda: fired.append(loop.time() - start))
    loop.run_once()
    assert fired == [pytest.approx(0.25, abs=1e-3)]


def test_run_once_never_overshoots_a_due_timer(loop: Loop, fake: FakeBackend) -> None:
    """The wait is the shorter one of the timeout and the next timer."""
    loop.call_later(0.03, ignore)
    loop.run_once(5)
    loop.call_later(0.03, ignore)
    loop.run_once(0.01)
    assert fake.waits == [30_000_000, 10_000_000]


def test_run_once_waits_no_longer_than_its_timeout(loop: Loop, fake: FakeBackend) -> None:
    """Without anything to do, the timeout is the wait, and 0 does not wait."""
    loop.run_once(0.5)
    loop.run_once(0)
    assert fake.waits == [500_000_000, 0]


def test_run_once_without_limit_waits_for_the_first_event(loop: Loop, fake: FakeBackend) -> None:
    """None means for ever, if need be."""
    with pytest.raises(DeadlockError):
        loop.run_once()
    assert fake.waits == [-1]
    assert not loop.running


@pytest.mark.parametrize("timeout", [None, 365 * 86_400.0])
def test_no_wait_is_longer_than_kernels_can_count(timeout: float | None, loop: Loop, fake: FakeBackend) -> None:
    """A timer in two years makes the loop look up once a day, instead of an OverflowError."""
    loop.call_later(2 * 365 * 86_400, ignore)
    loop.run_once(timeout)
    assert fake.waits == [DAY_NS]


def test_a_real_kernel_takes_the_longest_wait(real: Loop) -> None:
    """A far timer does not break the loop that has something nearer to do."""
    real.call_later(2 * 365 * 86_400, ignore)
    thread = threading.Thread(target=real.stop)
    real.call_soon(thread.start)
    real.run()
    thread.join()


def test_a_cancelled_timer_does_not_make_the_loop_spin(loop: Loop, fake: FakeBackend, clock: FakeClock) -> None:
    """The deadline of the only timer passes after it was cancelled: the loop waits for events all the same."""
    loop.call_later(1, ignore).cancel()
    clock.advance(2)
    with pytest.raises(DeadlockError):
        loop.run_once()
    assert fake.waits == [-1]
    paused = loop.call_later(1, ignore)
    paused.pause()
    clock.advance(2)
    loop.run_once(3)
    assert fake.waits == [-1, 3_000_000_000]
    loop.call_later(0.5, ignore)
    loop.run_once(3)
    loop.run_once(3)
    assert 500_000_000 <= fake.waits[2] + fake.waits[3] <= 501_000_000


def test_a_late_timer_makes_the_wait_zero(loop: Loop, fake: FakeBackend, clock: FakeClock) -> None:
    """A timer that came due while timers were fired is not waited for."""
    fired: list[str] = []

    def busy() -> None:
        loop.call_later(0.010, lambda: fired.append("late"))
        clock.advance(0.020)

    loop.call_later(0, busy)
    loop.run_once()
    assert (fake.waits, fired) == ([0], ["late"])


# Deferred -----------------------------------------------------------------------------------------------------


def test_deferred_callbacks_come_in_order_and_from_a_snapshot(loop: Loop, fake: FakeBackend) -> None:
    """What a deferred callback defers waits for the next iteration, which then does not wait."""
    called: list[str] = []

    def outer() -> None:
        called.append("outer")
        loop.call_soon(lambda: called.append("inner"))

    loop.call_soon(outer)
    loop.call_soon(lambda: called.append("second"))
    loop.run_once()
    assert (called, fake.waits) == (["outer", "second"], [0])
    loop.run_once(0)
    assert called == ["outer", "second", "inner"]


def test_what_a_timer_defers_shortens_the_wait(loop: Loop, fake: FakeBackend) -> None:
    """With no other timer, the loop would block for ever with work at hand."""
    called: list[str] = []
    loop.call_later(0, lambda: loop.call_soon(lambda: called.append("deferred")))
    loop.run_once()
    assert fake.waits == [0]
    loop.run_once(0)
    assert called == ["deferred"]


def test_what_an_event_or_an_idle_callback_defers_runs_next(loop: Loop, fake: FakeBackend) -> None:
    """Steps 5 and 8 come after the wait: their work is first in the next iteration."""
    called: list[str] = []
    loop.register(5, READ, lambda _events: loop.call_soon(lambda: called.append("event")))
    idle = loop.add_idle(lambda: loop.call_soon(lambda: called.append("idle")))
    fake.put(5, READ)
    loop.run_once(1)
    assert (called, fake.waits) == ([], [1_000_000_000])
    loop.run_once(1)  # after the deferred callback there is nothing to do but wait; then idle
    assert (called, fake.waits) == (["event"], [1_000_000_000] * 2)
    idle.cancel()
    loop.run_once(1)
    assert called == ["event", "idle"]


def test_self_deferring_callbacks_do_not_starve_events_and_timers(real: Loop, make_pair: Callable[[], Pair]) -> None:
    """A callback that always defers itself leaves every iteration its poll and its timers."""
    near, far = make_pair()
    far.send(b"x")
    seen: list[str] = []
    rounds = 0

    def again() -> None:
        nonlocal rounds
        rounds += 1
        real.call_soon(again)

    real.call_soon(again)
    real.register(near, READ, lambda _events: seen.append("event"))  # never read: always ready
    real.call_later(0.002, real.stop)
    real.run()
    assert len(seen) == rounds


def test_a_flood_of_events_does_not_delay_a_timer(loop: Loop, fake: FakeBackend, clock: FakeClock) -> None:
    """Each event takes 1 ms and brings the next one: a 10 ms timer is late by one event at most."""
    fired: list[int] = []
    start = clock()

    def flood(_events: int) -> None:
        clock.advance(0.001)
        fake.put(3, READ)

    def stop() -> None:
        fired.append((clock() - start) // 1_000_000)
        loop.stop()

    loop.register(3, READ, flood)
    fake.put(3, READ)
    loop.call_later(0.010, stop)
    loop.run()
    assert fired in ([10], [11])


# Idle ---------------------------------------------------------------------------------------------------------


def test_idle_callbacks_come_when_no_descriptor_had_an_event(loop: Loop, fake: FakeBackend) -> None:
    """Timers and deferred callbacks are no events; being idle does not shorten the wait."""
    called: list[str] = []
    for name in "abc":
        loop.add_idle(lambda name=name: called.append(name))  # type: ignore[misc]
    loop.register(4, READ, ignore)
    fake.put(4, READ)
    loop.run_once()
    assert called == []
    loop.call_soon(ignore)
    loop.call_later(0, ignore)
    loop.run_once(1)
    loop.run_once(1)
    assert called == list("abcabc")
    assert fake.waits == [-1, 1_000_000_000, 1_000_000_000]


def test_an_idle_handler_tells_whether_it_will_be_called(loop: Loop) -> None:
    """Until it is cancelled or its loop closed; after that nothing is said of a callback that is gone."""
    first, second = loop.add_idle(ignore), loop.add_idle(ignore)
    assert first.active
    assert repr(first) == f"<IdleHandler active callback={ignore!r}>"
    first.cancel()
    assert (first.active, second.active) == (False, True)
    loop.close()
    assert not second.active
    assert repr(first) == repr(second) == "<IdleHandler cancelled>"


def test_more_than_64_idle_callbacks_all_run(loop: Loop) -> None:
    """No table bounds their number."""
    called: list[int] = []
    for number in range(200):
        loop.add_idle(lambda number=number: called.append(number))  # type: ignore[misc]
    loop.run_once(0)
    assert called == list(range(200))


def test_idle_callbacks_may_be_changed_by_idle_callbacks(loop: Loop) -> None:
    """Cancelled before its turn, one does not run; added meanwhile, it runs the next time."""
    called: list[str] = []
    handlers: list[IdleHandler] = []

    def first() -> None:
        called.append("first")
        for handler in handlers:
            handler.cancel()
            handler.cancel()
        loop.add_idle(lambda: called.append("added"))

    handlers.append(loop.add_idle(first))
    handlers.append(loop.add_idle(lambda: called.append("never")))
    loop.add_idle(lambda: called.append("last"))
    loop.run_once(0)
    assert called == ["first", "last"]
    loop.run_once(0)
    assert called == ["first", "last", "last", "added"]


# Stop ---------------------------------------------------------------------------------------------------------


def test_stop_before_run_makes_it_return_after_one_iteration(real: Loop) -> None:
    """The stop is not lost, what was ready runs once, and the next run is a new one."""
    called: list[str] = []
    real.stop()
    real.call_soon(lambda: called.append("first"))
    real.run()
    assert called == ["first"]
    real.call_soon(lambda: called.append("second"))
    real.call_later(0.001, real.stop)
    real.run()
    assert called == ["first", "second"]


def test_stop_ends_run_but_not_the_iteration(loop: Loop, fake: FakeBackend) -> None:
    """What is left of the iteration still runs, without waiting."""
    called: list[str] = []
    loop.call_soon(loop.stop)
    loop.call_soon(lambda: called.append("deferred"))
    loop.register(3, READ, lambda _events: called.append("event"))
    fake.put(3, READ)
    loop.run()
    assert (called, fake.waits) == (["deferred", "event"], [0])
    assert not loop.running


def test_run_once_uses_up_a_stop_and_works_afterwards(loop: Loop, fake: FakeBackend) -> None:
    """After a stop, the next run_once does not wait, and the ones after it do."""
    loop.stop()
    loop.run_once(1)
    loop.run_once(1)
    assert fake.waits == [0, 1_000_000_000]
    loop.call_later(1, loop.stop)
    loop.run()
    loop.run_once(1)  # may look up for the wake-up of that stop
    loop.run_once(1)
    assert fake.waits[-1] == 1_000_000_000


def test_stop_from_another_thread_ends_a_wait(real: Loop) -> None:
    """A loop without timers would wait for ever."""
    thread = threading.Thread(target=real.stop)
    real.call_soon(thread.start)
    real.run()
    thread.join()
    assert not real.running


def test_stop_from_a_plain_signal_handler_ends_a_wait(real: Loop) -> None:
    """A handler of the signal module may call stop, which a wait interrupted by the signal hears."""
    previous = signal.signal(USER_SIGNAL, lambda _number, _frame: real.stop())
    sender = threading.Thread(target=send, args=(USER_SIGNAL,))
    try:
        real.call_soon(sender.start)
        real.run()
        sender.join()
    finally:
        signal.signal(USER_SIGNAL, previous)


def test_stops_from_many_threads_are_one(real: Loop) -> None:
    """Stopping is a state, not a count."""
    threads = [threading.Thread(target=real.stop) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    real.run()
    called: list[str] = []
    real.call_soon(lambda: called.append("called"))
    real.call_later(0.001, real.stop)
    real.run()
    assert called == ["called"]


# Other threads ------------------------------------------------------------------------------------------------


def test_calls_from_other_threads_all_arrive_in_order(real: Loop) -> None:
    """Four threads post a thousand calls each while the loop waits and runs; each thread's order is kept."""
    seen: list[tuple[int, int]] = []

    def post(who: int) -> None:
        for number in range(1_000):
            real.call_soon_threadsafe(lambda number=number: seen.append((who, number)))  # type: ignore[misc]
        real.call_soon_threadsafe(done)

    finished: list[None] = []

    def done() -> None:
        finished.append(None)
        if len(finished) == 4:
            real.stop()

    threads = [threading.Thread(target=post, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    real.run()
    for thread in threads:
        thread.join()
    assert len(seen) == 4_000
    for who in range(4):
        assert [number for each, number in seen if each == who] == list(range(1_000))


def test_posted_callbacks_come_from_a_snapshot(loop: Loop, fake: FakeBackend) -> None:
    """What a posted callback posts waits for the next iteration, which then does not wait."""
    called: list[str] = []

    def outer() -> None:
        called.append("outer")
        loop.call_soon_threadsafe(lambda: called.append("inner"))

    loop.call_soon_threadsafe(outer)
    loop.run_once()
    assert (called, fake.waits) == (["outer"], [0])
    loop.run_once(0)
    assert called == ["outer", "inner"]


def test_a_call_posted_by_a_signal_handler_anywhere_is_not_lost(loop: Loop, fake: FakeBackend) -> None:
    """A signal may strike between any two instructions of step 2; what its handler posts there runs soon."""
    if not hasattr(Iteration._run_posted, "__code__"):
        pytest.skip("a compiled step has no instructions that a signal could strike between")
    called: list[str] = []
    seen = 0
    target = 0

    def strike(_frame: FrameType, event: str, _argument: object) -> object:
        nonlocal seen
        if event == "opcode":
            seen += 1
            if seen == target:
                loop.call_soon_threadsafe(lambda: called.append("signal"))
        return strike

    def trace(frame: FrameType, _event: str, _argument: object) -> object:
        if frame.f_code.co_name not in {"_run_posted", "collect"}:
            return None
        frame.f_trace = strike  # 3.13 wants it before the next line
        frame.f_trace_opcodes = True
        return strike

    outer = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # from 3.12 on some frame has to want it before settrace
    while True:
        seen = 0
        target += 1
        called.clear()
        loop.call_soon_threadsafe(lambda: called.append("thread"))
        sys.settrace(trace)  # type: ignore[arg-type]
        try:
            loop.run_once(1)
        finally:
            sys.settrace(outer)
        if seen < target:
            break
        if len(called) < 2:
            assert fake.waits[-1] == 0, f"waited for a call that was there, from instruction {target} on"
            loop.run_once(0)
        assert sorted(called) == ["signal", "thread"], f"struck at instruction {target}"
    assert target > 10


# Exceptions ---------------------------------------------------------------------------------------------------


def test_an_exception_of_any_callback_goes_to_the_handler(loop: Loop, fake: FakeBackend, errors: Errors) -> None:
    """Deferred, posted, timer, event and idle: each is told with its owner, and everything else still runs."""
    called: list[str] = []

    def fail_event(_events: int) -> None:
        fail()

    loop.call_soon(fail)
    loop.call_soon(lambda: called.append("deferred"))
    loop.call_soon_threadsafe(fail)
    loop.call_soon_threadsafe(lambda: called.append("posted"))
    timer = loop.call_later(0, fail)
    loop.call_later(0, lambda: called.append("timer"))
    watcher = loop.register(3, READ, fail_event)
    loop.register(4, READ, lambda _events: called.append("event"))
    fake.put(3, READ)
    fake.put(4, READ)
    loop.run_once()
    loop.add_idle(fail)
    loop.add_idle(lambda: called.append("idle"))
    loop.run_once(0)
    assert called == ["deferred", "posted", "timer", "event", "idle"]
    assert [type(error) for error, _ in errors] == [RuntimeError] * 5
    assert [owner for _, owner in errors] == [fail, fail, timer, watcher, fail]


def test_the_loop_goes_on_after_an_exception(loop: Loop, errors: Errors) -> None:
    """One failing interval does not end `run`."""
    loop.call_every(0.010, fail)
    loop.call_later(0.055, loop.stop)
    loop.run()
    assert len(errors) == 5


def test_the_default_handler_logs_with_traceback(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    """The logger is nimloop.core, the record carries the exception and names the owner."""
    assert loop.exception_handler is log_exception
    loop.call_soon(fail)
    loop.run_once(0)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("nimloop.core", logging.ERROR)
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], RuntimeError)
    assert "fail" in record.getMessage()
    caplog.clear()


def test_a_handler_that_fails_itself_is_logged(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    """Not even a bad exception handler ends the loop."""

    def bad(error: Exception, owner: object) -> None:
        raise LookupError

    loop.exception_handler = bad
    assert loop.exception_handler is bad
    called: list[str] = []
    loop.call_soon(fail)
    loop.call_soon(lambda: called.append("called"))
    loop.run_once(0)
    assert called == ["called"]
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is LookupError
    caplog.clear()


@pytest.mark.parametrize("kind", ["deferred", "posted", "timer", "event", "idle"])
def test_a_base_exception_leaves_run_and_loses_nothing(kind: str, loop: Loop, fake: FakeBackend) -> None:
    """After Ctrl+C in any callback the loop is not running, can be run again, and does what was left."""
    called: list[str] = []
    schedule: dict[str, Callable[[Callable[[], object]], object]] = {
        "deferred": loop.call_soon,
        "posted": loop.call_soon_threadsafe,
        "timer": lambda callback: loop.call_later(0, callback),
        "event": lambda callback: None,
        "idle": loop.add_idle,
    }
    schedule[kind](interrupt)
    for name, add in schedule.items():
        add(lambda name=name: called.append(name))  # type: ignore[misc]
    watcher = loop.register(3, READ, lambda _events: interrupt() if kind == "event" else called.append("event"))
    if kind == "event":
        fake.put(3, READ)
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    assert not loop.running
    watcher.unregister()
    if kind == "idle":
        for handler in list(loop._idle)[:1]:
            handler.cancel()
    loop.run_once(0)
    expected = {"deferred", "posted", "timer", "idle"}
    assert set(called) == expected
    assert len(called) == len(expected)


def test_a_base_exception_forgets_the_stop(loop: Loop, fake: FakeBackend) -> None:
    """A stop that was meant for the interrupted run does not stop the next one."""
    loop.call_soon(loop.stop)
    loop.call_soon(interrupt)
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    loop.run_once(1)
    loop.run_once(1)
    assert fake.waits[-1] == 1_000_000_000


# Registries change while they are walked ----------------------------------------------------------------------


def test_every_registry_may_be_changed_from_every_callback(loop: Loop, fake: FakeBackend, errors: Errors) -> None:
    """Each kind of callback adds and cancels all kinds, for a hundred iterations."""
    chance = random.Random(5)
    timers: list[Timer] = []
    idles: list[IdleHandler] = []
    watchers: dict[int, Watcher] = {}
    calls = 0

    def shake(_events: int = 0) -> None:
        nonlocal calls
        calls += 1
        if calls < 20_000 and len(loop._deferred) < 20:
            loop.call_soon(shake)
        timers.append(loop.call_later(chance.random() / 100, shake))
        idles.append(loop.add_idle(shake))
        for pool in (timers, idles):
            while len(pool) > 20:
                pool.pop(chance.randrange(20)).cancel()
        fd = chance.randrange(100)
        if fd in watchers:
            watchers.pop(fd).unregister()
        else:
            watchers[fd] = loop.register(fd, READ, shake)
        for _ in range(3):
            fake.put(chance.randrange(100), READ)

    loop.call_soon(shake)
    for _ in range(100):
        loop.run_once(0.001)
    assert calls > 1_000
    assert errors == []
    assert len(loop._watchers) == len(watchers)


# Closing ------------------------------------------------------------------------------------------------------


def test_closing_closes_only_the_descriptors_of_the_loop(
    native: str, make_pair: Callable[[], Pair], descriptors: Callable[[], set[str]]
) -> None:
    """What was registered stays open and usable, and the standard descriptors are not touched."""
    near, far = make_pair()
    before = descriptors()
    loop = Loop(native)
    opened = descriptors() - before
    assert opened or not sys.platform.startswith("linux")
    assert not opened & {"0", "1", "2"}
    loop.register(near, READ, ignore)
    loop.run_once(0)
    loop.close()
    assert descriptors() == before
    far.send(b"still open")
    assert near.recv(100) == b"still open"


def test_closing_twice_does_not_close_what_has_taken_the_numbers(native: str) -> None:
    """After `close` its numbers belong to others."""
    loop = Loop(native)
    loop.close()
    ends = [os.pipe() for _ in range(4)]
    loop.close()
    loop.stop()
    for reader, writer in ends:
        os.write(writer, b"x")
        assert os.read(reader, 1) == b"x"
        os.close(reader)
        os.close(writer)


def test_a_closed_descriptor_whose_number_was_taken_survives_unregister(
    real: Loop, make_stream: Callable[[], tuple[int, int]]
) -> None:
    """Close before unregister is a mistake, but never one that closes the new owner's descriptor."""
    reader, _writer = make_stream()
    watcher = real.register(reader, READ, ignore)
    os.close(reader)
    taken, writer = os.pipe()
    assert taken == reader
    watcher.unregister()
    real.run_once(0)
    os.write(writer, b"x")
    assert os.read(taken, 1) == b"x"
    os.close(taken)
    os.close(writer)


def test_a_running_loop_cannot_be_closed_or_run_again(loop: Loop, errors: Errors) -> None:
    """Neither `close` nor `run` nor `run_once` from inside a callback; the loop goes on."""
    seen: list[bool] = []
    for call in (loop.close, loop.run, loop.run_once):
        loop.call_soon(call)
    loop.call_soon(lambda: seen.append(loop.running))
    assert not loop.running
    loop.run_once(0)
    assert [type(error) for error, _ in errors] == [LoopRunningError] * 3
    assert seen == [True]
    assert not loop.closed
    assert not loop.running


def test_everything_is_refused_after_close(fake: FakeBackend, clock: FakeClock) -> None:
    """Nothing crashes, nothing is silently dropped; stopping and cancelling are harmless."""
    with Loop(fake, clock=clock) as loop:
        timer, paused = loop.call_later(1, ignore), loop.call_later(1, ignore)
        paused.pause()
        watcher = loop.register(3, READ, ignore)
        idle = loop.add_idle(ignore)
        loop.call_soon(lambda: loop.call_soon(interrupt))
        loop.call_soon_threadsafe(interrupt)
    assert loop.closed
    refused: list[Callable[[], object]] = [
        loop.run,
        loop.run_once,
        lambda: loop.call_soon(ignore),
        lambda: loop.call_soon_threadsafe(ignore),
        lambda: loop.call_later(1, ignore),
        lambda: loop.call_at(1, ignore),
        lambda: loop.call_every(1, ignore),
        lambda: loop.add_idle(ignore),
        lambda: loop.add_signal_handler(USER_SIGNAL, ignore),
        lambda: loop.register(3, READ, ignore),
        paused.resume,
    ]
    for call in refused:
        with pytest.raises(LoopClosedError):
            call()
    with pytest.raises(NotRegisteredError):
        watcher.modify(READ)
    for harmless in (loop.stop, loop.close, timer.cancel, paused.cancel, watcher.unregister, idle.cancel):
        harmless()
    assert (timer.active, watcher.active, fake.interest) == (False, False, {})


def test_closing_runs_what_is_queued_once(fake: FakeBackend, clock: FakeClock) -> None:
    """What was queued before is heard, even when one of the callbacks leaves by Ctrl+C; then the loop is closed."""
    heard: list[int] = []
    loop = Loop(fake, clock=clock)
    loop.call_soon(lambda: heard.append(1))
    loop.call_soon(lambda: loop.call_soon(lambda: heard.append(3)))
    loop.call_soon(lambda: heard.append(2))
    loop.call_soon(interrupt)
    with pytest.raises(KeyboardInterrupt):
        loop.close()
    assert loop.closed
    assert heard == [1, 2]


def test_closing_while_threads_post_and_stop(native: str) -> None:
    """A thread that is too late gets LoopClosedError, and no wake-up goes to a closed descriptor."""
    for _ in range(20):
        loop = Loop(native)
        refused = threading.Event()

        def post(loop: Loop = loop, refused: threading.Event = refused) -> None:
            try:
                while True:
                    loop.stop()
                    loop.call_soon_threadsafe(ignore)
            except LoopClosedError:
                refused.set()

        thread = threading.Thread(target=post)
        thread.start()
        loop.run()
        loop.close()
        thread.join()
        assert refused.is_set()


# Arguments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [-1, -1e-9, math.nan, math.inf, -math.inf, 1e12])
def test_delays_that_make_no_sense_are_refused(delay: float, loop: Loop) -> None:
    """Negative, NaN, infinite or absurd: DelayError, which is a ValueError, and nothing is scheduled."""
    for call in (
        lambda: loop.call_later(delay, ignore),
        lambda: loop.call_every(delay, ignore),
        lambda: loop.run_once(delay),
    ):
        with pytest.raises(DelayError):
            call()
    assert "timers=0" in repr(loop)


@pytest.mark.parametrize("when", [math.nan, math.inf, 1e12])
def test_times_that_make_no_sense_are_refused(when: float, loop: Loop) -> None:
    """A NaN is not the past."""
    with pytest.raises(DelayError):
        loop.call_at(when, ignore)


def test_an_interval_of_zero_is_refused(loop: Loop) -> None:
    """It would never let go of the processor."""
    with pytest.raises(DelayError):
        loop.call_every(0, ignore)


def test_delays_have_to_be_numbers(loop: Loop) -> None:
    """A text is a TypeError, as anywhere in Python."""
    with pytest.raises(TypeError):
        loop.call_later("1", ignore)  # type: ignore[arg-type]


def test_callbacks_have_to_be_callable(loop: Loop) -> None:
    """Told when it is handed over, not when it would be called."""
    calls: list[Callable[[Callable[[], object]], object]] = [
        loop.call_soon,
        loop.call_soon_threadsafe,
        loop.add_idle,
        lambda callback: loop.call_later(0, callback),
        lambda callback: loop.call_at(0, callback),
        lambda callback: loop.call_every(1, callback),
        lambda callback: loop.add_signal_handler(USER_SIGNAL, callback),
        lambda callback: loop.register(3, READ, callback),  # type: ignore[arg-type]
    ]
    for call in calls:
        with pytest.raises(TypeError):
            call(None)  # type: ignore[arg-type]


def test_call_at_is_on_the_scale_of_time(loop: Loop, clock: FakeClock) -> None:
    """In the future at that time, in the past as soon as possible."""
    fired: list[str] = []
    timer = loop.call_at(loop.time() + 2, lambda: fired.append("future"))
    loop.call_at(loop.time() - 5, lambda: fired.append("past"))
    loop.call_at(-math.inf, lambda: fired.append("long ago"))
    assert timer.deadline == pytest.approx(loop.time() + 2)
    loop.run_once(0)
    assert fired == ["past", "long ago"]
    loop.call_at(loop.time() + 0.5, lambda: fired.append("near"))
    clock.advance(0.499)
    loop.run_once(0)
    assert fired == ["past", "long ago"]
    clock.advance(0.002)
    loop.run_once(0)
    assert fired == ["past", "long ago", "near"]
    clock.advance(1.5)
    loop.run_once(0)
    assert fired == ["past", "long ago", "near", "future"]


def test_call_every_first_comes_after_one_interval(loop: Loop) -> None:
    """Then at a fixed rate."""
    start = loop.time()
    fired: list[int] = []
    loop.call_every(0.5, lambda: fired.append(round((loop.time() - start) * 1000)))
    loop.call_later(2.2, loop.stop)
    loop.run()
    assert fired == [500, 1000, 1500, 2000]


def test_running_is_what_happens_inside_run(loop: Loop) -> None:
    """Not before, not after, and also within one iteration."""
    seen = [loop.running]
    loop.call_soon(lambda: seen.append(loop.running))
    loop.run_once(0)
    seen.append(loop.running)
    loop.call_soon(lambda: seen.append(loop.running))
    loop.call_soon(loop.stop)
    loop.run()
    seen.append(loop.running)
    assert seen == [False, True, False, True, False]


def test_a_loop_shows_its_state(fake: FakeBackend, clock: FakeClock) -> None:
    """`repr` tells idle, running or closed, the backend, and how many timers are active."""
    loop = Loop(fake, clock=clock)
    shown: list[str] = [repr(loop)]
    loop.call_later(0, lambda: shown.append(repr(loop)))
    loop.call_later(9, ignore)
    loop.run_once(0)
    loop.close()
    shown.append(repr(loop))
    assert shown == [
        "<Loop idle backend=fake timers=0>",
        "<Loop running backend=fake timers=1>",
        "<Loop closed backend=fake timers=0>",
    ]
    assert loop.backend == "fake"


def test_the_read_buffer_is_writable_and_large(loop: Loop) -> None:
    """One buffer of 64 KiB serves all reads of a loop."""
    assert len(loop.read_buffer) == 65_536
    assert not loop.read_buffer.readonly


# On real time -------------------------------------------------------------------------------------------------


def test_timers_are_never_early_on_a_real_clock(real: Loop) -> None:
    """Measured with monotonic_ns; how late they are depends on the machine and is not measured."""
    early: list[int] = []
    left = 40

    def arm(number: int) -> None:
        delay = number * 0.000_37
        born = time.monotonic_ns()

        def fired() -> None:
            nonlocal left
            left -= 1
            if time.monotonic_ns() < born + delay * 1e9:
                early.append(number)
            if not left:
                real.stop()

        real.call_later(delay, fired)

    for number in range(left):
        arm(number)
    real.run()
    assert early == []


def test_five_thousand_timers_and_descriptors_together(
    real: Loop, make_stream: Callable[[], tuple[int, int]], allow_descriptors: Callable[[int], None]
) -> None:
    """Many of both, in one loop: every timer fires, every descriptor reports, each exactly once."""
    allow_descriptors(10_000)
    fired: list[int] = []
    seen: list[int] = []

    def stop_after_all() -> None:
        if len(fired) >= 5_000 and len(seen) >= 5_000:
            real.call_later(0.002, real.stop)  # whoever would be called twice has time to show it

    def on_timer(number: int) -> None:
        fired.append(number)
        stop_after_all()

    def on_event(near: int, number: int, _events: int) -> None:
        os.read(near, 1)
        seen.append(number)
        stop_after_all()

    for number in range(5_000):
        real.call_later(0.001 * (number % 10), partial(on_timer, number))
        near, far = make_stream()
        os.write(far, b"x")
        real.register(near, READ, partial(on_event, near, number))
    real.call_later(30.0, real.stop)  # for the case that something is missing
    real.run()
    assert sorted(fired) == list(range(5_000))
    assert sorted(seen) == list(range(5_000))


# Memory -------------------------------------------------------------------------------------------------------


class Target:
    """A callback that can be watched as it goes."""

    def __call__(self, _events: int = 0) -> None:
        """Do nothing."""


@pytest.fixture
def no_gc() -> Iterator[None]:
    """Show what the garbage collector would hide."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.usefixtures("no_gc")
def test_callbacks_are_freed_once_they_are_done(real: Loop, make_pair: Callable[[], Pair]) -> None:
    """Deferred, posted, timer, idle and watcher: an iteration after its end nothing refers to a callback."""
    near, _far = make_pair()
    targets = [Target() for _ in range(6)]
    references = [weakref.ref(target) for target in targets]
    real.call_soon(targets[0])
    real.call_soon_threadsafe(targets[1])
    real.call_later(0, targets[2])
    real.call_later(0.002, real.stop)
    real.call_later(9, targets[3]).cancel()
    idle = real.add_idle(targets[4])
    watcher = real.register(near, READ, targets[5])
    real.run()
    idle.cancel()
    watcher.unregister()
    real.run_once(0)
    del idle
    targets.clear()
    assert [reference() for reference in references] == [None] * 6


@pytest.mark.interpreted
@pytest.mark.usefixtures("no_gc")
def test_a_closed_loop_is_freed_at_once(native: str, make_pair: Callable[[], Pair]) -> None:
    """No cycle keeps a loop alive that was closed, nor the callbacks it had."""
    near, far = make_pair()
    target = Target()
    loop = Loop(native)
    loop.register(near, READ | WRITE, target)
    far.send(b"x")
    loop.call_every(0.001, target)
    loop.call_later(50, target)
    loop.add_idle(target)
    handler = loop.add_signal_handler(USER_SIGNAL, target)
    loop.call_soon(target)
    loop.run_once(0.01)
    loop.call_soon(target)
    loop.call_soon_threadsafe(target)
    loop.close()
    target_reference, loop_reference = weakref.ref(target), weakref.ref(loop)
    del handler, target, loop
    assert target_reference() is None
    assert loop_reference() is None


@pytest.mark.usefixtures("no_gc")
def test_iterations_leave_nothing_behind(real: Loop, make_pair: Callable[[], Pair]) -> None:
    """A thousand iterations with timers, events, registrations and failures need no more memory than a hundred."""
    near, far = make_pair()
    far.send(b"x")
    real.exception_handler = lambda error, owner: None

    def work(rounds: int) -> None:
        for _ in range(rounds):
            watcher = real.register(near, READ, ignore)
            timer = real.call_later(5, ignore)
            real.call_later(0, fail)
            real.call_soon(ignore)
            real.call_soon_threadsafe(ignore)
            idle = real.add_idle(ignore)
            real.run_once(0)
            watcher.modify(READ | WRITE)
            real.run_once(0)
            watcher.unregister()
            timer.cancel()
            idle.cancel()
            real.run_once(0)

    work(200)
    objects = len(gc.get_objects())
    tracemalloc.start()
    try:
        before = tracemalloc.take_snapshot()
        work(1_000)
        after = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    grown = sum(each.size_diff for each in after.compare_to(before, "filename") if "nimloop" in str(each.traceback))
    assert grown < 30_000
    # The wheel makes a slot when time gets there; a thousand of anything else would be a leak.
    assert len(gc.get_objects()) - objects < 900


# Against asyncio ----------------------------------------------------------------------------------------------


class VirtualSelector(selectors.SelectSelector):
    """Let asyncio's time pass as a FakeBackend does."""

    now = 0.0

    # A SelectorKey holds an Any.
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:  # type: ignore[explicit-any]
        """Let the time pass."""
        assert timeout is not None, "deadlock"
        self.now += max(0.0, timeout)
        return []


class VirtualAsyncio(asyncio.SelectorEventLoop):
    """asyncio on virtual time."""

    def __init__(self) -> None:
        self.selector = VirtualSelector()
        super().__init__(self.selector)

    def time(self) -> float:
        """Return the time of the selector."""
        return self.selector.now


@pytest.mark.parametrize("seed", range(10))
def test_a_program_does_in_asyncio_what_it_does_here(seed: int, loop: Loop) -> None:
    """Timers and deferred callbacks that make and cancel others run in the same order in both loops.

    The deadlines are whole milliseconds and all different: asyncio does not promise an order among equals.
    """
    there = VirtualAsyncio()

    def program(
        later: Callable[[float, Callable[[], object]], object], soon: Callable[[Callable[[], object]], object]
    ) -> list[str]:
        chance = random.Random(seed)
        log: list[str] = []
        handles: list[object] = []
        count = 0

        def spawn(delay: int) -> None:
            nonlocal count
            count += 1
            name = f"t{count}"

            def fired() -> None:
                log.append(name)
                soon(lambda: log.append(f"soon after {name}"))
                # Each callback adds at its own power of the grid, so that no two deadlines meet.
                for _ in range(chance.randrange(3)):
                    if count < 200:
                        spawn(chance.randrange(1, 50_000) * 1_000 + count)
                if handles and chance.random() < 0.3:
                    chance.choice(handles).cancel()  # type: ignore[attr-defined]

            handles.append(later(delay / 1000, fired))

        for number in range(20):
            spawn(chance.randrange(1, 50_000) * 1_000 + number)
        return log

    theirs = program(there.call_later, there.call_soon)
    there.call_later(10_000_000, there.stop)
    there.run_forever()
    there.close()
    ours = program(loop.call_later, loop.call_soon)
    with pytest.raises(DeadlockError):
        loop.run()
    assert ours == theirs
    assert len(ours) > 40


# The README ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", available())
def test_ctrl_c_stops_a_program_cleanly(name: str) -> None:
    """A program that handles SIGINT by stopping the loop ends with status 0 and nothing on stderr."""
    program = (
        "import signal, sys\n"
        "from nimloop_core import Loop\n"
        "with Loop(sys.argv[1]) as loop:\n"
        "    loop.add_signal_handler(signal.SIGINT, loop.stop)\n"
        "    loop.call_soon(lambda: print('ready', flush=True))\n"
        "    loop.run()\n"
        "print('stopped')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program, name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "stopped\n", "")
