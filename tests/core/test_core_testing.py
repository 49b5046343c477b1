"""The fakes that other tests rely on have to behave like the real thing."""

from __future__ import annotations

import pytest

from nimloop_core import ERROR, HUP, READ, WRITE, DelayError, Loop
from nimloop_core.testing import DeadlockError, FakeBackend, FakeClock


def test_the_clock_stands_still_until_told() -> None:
    """Seconds and nanoseconds move it, never back."""
    clock = FakeClock(1.5)
    assert [clock(), clock()] == [1_500_000_000] * 2
    clock.advance(0.25)
    clock.advance_ns(7)
    assert clock() == 1_750_000_007
    with pytest.raises(DelayError):
        clock.advance(-1)
    with pytest.raises(DelayError):
        FakeClock(-1)
    assert clock() == 1_750_000_007


def test_a_year_passes_in_an_instant(loop: Loop, clock: FakeClock) -> None:
    """Waiting moves the clock and takes no time."""
    start = clock()
    loop.call_later(365 * 86_400, loop.stop)
    loop.run()
    assert 0 <= clock() - start - 365 * 86_400 * 10**9 < 10**6


def test_waiting_for_ever_is_told(loop: Loop) -> None:
    """A test that would hang fails instead."""
    with pytest.raises(DeadlockError):
        loop.run()
    assert issubclass(DeadlockError, AssertionError)


def test_events_come_in_the_order_they_were_put(loop: Loop, fake: FakeBackend, clock: FakeClock) -> None:
    """In one batch, without time passing."""
    seen: list[tuple[int, int]] = []
    for fd in (3, 4):
        loop.register(fd, READ | WRITE, lambda events, fd=fd: seen.append((fd, events)))  # type: ignore[misc]
    fake.put(4, READ)
    fake.put(3, WRITE | HUP)
    fake.put(4, WRITE)
    before = clock()
    loop.run_once(5)
    assert seen == [(4, READ), (3, WRITE | HUP), (4, WRITE)]
    assert clock() == before


def test_an_event_put_by_a_callback_comes_in_the_next_batch(loop: Loop, fake: FakeBackend) -> None:
    """As it would from a kernel."""
    seen: list[int] = []

    def again(events: int) -> None:
        seen.append(events)
        fake.put(3, READ)

    loop.register(3, READ, again)
    fake.put(3, READ)
    loop.run_once(0)
    assert seen == [READ]
    loop.run_once(0)
    assert seen == [READ, READ]


@pytest.mark.parametrize(
    ("interest", "put", "told"),
    [
        (READ, READ | WRITE, [READ]),
        (READ, WRITE, []),
        (READ, WRITE | HUP, [HUP]),
        (WRITE, ERROR, [ERROR]),
        (0, READ | HUP | ERROR, []),
    ],
)
def test_only_what_is_wanted_is_told(interest: int, put: int, told: list[int], loop: Loop, fake: FakeBackend) -> None:
    """ERROR and HUP come unasked, as long as there is any interest at all."""
    seen: list[int] = []
    loop.register(3, interest, seen.append)
    fake.put(3, put)
    fake.put(99, READ)  # nobody's
    loop.run_once(0)
    assert seen == told


def test_a_wake_up_ends_one_wait(loop: Loop, fake: FakeBackend, clock: FakeClock) -> None:
    """Without an event, and without time passing."""
    before = clock()
    fake.wake()
    loop.run_once(5)
    assert clock() == before
    loop.run_once(5)
    assert clock() == before + 5 * 10**9
    assert fake.waits == [5 * 10**9] * 2


def test_closing_forgets_interest_and_events(loop: Loop, fake: FakeBackend) -> None:
    """A closed fake is as empty as a new one."""
    loop.register(3, READ, lambda _events: None)
    fake.put(3, READ)
    loop.close()
    assert fake.interest == {}
    assert fake._events == []
