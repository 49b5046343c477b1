"""Watchers: the table by examples, then random lives of descriptors against a model.

`NIMLOOP_SOAK_OPERATIONS=1000000 pytest tests/core/test_core_watchers.py -k soak` runs the model for longer.
"""

from __future__ import annotations

import gc
import os
import random
import socket
import weakref
from collections.abc import Callable
from itertools import count
from typing import ClassVar, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.core import stand_ins
from tests.core.interrupting import CtrlC
from tests.core.portable import duplicate

from nimloop_core import (
    ERROR,
    HUP,
    READ,
    WRITE,
    AlreadyRegisteredError,
    Backend,
    Loop,
    NotRegisteredError,
    Watcher,
    WatcherTable,
)
from nimloop_core.testing import FakeBackend, FakeClock

Pair = tuple[socket.socket, socket.socket]
MakePair = Callable[[], Pair]
Errors = list[tuple[Exception, object]]
SOAK_OPERATIONS = int(os.environ.get("NIMLOOP_SOAK_OPERATIONS", "5000"))


def ignore(_events: int) -> None:
    """Do nothing."""


# Registration -------------------------------------------------------------------------------------------------


def test_a_watcher_tells_what_it_watches(loop: Loop, fake: FakeBackend) -> None:
    """Descriptor, interest, edge and whether it is registered; the backend knows the same."""
    watcher = loop.register(200, READ | WRITE, ignore, edge=True)
    assert (watcher.fd, watcher.events, watcher.edge, watcher.active) == (200, READ | WRITE, True, True)
    assert fake.interest == {200: READ | WRITE}
    assert "fd=200 active" in repr(watcher)
    watcher.unregister()
    assert not watcher.active
    assert fake.interest == {}
    assert "fd=200 unregistered" in repr(watcher)


def test_edge_is_what_the_backend_can_do(clock: FakeClock) -> None:
    """Asked for in vain, it is False, and the caller can tell."""
    with Loop(FakeBackend(clock, edge=False), clock=clock) as loop:
        assert not loop.register(3, READ, ignore, edge=True).edge
        assert not loop.register(4, READ, ignore).edge


def test_an_object_with_fileno_will_do(loop: Loop, make_pair: Callable[[], Pair]) -> None:
    """A socket is taken for its descriptor."""
    near, _ = make_pair()
    assert loop.register(near, READ, ignore).fd == near.fileno()


def test_one_descriptor_has_one_watcher(loop: Loop, fake: FakeBackend) -> None:
    """A second one is refused and leaves the first as it was."""
    watcher = loop.register(3, READ, ignore)
    with pytest.raises(AlreadyRegisteredError):
        loop.register(3, WRITE, ignore)
    assert watcher.active
    assert fake.interest == {3: READ}
    watcher.unregister()
    loop.register(3, WRITE, ignore)
    assert fake.interest == {3: WRITE}


@pytest.mark.parametrize("events", [ERROR, HUP, READ | ERROR, READ | WRITE | ERROR, 16, -1])
def test_only_read_and_write_can_be_asked_for(events: int, loop: Loop, fake: FakeBackend) -> None:
    """ERROR and HUP come unasked; anything else is a mistake, and changes nothing."""
    with pytest.raises(ValueError):
        loop.register(3, events, ignore)
    watcher = loop.register(3, READ, ignore)
    with pytest.raises(ValueError):
        watcher.modify(events)
    assert (watcher.events, fake.interest) == (READ, {3: READ})


def test_a_closed_object_is_refused(loop: Loop) -> None:
    """Its descriptor is −1 by then."""
    end = socket.socket()
    end.close()
    with pytest.raises(ValueError):
        loop.register(end, READ, ignore)


@pytest.mark.parametrize("events", [READ, 0])
def test_a_number_that_is_no_descriptor_is_refused(events: int, real: Loop) -> None:
    """The kernel's own error arrives, and the table has not grown to the size of the number."""
    size = len(real._watchers.slots)
    for number in (1_000_000_000, 1_000_000):
        with pytest.raises(OSError):
            real.register(number, events, ignore)
    assert len(real._watchers.slots) == size


def test_a_high_number_may_wait_for_its_interest(real: Loop, make_stream: Callable[[], tuple[int, int]]) -> None:
    """Registered with 0, a descriptor beyond the table makes it grow, and is silent until it is modified."""
    _reader, writer = make_stream()
    high = duplicate(writer, len(real._watchers.slots))
    seen: list[int] = []
    watcher = real.register(high, 0, seen.append)
    real.run_once(0)
    assert seen == []
    watcher.modify(WRITE)
    real.run_once(0)
    assert seen == [WRITE]
    assert len(real._watchers.slots) > high
    watcher.unregister()
    os.close(high)


def test_a_refused_registration_leaves_no_trace(real: Loop, make_stream: Callable[[], tuple[int, int]]) -> None:
    """A descriptor that was closed can be registered once it is open."""
    reader, writer = make_stream()
    os.close(reader)
    with pytest.raises(OSError):
        real.register(reader, READ, ignore)
    assert len(real._watchers) == 0
    os.dup2(writer, reader)
    watcher = real.register(reader, WRITE, ignore)
    assert len(real._watchers) == 1
    watcher.unregister()
    os.close(reader)


def test_a_failed_modification_changes_nothing(real: Loop, make_stream: Callable[[], tuple[int, int]]) -> None:
    """A descriptor that was closed too early is told by the kernel; the watcher can still be taken away."""
    reader, _writer = make_stream()
    watcher = real.register(reader, READ, ignore)
    os.close(reader)
    with pytest.raises(OSError):
        watcher.modify(READ | WRITE)
    assert (watcher.events, watcher.active) == (READ, True)
    real.run_once(0)
    watcher.modify(0)
    with pytest.raises(OSError):
        watcher.modify(READ)
    watcher.unregister()
    assert not watcher.active


def test_unregistering_is_harmless_when_repeated(loop: Loop, fake: FakeBackend) -> None:
    """Also when the number has a new watcher by then, which stays."""
    old = loop.register(3, READ, ignore)
    old.unregister()
    old.unregister()
    new = loop.register(3, WRITE, ignore)
    for _ in range(5_000):
        old.unregister()
    with pytest.raises(NotRegisteredError):
        old.modify(READ)
    assert new.active
    assert fake.interest == {3: WRITE}


def test_interest_of_none_keeps_the_watcher_but_not_the_kernel(loop: Loop, fake: FakeBackend) -> None:
    """With 0 the backend knows nothing of the descriptor; READ brings it back."""
    watcher = loop.register(3, 0, ignore)
    assert (watcher.active, fake.interest) == (True, {})
    watcher.modify(0)
    for events in (READ, READ, READ | WRITE, WRITE):
        watcher.modify(events)
        assert (watcher.events, fake.interest) == (events, {3: events})
    watcher.modify(0)
    assert (watcher.events, fake.interest) == (0, {})
    watcher.unregister()
    assert not watcher.active


def test_the_table_grows_with_the_descriptors(make_pair: Callable[[], Pair]) -> None:
    """Every number the kernel hands out has a place, and an unknown number has no watcher."""
    clock = FakeClock()
    table = WatcherTable(FakeBackend(clock), lambda error, owner: None)
    assert [table.find(fd) for fd in (-1, 0, 63, 64, 10**9)] == [None] * 5
    made = [table.register(fd, READ, ignore, edge=False) for fd in (0, 63, 64, 1_000, 100_000)]
    assert [table.find(each.fd) for each in made] == made
    assert len(table) == 5
    table.clear()
    assert len(table) == 0
    assert table.retired == []


# Dispatch -----------------------------------------------------------------------------------------------------


def test_no_stale_event_after_unregister(loop: Loop, fake: FakeBackend) -> None:
    """An event of the same batch for a watcher that was just unregistered is not delivered."""
    seen: list[int] = []
    victim = loop.register(4, READ, seen.append)
    loop.register(3, READ, lambda _events: victim.unregister())
    fake.put(3, READ)
    fake.put(4, READ)
    loop.run_once()
    assert seen == []


def test_no_stale_event_for_the_next_owner_of_the_number(loop: Loop, fake: FakeBackend) -> None:
    """Nor for the one registered under the same number meanwhile; the next batch is for it."""
    seen: list[str] = []
    victim = loop.register(4, READ, lambda _events: seen.append("old"))

    def replace(_events: int) -> None:
        if victim.active:
            victim.unregister()
            loop.register(4, READ, lambda _events: seen.append("new"))

    loop.register(3, READ, replace)
    fake.put(3, READ)
    fake.put(4, READ)
    loop.run_once()
    assert seen == []
    fake.put(4, READ)
    loop.run_once()
    assert seen == ["new"]


@pytest.mark.parametrize(("events", "stale"), [(0, READ), (WRITE, READ), (WRITE, READ | WRITE), (READ, WRITE)])
def test_no_stale_event_after_interest_was_taken_away(events: int, stale: int, loop: Loop, fake: FakeBackend) -> None:
    """Who stops to ask in the middle of a batch is not told what the batch still holds."""
    seen: list[int] = []
    victim = loop.register(4, READ | WRITE, seen.append)
    loop.register(3, READ, lambda _events: victim.modify(events))
    fake.put(3, READ)
    fake.put(4, stale)
    loop.run_once()
    assert seen == []
    fake.put(4, stale)
    loop.run_once(0)
    assert seen == ([stale & events] if stale & events else [])


def test_more_interest_loses_no_event_of_the_batch(loop: Loop, fake: FakeBackend) -> None:
    """Asking for WRITE as well does not cost the READ that is on its way."""
    seen: list[int] = []
    other = loop.register(4, READ, seen.append)
    loop.register(3, READ, lambda _events: other.modify(READ | WRITE))
    fake.put(3, READ)
    fake.put(4, READ)
    loop.run_once()
    assert seen == [READ]


def test_unregistering_and_registering_again_a_thousand_times(loop: Loop, fake: FakeBackend) -> None:
    """A callback that replaces its own watcher gets exactly one event per batch."""
    seen: list[Watcher] = []
    current: list[Watcher] = []

    def again(_events: int) -> None:
        seen.append(current[0])
        current[0].unregister()
        current[0] = loop.register(3, READ, again)
        fake.put(3, READ)

    current.append(loop.register(3, READ, again))
    fake.put(3, READ)
    for _ in range(1_000):
        loop.run_once()
    assert len(seen) == len(set(map(id, seen))) == 1_000
    assert len(loop._watchers) == 1


def test_a_descriptor_that_stays_ready_while_its_watcher_is_replaced(
    real: Loop, make_stream: Callable[[], tuple[int, int]]
) -> None:
    """A thousand times with a kernel: each watcher is called once, by the batch after the one it was made in."""
    reader, writer = make_stream()
    os.write(writer, b"x")
    seen: list[Watcher] = []
    current: list[Watcher] = []

    def again(_events: int) -> None:
        seen.append(current[0])
        current[0].unregister()
        current[0] = real.register(reader, READ, again)

    current.append(real.register(reader, READ, again))
    for number in range(1_000):
        while len(seen) == number:
            real.run_once(1)
    assert len(seen) == len(set(map(id, seen))) == 1_000
    current[0].unregister()
    assert real.stats.watchers == 0


def test_thousands_of_descriptors_closed_too_early(real: Loop, make_stream: Callable[[], tuple[int, int]]) -> None:
    """Their watchers can still be unregistered, and the numbers they had be used again."""
    for _ in range(2_500):
        ends = make_stream()
        watchers = [real.register(end, READ, ignore) for end in ends]
        for end in ends:
            os.close(end)
        for watcher in watchers:
            watcher.unregister()
    seen: list[int] = []
    reader, writer = make_stream()
    real.register(reader, READ, seen.append)
    os.write(writer, b"x")
    real.run_once(1)
    assert seen == [READ]


def test_the_sweep_outlives_thousands_of_retired_watchers(loop: Loop) -> None:
    """All of a batch's watchers may be unregistered at once."""
    watchers = [loop.register(fd, READ, ignore) for fd in range(3, 3_000)]

    def unregister() -> None:
        for watcher in watchers:
            watcher.unregister()

    loop.call_soon(unregister)
    loop.run_once(0)
    assert len(loop._watchers) == len(loop._watchers.retired) == 0


def test_a_callback_lives_until_its_batch_is_over(loop: Loop, fake: FakeBackend) -> None:
    """Unregistering from inside does not free what is running; the sweep does, without the garbage collector."""
    gc.disable()
    try:

        class Owner:
            """Owns a watcher whose callback is its own method."""

            def __init__(self) -> None:
                self.watcher = loop.register(3, READ, self.on_events)

            def on_events(self, _events: int) -> None:
                self.watcher.unregister()
                alive.append(self)

        alive: list[Owner] = []
        owner = Owner()
        reference = weakref.ref(owner)
        del owner
        fake.put(3, READ)
        loop.run_once()
        assert reference() is not None
        watcher = alive[0].watcher
        alive.clear()
        assert reference() is None
        watcher.callback(READ)  # what stands in for it does nothing
    finally:
        gc.enable()


# Ctrl+C -------------------------------------------------------------------------------------------------------


def interrupt_register(loop: Loop, fd: int, events: int, line: int) -> bool:
    """Interrupt a registration before a line of it, look whether it has left a trace, and whether there was a line."""
    told: list[int] = []
    with CtrlC(line) as ctrl_c:
        loop.register(fd, events, told.append)
    # Interrupted at the very end, it is complete, though nobody has the handle.
    left = loop._watchers.find(fd)
    loop.run_once(0)
    assert told == ([READ] if left is not None and events else [])
    if left is not None:
        left.unregister()
    assert loop._backend.poll(0, loop._watchers) == 0
    return ctrl_c.came


@pytest.mark.interpreted
@pytest.mark.parametrize("events", [READ, 0])
@pytest.mark.parametrize("beyond", [False, True])
def test_ctrl_c_in_a_registration_leaves_no_trace(
    *, beyond: bool, events: int, native: str, make_pair: MakePair
) -> None:
    """Before whichever line it comes: nothing is reported, the loop goes on, and the descriptor can be registered."""
    near, far = make_pair()
    far.send(b"x")
    for line in count(1):
        with Loop(native) as loop:
            least = len(loop._watchers.slots) if beyond else 3
            fd = duplicate(near.fileno(), least)
            try:
                there = interrupt_register(loop, fd, events, line)
                told: list[int] = []
                watcher = loop.register(fd, READ, told.append)
                loop.run_once(0)
                assert told == [READ]
                watcher.unregister()
            finally:
                os.close(fd)
        if not there:
            break
    assert line > 10


@pytest.mark.interpreted
def test_ctrl_c_while_unregistering_can_be_made_good(native: str, make_pair: MakePair) -> None:
    """Before whichever line it comes, unregistering again ends it, and nothing is reported."""
    near, far = make_pair()
    far.send(b"x")
    for line in count(1):
        with Loop(native) as loop:
            told: list[int] = []
            watcher = loop.register(near, READ, told.append)
            loop.run_once(0)
            with CtrlC(line) as ctrl_c:
                watcher.unregister()
            watcher.unregister()
            loop.run_once(0)
            assert (told, watcher.active) == ([READ], False)
            watcher = loop.register(near, READ, told.append)
            loop.run_once(0)
            assert told == [READ, READ]
            watcher.unregister()
        if not ctrl_c.came:
            break
    assert line > 3


@pytest.mark.interpreted
def test_ctrl_c_while_interest_is_given_back_keeps_it_away(native: str, make_pair: MakePair) -> None:
    """From none to READ: before whichever line it comes, the watcher tells what it is, and it can be repeated."""
    near, far = make_pair()
    far.send(b"x")
    for line in count(1):
        with Loop(native) as loop:
            told: list[int] = []
            watcher = loop.register(near, 0, told.append)
            with CtrlC(line) as ctrl_c:
                watcher.modify(READ)
            events = watcher.events
            loop.run_once(0)
            assert told == ([READ] if events else [])
            watcher.modify(READ)
            loop.run_once(0)
            assert told.count(READ) == len(told) == (2 if events else 1)
            watcher.unregister()
        if not ctrl_c.came:
            break
    assert line > 3


# Batches ------------------------------------------------------------------------------------------------------


def test_a_batch_is_dispatched_in_order(fake: FakeBackend) -> None:
    """Without who was unregistered or registered by a callback before, and in spite of one that fails."""
    failed: list[object] = []
    seen: list[tuple[str, int]] = []
    table = WatcherTable(fake, lambda _error, owner: failed.append(owner))

    def change(events: int) -> None:
        seen.append(("change", events))
        gone.unregister()
        table.register(6, READ, lambda events: seen.append(("young", events)), edge=False)
        raise RuntimeError

    first = table.register(3, READ, change, edge=False)
    gone = table.register(4, READ, lambda events: seen.append(("gone", events)), edge=False)
    table.register(5, READ, lambda events: seen.append(("last", events)), edge=False)
    assert table.dispatch([(3, READ), (4, READ), (6, READ), (5, READ | HUP)]) == 2
    assert seen == [("change", READ), ("last", READ | HUP)]
    assert failed == [first]


def test_the_edges_of_a_batch_can_be_told_again(fake: FakeBackend) -> None:
    """The backend is asked once more for each that is still watched, and whatever it says of one is no matter."""
    asked: list[tuple[int, int, bool]] = []

    class Repeating:
        name = "repeating"
        edge = True
        wake_fd = -1

        def __getattr__(self, name: str) -> object:
            return getattr(fake, name)

        def modify(self, fd: int, events: int, *, edge: bool) -> None:
            asked.append((fd, events, edge))
            if fd == 4:
                raise OSError

    table = WatcherTable(cast("Backend", Repeating()), lambda _error, _owner: None)
    for fd, events, edge in [(3, READ, False), (4, READ, True), (5, WRITE, True), (6, 0, True), (7, READ, True)]:
        table.register(fd, events, ignore, edge=edge)
    table.repeat([2, 3, 4, 5, 6, 1_000])
    assert asked == [(4, READ, True), (5, WRITE, True)]


# Random lives against a model ---------------------------------------------------------------------------------


class Lives(RuleBasedStateMachine):
    """Descriptors are opened, watched, modified, closed, and their numbers re-used, in any order.

    The model knows which callback was registered last for each number, and what the kernel must be reporting. Events
    may be spurious in principle, but not here: nobody reads between the kernel's report and the callback. The answers
    of a completion port are an exception: see `settle`.
    """

    backend: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.violations: list[str] = []
        self.loop = Loop(stand_ins.create(self.backend, self.violations))
        self.room = 12
        self.pairs: dict[int, Pair] = {}  # by the number of the watched end
        self.watchers: dict[int, tuple[Watcher, str]] = {}
        self.retired: list[Watcher] = []
        self.readable: set[int] = set()
        self.hung_up: set[int] = set()
        self.seen: list[tuple[str, int]] = []
        self.during: list[Callable[[], object]] = []
        self.names = 0
        self.failures: list[tuple[Exception, object]] = []
        self.loop.exception_handler = lambda error, owner: self.failures.append((error, owner))

    def teardown(self) -> None:
        """Close everything; the loop first, and then what is not its own."""
        self.loop.close()
        for near, far in self.pairs.values():
            near.close()
            far.close()
        assert self.violations == []

    def pick(self, number: int) -> int:
        """Choose one of the open descriptors."""
        return sorted(self.pairs)[number % len(self.pairs)]

    @precondition(lambda self: len(self.pairs) < self.room)
    @rule()
    def open(self) -> None:
        """Open a pair; the kernel gives the lowest number, often one used before."""
        near, far = socket.socketpair()
        near.setblocking(False)
        self.pairs[near.fileno()] = (near, far)

    @precondition(lambda self: self.pairs)
    @rule(number=st.integers(0, 11), events=st.sampled_from([0, READ, WRITE, READ | WRITE]))
    def register(self, number: int, events: int) -> None:
        """Watch a descriptor, or be refused."""
        fd = self.pick(number)
        if fd in self.watchers:
            with pytest.raises(AlreadyRegisteredError):
                self.loop.register(fd, events, ignore)
            return
        self.names += 1
        name = f"{fd}#{self.names}"

        def on_events(events: int) -> None:
            self.seen.append((name, events))
            for action in self.during:
                action()
            self.during.clear()

        self.watchers[fd] = (self.loop.register(fd, events, on_events), name)

    @precondition(lambda self: self.watchers)
    @rule(number=st.integers(0, 11), events=st.sampled_from([0, READ, WRITE, READ | WRITE]))
    def modify(self, number: int, events: int) -> None:
        """Change the interest."""
        fd = sorted(self.watchers)[number % len(self.watchers)]
        self.watchers[fd][0].modify(events)

    @precondition(lambda self: self.watchers)
    @rule(number=st.integers(0, 11))
    def unregister(self, number: int) -> None:
        """Stop to watch."""
        fd = sorted(self.watchers)[number % len(self.watchers)]
        watcher, _ = self.watchers.pop(fd)
        watcher.unregister()
        self.retired.append(watcher)

    @precondition(lambda self: self.pairs)
    @rule(number=st.integers(0, 11))
    def close(self, number: int) -> None:
        """Unregister and close; the number is free for the next."""
        fd = self.pick(number)
        if fd in self.watchers:
            watcher, _ = self.watchers.pop(fd)
            watcher.unregister()
            self.retired.append(watcher)
        for end in self.pairs.pop(fd):
            end.close()
        self.readable.discard(fd)
        self.hung_up.discard(fd)

    @precondition(lambda self: self.pairs)
    @rule(number=st.integers(0, 11))
    def send(self, number: int) -> None:
        """Make a descriptor readable."""
        fd = self.pick(number)
        if fd not in self.hung_up:
            self.pairs[fd][1].send(b"x")
            self.readable.add(fd)

    @precondition(lambda self: self.readable)
    @rule(number=st.integers(0, 11))
    def receive(self, number: int) -> None:
        """Take the bytes out again."""
        fd = sorted(self.readable)[number % len(self.readable)]
        self.pairs[fd][0].recv(65_536)
        self.readable.discard(fd)

    @precondition(lambda self: self.pairs)
    @rule(number=st.integers(0, 11))
    def hang_up(self, number: int) -> None:
        """Let the peer end its side."""
        fd = self.pick(number)
        self.pairs[fd][1].shutdown(socket.SHUT_WR)
        self.hung_up.add(fd)

    @precondition(lambda self: self.retired)
    @rule(number=st.integers(0, 99))
    def use_a_retired_one(self, number: int) -> None:
        """A handle used too late harms nobody."""
        watcher = self.retired[number % len(self.retired)]
        watcher.unregister()
        with pytest.raises(NotRegisteredError):
            watcher.modify(READ)

    def expected(self) -> dict[str, int]:
        """Return what each callback must be told now."""
        told = {}
        for fd, (watcher, name) in self.watchers.items():
            events = watcher.events & WRITE
            if watcher.events & READ and (fd in self.readable or fd in self.hung_up):
                events |= READ | (HUP if fd in self.hung_up else 0)
            if events:
                told[name] = events
        return told

    def settle(self) -> None:
        """Let a completion port say what it knows from before.

        A poll is answered as soon as something holds. When it is told, somebody may have read already, or the interest
        may have grown: one batch later it is exact. Even then, only the callbacks registered last hear of it, and of
        nothing that they do not wait for.
        """
        if self.backend == "iocp":
            self.seen.clear()
            self.loop.run_once(0)
            waiting = {name: watcher.events for watcher, name in self.watchers.values() if watcher.events}
            assert all(events & ~HUP & ~waiting[name] == 0 for name, events in self.seen)

    @rule()
    def run(self) -> None:
        """Every event reaches the callback registered last for its descriptor, and none other."""
        expected = self.expected()
        self.settle()
        self.seen.clear()
        self.loop.run_once(0)
        assert dict(self.seen) == expected
        assert len(self.seen) == len(expected)

    @precondition(lambda self: len(self.expected()) > 1)
    @rule(numbers=st.lists(st.integers(0, 11), min_size=1, max_size=6))
    def run_and_change(self, numbers: list[int]) -> None:
        """The first callback of the batch closes, unregisters and replaces others: they are told nothing old."""
        self.settle()
        expected = self.expected()
        gone: set[str] = set()

        def change() -> None:
            for number in numbers:
                names = {name for _, name in self.watchers.values()}
                if self.watchers and number % 3 == 0:
                    self.unregister(number)
                elif self.pairs and number % 3 == 1:
                    self.close(number)
                    self.open()
                    self.register(number, READ | WRITE)
                elif self.watchers:
                    fd = sorted(self.watchers)[number % len(self.watchers)]
                    gone.add(self.watchers[fd][1])
                    self.watchers[fd][0].modify(0)
                gone.update(names - {name for _, name in self.watchers.values()})

        self.seen.clear()
        self.during.append(change)
        self.loop.run_once(0)
        names = [name for name, _ in self.seen]
        assert len(names) == len(set(names))
        first, *rest = names
        assert set(rest) == set(expected) - gone - {first}
        assert all(expected[name] == events for name, events in self.seen)

    @invariant()
    def table_agrees(self) -> None:
        """The table knows exactly the watchers of the model, and no callback has failed."""
        assert not self.failures
        assert len(self.loop._watchers) == len(self.watchers)
        assert all(watcher.active and watcher.fd == fd for fd, (watcher, _) in self.watchers.items())
        assert not any(watcher.active for watcher in self.retired)


class EpollLives(Lives):
    """On epoll."""

    backend = "epoll"


class KqueueLives(Lives):
    """On kqueue, or what stands in for it."""

    backend = "kqueue"


class IocpLives(Lives):
    """On a completion port, or a model of one."""

    backend = "iocp"


class PollLives(Lives):
    """On poll."""

    backend = "poll"


MACHINES = [EpollLives, KqueueLives, IocpLives, PollLives]


def case(machine: type[Lives]) -> type:
    """Make a test of a machine, skipped where its backend does not exist."""
    found: type = machine.TestCase
    found.settings = settings(stateful_step_count=60)  # type: ignore[attr-defined]
    missing = not stand_ins.exists(machine.backend)
    return pytest.mark.skipif(missing, reason=f"no {machine.backend} on this system")(found)


TestEpollLives = case(EpollLives)
TestKqueueLives = case(KqueueLives)
TestIocpLives = case(IocpLives)
TestPollLives = case(PollLives)


def step(life: Lives, chance: random.Random) -> bool:
    """Make a random move, if it is possible now; return whether it was."""
    number = chance.randrange(1_000)
    events = chance.choice([0, READ, WRITE, READ | WRITE])
    move = chance.randrange(15)
    if move == 0 and len(life.pairs) < life.room:
        life.open()
    elif move in {1, 2} and life.pairs:
        life.register(number, events)
    elif move in {3, 4} and life.watchers:
        life.modify(number, events)
    elif move == 5 and life.watchers:
        life.unregister(number)
    elif move == 6 and life.pairs and chance.random() < 0.3:
        life.close(number)
    elif move in {7, 8} and life.pairs:
        life.send(number)
    elif move == 9 and life.readable:
        life.receive(number)
    elif move == 10 and life.pairs and chance.random() < 0.2:
        life.hang_up(number)
    elif move == 11 and life.retired:
        life.use_a_retired_one(number)
    elif move > 11 and len(life.expected()) > 1 and chance.random() < 0.3:
        life.run_and_change([chance.randrange(1_000) for _ in range(chance.randrange(1, 7))])
    elif move > 11:
        life.run()
    else:
        return False
    return True


@pytest.mark.parametrize("machine", MACHINES)
def test_soak_against_the_model(machine: type[Lives]) -> None:
    """Thousands of random moves, or as many as the environment asks for, agree with the model."""
    if not stand_ins.exists(machine.backend):
        pytest.skip(f"no {machine.backend} on this system, and nothing to stand in for it")
    done = told = seed = 0
    while done < SOAK_OPERATIONS:
        chance = random.Random(seed)
        life = machine()
        life.room = chance.choice([2, 12, 50])  # the last ones have numbers beyond the first size of the table
        moves = 0
        try:
            while moves < 1_000:
                if step(life, chance):
                    life.table_agrees()
                    moves += 1
                    told += len(life.seen)
                    life.seen.clear()
        finally:
            life.teardown()
        done += moves
        seed += 1
    assert told > done // 5  # or else the lives prove nothing
