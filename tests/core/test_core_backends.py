"""One conformance suite for all backends, on real pipes and sockets; then what is peculiar to one of them."""

from __future__ import annotations

import math
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from tests.core.portable import USER_SIGNAL, descriptors_below, send, send_to_thread
from tests.core.seeing import Pair, Pipe, Seen, note
from tests.support.descriptors import is_open
from tests.support.sockets import drain, fill, reset

from nimloop_core import ERROR, HUP, READ, WRITE, Backend, BackendUnavailableError, Loop, WatcherTable
from nimloop_core.backends import _epoll_py, available, create


@pytest.fixture
def backend(native: str) -> Iterator[Backend]:
    """Make a backend on its own, without a loop around it."""
    backend = create(native)
    yield backend
    backend.close()


# Events -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "filled", "told"),
    [
        (READ, False, None),
        (READ, True, READ),
        (WRITE, False, WRITE),
        (WRITE, True, WRITE),
        (READ | WRITE, False, WRITE),
        (READ | WRITE, True, READ | WRITE),
    ],
)
def test_what_is_asked_for_and_ready_is_told(
    *,
    events: int,
    filled: bool,
    told: int | None,
    backend: Backend,
    table: WatcherTable,
    seen: Seen,
    make_pair: Callable[[], Pair],
) -> None:
    """Both directions come in one call, and nothing that was not asked for."""
    near, far = make_pair()
    if filled:
        far.send(b"x")
    table.register(near.fileno(), events, note(seen, "near"), edge=False)
    assert backend.poll(0, table) == len(seen)
    assert seen == ([] if told is None else [("near", told)])


def test_a_full_buffer_is_not_writable(
    backend: Backend, table: WatcherTable, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """WRITE comes once the peer has made room."""
    near, far = make_pair()
    fill(near)
    table.register(near.fileno(), WRITE, note(seen, "near"), edge=False)
    assert backend.poll(0, table) == 0
    drain(far)
    assert backend.poll(-1, table) == 1
    assert seen == [("near", WRITE)]


def test_interest_can_be_changed(
    backend: Backend, table: WatcherTable, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """Both, then reading only, writing only, none, and reading again."""
    near, far = make_pair()
    far.send(b"x")
    watcher = table.register(near.fileno(), READ | WRITE, note(seen, "near"), edge=False)
    for events in (READ | WRITE, READ, WRITE, 0, READ, 0, WRITE):
        watcher.modify(events)
        seen.clear()
        assert backend.poll(0, table) == (1 if events else 0)
        assert seen == ([("near", events)] if events else [])


def test_no_interest_is_silent(backend: Backend, table: WatcherTable, seen: Seen, tcp: Pair) -> None:
    """Not even a reset or a hang-up is told to a watcher that waits for nothing; both are there when it asks."""
    near, far = tcp
    watcher = table.register(near.fileno(), 0, note(seen, "near"), edge=False)
    reset(far)
    assert backend.poll(20_000_000, table) == 0
    assert seen == []
    watcher.modify(READ)
    assert backend.poll(-1, table) == 1
    assert seen[0][1] & (HUP | ERROR)


def test_a_level_is_reported_as_long_as_it_lasts(
    backend: Backend, table: WatcherTable, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """Until somebody reads."""
    near, far = make_pair()
    far.send(b"x")
    table.register(near.fileno(), READ, note(seen, "near"), edge=False)
    for _ in range(3):
        assert backend.poll(0, table) == 1
    near.recv(1)
    assert backend.poll(0, table) == 0
    assert seen == [("near", READ)] * 3


def test_an_edge_is_reported_once_per_change(
    backend: Backend, table: WatcherTable, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """Where the backend has edges: new bytes are a change, old ones are not, a modification tells again."""
    near, far = make_pair()
    watcher = table.register(near.fileno(), READ, note(seen, "near"), edge=True)
    if not watcher.edge:
        pytest.skip(f"{backend.name} has no edges")
    far.send(b"x")
    assert [backend.poll(0, table) for _ in range(3)] == [1, 0, 0]
    far.send(b"x")
    assert [backend.poll(0, table) for _ in range(3)] == [1, 0, 0]
    watcher.modify(READ | WRITE)
    assert [backend.poll(0, table) for _ in range(3)] == [1, 0, 0]
    assert seen == [("near", READ), ("near", READ), ("near", READ | WRITE)]


def test_without_edges_the_level_is_told(
    backend: Backend, table: WatcherTable, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """`Watcher.edge` says what is going to happen."""
    near, far = make_pair()
    far.send(b"x")
    watcher = table.register(near.fileno(), READ, note(seen, "near"), edge=True)
    calls = [backend.poll(0, table) for _ in range(3)]
    assert calls == ([1, 0, 0] if watcher.edge else [1, 1, 1])


# Ends and errors ----------------------------------------------------------------------------------------------


def test_a_closed_peer_is_a_hang_up(
    backend: Backend, table: WatcherTable, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """READ for the end of the stream, and HUP with it."""
    near, far = make_pair()
    table.register(near.fileno(), READ, note(seen, "near"), edge=False)
    far.close()
    assert backend.poll(-1, table) == 1
    assert seen == [("near", READ | HUP)]
    assert near.recv(1) == b""


@pytest.mark.usefixtures("pipes")
def test_a_closed_writer_hangs_up_a_pipe(
    backend: Backend, table: WatcherTable, seen: Seen, make_pipe: Callable[[], Pipe]
) -> None:
    """What was written can still be read, with HUP told from the beginning."""
    reader, writer = make_pipe()
    table.register(reader, READ, note(seen, "reader"), edge=False)
    os.write(writer, b"last words")
    os.close(writer)
    assert backend.poll(-1, table) == 1
    assert seen == [("reader", READ | HUP)]
    assert os.read(reader, 100) == b"last words"
    assert backend.poll(-1, table) == 1
    assert seen[1][1] & HUP
    assert os.read(reader, 100) == b""


@pytest.mark.usefixtures("pipes")
def test_a_closed_reader_breaks_a_pipe(
    backend: Backend, table: WatcherTable, seen: Seen, make_pipe: Callable[[], Pipe]
) -> None:
    """The writing end hears of it, as an error or a hang-up, whatever the system calls it."""
    reader, writer = make_pipe()
    table.register(writer, WRITE, note(seen, "writer"), edge=False)
    os.close(reader)
    assert backend.poll(-1, table) == 1
    assert seen[0][1] & (ERROR | HUP)


def test_half_a_close_leaves_the_other_half(backend: Backend, table: WatcherTable, seen: Seen, tcp: Pair) -> None:
    """The peer has ended its side: READ and HUP, which is no concern of who only writes, and our side still can."""
    near, far = tcp
    far.send(b"question")
    far.shutdown(socket.SHUT_WR)
    watcher = table.register(near.fileno(), READ | WRITE, note(seen, "near"), edge=False)
    while not seen or not seen[-1][1] & HUP:
        backend.poll(-1, table)
    assert seen[-1] == ("near", READ | WRITE | HUP)
    assert near.recv(100) == b"question"
    assert near.recv(100) == b""
    watcher.modify(WRITE)
    assert backend.poll(-1, table) == 1
    assert seen[-1] == ("near", WRITE)
    near.send(b"answer")
    watcher.unregister()
    table.register(far.fileno(), READ, note(seen, "far"), edge=False)
    backend.poll(-1, table)
    assert far.recv(100) == b"answer"


def test_a_reset_is_an_error(backend: Backend, table: WatcherTable, seen: Seen, tcp: Pair) -> None:
    """ERROR comes without being asked for, and the socket tells which."""
    near, far = tcp
    table.register(near.fileno(), READ, note(seen, "near"), edge=False)
    reset(far)
    assert backend.poll(-1, table) == 1
    assert seen[0][1] & (READ | ERROR) == READ | ERROR
    with pytest.raises(ConnectionResetError):
        near.recv(1)


def test_a_refused_connection_is_an_error(backend: Backend, table: WatcherTable, seen: Seen) -> None:
    """A socket that waits for WRITE to be connected hears that it will not be."""
    with socket.socket() as held, socket.socket() as client:
        held.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can take the port
        client.setblocking(False)
        client.connect_ex(held.getsockname())
        watcher = table.register(client.fileno(), WRITE, note(seen, "client"), edge=False)
        backend.poll(-1, table)
        assert seen[0][1] & ERROR
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        watcher.unregister()


def test_a_connection_to_accept_is_read(backend: Backend, table: WatcherTable, seen: Seen) -> None:
    """A listener becomes readable."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        watcher = table.register(listener.fileno(), READ, note(seen, "listener"), edge=False)
        assert backend.poll(0, table) == 0
        with socket.create_connection(listener.getsockname()):
            assert backend.poll(-1, table) == 1
            listener.accept()[0].close()
        assert seen == [("listener", READ)]
        watcher.unregister()


# The batch ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("edge", [False, True])
def test_1024_pipes_each_tell_once(
    *,
    edge: bool,
    backend: Backend,
    table: WatcherTable,
    seen: Seen,
    make_stream: Callable[[], Pipe],
    allow_descriptors: Callable[[int], None],
) -> None:
    """However many events fit into one batch."""
    allow_descriptors(2_048)
    for number in range(1_024):
        reader, writer = make_stream()

        def read(events: int, reader: int = reader, number: int = number) -> None:
            os.read(reader, 100)
            seen.append((str(number), events))

        table.register(reader, READ, read, edge=edge)
        os.write(writer, b"x")
    total = 0
    while count := backend.poll(0, table):
        total += count
    assert total == 1_024
    assert sorted(seen) == sorted((str(number), READ) for number in range(1_024))
    table.clear()


def three(
    table: WatcherTable, make_pair: Callable[[], Pair], first: Callable[[int], object], seen: Seen
) -> list[socket.socket]:
    """Make three descriptors ready in one batch, each of which does `first` if it happens to come first."""
    ends = []

    def on_events(events: int, name: str) -> None:
        seen.append((name, events))
        if len(seen) == 1:
            first(events)

    for name in "abc":
        near, far = make_pair()
        far.send(b"x")
        ends.append(near)
        table.register(near.fileno(), READ, lambda events, name=name: on_events(events, name), edge=False)  # type: ignore[misc]
    return ends


def test_an_unregistered_watcher_hears_nothing_more_in_its_batch(
    backend: Backend, table: WatcherTable, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """The first of three unregisters all: one call."""
    three(table, make_pair, lambda _events: table.clear(), seen)
    assert backend.poll(-1, table) == 1
    assert len(seen) == 1
    assert backend.poll(0, table) == 0


def test_a_reused_number_is_not_told_of_its_predecessor(
    backend: Backend, table: WatcherTable, seen: Seen, make_pair: Callable[[], Pair], make_stream: Callable[[], Pipe]
) -> None:
    """The first of three closes all, and opens others under the same numbers in the same batch: no event for them."""
    new: Seen = []
    again: list[int] = []

    def replace(_events: int) -> None:
        numbers = {end.fileno() for end in ends}
        table.clear()
        for end in ends:
            end.close()
        for _ in range(2):
            for fd in make_stream():
                if fd in numbers:
                    again.append(fd)
                    table.register(fd, READ, note(new, "new"), edge=False)

    ends = three(table, make_pair, replace, seen)
    assert backend.poll(-1, table) == 1
    assert len(again) >= 2
    assert new == []


def test_interest_taken_away_in_the_batch_is_respected(
    backend: Backend, table: WatcherTable, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """The first of three pauses all: nobody else is called until he asks again."""

    def each(events: int) -> None:
        for end in ends:
            watcher = table.find(end.fileno())
            assert watcher is not None
            watcher.modify(events)

    ends = three(table, make_pair, lambda _events: each(0), seen)
    assert backend.poll(-1, table) == 1
    assert backend.poll(0, table) == 0
    each(READ)
    assert backend.poll(0, table) == 3
    assert sorted(seen[1:]) == [("a", READ), ("b", READ), ("c", READ)]


def test_an_exception_does_not_cost_the_rest_of_the_batch(
    backend: Backend, table: WatcherTable, seen: Seen, failures: list[Exception], make_pair: Callable[[], Pair]
) -> None:
    """The error is reported, all three are called."""

    def fail(_events: int) -> None:
        raise RuntimeError

    three(table, make_pair, fail, seen)
    assert backend.poll(-1, table) == 3
    assert len(seen) == 3
    assert [type(each) for each in failures] == [RuntimeError]


@pytest.mark.parametrize("edge", [False, True])
def test_a_base_exception_loses_no_event(
    *, edge: bool, backend: Backend, table: WatcherTable, make_pair: Callable[[], Pair]
) -> None:
    """Ctrl+C in the first of a batch: the next batch holds the others, edges too."""
    heard: set[int] = set()

    def on_events(near: socket.socket) -> None:
        if not heard:
            heard.add(near.fileno())
            silent.unregister()
            closed[0].close()
            raise KeyboardInterrupt
        heard.add(near.fileno())

    ends = [make_pair() for _ in range(5)]
    closed = make_pair()
    quiet, _ = make_pair()
    silent = table.register(quiet.fileno(), WRITE, lambda _events: on_events(quiet), edge=edge)
    for near, far in ends:
        far.send(b"x")
        table.register(near.fileno(), READ, lambda _events, near=near: on_events(near), edge=edge)  # type: ignore[misc]
    lost = table.register(closed[0].fileno(), WRITE, lambda _events: on_events(quiet), edge=edge)
    with pytest.raises(KeyboardInterrupt):
        backend.poll(-1, table)
    assert len(heard) == 1
    backend.poll(0, table)
    assert heard >= {near.fileno() for near, _ in ends}
    lost.unregister()


def test_a_descriptor_closed_while_registered_goes_silent(
    backend: Backend, table: WatcherTable, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """Close before unregister is a mistake that must not become a busy loop; unregister tidies up."""
    near, far = make_pair()
    far.send(b"x")
    watcher = table.register(near.fileno(), READ, note(seen, "near"), edge=False)
    near.close()
    assert backend.poll(0, table) == 0
    started = time.monotonic_ns()
    assert backend.poll(5_000_000, table) == 0
    assert time.monotonic_ns() - started >= 5_000_000
    assert (seen, watcher.active) == ([], True)
    with pytest.raises(OSError):
        watcher.modify(WRITE)
    watcher.unregister()
    assert len(table) == 0


# Waiting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout_ns", [0, 1, 999_999, 1_000_000, 1_000_001, 4_500_000])
def test_a_wait_is_never_shorter_than_asked(timeout_ns: int, backend: Backend, table: WatcherTable) -> None:
    """Rounded up to the kernel's milliseconds."""
    started = time.monotonic_ns()
    assert backend.poll(timeout_ns, table) == 0
    assert time.monotonic_ns() - started >= timeout_ns


@pytest.mark.parametrize("wakes", [1, 1_000, 70_000])
def test_a_wake_up_before_the_wait_ends_it(wakes: int, backend: Backend, table: WatcherTable) -> None:
    """It is not lost, and not an event; many are one, also when they are more than a pipe holds."""
    for _ in range(3):
        for _ in range(wakes):
            backend.wake()
        assert backend.poll(-1, table) == 0
        started = time.monotonic_ns()
        assert backend.poll(2_000_000, table) == 0
        assert time.monotonic_ns() - started >= 2_000_000


def test_a_wake_up_from_another_thread_ends_the_wait(backend: Backend, table: WatcherTable) -> None:
    """A hundred times, at any moment of it."""
    for _ in range(100):
        thread = threading.Thread(target=backend.wake)
        thread.start()
        assert backend.poll(-1, table) == 0
        thread.join()


def test_a_signal_does_not_cut_a_wait_short(backend: Backend, table: WatcherTable) -> None:
    """Its handler runs meanwhile; then the rest of the time is waited."""
    caught: list[int] = []
    previous = signal.signal(USER_SIGNAL, lambda number, _frame: caught.append(number))
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.010, send_to_thread, (main, USER_SIGNAL))
    try:
        started = time.monotonic_ns()
        timer.start()
        assert backend.poll(30_000_000, table) == 0
        assert time.monotonic_ns() - started >= 30_000_000
        timer.join()
        assert caught == [USER_SIGNAL]
    finally:
        signal.signal(USER_SIGNAL, previous)


def test_a_signal_handler_may_wake(backend: Backend, table: WatcherTable) -> None:
    """Which ends a wait without limit."""
    previous = signal.signal(USER_SIGNAL, lambda _number, _frame: backend.wake())
    sender = threading.Thread(target=send, args=(USER_SIGNAL,))
    try:
        sender.start()
        assert backend.poll(-1, table) == 0
        sender.join()
    finally:
        signal.signal(USER_SIGNAL, previous)


# Descriptors --------------------------------------------------------------------------------------------------


def test_removing_never_fails(backend: Backend, make_stream: Callable[[], Pipe]) -> None:
    """The owner may have closed the descriptor already."""
    reader, _writer = make_stream()
    backend.add(reader, READ, edge=False)
    backend.remove(reader)
    backend.remove(reader)
    backend.add(reader, READ, edge=False)
    os.close(reader)
    backend.remove(reader)


def test_what_is_not_open_cannot_be_added_or_modified(backend: Backend, make_stream: Callable[[], Pipe]) -> None:
    """The kernel's error arrives as it is."""
    reader, writer = make_stream()
    backend.add(writer, WRITE, edge=False)
    os.close(reader)
    os.close(writer)
    with pytest.raises(OSError):
        backend.add(reader, READ, edge=False)
    with pytest.raises(OSError):
        backend.modify(writer, READ | WRITE, edge=False)


def test_closing_twice_is_harmless(native: str, descriptors: Callable[[], set[str]]) -> None:
    """The second time closes nothing, whoever has the numbers by then."""
    before = descriptors()
    backend = create(native)
    backend.close()
    ends = os.pipe()
    backend.close()
    for end in ends:
        os.close(end)
    assert descriptors() == before


def test_own_descriptors_are_not_inherited(native: str) -> None:
    """Child processes get none of them."""
    backend = create(native)
    try:
        if backend.wake_fd >= 0:  # a completion port has none
            assert not os.get_inheritable(backend.wake_fd)
            assert backend.wake_fd > 2
    finally:
        backend.close()


def test_the_numbers_of_the_standard_streams_are_left_alone(native: str) -> None:
    """In a process without them, whoever writes to standard error must not write to the loop's own descriptors."""
    kept = [os.dup(number) for number in range(3)]
    try:
        os.closerange(0, 3)
        with Loop(native) as loop:
            loop.add_signal_handler(USER_SIGNAL, loop.stop)
            taken = [number for number in range(3) if is_open(number)]
            loop.call_soon(lambda: signal.raise_signal(USER_SIGNAL))
            loop.run()
    finally:
        for number, fd in enumerate(kept):
            os.dup2(fd, number)
            os.close(fd)
    assert taken == []


def take_all_descriptors() -> list[int]:
    """Open descriptors up to the limit."""
    held: list[int] = []
    try:
        while True:
            held.append(os.dup(0))
    except OSError:
        return held


def test_a_limit_of_descriptors_leaks_none(native: str, descriptors: Callable[[], set[str]]) -> None:
    """Where the second descriptor cannot be had, the first is given back."""
    before = descriptors()
    top = max(int(entry.split()[0]) for entry in before) if before else 64
    with descriptors_below(top + 3):
        held = take_all_descriptors()
        try:
            os.close(held.pop())  # one is left, and a backend needs two
            with pytest.raises(OSError):
                create(native)
            held.append(os.dup(0))
        finally:
            for each in held:
                os.close(each)
    assert descriptors() == before


# The choice ---------------------------------------------------------------------------------------------------


def test_the_best_backend_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of the list; an empty variable is none."""
    monkeypatch.delenv("NIMLOOP_BACKEND", raising=False)
    for _ in range(2):
        with Loop() as loop:
            assert loop.backend == available()[0]
        monkeypatch.setenv("NIMLOOP_BACKEND", "")


def test_the_environment_chooses(native: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`NIMLOOP_BACKEND` names the default, an argument comes before it."""
    monkeypatch.setenv("NIMLOOP_BACKEND", native)
    with Loop() as loop:
        assert loop.backend == native
    monkeypatch.setenv("NIMLOOP_BACKEND", "abacus")
    with Loop(native) as loop:
        assert loop.backend == native


def test_an_unknown_name_is_refused_with_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an argument or from the environment, the message tells what there is."""
    with pytest.raises(BackendUnavailableError, match=", ".join(available())):
        Loop("abacus")
    monkeypatch.setenv("NIMLOOP_BACKEND", "abacus")
    with pytest.raises(BackendUnavailableError, match="abacus"):
        Loop()


def test_a_system_without_any_backend_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than an error about something else."""
    monkeypatch.delenv("NIMLOOP_BACKEND", raising=False)
    monkeypatch.setattr(sys, "platform", "none")
    for name in ("epoll", "kqueue", "poll"):
        monkeypatch.delattr(select, name, raising=False)
    assert available() == []
    with pytest.raises(BackendUnavailableError, match="none"):
        create()


# epoll --------------------------------------------------------------------------------------------------------


@pytest.fixture
def epoll() -> Iterator[Backend]:
    """Make an epoll backend, where there is one."""
    if "epoll" not in available():
        pytest.skip("no epoll on this system")
    backend = create("epoll")
    yield backend
    backend.close()


def test_epoll_takes_as_many_events_at_once_as_there_are(
    epoll: Backend, make_pair: Callable[[], Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The capacity doubles from 64 while batches are full, up to 4096, and halves while they are nearly empty."""
    monkeypatch.setattr("nimloop_core.backends.epoll.wait", _epoll_py.wait)  # the kernel itself is stood in for
    table = WatcherTable(epoll, lambda error, owner: None)
    near, far = make_pair()
    far.send(b"x")

    def capacity() -> int:
        return int(vars(epoll)["_capacity"])

    class Kernel:
        """Stand in for select.epoll: as many events as are asked for, without as many descriptors."""

        def __init__(self, ready: int) -> None:
            self.ready = ready

        def poll(self, _timeout: float, maximum: int) -> list[tuple[int, int]]:
            return [(near.fileno(), 1)] * min(self.ready, maximum)

    calls: list[int] = []
    table.register(near.fileno(), READ, calls.append, edge=False)
    kernel = vars(epoll)["_epoll"]
    try:
        sizes = []
        vars(epoll)["_epoll"] = Kernel(10_000)
        for _ in range(9):
            calls.clear()
            assert epoll.poll(0, table) == len(calls)
            sizes.append(len(calls))
        assert sizes == [64, 128, 256, 512, 1_024, 2_048, 4_096, 4_096, 4_096]
        vars(epoll)["_epoll"] = Kernel(1)
        sizes = []
        for _ in range(8):
            assert epoll.poll(0, table) == 1
            sizes.append(capacity())
        assert sizes == [2_048, 1_024, 512, 256, 128, 64, 64, 64]
        vars(epoll)["_epoll"] = Kernel(40)
        assert epoll.poll(0, table) == 40
        assert capacity() == 64
    finally:
        vars(epoll)["_epoll"] = kernel
    assert epoll.poll(0, table) == 1


def test_epoll_survives_a_full_counter(epoll: Backend, make_pipe: Callable[[], Pipe]) -> None:
    """Two to the power of 64 wake-ups nobody has read, and one more."""
    table = WatcherTable(epoll, lambda error, owner: None)
    if sys.platform == "linux":  # it is; type checkers want to be told
        os.eventfd_write(epoll.wake_fd, (1 << 64) - 2)
    assert epoll.poll(-1, table) == 0
    epoll.wake()
    assert epoll.poll(0, table) == 0


def test_epoll_waits_are_rounded_up_only_once(epoll: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python turns seconds into nanoseconds and those into milliseconds, upwards: 67 ms must not become 68."""
    monkeypatch.setattr("nimloop_core.backends.epoll.wait", _epoll_py.wait)  # the kernel itself is stood in for
    table = WatcherTable(epoll, lambda error, owner: None)
    asked: list[float] = []

    class Kernel:
        """Stand in for select.epoll, to see what it is asked for."""

        def poll(self, timeout: float, _maximum: int) -> list[tuple[int, int]]:
            asked.append(timeout)
            return []

    day = 86_400 * 1_000_000_000
    waits = [*range(1, 2_000), *range(1_000_000, 2_000_000_000, 1_000_000), day - 1, day]
    kernel = vars(epoll)["_epoll"]
    vars(epoll)["_epoll"] = Kernel()
    for wait in waits:
        epoll.poll(wait, table)
    vars(epoll)["_epoll"] = kernel
    assert [math.ceil(each * 1e9) for each in asked] == waits
