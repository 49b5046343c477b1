"""The backend of Windows without Windows: layouts by their documented sizes, results of calls, logic over a model."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import select
import socket
import struct
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.core.interrupting import CtrlC
from tests.core.seeing import Pair, Seen, note
from tests.support.sockets import fill, reset

from nimloop_core import ERROR, HUP, READ, WRITE, Loop, Watcher, WatcherTable
from nimloop_core.backends import _afd, _port, available, create, iocp
from nimloop_core.backends._afd import PollRecord
from nimloop_core.backends._kernel32 import System
from nimloop_core.backends._port import WindowsPort
from nimloop_core.backends.iocp import IocpBackend

if sys.platform != "win32":
    from tests.core.iocp_model import ModelPort

assert sys.platform != "win32"  # for type checkers, to whom Windows has no such names

if not hasattr(select, "POLLRDHUP"):
    pytest.skip("the model stands on what Linux' poll(2) tells", allow_module_level=True)


WORD = ctypes.sizeof(ctypes.c_void_p)


def in_flight(backend: IocpBackend) -> dict[int, object]:
    """Look at the records that the kernel has."""
    found: dict[int, object] = vars(backend)["_in_flight"]
    return found


@pytest.fixture
def port() -> Iterator[ModelPort]:
    """Make a model of a port; nothing may have gone against its rules in the end."""
    port = ModelPort()
    yield port
    port.close()
    assert port.violations == []


@pytest.fixture
def backend(port: ModelPort) -> Iterator[IocpBackend]:
    """Make a backend over the model; all records are gone in the end."""
    backend = IocpBackend(port)
    yield backend
    port.slow = False
    backend.close()
    assert in_flight(backend) == {}
    assert port.outstanding() == set()
    assert len(port.records) == 0


# Structures ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "word_bytes", "size", "offsets"),
    [
        (_afd.OVERLAPPED, 8, 32, [0, 8, 16, 20, 24]),
        (_afd.OVERLAPPED, 4, 20, [0, 4, 8, 12, 16]),
        (_afd.AFD_POLL_INFO, 8, 32, [0, 8, 12, 16, 24, 28]),
        (_afd.AFD_POLL_INFO, 4, 32, [0, 8, 12, 16, 20, 24]),
        (_afd.OVERLAPPED_ENTRY, 8, 32, [0, 8, 16, 24]),
        (_afd.OVERLAPPED_ENTRY, 4, 16, [0, 4, 8, 12]),
        (_afd.OVERLAPPED + _afd.AFD_POLL_INFO, 8, 64, [0, 8, 16, 20, 24, 32, 40, 44, 48, 56, 60]),
        (_afd.OVERLAPPED + _afd.AFD_POLL_INFO, 4, 56, [0, 4, 8, 12, 16, 24, 32, 36, 40, 44, 48]),
    ],
)
def test_structures_are_what_windows_expects(
    fields: tuple[tuple[str, str], ...], word_bytes: int, size: int, offsets: list[int]
) -> None:
    """For both word sizes; an int64 is aligned to 8 bytes on Windows even where a word has 4."""
    built = _afd.layout(fields, word_bytes)
    assert ctypes.sizeof(built) == size
    assert [getattr(built, name).offset for name, _ in fields] == offsets


def test_a_record_is_an_overlapped_and_a_question() -> None:
    """The second part begins where the call is told, and is as long; all of it lies inside."""
    assert (ctypes.sizeof(PollRecord), _afd.INFO_OFFSET, _afd.INFO_BYTES) == {8: (64, 32, 32), 4: (56, 24, 32)}[WORD]
    record = PollRecord()
    assert record.address == ctypes.addressof(record)
    record.prepare(0x1234, 0x1F9)
    image = ctypes.string_at(record.address + _afd.INFO_OFFSET, _afd.INFO_BYTES)
    assert struct.unpack_from("<qII", image) == ((1 << 63) - 1, 1, 0)
    assert struct.unpack_from("<QII" if WORD == 8 else "<III", image, 16) == (0x1234, 0x1F9, 0)
    assert record.answer() == (_afd.STATUS_PENDING, 0x1F9)


def test_an_answer_without_sockets_has_no_events() -> None:
    """What the mask says is then left over from the question."""
    record = PollRecord()
    record.prepare(4, _afd.RECEIVE)
    record.internal = _afd.STATUS_SUCCESS
    assert record.answer() == (_afd.STATUS_SUCCESS, _afd.RECEIVE)
    record.number_of_handles = 0
    assert record.answer() == (_afd.STATUS_SUCCESS, 0)


def test_a_status_is_four_bytes() -> None:
    """The field is a word, and the kernel writes the first half of it."""
    record = PollRecord()
    record.internal = (1 << (8 * WORD)) - (1 << 32) + _afd.STATUS_CANCELLED if WORD == 8 else _afd.STATUS_CANCELLED
    assert record.answer()[0] == _afd.STATUS_CANCELLED


# Events -------------------------------------------------------------------------------------------------------

ALWAYS = _afd.ABORT | _afd.CONNECT_FAIL | _afd.LOCAL_CLOSE


@pytest.mark.parametrize(
    ("interest", "asked"),
    [
        (READ, _afd.RECEIVE | _afd.ACCEPT | _afd.DISCONNECT | ALWAYS),
        (WRITE, _afd.SEND | ALWAYS),
        (READ | WRITE, _afd.RECEIVE | _afd.ACCEPT | _afd.DISCONNECT | _afd.SEND | ALWAYS),
    ],
)
def test_what_is_asked_for(interest: int, asked: int, port: ModelPort, make_pair: Callable[[], Pair]) -> None:
    """Errors and the end of the socket always, the end of the stream with reading."""
    backend = IocpBackend(port)
    near, far = make_pair()
    fill(near)
    backend.add(near.fileno(), interest, edge=False)
    backend.poll(0, WatcherTable(backend, lambda error, owner: None))
    assert [each.asked for each in port.pending.values()] == [asked]
    backend.close()
    far.close()


@pytest.mark.parametrize(
    ("bits", "reading", "writing", "both"),
    [
        (0, 0, 0, 0),
        (_afd.RECEIVE, READ, 0, READ),
        (_afd.RECEIVE_EXPEDITED, 0, 0, 0),
        (_afd.SEND, 0, WRITE, WRITE),
        (_afd.ACCEPT, READ, 0, READ),
        (_afd.CONNECT, 0, 0, 0),
        (_afd.DISCONNECT, READ | HUP, 0, READ | HUP),
        (_afd.ABORT, READ | ERROR | HUP, WRITE | ERROR | HUP, READ | WRITE | ERROR | HUP),
        (_afd.CONNECT_FAIL, READ | ERROR, WRITE | ERROR, READ | WRITE | ERROR),
        (_afd.RECEIVE | _afd.SEND, READ, WRITE, READ | WRITE),
        (_afd.RECEIVE | _afd.DISCONNECT, READ | HUP, 0, READ | HUP),
    ],
)
def test_what_events_mean(bits: int, reading: int, writing: int, both: int) -> None:
    """For each interest; what was not asked for, or is no longer wanted, is nothing."""
    assert [iocp._mask(bits, interest) for interest in (0, READ, WRITE, READ | WRITE)] == [0, reading, writing, both]


def test_a_reset_and_a_refusal(backend: IocpBackend, table: WatcherTable, seen: Seen, tcp: Pair) -> None:
    """Errors of a connection that was, and of one that never came to be."""
    near, far = tcp
    table.register(near.fileno(), READ, note(seen, "near"), edge=False)
    assert backend.poll(0, table) == 0
    reset(far)
    assert backend.poll(-1, table) == 1
    assert seen == [("near", READ | ERROR | HUP)]
    table.clear()
    seen.clear()
    with socket.socket() as held, socket.socket() as client:
        held.bind(("127.0.0.1", 0))
        client.setblocking(False)
        client.connect_ex(held.getsockname())
        table.register(client.fileno(), WRITE, note(seen, "client"), edge=False)
        backend.poll(-1, table)
        assert seen == [("client", WRITE | ERROR)]
        table.clear()


# Polls and registrations --------------------------------------------------------------------------------------


def test_it_has_levels_and_no_descriptor_of_its_own(backend: IocpBackend, table: WatcherTable) -> None:
    """A watcher can tell."""
    assert (backend.name, backend.edge, backend.wake_fd) == ("iocp", False, -1)
    assert len(table) == 0


def test_a_level_is_asked_for_again_after_the_callbacks(
    backend: IocpBackend, table: WatcherTable, port: ModelPort, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """One poll for each report, and the one that finds nothing stays."""
    near, far = make_pair()
    far.send(b"x")
    table.register(near.fileno(), READ, note(seen, "near"), edge=False)
    assert [backend.poll(0, table) for _ in range(3)] == [1, 1, 1]
    assert (port.submitted, len(in_flight(backend))) == (3, 0)
    near.recv(1)
    assert [backend.poll(0, table) for _ in range(3)] == [0, 0, 0]
    assert (port.submitted, len(in_flight(backend))) == (4, 1)


def test_narrower_interest_costs_nothing(
    backend: IocpBackend, table: WatcherTable, port: ModelPort, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """The poll goes on; its answer is masked, and the next one is asked for less."""
    near, far = make_pair()
    fill(near)
    watcher = table.register(near.fileno(), READ | WRITE, note(seen, "near"), edge=False)
    assert backend.poll(0, table) == 0
    watcher.modify(WRITE)
    far.send(b"x")
    assert backend.poll(0, table) == 0
    assert (port.cancelled, port.submitted) == (0, 2)
    watcher.modify(READ)
    assert port.cancelled == 1
    assert backend.poll(0, table) == 1
    assert seen == [("near", READ)]


def test_wider_interest_waits_for_the_cancellation(
    backend: IocpBackend, table: WatcherTable, port: ModelPort, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """No two polls of one socket; a wait that began meanwhile goes on to the event."""
    near, _far = make_pair()
    watcher = table.register(near.fileno(), READ, note(seen, "near"), edge=False)
    assert backend.poll(0, table) == 0
    port.slow = True
    watcher.modify(READ | WRITE)
    watcher.modify(WRITE)
    watcher.modify(READ | WRITE)
    assert backend.poll(0, table) == 0
    assert (port.cancelled, port.submitted) == (1, 1)
    port.slow = False
    assert backend.poll(-1, table) == 1
    assert seen == [("near", WRITE)]
    assert port.submitted == 2


def test_interest_that_changes_twice_is_cancelled_twice(
    backend: IocpBackend, table: WatcherTable, port: ModelPort, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """The poll after a cancelled one is a poll like any other."""
    near, far = make_pair()
    fill(near)
    watcher = table.register(near.fileno(), READ, note(seen, "near"), edge=False)
    for events in (WRITE, READ):
        assert backend.poll(0, table) == 0
        watcher.modify(events)
    assert port.cancelled == 2
    far.send(b"x")
    assert backend.poll(0, table) == 1
    assert seen == [("near", READ)]


def test_an_event_before_the_cancellation_is_an_event(
    backend: IocpBackend, table: WatcherTable, port: ModelPort, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """The poll was answered, the cancellation came too late: nothing is lost."""
    near, far = make_pair()
    fill(near)
    watcher = table.register(near.fileno(), READ, note(seen, "near"), edge=False)
    assert backend.poll(0, table) == 0
    far.send(b"x")
    port.look()
    watcher.modify(READ | WRITE)
    assert backend.poll(0, table) == 1
    assert seen == [("near", READ)]


def test_a_record_outlives_its_registration(
    backend: IocpBackend, table: WatcherTable, port: ModelPort, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """Removed, it is kept until the kernel has given it back, and not a moment longer."""
    near, _far = make_pair()
    watcher = table.register(near.fileno(), READ, note(seen, "near"), edge=False)
    backend.poll(0, table)
    (registration,) = in_flight(backend).values()
    record = weakref.ref(vars_of(registration))
    del registration
    port.slow = True
    watcher.unregister()
    backend.poll(0, table)
    assert record() is not None
    port.slow = False
    assert backend.poll(0, table) == 0
    assert record() is None
    assert seen == []


def vars_of(registration: object) -> PollRecord:
    """Return the record of a registration."""
    record = getattr(registration, "record", None)
    assert isinstance(record, PollRecord)
    return record


def test_the_model_notices_a_record_that_was_dropped(make_pair: Callable[[], Pair]) -> None:
    """A test of the tests: forget a record too early, use one again, ask twice, and it is told."""
    port = ModelPort()
    device = port.open_device()
    ends = [make_pair() for _ in range(3)]

    def ask(index: int, record: PollRecord) -> None:
        record.prepare(ends[index][0].fileno(), _afd.RECEIVE)
        port.submit(device, record)

    dropped, used, third, fourth = (PollRecord() for _ in range(4))
    ask(0, dropped)
    ask(1, used)
    used.prepare(ends[1][0].fileno(), _afd.SEND)
    ask(2, third)
    ask(2, fourth)
    ask(2, fourth)
    del dropped
    for _, far in ends:
        far.send(b"x")
    port.close()
    port.close_device(device)
    told = "\n".join(port.violations)
    assert "let go too early" in told
    assert "used again too early" in told
    assert "handed over before" in told
    assert "two polls" in told


def test_a_new_registration_waits_for_the_end_of_the_old_one(
    backend: IocpBackend, table: WatcherTable, port: ModelPort, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """The same socket, registered again before its cancellation has come back; then again, and removed."""
    near, far = make_pair()
    table.register(near.fileno(), READ, note(seen, "old"), edge=False).unregister()
    assert port.submitted == 0
    first = table.register(near.fileno(), READ, note(seen, "first"), edge=False)
    backend.poll(0, table)
    port.slow = True
    first.unregister()
    table.register(near.fileno(), READ, note(seen, "second"), edge=False).unregister()
    table.register(near.fileno(), READ, note(seen, "third"), edge=False)
    assert backend.poll(0, table) == 0
    assert port.submitted == 1
    far.send(b"x")
    assert backend.poll(-1, table) == 1
    assert seen == [("third", READ)]


def test_a_late_answer_is_not_for_the_successor(
    backend: IocpBackend, table: WatcherTable, port: ModelPort, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """The poll of the old registration was answered before it was removed; the new one has nothing to hear."""
    near, far = make_pair()
    old = table.register(near.fileno(), READ, note(seen, "old"), edge=False)
    backend.poll(0, table)
    far.send(b"x")
    port.look()
    old.unregister()
    near.recv(1)
    table.register(near.fileno(), READ, note(seen, "new"), edge=False)
    assert backend.poll(0, table) == 0
    far.send(b"y")
    assert backend.poll(0, table) == 1
    assert seen == [("new", READ)]


def test_a_number_used_again_within_a_batch(
    backend: IocpBackend, table: WatcherTable, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """The first of two ready sockets closes both and opens others under their numbers: those hear nothing of it."""
    pairs = [make_pair(), make_pair()]
    numbers = {near.fileno() for near, _ in pairs}
    others: list[socket.socket] = []

    def replace(events: int) -> None:
        seen.append(("first", events))
        table.clear()
        for near, _far in pairs:
            near.close()
        others.extend(make_pair())
        for end in others:
            assert end.fileno() in numbers
            table.register(end.fileno(), READ, note(seen, "other"), edge=False)

    for near, far in pairs:
        far.send(b"x")
        table.register(near.fileno(), READ, replace, edge=False)
    assert backend.poll(-1, table) == 1
    assert backend.poll(0, table) == 0
    others[0].send(b"y")
    assert backend.poll(-1, table) == 1
    assert seen == [("first", READ), ("other", READ)]


def test_a_number_used_again_while_its_poll_is_out(
    backend: IocpBackend, table: WatcherTable, port: ModelPort, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """Removed, closed, opened and registered again before the old poll has come back as closed."""
    near, _far = make_pair()
    number = near.fileno()
    old = table.register(number, READ, note(seen, "old"), edge=False)
    backend.poll(0, table)
    port.slow = True
    old.unregister()
    near.close()
    new, peer = make_pair()
    assert new.fileno() == number
    peer.send(b"x")
    table.register(number, READ, note(seen, "new"), edge=False)
    assert backend.poll(-1, table) == 1
    assert seen == [("new", READ)]


@pytest.mark.parametrize("asked", [False, True])
def test_closed_without_being_unregistered(
    *, asked: bool, backend: IocpBackend, table: WatcherTable, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """With a poll out, it comes back as closed; without one, the next is refused. Either way it is forgotten."""
    near, far = make_pair()
    watcher = table.register(near.fileno(), READ, note(seen, "near"), edge=False)
    if asked:
        backend.poll(0, table)
    near.close()
    far.close()
    assert backend.poll(0, table) == 0
    assert in_flight(backend) == {}
    with pytest.raises(OSError):
        watcher.modify(WRITE)
    watcher.unregister()
    assert seen == []


def test_the_successor_of_a_closed_socket_is_not_watched(
    backend: IocpBackend, table: WatcherTable, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """Another socket under the number of one that was closed without being unregistered is somebody else's."""
    near, _far = make_pair()
    number = near.fileno()
    watcher = table.register(number, READ, note(seen, "near"), edge=False)
    backend.poll(0, table)
    near.close()
    other, peer = make_pair()
    assert other.fileno() == number
    peer.send(b"x")
    assert backend.poll(0, table) == 0
    with pytest.raises(OSError):
        watcher.modify(READ | WRITE)
    watcher.unregister()
    assert seen == []


def test_a_modification_notices_another_socket(
    backend: IocpBackend, table: WatcherTable, make_pair: Callable[[], Pair]
) -> None:
    """Nothing is open under the number: the poll that is still out does not hide it."""
    near, _far = make_pair()
    watcher = table.register(near.fileno(), READ, lambda events: None, edge=False)
    backend.poll(0, table)
    near.close()
    with pytest.raises(OSError):
        watcher.modify(WRITE)
    watcher.unregister()


def test_only_sockets_can_be_watched(
    backend: IocpBackend, table: WatcherTable, make_pipe: Callable[[], tuple[int, int]]
) -> None:
    """The refusal leaves nothing behind."""
    reader, _writer = make_pipe()
    with pytest.raises(OSError) as caught:
        table.register(reader, READ, lambda events: None, edge=False)
    assert caught.value.errno == errno.ENOTSOCK
    assert len(table) == 0


def test_what_an_exception_has_orphaned_is_replaced(
    backend: IocpBackend, table: WatcherTable, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """A registration of which the table knows nothing gives way to the next."""
    near, far = make_pair()
    backend.add(near.fileno(), READ, edge=False)
    backend.poll(0, table)
    far.send(b"x")
    table.register(near.fileno(), READ, note(seen, "near"), edge=False)
    assert backend.poll(-1, table) == 1
    assert seen == [("near", READ)]


def test_a_poll_that_fails_is_an_error(
    backend: IocpBackend, table: WatcherTable, port: ModelPort, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """In the call or later: the watcher hears ERROR, and it is tried again."""
    near, far = make_pair()
    table.register(near.fileno(), READ, note(seen, "near"), edge=False)
    port.submit_error = OSError(errno.ENOMEM, "no memory")
    assert [backend.poll(-1, table) for _ in range(2)] == [1, 1]
    port.submit_error = None
    assert backend.poll(0, table) == 0
    port.fail(near.fileno(), 0xC000009A)  # STATUS_INSUFFICIENT_RESOURCES
    assert backend.poll(-1, table) == 1
    assert seen == [("near", ERROR)] * 3
    far.send(b"x")
    assert backend.poll(0, table) == 1
    assert seen[3:] == [("near", READ)]


def test_an_answer_without_events_is_asked_again(
    backend: IocpBackend, table: WatcherTable, port: ModelPort, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """Successful, and nothing found: no event."""
    near, far = make_pair()
    table.register(near.fileno(), READ, note(seen, "near"), edge=False)
    backend.poll(0, table)
    port.fail(near.fileno(), _afd.STATUS_SUCCESS)
    assert backend.poll(0, table) == 0
    far.send(b"x")
    assert backend.poll(0, table) == 1


def test_a_cancellation_that_fails_leaves_the_record_where_it_is(
    backend: IocpBackend,
    table: WatcherTable,
    port: ModelPort,
    monkeypatch: pytest.MonkeyPatch,
    make_pair: Callable[[], Pair],
) -> None:
    """Removing never fails; the end of the socket ends the poll."""
    near, _far = make_pair()
    watcher = table.register(near.fileno(), READ, lambda events: None, edge=False)
    backend.poll(0, table)

    def fail(device: int, record: PollRecord) -> None:
        raise OSError(errno.EIO, "no")

    with monkeypatch.context() as patch:
        patch.setattr(port, "cancel", fail)
        watcher.unregister()
    assert len(in_flight(backend)) == 1
    near.close()
    assert backend.poll(0, table) == 0
    assert in_flight(backend) == {}


def test_a_completion_of_a_pending_record_is_not_believed(
    backend: IocpBackend, table: WatcherTable, port: ModelPort, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """Nor is one of no record at all."""
    near, far = make_pair()
    table.register(near.fileno(), READ, note(seen, "near"), edge=False)
    backend.poll(0, table)
    (address,) = in_flight(backend)
    port.queue.extend([address, 8])
    assert backend.poll(0, table) == 0
    assert set(in_flight(backend)) == {address}
    far.send(b"x")
    assert backend.poll(0, table) == 1


def test_thirty_two_sockets_share_a_handle(
    backend: IocpBackend, table: WatcherTable, port: ModelPort, make_pair: Callable[[], Pair]
) -> None:
    """The next gets another handle; a handle without sockets is closed while there is room elsewhere."""
    ends = [end for _ in range(35) for end in make_pair()]
    watchers = [table.register(end.fileno(), READ, lambda events: None, edge=False) for end in ends]
    assert backend.poll(0, table) == 0
    assert sorted(port.devices.values()) == [6, 32, 32]
    for watcher in watchers:
        watcher.unregister()
    assert backend.poll(0, table) == 0
    assert list(port.devices.values()) == [0]


# Waiting ------------------------------------------------------------------------------------------------------


def test_waits_are_rounded_up_and_cut_into_slices(
    backend: IocpBackend, table: WatcherTable, port: ModelPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No wait is longer than a second, so that Ctrl+C has its chance; none is shorter than asked."""
    now = [0]
    waits: list[int] = []

    def wait(capacity: int, timeout_ms: int) -> int:
        waits.append(timeout_ms)
        now[0] += max(timeout_ms * 1_000_000 - 400_000, 0)  # the tick of the clock came before the end
        return 0

    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic_ns", lambda: now[0])
        patch.setattr(port, "wait", wait)
        for timeout_ns, expected in [
            (0, [0]),
            (1, [1]),
            (1_000_001, [2]),
            (2_000_000, [2, 1]),
            (2_500_000_000, [1_000, 1_000, 501]),
        ]:
            waits.clear()
            now[0] = 0
            assert backend.poll(timeout_ns, table) == 0
            assert waits[: len(expected)] == expected
            assert now[0] >= timeout_ns


def test_a_wait_without_limit_is_a_wait_in_slices(
    backend: IocpBackend, table: WatcherTable, port: ModelPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on until something comes."""
    waits: list[int] = []

    def wait(capacity: int, timeout_ms: int) -> int:
        waits.append(timeout_ms)
        if len(waits) == 3:
            raise KeyboardInterrupt
        return 0

    with monkeypatch.context() as patch:
        patch.setattr(port, "wait", wait)
        with pytest.raises(KeyboardInterrupt):
            backend.poll(-1, table)
    assert waits == [1_000] * 3
    assert backend.poll(0, table) == 0


def test_many_wake_ups_are_one(backend: IocpBackend, table: WatcherTable, port: ModelPort) -> None:
    """The port gets the first, and another one once that was taken out."""
    for _ in range(3):
        for _ in range(1_000):
            backend.wake()
        assert len(port.queue) == 1
        assert backend.poll(-1, table) == 0


def test_a_wake_up_that_fails_does_not_silence_the_next(
    backend: IocpBackend, table: WatcherTable, port: ModelPort
) -> None:
    """Whatever has come between."""
    port.interrupt = "before post"
    with pytest.raises(KeyboardInterrupt):
        backend.wake()
    backend.wake()
    assert backend.poll(-1, table) == 0


def test_the_capacity_follows_the_load(
    backend: IocpBackend, table: WatcherTable, port: ModelPort, make_pair: Callable[[], Pair]
) -> None:
    """A full batch doubles it, an almost empty one halves it."""
    calls: list[int] = []
    ends = [end for _ in range(70) for end in make_pair()]
    for end in ends:
        table.register(end.fileno(), WRITE, calls.append, edge=False)

    def capacity() -> int:
        return int(vars(backend)["_capacity"])

    sizes = [(backend.poll(0, table), capacity()) for _ in range(4)]
    assert sizes == [(64, 128), (128, 256), (140, 256), (140, 256)]
    assert calls == [WRITE] * (64 + 128 + 140 + 140)
    for end in ends[2:]:
        table.find(end.fileno()).unregister()  # type: ignore[union-attr]
    for _ in range(4):
        backend.poll(0, table)
    assert capacity() == 64


def test_the_capacity_has_limits(
    backend: IocpBackend, table: WatcherTable, port: ModelPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From 64 to 4096 completions at a time."""
    ready = [0]
    asked: list[int] = []

    def wait(capacity: int, timeout_ms: int) -> int:
        asked.append(capacity)
        count = min(ready[0], capacity)
        ready[0] = 0
        return count

    with monkeypatch.context() as patch:
        patch.setattr(port, "wait", wait)
        patch.setattr(port, "completed", lambda index: 0)
        for _ in range(8):
            ready[0] = 10_000
            backend.poll(0, table)
        assert asked == [64, 128, 256, 512, 1_024, 2_048, 4_096, 4_096]
        asked.clear()
        for _ in range(8):
            ready[0] = 1
            backend.poll(0, table)
        assert asked == [4_096, 2_048, 1_024, 512, 256, 128, 64, 64]


def test_what_is_behind_stale_completions_is_found(
    backend: IocpBackend, table: WatcherTable, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """More cancellations than one look takes out, and an event behind them: one poll reports it."""
    ends = [end for _ in range(50) for end in make_pair()]
    for end in ends:
        table.register(end.fileno(), READ, note(seen, "end"), edge=False)
    backend.poll(0, table)
    for end in ends[2:]:
        table.find(end.fileno()).unregister()  # type: ignore[union-attr]
    backend._port.cancel(0, PollRecord())  # the model looks: 98 cancellations are queued
    ends[1].send(b"x")
    assert backend.poll(0, table) == 1
    assert seen == [("end", READ)]


# Interruptions ------------------------------------------------------------------------------------------------

PLACES = [
    "before submit",
    "after submit",
    "after wait",
    "at completion 0",
    "at completion 1",
    "before release",
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("then", ["poll", "modify", "replace", "remove", "close"])
def test_an_interruption_anywhere_loses_nothing(
    *, place: str, then: str, backend: IocpBackend, table: WatcherTable, port: ModelPort, make_pair: Callable[[], Pair]
) -> None:
    """Ctrl+C between two steps; afterwards, whatever is done first, everybody registered hears what there is."""
    pairs = [make_pair() for _ in range(3)]
    heard: set[tuple[int, str]] = set()

    def watch(end: socket.socket, name: str) -> None:
        table.register(end.fileno(), READ, lambda _events: heard.add((end.fileno(), name)), edge=False)

    for near, far in pairs:
        watch(near, "old")
        far.send(b"x")
    port.interrupt = place
    with pytest.raises(KeyboardInterrupt):
        backend.poll(-1, table)
    first = pairs[0][0]
    watcher = table.find(first.fileno())
    assert watcher is not None
    expected = {(near.fileno(), "old") for near, _ in pairs}
    if then == "modify":
        watcher.modify(READ | WRITE)
        watcher.modify(READ)
    elif then in {"replace", "remove", "close"}:
        watcher.unregister()
        expected.remove((first.fileno(), "old"))
        if then == "replace":
            gc.collect()
            watch(first, "new")
            expected.add((first.fileno(), "new"))
    if then == "close":
        return  # the fixture does it, and looks
    heard.clear()
    for _ in range(2):
        backend.poll(0, table)
    assert heard == expected


def interrupted_before(line: int, make_pair: Callable[[], Pair]) -> bool:
    """Interrupt a poll with sockets in every state, look whether all is well, and tell whether there was that line."""
    port = ModelPort()
    backend = IocpBackend(port)
    failures: list[Exception] = []
    table = WatcherTable(backend, lambda error, owner: failures.append(error))
    heard: dict[str, int] = {}

    def watch(name: str, events: int) -> Watcher:
        def listen(told: int) -> None:
            heard[name] = heard.get(name, 0) | told

        return table.register(pairs[name][0].fileno(), events, listen, edge=False)

    pairs = {name: make_pair() for name in ("ready", "idle", "wider", "removed", "replaced", "closed", "new")}
    watchers = {name: watch(name, READ) for name in pairs if name != "new"}
    backend.poll(0, table)
    for name in ("ready", "idle"):
        pairs[name][1].send(b"x")
    backend.poll(0, table)
    pairs["idle"][0].recv(1)
    watchers["wider"].modify(READ | WRITE)
    watchers["removed"].unregister()
    watchers["replaced"].unregister()
    watch("replaced", WRITE)
    pairs["closed"][0].close()
    backend.wake()
    with CtrlC(line) as ctrl_c:
        backend.poll(0, table)
    watch("new", WRITE)  # whose record must not be mistaken for one that was given back at the same address
    heard.clear()
    expected = {"ready": READ, "wider": WRITE, "replaced": WRITE, "new": WRITE}
    assert backend.poll(0, table) == len(expected)
    assert heard == expected
    backend.wake()
    assert backend.poll(-1, table) == len(expected)
    users = sum(device.users for device in vars(backend)["_roomy"])
    assert users >= len(vars(backend)["_registered"]) + len(vars(backend)["_draining"])
    table.clear()
    backend.close()
    assert (in_flight(backend), port.outstanding(), port.violations, failures) == ({}, set(), [], [])
    for pair in pairs.values():
        for end in pair:
            end.close()
    return ctrl_c.came


def test_an_interruption_before_any_line_loses_nothing(make_pair: Callable[[], Pair]) -> None:
    """One line after the other, as long as there are lines."""
    line = 1
    while interrupted_before(line, make_pair):
        line += 1
    assert line > 100


def test_a_base_exception_in_a_callback_loses_nothing(
    backend: IocpBackend, table: WatcherTable, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """Levels come again."""
    pairs = [make_pair() for _ in range(4)]

    def first(events: int, near: socket.socket) -> None:
        seen.append((str(near.fileno()), events))
        if len(seen) == 1:
            raise KeyboardInterrupt

    for near, far in pairs:
        far.send(b"x")
        table.register(near.fileno(), READ, lambda events, near=near: first(events, near), edge=False)  # type: ignore[misc]
    with pytest.raises(KeyboardInterrupt):
        backend.poll(-1, table)
    assert backend.poll(0, table) == 4


def test_an_exception_in_a_callback_is_reported(
    backend: IocpBackend, table: WatcherTable, failures: list[Exception], make_pair: Callable[[], Pair]
) -> None:
    """The batch goes on."""

    def fail(_events: int) -> None:
        raise RuntimeError

    for end in make_pair():
        table.register(end.fileno(), WRITE, fail, edge=False)
    assert backend.poll(-1, table) == 2
    assert [type(each) for each in failures] == [RuntimeError] * 2


# The end ------------------------------------------------------------------------------------------------------


def test_closing_waits_for_the_polls(port: ModelPort, make_pair: Callable[[], Pair]) -> None:
    """All are cancelled, and their records come home, with a wake-up between them; twice is once."""
    backend = IocpBackend(port)
    table = WatcherTable(backend, lambda error, owner: None)
    for end in make_pair():
        table.register(end.fileno(), READ, lambda events: None, edge=False)
    backend.poll(0, table)
    backend.wake()
    assert len(port.records) == 2
    backend.close()
    backend.close()
    assert (in_flight(backend), port.outstanding(), len(port.records)) == ({}, set(), 0)
    assert id(in_flight(backend)) not in iocp._records


def test_what_does_not_come_home_is_kept(
    port: ModelPort, make_pair: Callable[[], Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that never answers may answer after all, when the backend is long gone: the memory stays."""
    monkeypatch.setattr(iocp, "_CLOSE_MS", 1)
    monkeypatch.setattr(iocp, "_records", {})
    backend = IocpBackend(port)
    table = WatcherTable(backend, lambda error, owner: None)
    near, _far = make_pair()
    table.register(near.fileno(), READ, lambda events: None, edge=False)
    backend.poll(0, table)
    port.deaf = True
    backend.close()
    del backend, table
    gc.collect()
    assert len(port.records) == 1
    port.deaf = False
    near.close()
    port.look()
    assert port.violations == []
    port.devices.clear()


def test_a_backend_that_nobody_closed_keeps_its_records(
    port: ModelPort, make_pair: Callable[[], Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The garbage collector does not know what the kernel has."""
    monkeypatch.setattr(iocp, "_records", {})
    backend = IocpBackend(port)
    table = WatcherTable(backend, lambda error, owner: None)
    near, far = make_pair()
    table.register(near.fileno(), READ, lambda events: None, edge=False)
    backend.poll(0, table)
    del backend, table
    gc.collect()
    assert len(port.records) == 1
    far.send(b"x")
    port.look()


def test_a_loop_runs_on_it(port: ModelPort, make_pair: Callable[[], Pair]) -> None:
    """Timers, calls from another thread, an echo: the whole of it."""
    near, far = make_pair()
    got: list[bytes] = []
    with Loop(IocpBackend(port)) as loop:

        def echo(_events: int) -> None:
            far.send(far.recv(100))

        def receive(_events: int) -> None:
            got.append(near.recv(100))
            if len(got) == 3:
                loop.stop()
            else:
                loop.call_later(0.001, lambda: near.send(b"again"))

        loop.register(far, READ, echo)
        loop.register(near, READ, receive)
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(lambda: near.send(b"once"),))
        thread.start()
        loop.run()
        thread.join()
    assert got == [b"once", b"again", b"again"]
    assert len(port.records) == 0


# Windows' side of the port ------------------------------------------------------------------------------------


class Calls:
    """Made-up results of the calls, and a list of what was called."""

    def __init__(self) -> None:
        self.log: list[tuple[object, ...]] = []
        self.error = 0
        self.results: dict[str, int] = {}
        self.layers: dict[tuple[int, int], int] = {}
        self.batches: list[list[int]] = []
        self.count_on_timeout = 1

    def system(self) -> System:
        """Make the calls."""

        class Simple:
            """A call that always has the same result."""

            def __init__(self, calls: Calls, name: str, result: int) -> None:
                self.calls, self.name, self.result = calls, name, result

            def __call__(self, *arguments: object) -> int:
                self.calls.log.append((self.name, *arguments))
                return self.calls.results.get(self.name, self.result)

        def simple(name: str, result: int) -> Simple:
            return Simple(self, name, result)

        def remove(  # noqa: PLR0917
            port: int, entries: int, capacity: int, count: int, timeout_ms: int, alertable: int
        ) -> int:
            self.log.append(("remove", port, capacity, timeout_ms, alertable))
            if not self.batches:
                ctypes.c_uint32.from_address(count).value = self.count_on_timeout
                return 0
            batch = self.batches.pop(0)
            ctypes.c_uint32.from_address(count).value = len(batch)
            words = (ctypes.c_size_t * (4 * capacity)).from_address(entries)
            for index, address in enumerate(batch):
                words[4 * index + 1] = address
            return 1

        def socket_control(  # noqa: PLR0917
            handle: int, code: int, given: int, size: int, out: int, room: int, returned: int, _a: int, _b: int
        ) -> int:
            self.log.append(("socket_control", handle, code, given, size, room))
            base = self.layers.get((handle, code))
            if base is None:
                return -1
            ctypes.c_size_t.from_address(out).value = base
            ctypes.c_uint32.from_address(returned).value = room
            return 0

        return System(
            create_port=simple("create_port", 70),
            create_file=simple("create_file", 80),
            set_modes=simple("set_modes", 1),
            control=simple("control", 1),
            cancel=simple("cancel", 1),
            remove=remove,
            post=simple("post", 1),
            close_handle=simple("close_handle", 1),
            socket_control=socket_control,
            last_error=lambda: self.error,
        )


@pytest.fixture
def calls() -> Calls:
    """Make up results."""
    return Calls()


def test_there_are_no_completion_ports_elsewhere() -> None:
    """The refusal is an OSError, as for every backend that the system lacks."""
    with pytest.raises(OSError):
        IocpBackend()


@pytest.mark.interpreted
def test_windows_has_the_backend_by_name(port: ModelPort, monkeypatch: pytest.MonkeyPatch) -> None:
    """It opens a port of its own when it is made and not before."""
    monkeypatch.setattr(iocp, "WindowsPort", lambda: port)
    monkeypatch.setattr(sys, "platform", "win32")
    assert "iocp" in available()
    backend = create("iocp")
    monkeypatch.undo()
    assert isinstance(backend, IocpBackend)
    assert not port.closed
    backend.close()
    assert port.closed


def test_a_port_and_a_handle_of_the_driver(calls: Calls) -> None:
    """Opened for overlapped polls, tied to the port, closed with it."""
    port = WindowsPort(calls.system())
    device = port.open_device()
    port.post()
    port.close()
    port.close()
    assert device == 80
    invalid = (1 << (8 * WORD)) - 1
    assert calls.log == [
        ("create_port", invalid, 0, 0, 1),
        ("create_file", r"\\.\GLOBALROOT\Device\Afd\nimloop", 0x100000, 3, 0, 3, 0x40000000, 0),
        ("create_port", 80, 70, 0, 0),
        ("set_modes", 80, 2),
        ("post", 70, 0, 0, 0),
        ("close_handle", 80),
        ("close_handle", 70),
    ]


@pytest.mark.parametrize(
    ("call", "result"), [("create_file", (1 << (8 * WORD)) - 1), ("create_port", 0), ("set_modes", 0)]
)
def test_a_handle_that_cannot_be_had(call: str, result: int, calls: Calls) -> None:
    """The error names the call; what was opened is closed."""
    port = WindowsPort(calls.system())
    calls.results[call] = result
    calls.error = 5
    with pytest.raises(PermissionError, match="Windows error 5"):
        port.open_device()
    opened = call != "create_file"
    assert (("close_handle", 80) in calls.log) is opened
    calls.results.clear()
    port.close()
    assert calls.log.count(("close_handle", 80)) == opened


def test_no_port_and_no_post(calls: Calls) -> None:
    """An unknown error is an OSError all the same."""
    calls.error = 1234
    calls.results["create_port"] = 0
    with pytest.raises(OSError, match="1234"):
        WindowsPort(calls.system())
    calls.results = {"post": 0}
    with pytest.raises(OSError, match="1234"):
        WindowsPort(calls.system()).post()


def test_the_socket_underneath(calls: Calls) -> None:
    """At once; or a layer down, where a layer refuses; or an error instead of a circle."""
    port = WindowsPort(calls.system())
    base, below = _port.SIO_BASE_HANDLE, _port.SIO_BSP_HANDLE_POLL
    calls.error = 10022
    calls.layers = {(4, base): 4, (8, below): 12, (12, below): 16, (16, base): 20, (24, below): 24}
    assert port.base_handle(4) == 4
    assert port.base_handle(8) == 20
    with pytest.raises(OSError, match="layered service provider"):
        port.base_handle(24)
    with pytest.raises(OSError, match="10022"):
        port.base_handle(28)
    calls.error = _port.WSAENOTSOCK
    with pytest.raises(OSError, match="only sockets") as caught:
        port.base_handle(32)
    assert caught.value.errno == errno.ENOTSOCK
    assert calls.log[-1] == ("socket_control", 32, base, 0, 0, WORD)


def test_a_poll_in_the_words_of_windows(calls: Calls) -> None:
    """Pending is success, and so is success; a closed socket and others are errors that leave the record ours."""
    port = WindowsPort(calls.system())
    record = PollRecord()
    record.prepare(4, _afd.RECEIVE)
    port.submit(80, record)
    info = record.address + _afd.INFO_OFFSET
    assert calls.log[-1] == ("control", 80, 0x12024, info, 32, info, 32, 0, record.address)
    calls.results["control"] = 0
    calls.error = _port.ERROR_IO_PENDING
    port.submit(80, record)
    assert record.submitted
    for code, number in [(_port.ERROR_INVALID_HANDLE, errno.EBADF), (1450, errno.ENOMEM), (87, errno.EIO)]:
        calls.error = code
        with pytest.raises(OSError) as caught:
            port.submit(80, record)
        assert caught.value.errno == number
        assert not record.submitted


def test_a_cancellation_in_the_words_of_windows(calls: Calls) -> None:
    """One that finds nothing is none the worse."""
    port = WindowsPort(calls.system())
    record = PollRecord()
    port.cancel(80, record)
    assert calls.log[-1] == ("cancel", 80, record.address)
    calls.results["cancel"] = 0
    calls.error = _port.ERROR_NOT_FOUND
    port.cancel(80, record)
    calls.error = _port.ERROR_INVALID_HANDLE
    with pytest.raises(OSError):
        port.cancel(80, record)


@pytest.mark.skipif(WORD != 8, reason="the made-up kernel writes 64-bit entries")
def test_a_wait_in_the_words_of_windows(calls: Calls) -> None:
    """Completions are held until released; a timeout has none, whatever the count says; other failures are errors."""
    port = WindowsPort(calls.system())
    calls.batches = [[8, 0, 24]]
    assert port.wait(64, 500) == 3
    assert calls.log[-1] == ("remove", 70, 64, 500, 0)
    assert port.wait(64, 500) == 3
    assert [port.completed(index) for index in range(3)] == [8, 0, 24]
    assert calls.log.count(("remove", 70, 64, 500, 0)) == 1
    port.release()
    calls.error = _port.WAIT_TIMEOUT
    assert port.wait(128, 0) == 0
    port.release()
    calls.error = 6
    with pytest.raises(OSError):
        port.wait(64, 0)
    calls.batches = [[32]]
    assert port.wait(64, 0) == 1
    assert port.completed(0) == 32


@pytest.mark.skipif(WORD != 8, reason="the made-up kernel writes 64-bit entries")
def test_an_interrupted_timeout_is_not_taken_for_a_completion(calls: Calls) -> None:
    """Ctrl+C after a timeout with a count of 1: the leftover is a wake-up, not the last completion once more."""
    port = WindowsPort(calls.system())
    calls.batches = [[8]]
    port.wait(64, 0)
    port.release()
    calls.error = _port.WAIT_TIMEOUT
    system = calls.system()

    def interrupt() -> int:
        raise KeyboardInterrupt

    broken = System(**{name: getattr(system, name) for name in System.__slots__} | {"last_error": interrupt})
    vars(port)["_system"] = broken
    vars(port)["_count"].value = 1  # as if the exception had come one step earlier
    assert port.wait(64, 0) == 1
    assert port.completed(0) == 0


# Random lives -------------------------------------------------------------------------------------------------

SLOTS = 4
slots = st.integers(0, SLOTS - 1)
interests = st.sampled_from([0, READ, WRITE, READ | WRITE])


class Life(RuleBasedStateMachine):
    """Sockets are opened, registered, modified, removed and closed in any order, with cancellations that dawdle."""

    def __init__(self) -> None:
        super().__init__()
        self.port = ModelPort()
        self.backend = IocpBackend(self.port)
        self.table = WatcherTable(self.backend, lambda error, owner: None)
        self.pairs: list[Pair | None] = [None] * SLOTS
        self.current: dict[int, int] = {}  # the registration of a descriptor
        self.interest: dict[int, int] = {}  # and what it waits for
        self.serial = 0
        self.heard: dict[int, int] = {}

    def pair(self, slot: int) -> Pair:
        """Return the sockets of a slot, opened if need be."""
        pair = self.pairs[slot]
        if pair is None:
            pair = socket.socketpair()
            for end in pair:
                end.setblocking(False)
            self.pairs[slot] = pair
        return pair

    def on_events(self, fd: int, serial: int, events: int) -> None:
        """Be the callback registered last, be asked for, and be told something."""
        assert self.current[fd] == serial
        assert events
        assert events & (READ | WRITE) & ~self.interest[fd] == 0
        self.heard[fd] = self.heard.get(fd, 0) | events

    @rule(slot=slots, events=interests)
    def register(self, slot: int, events: int) -> None:
        """Register, or register again."""
        fd = self.pair(slot)[0].fileno()
        old = self.table.find(fd)
        if old is not None:
            old.unregister()
        self.serial += 1
        serial = self.serial
        self.current[fd] = serial
        self.interest[fd] = events
        self.table.register(fd, events, lambda told: self.on_events(fd, serial, told), edge=False)

    @rule(slot=slots, storm=st.lists(interests, min_size=1, max_size=5))
    def modify(self, slot: int, storm: list[int]) -> None:
        """Change the interest, some times in a row."""
        fd = self.pair(slot)[0].fileno()
        watcher = self.table.find(fd)
        if watcher is not None:
            for events in storm:
                watcher.modify(events)
                self.interest[fd] = events

    @rule(slot=slots)
    def unregister(self, slot: int) -> None:
        """Forget a descriptor that stays open."""
        watcher = self.table.find(self.pair(slot)[0].fileno())
        if watcher is not None:
            watcher.unregister()

    @rule(slot=slots, tidy=st.booleans())
    def close(self, slot: int, tidy: bool) -> None:  # noqa: FBT001
        """Close a pair: unregistered before, or (which is a mistake) after; the numbers are used again."""
        near, far = self.pair(slot)
        watcher = self.table.find(near.fileno())
        if watcher is not None and tidy:
            watcher.unregister()
        near.close()
        far.close()
        if watcher is not None and not tidy:
            watcher.unregister()
        self.pairs[slot] = None

    @rule(slot=slots)
    def send(self, slot: int) -> None:
        """Make the near end readable."""
        try:
            self.pair(slot)[1].send(b"x")
        except (BlockingIOError, BrokenPipeError):
            pass

    @rule(slot=slots)
    def receive(self, slot: int) -> None:
        """Make it silent again."""
        try:
            self.pair(slot)[0].recv(65_536)
        except BlockingIOError:
            pass

    @rule(slot=slots)
    def fill(self, slot: int) -> None:
        """Leave no room to write."""
        try:
            fill(self.pair(slot)[0])
        except BrokenPipeError:
            pass

    @rule(slot=slots)
    def drain(self, slot: int) -> None:
        """Make room again."""
        try:
            while self.pair(slot)[1].recv(1 << 20):
                pass
        except BlockingIOError:
            pass

    @rule(slot=slots)
    def hang_up(self, slot: int) -> None:
        """End the far side."""
        self.pair(slot)[1].shutdown(socket.SHUT_WR)

    @rule(slow=st.booleans())
    def dawdle(self, slow: bool) -> None:  # noqa: FBT001
        """Let cancellations take their time, or hurry."""
        self.port.slow = slow

    @rule()
    def look(self) -> None:
        """Let the kernel notice what is true now, before it changes."""
        self.port.look()

    @rule()
    def wake(self) -> None:
        """Wake, in vain."""
        self.backend.wake()

    @rule()
    def poll(self) -> None:
        """Dispatch."""
        self.backend.poll(0, self.table)

    @rule(place=st.sampled_from(PLACES))
    def interrupt(self, place: str) -> None:
        """Press Ctrl+C at some step, if it is reached."""
        self.port.interrupt = place
        try:
            self.backend.poll(0, self.table)
        except KeyboardInterrupt:
            pass
        self.port.interrupt = ""

    @rule()
    def settle(self) -> None:
        """With everything noticed, one batch tells everybody exactly what poll(2) says."""
        self.port.slow = False
        for _ in range(2):
            self.backend.poll(0, self.table)
        self.heard.clear()
        self.backend.poll(0, self.table)
        for pair in self.pairs:
            if pair is None:
                continue
            fd = pair[0].fileno()
            watcher = self.table.find(fd)
            if watcher is None:
                assert fd not in self.heard
            else:
                found = self.port._conditions(fd, os.fstat(fd).st_ino)
                assert self.heard.get(fd, 0) == iocp._mask(found, watcher.events)

    @invariant()
    def no_rule_is_broken(self) -> None:
        """The kernel has met no record that it should not have."""
        assert self.port.violations == []

    @invariant()
    def every_record_is_accounted_for(self) -> None:
        """What the kernel has is kept; what is kept is registered, or on its way back."""
        kept = in_flight(self.backend)
        assert self.port.outstanding() <= set(kept) <= self.port.outstanding() | self.port.held()
        registered = {id(each) for each in vars(self.backend)["_registered"].values()}
        draining = {id(each) for each in vars(self.backend)["_draining"].values()}
        assert registered & draining == set()
        assert {id(each) for each in kept.values()} <= registered | draining
        assert draining <= {id(each) for each in kept.values()}
        assert len(self.port.records) <= len(registered) + len(draining)

    def teardown(self) -> None:
        """Close with whatever is out: everything comes home."""
        self.port.slow = False
        try:
            self.table.clear()
            self.backend.close()
        finally:
            self.port.close()
            for pair in self.pairs:
                for end in pair or ():
                    end.close()
        self.no_rule_is_broken()
        assert in_flight(self.backend) == {}
        assert self.port.outstanding() == set()
        assert len(self.port.records) == 0


def case(machine: type[Life]) -> type:
    """Make a test of the machine."""
    found: type = machine.TestCase
    found.settings = settings(stateful_step_count=50)  # type: ignore[attr-defined]
    return found


TestLives = case(Life)
