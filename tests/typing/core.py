"""What a type checker says to a user of nimloop-core. Never run: `hatch run typing:check` reads it."""

from __future__ import annotations

import socket
from typing import assert_type

from nimloop_core import (
    READ,
    WRITE,
    Backend,
    BufferPool,
    Deadline,
    FileEvent,
    FileWatcher,
    IdleHandler,
    Loop,
    LoopStats,
    NimloopError,
    SignalHandler,
    Timer,
    Watcher,
    WatcherTable,
    log_exception,
)
from nimloop_core.abc import Callback, ExceptionHandler
from nimloop_core.interop import AsyncioGuest
from nimloop_core.testing import FakeBackend, FakeClock


def nothing() -> None:
    """A callback; what one returns does not matter."""


def scheduling(loop: Loop) -> None:
    """Every way to be called back gives a handle that ends it."""
    timer = assert_type(loop.call_later(0.5, nothing), Timer)
    assert_type(loop.call_every(1, nothing), Timer)
    assert_type(loop.call_at(loop.time() + 1.0, lambda: "anything"), Timer)
    assert_type(timer.deadline, float | None)
    assert_type(timer.active, bool)
    timer.reschedule(2.0)
    timer.pause()
    timer.resume()
    timer.cancel()
    loop.call_soon(nothing)
    loop.call_soon_threadsafe(loop.stop)
    assert_type(loop.add_idle(nothing), IdleHandler).cancel()
    assert_type(loop.add_signal_handler(15, loop.stop), SignalHandler).cancel()
    deadline = Deadline(loop, nothing)
    deadline.set(2.5)
    assert_type(deadline.active, bool)

    loop.call_later("soon", nothing)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    loop.call_soon(nothing, 1)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]


def watching(loop: Loop, sock: socket.socket) -> None:
    """A descriptor, or what has one."""

    def on_ready(events: int) -> None:
        assert_type(events & READ, int)

    watcher = assert_type(loop.register(sock, READ | WRITE, on_ready, edge=True), Watcher)
    loop.register(sock.fileno(), READ, on_ready).unregister()
    watcher.modify(READ)
    assert_type(watcher.fd, int)
    assert_type(watcher.callback(READ), object)

    loop.register(sock, READ, nothing)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def files(loop: Loop) -> None:
    """One callback, with one event at a time."""

    def on_change(event: FileEvent) -> None:
        assert_type(event.path, str)
        assert_type(event.old_path, str | None)
        if event.kind == "renamed":
            assert_type(event.is_dir, bool)

    assert_type(FileWatcher(loop, ".", on_change, recursive=True), FileWatcher).close()


def running() -> None:
    """A loop ends with its block."""
    with Loop("poll", debug=True, slow_callback=0.1) as loop:
        assert_type(loop, Loop)
        loop.run_once(0.0)
        loop.run()
        assert_type(loop.next_deadline(), float | None)
        assert_type(loop.stats, LoopStats)
        assert_type(loop.stats.longest_callback, float | None)
        handler: ExceptionHandler = log_exception
        loop.exception_handler = handler
    pool = BufferPool(4096, limit=8)
    assert_type(pool.acquire(), bytearray)


def testing() -> None:
    """A clock that moves when it is told to."""
    clock = FakeClock()
    backend: Backend = FakeBackend(clock)
    with Loop(backend, clock=clock) as loop:
        loop.run_once()


class Own:
    """A backend of one's own is one by its methods."""

    name = "own"
    edge = False
    wake_fd = -1

    def add(self, fd: int, events: int, *, edge: bool) -> None:
        """Watch."""

    def modify(self, fd: int, events: int, *, edge: bool) -> None:
        """Watch for something else."""

    def remove(self, fd: int) -> None:
        """Forget."""

    def wake(self) -> None:
        """End a wait."""

    def poll(self, timeout_ns: int, table: WatcherTable) -> int:
        """Wait."""
        return 0

    def fileno(self) -> int:
        """Tell."""
        return -1

    def close(self) -> None:
        """End."""


def own_backend() -> Loop:
    """A loop takes it."""
    return Loop(Own())


def error(problem: NimloopError, callback: Callback) -> None:
    """All errors of all packages have one root."""
    assert_type(str(problem), str)
    assert_type(callback(), object)


def asyncio_inside(guest: AsyncioGuest) -> None:
    """A task of asyncio keeps its type."""

    async def answer() -> int:
        return 42

    assert_type(guest.create_task(answer()).result(), int)
