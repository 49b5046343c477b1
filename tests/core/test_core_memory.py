"""What a loop leaves behind: nothing, whatever it is asked for, without the garbage collector's help."""

from __future__ import annotations

import gc
import signal
import socket
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from nimloop_core import READ, WRITE, Deadline, Loop
from nimloop_core.testing import FakeBackend

ROUNDS = 500
SPARE_BYTES = 12 * ROUNDS  # for lists and dicts that grow meanwhile; the smallest object of all has 16
SPARE_OBJECTS = ROUNDS // 50

Pair = tuple[socket.socket, socket.socket]
Work = Callable[[Loop, socket.socket], None]


def ignore(_events: int = 0) -> None:
    """Do nothing."""


def fail(_events: int = 0) -> None:
    """Raise what goes to the exception handler."""
    raise RuntimeError("fail")


# What is done over and over, each with a loop and a socket that is ready. -------------------------------------


def iteration(loop: Loop, _near: socket.socket) -> None:
    """Find nothing to do."""
    loop.run_once(0)


def call_soon(loop: Loop, _near: socket.socket) -> None:
    """Queue a callback, and one that fails."""
    loop.call_soon(lambda: None)
    loop.call_soon(fail)
    loop.run_once(0)


def call_soon_threadsafe(loop: Loop, _near: socket.socket) -> None:
    """Queue callbacks that wake the loop up."""
    loop.call_soon_threadsafe(lambda: None)
    loop.call_soon_threadsafe(fail)
    loop.run_once(0)


def timer_that_fires(loop: Loop, _near: socket.socket) -> None:
    """Fire one timer, and one that fails."""
    timers = [loop.call_later(0, lambda: None), loop.call_later(0, fail)]
    while timers[0].active or timers[1].active:
        loop.run_once(0.001)


def timer_that_is_cancelled(loop: Loop, _near: socket.socket) -> None:
    """Take a timer through all it can do, in a slot that outlives it."""
    timer = loop.call_later(3_600, ignore)
    timer.reschedule(7_200)
    timer.pause()
    timer.resume()
    timer.cancel()
    loop.run_once(0)


def interval(loop: Loop, _near: socket.socket) -> None:
    """Fire once and cancel from inside."""
    timer = loop.call_every(0.0001, lambda: timer.cancel())  # noqa: PLW0108 - it does not exist yet
    while timer.active:
        loop.run_once(0.001)


def deadline(loop: Loop, _near: socket.socket) -> None:
    """Let one pass that was pushed back, then clear and cancel it."""
    passed: list[int] = []
    patience = Deadline(loop, lambda: passed.append(1))
    patience.set(0)
    patience.set(0.0001)
    while not passed:
        loop.run_once(0.001)
    patience.set(3_600)
    patience.clear()
    patience.cancel()


def watcher(loop: Loop, near: socket.socket) -> None:
    """Register, be told, change interest, and unregister from inside."""
    watching = loop.register(near, READ, lambda _events: watching.modify(READ | WRITE))
    loop.run_once(0.001)
    watching.unregister()
    ends = loop.register(near, READ, lambda _events: ends.unregister())
    loop.run_once(0.001)
    while ends.active:
        loop.run_once(0.001)


def watcher_that_fails(loop: Loop, near: socket.socket) -> None:
    """Tell the exception handler."""
    watching = loop.register(near, READ, fail)
    loop.run_once(0.001)
    watching.unregister()
    loop.run_once(0)


def edges(loop: Loop, near: socket.socket) -> None:
    """The same as an edge, where there are any."""
    watching = loop.register(near, READ | WRITE, ignore, edge=True)
    loop.run_once(0.001)
    watching.modify(0)
    watching.modify(WRITE)
    watching.unregister()
    loop.run_once(0)


def idle(loop: Loop, _near: socket.socket) -> None:
    """Cancel from inside."""
    handler = loop.add_idle(lambda: handler.cancel())  # noqa: PLW0108 - it does not exist yet
    loop.run_once(0)


def signal_handler(loop: Loop, _near: socket.socket) -> None:
    """Handle one signal, with a handler that ends itself."""
    handler = loop.add_signal_handler(signal.SIGTERM, lambda: handler.cancel())  # noqa: PLW0108 - it does not exist yet
    signal.raise_signal(signal.SIGTERM)
    loop.run_once(0.001)
    handler.cancel()


def buffer(loop: Loop, _near: socket.socket) -> None:
    """Borrow two, one of which is kept."""
    lent = [loop.buffers.acquire() for _ in range(2)]
    for each in lent:
        loop.buffers.release(each)


def statistics(loop: Loop, _near: socket.socket) -> None:
    """Look, and do not keep."""
    assert loop.stats.backend in repr(loop)
    loop.next_deadline()


WITH_KERNEL = (call_soon, call_soon_threadsafe, edges, iteration, signal_handler, watcher, watcher_that_fails)
WITHOUT = (buffer, call_soon, deadline, idle, interval, statistics, timer_that_fires, timer_that_is_cancelled)


@pytest.fixture
def no_gc() -> Iterator[None]:
    """Show what the garbage collector would hide."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
        gc.enable()


def held() -> int:
    """Return how many bytes are in use, without what the stand-ins write down about the tests."""
    files = (tracemalloc.__file__, "*iocp_model.py", "*kqueue_standin.py", "*conftest.py")
    others = [tracemalloc.Filter(inclusive=False, filename_pattern=file) for file in files]
    return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces(others).traces)


def nothing_grows(loop: Loop, near: socket.socket, work: Work) -> None:
    """Work, and compare with what there was after a warm-up: bytes, objects, and objects in cycles."""
    loop.exception_handler = lambda error, owner: None
    for _ in range(ROUNDS // 2):
        work(loop, near)
    held()  # what it needs the first time, such as compiled patterns
    gc.collect()
    before, objects = held(), len(gc.get_objects())
    for _ in range(ROUNDS):
        work(loop, near)
    after = held()
    assert gc.collect() == 0
    assert after - before < SPARE_BYTES
    assert len(gc.get_objects()) - objects < SPARE_OBJECTS


@pytest.mark.usefixtures("no_gc")
@pytest.mark.parametrize("work", WITH_KERNEL)
def test_nothing_grows_with_a_kernel(work: Work, real: Loop, make_pair: Callable[[], Pair]) -> None:
    """Round after round leaves no bytes, no objects and no cycles, on any backend."""
    near, far = make_pair()
    far.send(b"x")
    nothing_grows(real, near, work)


@pytest.mark.usefixtures("no_gc")
@pytest.mark.parametrize("work", WITHOUT)
def test_nothing_grows_on_virtual_time(work: Work, loop: Loop, fake: FakeBackend) -> None:
    """Nor does what needs no kernel."""

    def round_(loop: Loop, near: socket.socket) -> None:
        work(loop, near)
        fake.waits.clear()  # which remembers every wait

    with socket.socket() as near:
        nothing_grows(loop, near, round_)


@pytest.mark.usefixtures("no_gc")
def test_loops_leave_nothing_behind(native: str) -> None:
    """Not even loops that were closed with all they had, by callbacks that know them."""

    def live() -> None:
        with Loop(native) as loop:
            timer = loop.call_later(3_600, lambda: timer.cancel())  # noqa: PLW0108 - it does not exist yet
            loop.add_idle(loop.stop)
            loop.add_signal_handler(signal.SIGTERM, loop.stop)
            loop.call_soon(loop.stop)
            loop.call_soon_threadsafe(loop.stop)
            loop.run()

    for _ in range(20):
        live()
    held()
    gc.collect()
    before = held()
    for _ in range(40):
        live()
    after = held()
    assert gc.collect() == 0
    assert after - before < 65_536  # one read buffer
