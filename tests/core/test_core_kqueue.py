"""The kqueue backend, and what it stands on: the kernel's own queue where there is one, the stand-in where epoll is."""

from __future__ import annotations

import errno
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core import kqueue_standin as standin
from tests.core.seeing import Pair, Pipe, Seen, note
from tests.support.sockets import reset

from nimloop_core import ERROR, HUP, READ, WRITE, Loop, Watcher, WatcherTable
from nimloop_core.backends import available, create
from nimloop_core.backends.kqueue import Kevent, KqueueApi, KqueueBackend

assert sys.platform != "win32"  # for type checkers, to whom Windows has no such names

ADD = standin.EV_ADD
DELETE = standin.EV_DELETE
CLEAR = standin.EV_CLEAR
TO_READ = standin.FILTER_READ
TO_WRITE = standin.FILTER_WRITE


def queues() -> list[standin.StandIn]:
    """Give what this system has of the stand-in and the real thing: what is said of the one must hold for the other."""
    found = []
    if standin.AVAILABLE:
        found.append(standin.StandIn())
    if hasattr(select, "kqueue"):
        found.append(cast("standin.StandIn", select))
    return found


@pytest.fixture(params=queues(), ids=lambda api: "stand-in" if isinstance(api, standin.StandIn) else "kernel")
def api(request: pytest.FixtureRequest) -> standin.StandIn:
    """Use each of them in turn."""
    return cast("standin.StandIn", request.param)


@pytest.fixture
def queue(api: standin.StandIn) -> Iterator[standin.Queue]:
    """Open a queue."""
    queue = api.kqueue()
    yield queue
    queue.close()


@pytest.fixture
def backend(api: standin.StandIn) -> Iterator[KqueueBackend]:
    """Make a backend on its own."""
    backend = KqueueBackend(api)
    yield backend
    backend.close()


def drain(fd: int) -> None:
    """Read all there is."""
    try:
        while os.read(fd, 65_536):
            pass
    except BlockingIOError:
        pass


def names(events: Sequence[Kevent]) -> list[tuple[int, int]]:
    """Tell which events there are, in a settled order."""
    return sorted((event.ident, event.filter) for event in events)


# The queue: registration --------------------------------------------------------------------------------------


def test_what_is_ready_before_it_is_added_is_reported(
    api: standin.StandIn, queue: standin.Queue, make_pipe: Callable[[], Pipe]
) -> None:
    """The filter runs on registration, to detect a condition that is present; `data` counts the bytes."""
    reader, writer = make_pipe()
    os.write(writer, b"four")
    (event,) = queue.control([api.kevent(reader, TO_READ, ADD)], 8, 0)
    assert (event.ident, event.filter, event.data, event.fflags) == (reader, TO_READ, 4, 0)
    assert not event.flags & (standin.EV_EOF | standin.EV_ERROR)


def test_one_event_for_each_descriptor_and_filter(
    api: standin.StandIn, queue: standin.Queue, make_pair: Callable[[], Pair]
) -> None:
    """Adding twice makes no duplicate, and reading and writing are two events."""
    near, far = make_pair()
    far.send(b"x")
    add = [api.kevent(near.fileno(), which, ADD) for which in (TO_READ, TO_WRITE, TO_READ)]
    assert names(queue.control(add, 8, 0)) == sorted([(near.fileno(), TO_READ), (near.fileno(), TO_WRITE)])


def test_adding_again_replaces_the_user_data(
    api: standin.StandIn, queue: standin.Queue, make_pipe: Callable[[], Pipe]
) -> None:
    """It modifies the parameters of the event, which hands them back."""
    _reader, writer = make_pipe()
    for number in (7, 8):
        queue.control([api.kevent(writer, TO_WRITE, ADD, 0, 0, number)], 0, 0)
    (event,) = queue.control(None, 8, 0)
    assert event.udata == 8
    assert event.data > 0


def test_what_is_not_there_cannot_be_deleted_or_enabled(
    api: standin.StandIn, queue: standin.Queue, make_pipe: Callable[[], Pipe]
) -> None:
    """ENOENT, for each filter by itself."""
    reader, _writer = make_pipe()
    queue.control([api.kevent(reader, TO_READ, ADD)], 0, 0)
    for which, flags in ((TO_WRITE, DELETE), (TO_WRITE, standin.EV_ENABLE), (TO_WRITE, standin.EV_DISABLE)):
        with pytest.raises(FileNotFoundError):
            queue.control([api.kevent(reader, which, flags)], 0, 0)
    queue.control([api.kevent(reader, TO_READ, DELETE)], 0, 0)
    with pytest.raises(FileNotFoundError):
        queue.control([api.kevent(reader, TO_READ, DELETE)], 0, 0)


def test_what_is_not_open_cannot_be_changed(
    api: standin.StandIn, queue: standin.Queue, make_pipe: Callable[[], Pipe]
) -> None:
    """EBADF."""
    reader, _writer = make_pipe()
    queue.control([api.kevent(reader, TO_READ, ADD)], 0, 0)
    os.close(reader)
    for flags in (ADD, DELETE):
        with pytest.raises(OSError) as caught:
            queue.control([api.kevent(reader, TO_READ, flags)], 0, 0)
        assert caught.value.errno == errno.EBADF


def test_an_unknown_filter_is_invalid(
    api: standin.StandIn, queue: standin.Queue, make_pipe: Callable[[], Pipe]
) -> None:
    """EINVAL."""
    reader, _writer = make_pipe()
    with pytest.raises(OSError) as caught:
        queue.control([api.kevent(reader, -99, ADD)], 0, 0)
    assert caught.value.errno == errno.EINVAL


def test_closing_removes_the_events(api: standin.StandIn, queue: standin.Queue, make_pipe: Callable[[], Pipe]) -> None:
    """A new descriptor under the same number has none of them."""
    reader, writer = make_pipe()
    os.write(writer, b"x")
    queue.control([api.kevent(reader, TO_READ, ADD)], 0, 0)
    os.close(reader)
    assert queue.control(None, 8, 0) == []
    again, end = make_pipe()
    assert again == reader
    os.write(end, b"x")
    assert queue.control(None, 8, 0) == []
    with pytest.raises(FileNotFoundError):
        queue.control([api.kevent(again, TO_READ, DELETE)], 0, 0)
    (event,) = queue.control([api.kevent(again, TO_READ, ADD)], 8, 0)
    assert event.ident == again


def test_a_disabled_event_is_silent_until_it_is_enabled(
    api: standin.StandIn, queue: standin.Queue, make_pipe: Callable[[], Pipe]
) -> None:
    """It can be added like that, and deleted like that; adding enables."""
    reader, writer = make_pipe()
    os.write(writer, b"x")
    assert queue.control([api.kevent(reader, TO_READ, ADD | standin.EV_DISABLE)], 8, 0) == []
    assert len(queue.control([api.kevent(reader, TO_READ, standin.EV_ENABLE)], 8, 0)) == 1
    assert queue.control([api.kevent(reader, TO_READ, standin.EV_DISABLE)], 8, 0) == []
    assert queue.control([api.kevent(reader, TO_READ, standin.EV_DISABLE)], 8, 0) == []
    queue.control([api.kevent(reader, TO_READ, DELETE)], 0, 0)
    assert len(queue.control([api.kevent(reader, TO_READ, ADD)], 8, 0)) == 1


def test_a_single_shot_is_deleted_when_it_is_fetched(
    api: standin.StandIn, queue: standin.Queue, make_pipe: Callable[[], Pipe]
) -> None:
    """Once, however long the condition lasts."""
    reader, writer = make_pipe()
    queue.control([api.kevent(reader, TO_READ, ADD | standin.EV_ONESHOT)], 0, 0)
    os.write(writer, b"x")
    assert [len(queue.control(None, 8, 0)) for _ in range(2)] == [1, 0]
    with pytest.raises(FileNotFoundError):
        queue.control([api.kevent(reader, TO_READ, DELETE)], 0, 0)


def test_errors_take_a_place_in_the_list_of_events(
    api: standin.StandIn, queue: standin.Queue, make_pipe: Callable[[], Pipe]
) -> None:
    """Where there is room, ``EV_ERROR`` and the number in `data`; the other changes are made."""
    reader, writer = make_pipe()
    os.write(writer, b"x")
    changes = [api.kevent(reader, TO_WRITE, DELETE), api.kevent(reader, TO_READ, ADD)]
    (event,) = queue.control(changes, 8, 0)
    assert event.flags & standin.EV_ERROR
    assert event.data == errno.ENOENT
    assert names(queue.control(None, 8, 0)) == [(reader, TO_READ)]


def test_an_error_without_room_ends_the_changes(
    api: standin.StandIn, queue: standin.Queue, make_pipe: Callable[[], Pipe]
) -> None:
    """What is before it is done, what is behind it is not."""
    reader, _writer = make_pipe()
    _other, writer = make_pipe()
    changes = [
        api.kevent(writer, TO_WRITE, ADD),
        api.kevent(reader, TO_READ, DELETE),
        api.kevent(reader, TO_READ, ADD),
    ]
    with pytest.raises(FileNotFoundError):
        queue.control(changes, 0, 0)
    assert names(queue.control(None, 8, 0)) == [(writer, TO_WRITE)]
    with pytest.raises(FileNotFoundError):
        queue.control([api.kevent(reader, TO_READ, DELETE)], 0, 0)


def test_receipts_fetch_no_events(api: standin.StandIn, queue: standin.Queue, make_pipe: Callable[[], Pipe]) -> None:
    """``EV_ERROR`` with 0 for each change that was made, and what is pending stays."""
    reader, writer = make_pipe()
    os.write(writer, b"x")
    changes = [
        api.kevent(reader, TO_READ, ADD | standin.EV_RECEIPT),
        api.kevent(writer, TO_WRITE, ADD | standin.EV_RECEIPT),
    ]
    receipts = queue.control(changes, 2, 0)
    assert [(each.ident, each.flags & standin.EV_ERROR, each.data) for each in receipts] == [
        (reader, standin.EV_ERROR, 0),
        (writer, standin.EV_ERROR, 0),
    ]
    assert len(queue.control(None, 8, 0)) == 2


# The queue: events --------------------------------------------------------------------------------------------


def test_events_are_gathered_in_one(api: standin.StandIn, queue: standin.Queue, make_pipe: Callable[[], Pipe]) -> None:
    """Two writes, one event, and all the bytes."""
    reader, writer = make_pipe()
    queue.control([api.kevent(reader, TO_READ, ADD | CLEAR)], 0, 0)
    os.write(writer, b"abc")
    os.write(writer, b"de")
    assert [event.data for event in queue.control(None, 8, 0)] == [5]


@pytest.mark.parametrize("clear", [0, CLEAR])
def test_a_condition_that_no_longer_holds_is_not_reported(
    clear: int, api: standin.StandIn, queue: standin.Queue, make_pipe: Callable[[], Pipe]
) -> None:
    """The filter runs again when the event is fetched."""
    reader, writer = make_pipe()
    queue.control([api.kevent(reader, TO_READ, ADD | clear)], 0, 0)
    os.write(writer, b"x")
    os.read(reader, 1)
    assert queue.control(None, 8, 0) == []


def test_a_level_stays_and_an_edge_is_cleared(
    api: standin.StandIn, queue: standin.Queue, make_pipe: Callable[[], Pipe]
) -> None:
    """``EV_CLEAR`` resets on fetching; a change sets again, and so does deleting and adding."""
    level, level_writer = make_pipe()
    edge, edge_writer = make_pipe()
    queue.control([api.kevent(level, TO_READ, ADD), api.kevent(edge, TO_READ, ADD | CLEAR)], 0, 0)
    for writer in (level_writer, edge_writer):
        os.write(writer, b"x")
    both = sorted([(level, TO_READ), (edge, TO_READ)])
    assert names(queue.control(None, 8, 0)) == both
    assert names(queue.control(None, 8, 0)) == [(level, TO_READ)]
    os.write(edge_writer, b"y")
    assert names(queue.control(None, 8, 0)) == both
    again = [api.kevent(edge, TO_READ, DELETE), api.kevent(edge, TO_READ, ADD | CLEAR)]
    assert names(queue.control(again, 8, 0)) == both
    assert names(queue.control([api.kevent(edge, TO_READ, ADD | CLEAR)], 8, 0)) == both


def test_adding_again_does_not_change_the_stand_in_s_edges() -> None:
    """As in FreeBSD: whoever wants the other kind has to delete first."""
    if not standin.AVAILABLE:
        pytest.skip("no epoll on this system")
    queue = standin.StandIn().kqueue()
    reader, writer = os.pipe()
    os.write(writer, b"x")
    queue.control([standin.Kevent(reader, TO_READ, ADD | CLEAR)], 0, 0)
    queue.control([standin.Kevent(reader, TO_READ, ADD)], 0, 0)
    assert [len(queue.control(None, 8, 0)) for _ in range(2)] == [1, 0]
    queue.close()
    os.close(reader)
    os.close(writer)


def test_the_end_of_a_pipe(api: standin.StandIn, queue: standin.Queue, make_pipe: Callable[[], Pipe]) -> None:
    """``EV_EOF`` for the reader while there is data, and for the writer when nobody reads."""
    reader, writer = make_pipe()
    queue.control([api.kevent(reader, TO_READ, ADD)], 0, 0)
    os.write(writer, b"end")
    os.close(writer)
    (event,) = queue.control(None, 8, 0)
    assert (event.flags & standin.EV_EOF, event.data, event.fflags) == (standin.EV_EOF, 3, 0)
    reader, writer = make_pipe()
    queue.control([api.kevent(writer, TO_WRITE, ADD)], 0, 0)
    os.close(reader)
    found = [event for event in queue.control(None, 8, 0) if event.filter == TO_WRITE]
    assert found[0].flags & standin.EV_EOF


def test_the_end_of_a_connection(api: standin.StandIn, queue: standin.Queue, tcp: Pair) -> None:
    """Half a close is ``EV_EOF`` for the read filter alone, without an error."""
    near, far = tcp
    queue.control([api.kevent(near.fileno(), TO_READ, ADD | CLEAR)], 0, 0)
    far.send(b"last")
    far.shutdown(socket.SHUT_WR)
    flags = 0
    while not flags & standin.EV_EOF:
        (event,) = queue.control(None, 8, 5)
        flags = event.flags
    assert (event.data, event.fflags) == (4, 0)
    (event,) = queue.control([api.kevent(near.fileno(), TO_WRITE, ADD)], 8, 5)
    assert (event.filter, event.flags & standin.EV_EOF) == (TO_WRITE, 0)


def test_a_reset_says_which_error(api: standin.StandIn, queue: standin.Queue, tcp: Pair) -> None:
    """``EV_EOF`` and the number in `fflags`; the socket still has it."""
    near, far = tcp
    queue.control([api.kevent(near.fileno(), TO_READ, ADD)], 0, 0)
    reset(far)
    (event,) = queue.control(None, 8, 5)
    assert event.flags & standin.EV_EOF
    assert event.fflags == errno.ECONNRESET
    with pytest.raises(ConnectionResetError):
        near.recv(1)


def test_a_listener_counts_connections(api: standin.StandIn, queue: standin.Queue) -> None:
    """`data` is the backlog."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        queue.control([api.kevent(listener.fileno(), TO_READ, ADD)], 0, 0)
        assert queue.control(None, 8, 0) == []
        with socket.create_connection(listener.getsockname()):
            (event,) = queue.control(None, 8, 5)
            listener.accept()[0].close()
        assert (event.ident, event.data) == (listener.fileno(), 1)


def test_a_socket_has_room(api: standin.StandIn, queue: standin.Queue, make_pair: Callable[[], Pair]) -> None:
    """The write filter is silent while the buffer is full; `data` is what fits."""
    near, far = make_pair()
    queue.control([api.kevent(near.fileno(), TO_WRITE, ADD)], 0, 0)
    (event,) = queue.control(None, 8, 0)
    assert event.data > 0
    try:
        while near.send(bytes(65_536)):
            pass
    except BlockingIOError:
        pass
    assert queue.control(None, 8, 0) == []
    drain(far.fileno())
    assert len(queue.control(None, 8, 5)) == 1


def test_a_short_list_takes_the_rest_later(
    api: standin.StandIn, queue: standin.Queue, make_pair: Callable[[], Pair]
) -> None:
    """Nothing is lost, not even edges, and neither filter keeps the other away."""
    expected = []
    for _ in range(4):
        near, far = make_pair()
        far.send(b"x")
        for which in (TO_READ, TO_WRITE):
            queue.control([api.kevent(near.fileno(), which, ADD | CLEAR)], 0, 0)
            expected.append((near.fileno(), which))
    found = []
    for _ in range(8):
        found += queue.control(None, 1, 0)
    assert names(found) == sorted(expected)
    assert queue.control(None, 1, 0) == []


# The queue: calls ---------------------------------------------------------------------------------------------


def test_without_room_for_events_nothing_waits(
    api: standin.StandIn, queue: standin.Queue, make_pipe: Callable[[], Pipe]
) -> None:
    """And nothing is fetched."""
    reader, writer = make_pipe()
    assert queue.control([api.kevent(reader, TO_READ, ADD | CLEAR)], 0, 0) == []
    os.write(writer, b"x")
    assert queue.control([], 0, 0) == []
    assert len(queue.control(None, 1, 0)) == 1


@pytest.mark.parametrize("timeout", [0, 0.000_001, 0.001, 0.003_5])
def test_a_wait_lasts_as_long_as_asked(timeout: float, queue: standin.Queue) -> None:
    """Never shorter."""
    started = time.monotonic()
    assert queue.control(None, 8, timeout) == []
    assert time.monotonic() - started >= timeout


def test_an_event_ends_a_wait(api: standin.StandIn, queue: standin.Queue, make_pipe: Callable[[], Pipe]) -> None:
    """Also one without a limit."""
    reader, writer = make_pipe()
    queue.control([api.kevent(reader, TO_READ, ADD)], 0, 0)
    thread = threading.Thread(target=os.write, args=(writer, b"x"))
    thread.start()
    assert len(queue.control(None, 8)) == 1
    thread.join()


def test_a_queue_can_be_waited_for(api: standin.StandIn, queue: standin.Queue, make_pipe: Callable[[], Pipe]) -> None:
    """Its descriptor is readable while events are pending."""
    reader, writer = make_pipe()
    queue.control([api.kevent(reader, TO_READ, ADD)], 0, 0)
    assert select.select([queue.fileno()], [], [], 0)[0] == []
    os.write(writer, b"x")
    assert select.select([queue.fileno()], [], [], 5)[0] == [queue.fileno()]


def test_a_queue_waits_for_another(api: standin.StandIn, queue: standin.Queue, make_pipe: Callable[[], Pipe]) -> None:
    """To be read, not to be written to: kqueue(2), and kqueue_kqfilter in the kern_event.c of FreeBSD."""
    reader, writer = make_pipe()
    inner = api.kqueue()
    inner.control([api.kevent(reader, TO_READ, ADD)], 0, 0)
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        queue.control([api.kevent(inner.fileno(), TO_WRITE, ADD)], 0, 0)
    queue.control([api.kevent(inner.fileno(), TO_READ, ADD)], 0, 0)
    assert queue.control(None, 5, 0) == []
    os.write(writer, b"x")
    assert [each.ident for each in queue.control(None, 5, 5)] == [inner.fileno()]
    inner.close()
    assert queue.control(None, 5, 0) == []


def test_arguments_are_checked(queue: standin.Queue) -> None:
    """As CPython does it, before the kernel is asked."""
    with pytest.raises(ValueError):
        queue.control(None, -1, 0)
    with pytest.raises(ValueError):
        queue.control(None, 8, -1)
    with pytest.raises(TypeError):
        queue.control(["read"], 8, 0)


def test_a_closed_queue_says_so(queue: standin.Queue) -> None:
    """ValueError, for whatever is asked; closing again is harmless."""
    states = [queue.closed]
    for _ in range(2):
        queue.close()
        states.append(queue.closed)
    assert states == [False, True, True]
    with pytest.raises(ValueError):
        queue.control(None, 8, 0)
    with pytest.raises(ValueError):
        queue.fileno()


def test_the_stand_in_knows_no_regular_files(tmp_path: Path) -> None:
    """A limit: a kernel would report them."""
    if not standin.AVAILABLE:
        pytest.skip("no epoll on this system")
    queue = standin.StandIn().kqueue()
    with (tmp_path / "file").open("wb") as file, pytest.raises(OSError) as caught:
        queue.control([standin.Kevent(file.fileno(), TO_READ, ADD)], 0, 0)
    assert caught.value.errno == errno.EINVAL
    queue.close()


def test_the_stand_in_sees_terminals() -> None:
    """Both filters; how much room a terminal has, nobody knows."""
    if not standin.AVAILABLE:
        pytest.skip("no epoll on this system")
    queue = standin.StandIn().kqueue()
    near, far = os.openpty()
    os.write(far, b"x")
    add = [standin.Kevent(near, which, ADD) for which in (TO_READ, TO_WRITE)]
    found = {event.filter: event.data for event in queue.control(add, 8, 0)}
    assert found == {TO_READ: 1, TO_WRITE: 0}
    queue.close()
    os.close(near)
    os.close(far)


# The backend: events ------------------------------------------------------------------------------------------


def test_both_filters_make_one_call(
    backend: KqueueBackend, table: WatcherTable, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """Two events of the kernel, one callback, counted once."""
    near, far = make_pair()
    far.send(b"x")
    for edge in (False, True):
        watcher = table.register(near.fileno(), READ | WRITE, note(seen, "near"), edge=edge)
        assert backend.poll(0, table) == 1
        assert backend.poll(0, table) == (0 if edge else 1)
        watcher.unregister()
    assert seen == [("near", READ | WRITE)] * 3


def test_interest_decides_what_is_told(
    backend: KqueueBackend, table: WatcherTable, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """Every change from any interest to any other, as a level and as an edge."""
    near, far = make_pair()
    far.send(b"x")
    for edge in (False, True):
        for before in (0, READ, WRITE, READ | WRITE):
            for after in (0, READ, WRITE, READ | WRITE):
                watcher = table.register(near.fileno(), before, note(seen, "near"), edge=edge)
                backend.poll(0, table)
                seen.clear()
                watcher.modify(after)
                told = [("near", after)] if after else []
                # An interest that stays as it is is no modification, and no edge.
                first = [] if edge and before == after else told
                assert backend.poll(0, table) == len(first)
                assert seen == first
                assert backend.poll(0, table) == (0 if edge else len(told))
                watcher.unregister()
                assert backend.poll(0, table) == 0


def test_a_modified_edge_is_told_again(
    backend: KqueueBackend, table: WatcherTable, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """Both directions, though only one of them has changed."""
    near, far = make_pair()
    far.send(b"x")
    watcher = table.register(near.fileno(), READ, note(seen, "near"), edge=True)
    assert [backend.poll(0, table) for _ in range(2)] == [1, 0]
    watcher.modify(READ | WRITE)
    assert [backend.poll(0, table) for _ in range(2)] == [1, 0]
    watcher.modify(READ)
    assert [backend.poll(0, table) for _ in range(2)] == [1, 0]
    far.send(b"y")
    assert [backend.poll(0, table) for _ in range(2)] == [1, 0]
    assert [events for _, events in seen] == [READ, READ | WRITE, READ, READ]


def test_levels_and_edges_change_places(backend: KqueueBackend, make_pipe: Callable[[], Pipe]) -> None:
    """`modify` can turn one into the other, which takes a new filter."""
    told: list[int] = []
    table = WatcherTable(backend, lambda error, owner: None)
    reader, writer = make_pipe()
    os.write(writer, b"x")
    table.register(reader, READ, told.append, edge=False)
    for edge, calls in ((True, [1, 0, 0]), (False, [1, 1, 1]), (True, [1, 0, 0])):
        backend.modify(reader, READ, edge=edge)
        assert [backend.poll(0, table) for _ in range(3)] == calls


@pytest.mark.parametrize("events", [READ, WRITE, READ | WRITE])
def test_a_closed_peer_is_a_hang_up(
    events: int, backend: KqueueBackend, table: WatcherTable, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """With whatever is watched."""
    near, far = make_pair()
    table.register(near.fileno(), events, note(seen, "near"), edge=False)
    far.close()
    assert backend.poll(-1, table) == 1
    assert seen == [("near", events | HUP)]


def test_1024_pipes_each_tell_once_and_the_capacity_follows(
    backend: KqueueBackend,
    table: WatcherTable,
    make_pipe: Callable[[], Pipe],
    allow_descriptors: Callable[[int], None],
) -> None:
    """As levels and as edges: the batches double while they are full, and shrink when they are nearly empty."""
    allow_descriptors(2_048)
    pipes = [make_pipe() for _ in range(1_024)]
    for edge, sizes in ((False, [64, 128, 256, 512, 64, 0]), (True, [512, 512, 0])):
        told: list[int] = []

        def read(_events: int, *, reader: int, told: list[int] = told) -> None:
            os.read(reader, 100)
            told.append(reader)

        for reader, writer in pipes:
            table.register(reader, READ, partial(read, reader=reader), edge=edge)
            os.write(writer, b"x")
        assert [backend.poll(0, table) for _ in sizes] == sizes
        assert sorted(told) == sorted(reader for reader, _ in pipes)
        table.clear()


class Scripted:
    """Stand in for a queue: events as they are put in, and every call written down."""

    def __init__(self, api: KqueueApi) -> None:
        self.api = api
        self.changes: list[tuple[int, int, int]] = []
        self.waits: list[tuple[int, float | None]] = []
        self.errors: list[OSError | None] = []
        self.events: list[Kevent] = []
        self.closed = False

    def kqueue(self) -> Scripted:
        """Give itself: there is one queue."""
        return self

    def kevent(self, ident: int, which: int, flags: int, /) -> Kevent:
        """Make an event as the real one does."""
        return self.api.kevent(ident, which, flags)

    def control(self, changes: Iterable[Kevent] | None, max_events: int, timeout: float | None, /) -> list[Kevent]:
        """Note the call; raise what was put in."""
        if changes is None:
            self.waits.append((max_events, timeout))
            events, self.events = self.events[:max_events], self.events[max_events:]
            return events
        self.changes += [(change.ident, change.filter, change.flags) for change in changes]
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        return []

    def fileno(self) -> int:
        """Return −1: there is no queue."""
        return -1

    def close(self) -> None:
        """Note the end."""
        self.closed = True


@pytest.fixture
def scripted() -> Scripted:
    """Make a queue without a kernel."""
    return Scripted(standin.StandIn())


@pytest.fixture
def dry(scripted: Scripted) -> Iterator[KqueueBackend]:
    """Make a backend on a queue without a kernel."""
    backend = KqueueBackend(scripted)
    scripted.changes.clear()
    yield backend
    backend.close()


def test_the_capacity_has_bounds(scripted: Scripted, dry: KqueueBackend) -> None:
    """From 64 to 4096 and back, by doubling and halving."""
    table = WatcherTable(dry, lambda error, owner: None)
    told: list[int] = []
    table.register(40, READ, told.append, edge=False)
    scripted.events = [standin.Kevent(40)] * 100_000
    assert [dry.poll(0, table) for _ in range(9)] == [1] * 9
    assert [capacity for capacity, _ in scripted.waits] == [64, 128, 256, 512, 1_024, 2_048, 4_096, 4_096, 4_096]
    scripted.waits.clear()
    for _ in range(8):
        scripted.events = [standin.Kevent(40)]
        dry.poll(0, table)
    assert [capacity for capacity, _ in scripted.waits] == [4_096, 2_048, 1_024, 512, 256, 128, 64, 64]


@pytest.mark.parametrize("timeout_ns", [0, 1, 3_000_000, 999_999_999, 86_400_000_000_000, 86_399_999_999_999])
def test_a_wait_is_handed_over_in_seconds(timeout_ns: int, scripted: Scripted, dry: KqueueBackend) -> None:
    """Rounded up to whole nanoseconds, as Python does it, neither too short nor more than one too long."""
    table = WatcherTable(dry, lambda error, owner: None)
    assert dry.poll(timeout_ns, table) == 0
    ((_, timeout),) = scripted.waits
    assert timeout is not None
    numerator, denominator = timeout.as_integer_ratio()
    assert timeout_ns <= -(-numerator * 1_000_000_000 // denominator) <= timeout_ns + 1
    assert dry.poll(-1, table) == 0
    assert scripted.waits[-1][1] is None


def test_an_event_that_is_an_error(scripted: Scripted, dry: KqueueBackend, seen: Seen) -> None:
    """``EV_ERROR`` is told as ERROR, and `fflags` without the end of anything is not."""
    table = WatcherTable(dry, lambda error, owner: None)
    table.register(40, READ, note(seen, "a"), edge=False)
    table.register(41, WRITE, note(seen, "b"), edge=False)
    scripted.events = [
        standin.Kevent(40, TO_READ, standin.EV_ERROR, 0, errno.EIO),
        standin.Kevent(41, TO_WRITE, 0, 5),
    ]
    assert dry.poll(0, table) == 2
    assert seen == [("a", READ | ERROR), ("b", WRITE)]


# The backend: changes -----------------------------------------------------------------------------------------


def test_changes_are_made_by_difference(scripted: Scripted, dry: KqueueBackend) -> None:
    """What is new first; a level that stays is left alone, an edge that stays is made anew."""
    steps: list[tuple[int, bool, list[tuple[int, int]]]] = [
        (READ, False, [(TO_READ, ADD)]),
        (READ | WRITE, False, [(TO_WRITE, ADD)]),
        (READ | WRITE, False, []),
        (WRITE, False, [(TO_READ, DELETE)]),
        (READ, False, [(TO_READ, ADD), (TO_WRITE, DELETE)]),
        (READ, True, [(TO_READ, DELETE), (TO_READ, ADD | CLEAR)]),
        (READ | WRITE, True, [(TO_WRITE, ADD | CLEAR), (TO_READ, DELETE), (TO_READ, ADD | CLEAR)]),
        (WRITE, True, [(TO_READ, DELETE), (TO_WRITE, DELETE), (TO_WRITE, ADD | CLEAR)]),
        (WRITE, False, [(TO_WRITE, DELETE), (TO_WRITE, ADD)]),
    ]
    for number, (events, edge, changes) in enumerate(steps):
        if number:
            dry.modify(40, events, edge=edge)
        else:
            dry.add(40, events, edge=edge)
        assert scripted.changes == [(40, which, flags) for which, flags in changes]
        scripted.changes.clear()
    dry.remove(40)
    assert scripted.changes == [(40, TO_WRITE, DELETE)]
    scripted.changes.clear()
    dry.remove(40)
    assert scripted.changes == []


def test_the_errors_of_the_kernel_are_raised(backend: KqueueBackend, make_pipe: Callable[[], Pipe]) -> None:
    """By the call that caused them."""
    reader, writer = make_pipe()
    backend.add(writer, WRITE, edge=False)
    with pytest.raises(FileNotFoundError):
        backend.modify(reader, READ, edge=False)
    os.close(reader)
    os.close(writer)
    for edge in (False, True):
        with pytest.raises(OSError) as caught:
            backend.add(reader, READ | WRITE, edge=edge)
        assert caught.value.errno == errno.EBADF
        with pytest.raises(OSError) as caught:
            backend.modify(writer, READ | WRITE, edge=edge)
        assert caught.value.errno == errno.EBADF
    backend.remove(writer)


def test_a_number_that_changed_hands_is_found_out(backend: KqueueBackend, make_pair: Callable[[], Pair]) -> None:
    """Closed while it was watched, and opened again: an edge cannot be modified, and nothing is left behind."""
    told: list[int] = []
    table = WatcherTable(backend, lambda error, owner: None)
    near, _far = make_pair()
    number = near.fileno()
    watcher = table.register(number, READ, told.append, edge=True)
    near.close()
    again, _other = make_pair()
    assert again.fileno() == number
    with pytest.raises(FileNotFoundError):
        watcher.modify(READ | WRITE)
    assert backend.poll(0, table) == 0
    watcher.unregister()
    table.register(number, WRITE, told.append, edge=False)
    assert backend.poll(0, table) == 1
    assert told == [WRITE]


def test_a_failed_addition_leaves_nothing(scripted: Scripted, dry: KqueueBackend) -> None:
    """The first filter goes when the second one fails."""
    scripted.errors = [OSError(errno.ENOMEM, "no memory"), None, OSError(errno.ENOENT, "not there")]
    with pytest.raises(OSError) as caught:
        dry.add(40, READ | WRITE, edge=False)
    assert caught.value.errno == errno.ENOMEM
    assert scripted.changes[2:] == [(40, TO_READ, DELETE), (40, TO_WRITE, DELETE)]
    scripted.changes.clear()
    dry.remove(40)
    assert scripted.changes == []


def test_a_failed_modification_keeps_what_was(scripted: Scripted, dry: KqueueBackend) -> None:
    """Only what was new is taken back."""
    dry.add(40, READ, edge=False)
    scripted.changes.clear()
    scripted.errors = [OSError(errno.EINVAL, "not a filter for this")]
    with pytest.raises(OSError):
        dry.modify(40, WRITE, edge=False)
    assert scripted.changes == [(40, TO_WRITE, ADD), (40, TO_READ, DELETE), (40, TO_WRITE, DELETE)]
    scripted.changes.clear()
    dry.remove(40)
    assert scripted.changes == [(40, TO_READ, DELETE)]


def test_a_removal_tries_both_filters(scripted: Scripted, dry: KqueueBackend) -> None:
    """An error with the first one, which ends the list, does not save the second one."""
    dry.add(40, READ | WRITE, edge=False)
    scripted.changes.clear()
    scripted.errors = [OSError(errno.ENOENT, "not there"), OSError(errno.ENOENT, "not there")]
    dry.remove(40)
    assert scripted.changes[2:] == [(40, TO_READ, DELETE), (40, TO_WRITE, DELETE)]


def test_removing_never_fails(backend: KqueueBackend, make_pair: Callable[[], Pair]) -> None:
    """Not what was closed before, nor what was never there."""
    near, far = make_pair()
    backend.remove(near.fileno())
    number = near.fileno()
    backend.add(number, READ | WRITE, edge=True)
    near.close()
    backend.remove(number)
    backend.add(far.fileno(), READ | WRITE, edge=False)
    backend.remove(far.fileno())
    backend.remove(far.fileno())


# The backend: pipes that cannot be added ----------------------------------------------------------------------


@pytest.fixture
def strict() -> Iterator[KqueueBackend]:
    """Make a backend on a queue that refuses pipes without a reader, as FreeBSD does."""
    if not standin.AVAILABLE:
        pytest.skip("no epoll on this system")
    backend = KqueueBackend(standin.StandIn(refuse_broken_pipes=True))
    yield backend
    backend.close()


def test_a_broken_pipe_is_a_hang_up_where_it_is_refused(
    strict: KqueueBackend, seen: Seen, make_pipe: Callable[[], Pipe]
) -> None:
    """As long as it lasts, without a wait; other events come beside it."""
    table = WatcherTable(strict, lambda error, owner: None)
    reader, writer = make_pipe()
    other, end = make_pipe()
    os.close(reader)
    watcher = table.register(writer, WRITE, note(seen, "broken"), edge=False)
    table.register(other, READ, note(seen, "other"), edge=False)
    assert [strict.poll(-1, table) for _ in range(2)] == [1, 1]
    assert seen == [("broken", WRITE | HUP)] * 2
    os.write(end, b"x")
    assert strict.poll(-1, table) == 2
    watcher.modify(0)
    assert strict.poll(0, table) == 1
    watcher.modify(WRITE)
    assert strict.poll(0, table) == 2
    watcher.unregister()
    assert strict.poll(0, table) == 1
    assert seen[3:] == [("other", READ), ("other", READ), ("broken", WRITE | HUP), ("other", READ), ("other", READ)]


def test_a_broken_pipe_is_told_once_as_an_edge(
    strict: KqueueBackend, seen: Seen, make_pipe: Callable[[], Pipe]
) -> None:
    """And again after a modification, which takes what is refused for what is new."""
    table = WatcherTable(strict, lambda error, owner: None)
    reader, writer = make_pipe()
    watcher = table.register(writer, WRITE, note(seen, "writer"), edge=True)
    assert [strict.poll(0, table) for _ in range(2)] == [1, 0]
    os.close(reader)
    assert [strict.poll(-1, table), strict.poll(0, table)] == [1, 0]
    watcher.modify(READ | WRITE)
    while strict.poll(0, table):
        pass
    watcher.modify(WRITE)
    assert [strict.poll(0, table) for _ in range(2)] == [1, 0]
    assert seen[-1] == ("writer", WRITE | HUP)
    watcher.unregister()
    assert strict.poll(0, table) == 0


def test_a_refused_descriptor_that_was_closed_goes_silent(
    strict: KqueueBackend, seen: Seen, make_pipe: Callable[[], Pipe]
) -> None:
    """It is tried again before each wait, and no longer refused as a broken pipe."""
    table = WatcherTable(strict, lambda error, owner: None)
    reader, writer = make_pipe()
    os.close(reader)
    watcher = table.register(writer, WRITE, note(seen, "broken"), edge=False)
    os.close(writer)
    assert [strict.poll(0, table) for _ in range(2)] == [0, 0]
    watcher.unregister()


def test_a_refused_filter_can_be_accepted_later(scripted: Scripted, dry: KqueueBackend, seen: Seen) -> None:
    """Then the kernel has it: it is asked for no more, and deleted in the end."""
    table = WatcherTable(dry, lambda error, owner: None)
    scripted.errors = [BrokenPipeError(), BrokenPipeError(), None]
    watcher = table.register(40, READ | WRITE, note(seen, "a"), edge=False)
    scripted.changes.clear()
    scripted.errors = [BrokenPipeError()]
    assert dry.poll(-1, table) == 1
    assert scripted.waits == [(64, 0.0)]
    assert seen == [("a", READ | HUP)]
    assert dry.poll(-1, table) == 0
    assert scripted.waits[1:] == [(64, None)]
    assert dry.poll(-1, table) == 0
    assert scripted.changes == [(40, TO_READ, ADD)] * 2
    scripted.changes.clear()
    watcher.unregister()
    assert scripted.changes == [(40, TO_READ, DELETE), (40, TO_WRITE, DELETE)]


def test_an_accepted_edge_is_an_edge(scripted: Scripted, dry: KqueueBackend) -> None:
    """Whether a wait or a modification has found out that the filter can be had after all."""
    table = WatcherTable(dry, lambda error, owner: None)
    for fd in (40, 41):
        scripted.errors = [BrokenPipeError(), BrokenPipeError()]
        table.register(fd, WRITE, lambda _events: None, edge=True)
    scripted.changes.clear()
    dry.modify(41, READ | WRITE, edge=True)
    assert scripted.changes == [(41, TO_READ, ADD | CLEAR), (41, TO_WRITE, ADD | CLEAR)]
    for changes in ([(40, TO_WRITE, ADD | CLEAR)], []):
        scripted.changes.clear()
        assert dry.poll(0, table) == 0
        assert scripted.changes == changes


def test_a_refusal_in_the_middle_of_a_change(scripted: Scripted, dry: KqueueBackend) -> None:
    """The rest is done one by one; what is gone already may be missing, and another error is raised."""
    dry.add(40, READ, edge=True)
    scripted.changes.clear()
    scripted.errors = [BrokenPipeError(), BrokenPipeError(), FileNotFoundError(), None]
    dry.modify(40, READ | WRITE, edge=True)
    singly = [(40, TO_WRITE, ADD | CLEAR), (40, TO_READ, DELETE), (40, TO_READ, ADD | CLEAR)]
    assert scripted.changes == singly * 2
    scripted.changes.clear()
    scripted.errors = [BrokenPipeError(), OSError(errno.ENOMEM, "no memory")]
    with pytest.raises(OSError) as caught:
        dry.modify(40, READ | WRITE, edge=True)
    assert caught.value.errno == errno.ENOMEM
    scripted.changes.clear()
    dry.remove(40)
    assert scripted.changes == [(40, TO_READ, DELETE)]


# The backend: the batch ---------------------------------------------------------------------------------------


def three(
    table: WatcherTable, make_pair: Callable[[], Pair], first: Callable[[], object], seen: Seen, *, edge: bool
) -> list[tuple[socket.socket, Watcher]]:
    """Make three descriptors ready in both directions, each of which does `first` if it happens to come first."""

    def on_events(events: int, name: str) -> None:
        seen.append((name, events))
        if len(seen) == 1:
            first()

    made = []
    for name in "abc":
        near, far = make_pair()
        far.send(b"x")
        callback = partial(on_events, name=name)
        made.append((near, table.register(near.fileno(), READ | WRITE, callback, edge=edge)))
    return made


@pytest.mark.parametrize("edge", [False, True])
def test_an_unregistered_watcher_hears_nothing_more(
    *, edge: bool, backend: KqueueBackend, table: WatcherTable, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """The first of three unregisters all: one call, and none later."""
    three(table, make_pair, table.clear, seen, edge=edge)
    assert backend.poll(-1, table) == 1
    assert backend.poll(0, table) == 0


@pytest.mark.parametrize("edge", [False, True])
def test_a_reused_number_is_not_told_of_its_predecessor(
    *, edge: bool, backend: KqueueBackend, table: WatcherTable, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """The first of three closes all and opens others: their own events come with the next batch."""
    new: Seen = []

    def replace() -> None:
        numbers = {near.fileno() for near, _ in made}
        table.clear()
        for near, _ in made:
            near.close()
        for _ in range(2):
            for end in make_pair():
                if end.fileno() in numbers:
                    table.register(end.fileno(), READ | WRITE, note(new, "new"), edge=edge)

    made = three(table, make_pair, replace, seen, edge=edge)
    assert backend.poll(-1, table) == 1
    assert new == []
    assert backend.poll(0, table) >= 2
    assert set(new) == {("new", WRITE)}


def test_interest_taken_away_loses_no_edge(
    backend: KqueueBackend, table: WatcherTable, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """The first of three makes all of them read only: their events of this batch are void, and come again."""

    def pause() -> None:
        for _, watcher in made:
            watcher.modify(READ)

    made = three(table, make_pair, pause, seen, edge=True)
    assert backend.poll(-1, table) == 1
    assert backend.poll(0, table) == 3
    assert sorted(seen[1:]) == [("a", READ), ("b", READ), ("c", READ)]
    assert backend.poll(0, table) == 0


def test_an_exception_does_not_cost_the_rest(
    backend: KqueueBackend, table: WatcherTable, seen: Seen, failures: list[Exception], make_pair: Callable[[], Pair]
) -> None:
    """It is reported, and all three are called."""

    def fail() -> None:
        raise RuntimeError

    three(table, make_pair, fail, seen, edge=True)
    assert backend.poll(-1, table) == 3
    assert [type(each) for each in failures] == [RuntimeError]


@pytest.mark.parametrize("edge", [False, True])
def test_a_base_exception_loses_no_event(
    *, edge: bool, backend: KqueueBackend, table: WatcherTable, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """Ctrl+C in the first of a batch, with one of the others closed and one silenced by it: the rest comes again."""

    def interrupt() -> None:
        closed.close()
        silent.modify(0)
        raise KeyboardInterrupt

    made = three(table, make_pair, interrupt, seen, edge=edge)
    closed, _ = make_pair()
    lost = table.register(closed.fileno(), WRITE, lambda _events: interrupt(), edge=edge)
    quiet, _ = make_pair()
    silent = table.register(quiet.fileno(), WRITE, lambda _events: None, edge=edge)
    with pytest.raises(KeyboardInterrupt):
        backend.poll(-1, table)
    seen.clear()
    seen.append(("", 0))
    assert backend.poll(0, table) == len(made)
    assert sorted(seen[1:]) == [("a", READ | WRITE), ("b", READ | WRITE), ("c", READ | WRITE)]
    lost.unregister()


class Interrupted:
    """An event that a signal comes in between of."""

    ident = 40
    flags = 0
    fflags = 0

    @property
    def filter(self) -> int:
        """Be interrupted."""
        raise KeyboardInterrupt


def test_an_interruption_before_any_callback_loses_no_edge(scripted: Scripted, dry: KqueueBackend) -> None:
    """What the kernel has handed over by then is asked for again."""
    table = WatcherTable(dry, lambda error, owner: None)
    table.register(40, READ, lambda _events: None, edge=True)
    scripted.changes.clear()
    scripted.events = [Interrupted()]
    with pytest.raises(KeyboardInterrupt):
        dry.poll(0, table)
    assert scripted.changes == [(40, TO_READ, DELETE), (40, TO_READ, ADD | CLEAR)]


# The backend: wake-ups and its own descriptors ----------------------------------------------------------------


def test_a_wake_up_comes_beside_events(
    backend: KqueueBackend, table: WatcherTable, seen: Seen, make_pair: Callable[[], Pair]
) -> None:
    """It is taken out before any callback runs: one that wakes is heard in the next batch."""
    near, _far = make_pair()
    table.register(near.fileno(), WRITE, lambda _events: backend.wake(), edge=True)
    backend.wake()
    assert backend.poll(-1, table) == 1
    assert backend.poll(-1, table) == 0


def test_closing_twice_is_harmless(api: standin.StandIn, make_pipe: Callable[[], Pipe]) -> None:
    """The second time closes nothing, whoever has the numbers by then."""
    backend = KqueueBackend(api)
    assert (backend.name, backend.edge) == ("kqueue", True)
    assert not os.get_inheritable(backend.wake_fd)
    backend.close()
    ends = make_pipe()
    backend.close()
    for end in ends:
        os.fstat(end)


def test_without_a_pipe_there_is_no_queue(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was opened first is given back."""

    def fail() -> Pipe:
        raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr(os, "pipe", fail)
    with pytest.raises(OSError):
        KqueueBackend(scripted)
    assert scripted.closed


def test_a_queue_without_a_wake_up_is_given_back(scripted: Scripted) -> None:
    """With the pipe: the test would find it open."""
    scripted.errors = [OSError(errno.ENOMEM, "no memory")]
    with pytest.raises(OSError):
        KqueueBackend(scripted)
    assert scripted.closed


def test_select_is_asked_where_nothing_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its public names, when a backend is made and not before."""
    stand_in = standin.StandIn()
    scripted = Scripted(stand_in)
    monkeypatch.setattr(select, "kqueue", scripted.kqueue, raising=False)
    monkeypatch.setattr(select, "kevent", scripted.kevent, raising=False)
    assert "kqueue" in available()
    backend = create("kqueue")
    assert isinstance(backend, KqueueBackend)
    assert scripted.changes == [(backend.wake_fd, TO_READ, ADD)]
    backend.close()


def test_a_loop_runs_on_it(api: standin.StandIn, make_pair: Callable[[], Pair]) -> None:
    """Timers, other threads, and descriptors that are registered by their objects."""
    told: list[object] = []
    near, far = make_pair()
    with Loop(KqueueBackend(api)) as loop:

        def on_readable(events: int) -> None:
            told.append((events, near.recv(10)))
            loop.stop()

        loop.register(near, READ, on_readable, edge=True)
        loop.call_later(0.001, lambda: told.append(far.send(b"ping")))
        loop.run()
        assert told == [4, (READ, b"ping")]
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(loop.stop,))
        thread.start()
        loop.run()
        thread.join()


# At random ----------------------------------------------------------------------------------------------------


def numbers(top: int) -> st.SearchStrategy[int]:
    """Give a number below `top`."""
    return st.integers(0, top - 1)


LEVEL_STEPS = st.lists(
    st.tuples(st.sampled_from(["send", "receive", "modify", "shut", "close"]), numbers(3), numbers(4)), max_size=30
)


@pytest.mark.skipif("epoll" not in available() or not standin.AVAILABLE, reason="no epoll on this system")
@given(LEVEL_STEPS)
def test_levels_are_those_of_epoll(steps: list[tuple[str, int, int]]) -> None:
    """The same descriptors, the same interest: whatever happens, both backends tell the same."""
    pairs = [socket.socketpair() for _ in range(3)]
    backends = [KqueueBackend(standin.StandIn()), create("epoll")]
    told: list[dict[int, int]] = [{}, {}]
    watchers: list[list[Watcher]] = []
    tables = [WatcherTable(backend, lambda error, owner: None) for backend in backends]
    try:
        for table, heard in zip(tables, told, strict=True):
            watchers.append(
                [
                    table.register(
                        near.fileno(),
                        READ,
                        partial(heard.__setitem__, number),
                        edge=False,
                    )
                    for number, (near, _) in enumerate(pairs)
                ]
            )
        for near, far in pairs:
            near.setblocking(False)
            far.setblocking(False)
        for step, number, events in steps:
            near, far = pairs[number]
            try:
                if step == "send":
                    far.send(b"x")
                elif step == "receive":
                    near.recv(1)
                elif step == "shut":
                    far.shutdown(socket.SHUT_WR)
                elif step == "close":
                    far.close()
                else:
                    for mine in watchers:
                        mine[number].modify(events)
            except OSError:
                pass  # nothing to receive, or closed by an earlier step
            for backend, table, heard in zip(backends, tables, told, strict=True):
                heard.clear()
                assert backend.poll(0, table) == len(heard)
            assert told[0] == told[1]
    finally:
        for backend in backends:
            backend.close()
        for near, far in pairs:
            near.close()
            far.close()


EDGE_STEPS = st.lists(
    st.tuples(st.sampled_from(["send", "modify", "poll", "interrupt"]), numbers(4), numbers(4)), max_size=40
)


@pytest.mark.skipif(not standin.AVAILABLE, reason="no epoll on this system")
@given(EDGE_STEPS)
def test_no_edge_is_ever_lost(steps: list[tuple[str, int, int]]) -> None:
    """Who reads until it would block, whenever he is told to, has read everything in the end; come what may."""
    pairs = [socket.socketpair() for _ in range(4)]
    interrupted = False

    def on_events(events: int, near: socket.socket) -> None:
        nonlocal interrupted
        if interrupted:
            interrupted = False
            raise KeyboardInterrupt
        if events & READ:
            drain(near.fileno())

    backend = KqueueBackend(standin.StandIn())
    table = WatcherTable(backend, lambda error, owner: None)
    try:
        watchers = []
        for near, far in pairs:
            near.setblocking(False)
            far.setblocking(False)
            watchers.append(table.register(near.fileno(), READ, partial(on_events, near=near), edge=True))
        for step, number, events in steps:
            if step == "send":
                pairs[number][1].send(b"x")
            elif step == "modify":
                watchers[number].modify(events)
            elif step == "poll":
                with suppress(KeyboardInterrupt):
                    backend.poll(0, table)
            else:
                interrupted = True
        interrupted = False
        for watcher in watchers:
            watcher.modify(watcher.events | READ)
        while backend.poll(0, table):
            pass
        for near, _ in pairs:
            with pytest.raises(BlockingIOError):
                near.recv(1)
    finally:
        backend.close()
        for near, far in pairs:
            near.close()
            far.close()
