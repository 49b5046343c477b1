"""What the tests of nimloop-core share: loops with and without a kernel, and descriptors.

Backends of other systems take part in the conformance suite over stand-ins: kqueue over one of `select.kqueue`, the
completion port over a model of it.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.core import stand_ins
from tests.core.portable import unblock
from tests.core.seeing import Pair, Seen

from nimloop_core import Backend, Loop, WatcherTable, backends
from nimloop_core.backends import _epoll_py, epoll
from nimloop_core.testing import FakeBackend, FakeClock

if sys.platform != "win32":
    import resource

# What these test has to stand on POSIX.
collect_ignore = ["test_core_iocp.py", "test_core_kqueue.py", "test_core_vnodes.py"] if sys.platform == "win32" else []

MakePipe = Callable[[], tuple[int, int]]
MakePair = Callable[[], Pair]


@pytest.fixture
def clock() -> FakeClock:
    """Stand still until told to move; begin at an odd time, as monotonic clocks do."""
    return FakeClock(1234.567_890_123)


@pytest.fixture
def fake(clock: FakeClock) -> FakeBackend:
    """Do without a kernel."""
    return FakeBackend(clock)


@pytest.fixture
def loop(clock: FakeClock, fake: FakeBackend) -> Iterator[Loop]:
    """Run on virtual time and made-up events."""
    with Loop(fake, clock=clock) as loop:
        yield loop


@pytest.fixture
def errors(loop: Loop) -> list[tuple[Exception, object]]:
    """Collect what the exception handler of `loop` is told, instead of logging it."""
    told: list[tuple[Exception, object]] = []
    loop.exception_handler = lambda error, owner: told.append((error, owner))
    return told


@pytest.fixture(params=[*stand_ins.NAMES, "epoll-python"])
def native(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Name each backend, with a kernel or a stand-in for one under it; epoll both in C, where built, and in Python."""
    name, _, twin = str(request.param).partition("-")
    if twin:
        monkeypatch.setattr(epoll, "wait", _epoll_py.wait)
    if not stand_ins.exists(name):
        pytest.skip(f"no {name} on this system, and nothing to stand in for it")
    violations: list[str] = []
    if name not in stand_ins.NATIVE:
        factory = (lambda: True, lambda: stand_ins.create(name, violations))
        monkeypatch.setitem(vars(backends)["_FACTORIES"], name, factory)
    yield name
    assert violations == []


@pytest.fixture
def pipes(native: str) -> None:
    """Leave the test out where the system watches sockets only."""
    if native in stand_ins.ONLY_SOCKETS:
        pytest.skip(f"{native} watches sockets only, no pipes")


@pytest.fixture
def real(native: str) -> Iterator[Loop]:
    """Run on each backend and on real time."""
    with Loop(native) as loop:
        yield loop


@pytest.fixture
def keep() -> Iterator[Callable[[tuple[int, int]], tuple[int, int]]]:
    """Make both descriptors non-blocking, and close them after the test unless it has done so itself."""
    made: list[tuple[int, os.stat_result]] = []

    def keep(ends: tuple[int, int]) -> tuple[int, int]:
        for end in ends:
            unblock(end)
            made.append((end, os.fstat(end)))
        return ends

    yield keep
    for end, born in made:
        try:
            if os.path.samestat(os.fstat(end), born):  # not a number that has found another owner
                os.close(end)
        except OSError:
            continue


@pytest.fixture
def make_pipe(keep: Callable[[tuple[int, int]], tuple[int, int]]) -> MakePipe:
    """Open pipes, reading end first, both non-blocking; whatever the test has not closed is closed after it."""
    return lambda: keep(os.pipe())


@pytest.fixture
def make_stream(native: str, keep: Callable[[tuple[int, int]], tuple[int, int]]) -> MakePipe:
    """Open pipes, or pairs of sockets where nothing else can be watched, for tests that need some descriptors."""

    def make() -> tuple[int, int]:
        near, far = socket.socketpair()
        return keep((near.detach(), far.detach()))

    return make if native in stand_ins.ONLY_SOCKETS else lambda: keep(os.pipe())


@pytest.fixture
def allow_descriptors() -> Iterator[Callable[[int], None]]:
    """Raise the limit of descriptors for one test, or skip it where that is not allowed."""
    if sys.platform == "win32":
        yield lambda needed: None
    else:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

        def allow(needed: int) -> None:
            needed += 256  # what is open already, and some more
            if hard != resource.RLIM_INFINITY and hard < needed:
                pytest.skip(f"not enough descriptors allowed: {hard}, with {needed} needed")
            if soft != resource.RLIM_INFINITY and soft < needed:
                resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))

        yield allow
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def make_pair() -> Iterator[MakePair]:
    """Open pairs of connected, non-blocking sockets, closed after the test."""
    made: list[socket.socket] = []

    def make() -> tuple[socket.socket, socket.socket]:
        pair = socket.socketpair()
        for end in pair:
            end.setblocking(False)
        made.extend(pair)
        return pair

    yield make
    for end in made:
        end.close()


@pytest.fixture
def failures() -> list[Exception]:
    """Collect what callbacks raise."""
    return []


@pytest.fixture
def table(backend: Backend, failures: list[Exception]) -> WatcherTable:
    """Make the table that the backend dispatches to; a module of tests has a `backend` of its own."""
    return WatcherTable(backend, lambda error, owner: failures.append(error))


@pytest.fixture
def seen() -> Seen:
    """Collect what callbacks are told."""
    return []


@pytest.fixture
def tcp() -> Iterator[Pair]:
    """Connect two TCP sockets over the loopback, on a port that the system chooses."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    near.setblocking(False)
    far.setblocking(False)
    yield near, far
    near.close()
    far.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a folder to watch, with room beside it."""
    folder = tmp_path / "root"
    folder.mkdir()
    return folder
