"""Waiting in C: what its Python twin does, and the conformance suite does not see."""

from __future__ import annotations

import gc
import os
import select
import socket
import sys
from collections.abc import Callable, Iterator

import pytest
from tests.support.twins import implementation

from nimloop_core import READ, WRITE, Backend, WatcherTable
from nimloop_core.backends import _epoll_py, available, create

if "epoll" not in available():
    pytest.skip("no epoll on this system", allow_module_level=True)
assert sys.platform == "linux"  # for type checkers, to whom other systems have no such names

Wait = Callable[["select.epoll", int, int, int, WatcherTable, list[int]], tuple[int, int]]

WAITS: dict[str, Wait] = {"Python": _epoll_py.wait}
try:
    from nimloop_core.backends import _epoll_c
except ImportError:
    pass
else:
    WAITS["C"] = _epoll_c.wait


@pytest.fixture(params=WAITS)
def wait(request: pytest.FixtureRequest) -> Wait:
    """Take each twin that is there."""
    return WAITS[request.param]


@pytest.fixture
def backend() -> Iterator[Backend]:
    """Make the backend whose descriptor is waited for."""
    backend = create("epoll")
    yield backend
    backend.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Connect two sockets."""
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        yield near, far


def raise_error(error: BaseException) -> Callable[[int], None]:
    """Make a callback that raises."""

    def callback(_events: int) -> None:
        raise error

    return callback


def waited(wait: Wait, backend: Backend, table: WatcherTable, lost: list[int], timeout_ns: int = 0) -> tuple[int, int]:
    """Wait on the descriptor of a backend."""
    with select.epoll.fromfd(os.dup(backend.fileno())) as epoll:
        return wait(epoll, epoll.fileno(), 64, timeout_ns, table, lost)


def test_the_mask_tells_what_is_ready(wait: Wait, backend: Backend, pair: tuple[socket.socket, socket.socket]) -> None:
    """READ and WRITE at once are one call."""
    near, far = pair
    table = WatcherTable(backend, lambda error, owner: None)
    seen: list[int] = []
    table.register(near.fileno(), READ | WRITE, seen.append, edge=False)
    assert waited(wait, backend, table, []) == (1, 1)
    far.send(b"x")
    assert waited(wait, backend, table, []) == (1, 1)
    assert seen == [WRITE, READ | WRITE]


def test_a_wake_up_is_an_event_that_calls_nobody(wait: Wait, backend: Backend) -> None:
    """It ends a wait that has no limit."""
    table = WatcherTable(backend, lambda error, owner: None)
    backend.wake()
    assert waited(wait, backend, table, [], -1) == (1, 0)


def test_an_exception_goes_to_the_handler(
    wait: Wait, backend: Backend, pair: tuple[socket.socket, socket.socket]
) -> None:
    """With its traceback, and the rest of the batch is called."""
    told: list[tuple[Exception, object]] = []
    table = WatcherTable(backend, lambda error, owner: told.append((error, owner)))
    watcher = table.register(pair[0].fileno(), WRITE, raise_error(ValueError("mine")), edge=False)
    seen: list[int] = []
    table.register(pair[1].fileno(), WRITE, seen.append, edge=False)
    assert waited(wait, backend, table, []) == (2, 2)
    ((error, owner),) = told
    assert (str(error), owner, seen) == ("mine", watcher, [WRITE])
    assert error.__traceback__ is not None


def test_a_base_exception_ends_the_batch_and_names_it(
    wait: Wait, backend: Backend, pair: tuple[socket.socket, socket.socket]
) -> None:
    """Ctrl+C in a callback must not swallow the edges of the others."""
    table = WatcherTable(backend, lambda error, owner: None)
    fds = [end.fileno() for end in pair]
    for fd in fds:
        table.register(fd, WRITE, raise_error(KeyboardInterrupt()), edge=False)
    lost: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        waited(wait, backend, table, lost)
    assert sorted(lost) == sorted(fds)


def test_what_the_handler_raises_comes_through(
    wait: Wait, backend: Backend, pair: tuple[socket.socket, socket.socket]
) -> None:
    """The loop's own handler never does; a batch must not go on as if nothing had been."""

    def fail(error: Exception, owner: object) -> None:
        raise error

    table = WatcherTable(backend, fail)
    table.register(pair[0].fileno(), WRITE, raise_error(ValueError("mine")), edge=False)
    with pytest.raises(ValueError, match="mine"):
        waited(wait, backend, table, [])


def test_the_kernels_error_is_an_os_error(wait: Wait, backend: Backend) -> None:
    """A descriptor that is no epoll instance."""
    table = WatcherTable(backend, lambda error, owner: None)
    if wait is _epoll_py.wait:
        pytest.skip("the twin is given the object")
    with select.epoll() as epoll, pytest.raises(OSError):
        wait(epoll, 0 if not os.isatty(0) else 1, 64, 0, table, [])


def test_nothing_is_kept(wait: Wait, backend: Backend, pair: tuple[socket.socket, socket.socket]) -> None:
    """No reference is left over, neither of the callback nor of the watcher, also after an exception."""
    table = WatcherTable(backend, lambda error, owner: None)

    def callback(_events: int) -> None:
        raise ValueError

    watcher = table.register(pair[0].fileno(), WRITE, callback, edge=False)
    waited(wait, backend, table, [])
    gc.collect()
    before = sys.getrefcount(callback), sys.getrefcount(watcher), sys.getrefcount(table)
    for _ in range(100):
        waited(wait, backend, table, [])
    gc.collect()
    assert (sys.getrefcount(callback), sys.getrefcount(watcher), sys.getrefcount(table)) == before


WAIT = "nimloop_core.backends._epoll_wait"


@pytest.mark.parametrize("wanted", ["off", "auto"])
def test_the_environment_chooses_the_twin(wanted: str) -> None:
    """``NIMLOOP_EXTENSION=off`` means the Python, also where the C is built."""
    assert implementation(WAIT, wanted) == ("Python" if wanted == "off" or "C" not in WAITS else "C")


def test_the_python_waits_where_the_c_is_not_built() -> None:
    """Without being asked to."""
    hidden = "import sys; sys.modules['nimloop_core.backends._epoll_c'] = None"
    assert implementation(WAIT, "auto", hidden) == "Python"
