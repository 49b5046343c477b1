"""Linux's epoll(7).

``EPOLLRDHUP`` is asked for together with ``READ``: it tells that the peer has ended its side, and that a short read
does not mean the end has been reached. ``EPOLLPRI`` is asked for too, and means the same: a read stops short at urgent
data of TCP (tcp(7)), with more behind it. The eventfd for wake-ups is edge-triggered, so that it need not be read: each
write to it is a new edge.
"""

from __future__ import annotations

import os
import select
from typing import Final, Protocol, cast, final

from nimloop_core._watchers import ERROR, HUP, READ, WRITE, Watcher, WatcherTable

_MIN_EVENTS: Final = 64
_MAX_EVENTS: Final = 4096

# Spelt out, because other systems' ``select`` lacks the names while type checkers look at every system.
_EPOLLIN: Final = 0x001
_EPOLLPRI: Final = 0x002
_EPOLLOUT: Final = 0x004
_EPOLLERR: Final = 0x008
_EPOLLHUP: Final = 0x010
_EPOLLRDHUP: Final = 0x2000
_EPOLLET: Final = 1 << 31

_TO_KERNEL: Final = (
    0,
    _EPOLLIN | _EPOLLPRI | _EPOLLRDHUP,
    _EPOLLOUT,
    _EPOLLIN | _EPOLLPRI | _EPOLLRDHUP | _EPOLLOUT,
)


def _mask(bits: int) -> int:
    return (
        (READ if bits & _EPOLLIN else 0)
        | (WRITE if bits & _EPOLLOUT else 0)
        | (ERROR if bits & _EPOLLERR else 0)
        | (HUP if bits & (_EPOLLHUP | _EPOLLRDHUP | _EPOLLPRI) else 0)
    )


# Every combination the kernel can report for what we ask; a table look-up is cheaper than four tests.
_FROM_KERNEL: Final = {bits | rdhup: _mask(bits | rdhup) for bits in range(0x20) for rdhup in (0, _EPOLLRDHUP)}


class Epoll(Protocol):
    """What is used of `select.epoll`."""

    @property
    def closed(self) -> bool:
        """Whether it was closed."""

    def register(self, fd: int, mask: int, /) -> None:
        """Start to watch a descriptor."""

    def modify(self, fd: int, mask: int, /) -> None:
        """Change what is watched."""

    def unregister(self, fd: int, /) -> None:
        """Stop watching."""

    def poll(self, timeout: float, max_events: int, /) -> list[tuple[int, int]]:
        """Wait, then fetch events."""

    def fileno(self) -> int:
        """Return the instance's own descriptor."""

    def close(self) -> None:
        """Close the instance."""


class EpollApi(Protocol):
    """What is used of `select`."""

    def epoll(self) -> Epoll:
        """Open an instance."""


class EventfdApi(Protocol):
    """What is used of `os`."""

    EFD_NONBLOCK: int
    EFD_CLOEXEC: int

    def eventfd(self, value: int, flags: int, /) -> int:
        """Open a counter."""

    def eventfd_write(self, fd: int, value: int, /) -> None:
        """Add to the counter."""


@final
class EpollBackend:
    """Waits with epoll and is woken through an eventfd."""

    def __init__(self) -> None:
        self.name = "epoll"
        self.edge = True
        self._capacity = _MIN_EVENTS
        self._epoll = cast("EpollApi", select).epoll()
        system = cast("EventfdApi", os)
        self._write = system.eventfd_write
        try:
            self.wake_fd = system.eventfd(0, system.EFD_NONBLOCK | system.EFD_CLOEXEC)
        except OSError:
            self._epoll.close()
            raise
        self._epoll.register(self.wake_fd, _EPOLLIN | _EPOLLET)

    def add(self, fd: int, events: int, *, edge: bool) -> None:
        """Start to watch a descriptor."""
        self._epoll.register(fd, _TO_KERNEL[events] | (_EPOLLET if edge else 0))

    def modify(self, fd: int, events: int, *, edge: bool) -> None:
        """Change what is watched; with `edge`, what is ready by now is reported again."""
        self._epoll.modify(fd, _TO_KERNEL[events] | (_EPOLLET if edge else 0))

    def remove(self, fd: int) -> None:
        """Stop watching."""
        try:
            self._epoll.unregister(fd)
        except OSError:
            pass  # closed before: the kernel has removed it

    def wake(self) -> None:
        """End the wait, from any thread."""
        try:
            self._write(self.wake_fd, 1)
        except BlockingIOError:
            pass  # the counter is full after 2^64 wake-ups; the edge is there all the same

    def poll(self, timeout_ns: int, table: WatcherTable) -> int:
        """Wait, then call the live watchers of the batch."""
        # Python rounds up to nanoseconds, by which it goes on after a signal, and those to the kernel's milliseconds.
        # Half a nanosecond taken off keeps the error of binary fractions from rounding up once more.
        timeout = (timeout_ns - 0.5) / 1e9 if timeout_ns > 0 else (0 if timeout_ns == 0 else -1)
        batch = self._epoll.poll(timeout, self._capacity)
        if not batch:
            return 0
        slots = table.slots
        youngest = table.generation
        called = 0
        try:
            for fd, bits in batch:
                watcher = slots[fd]
                if watcher is None or watcher.generation > youngest:
                    continue  # the wake-up, or unregistered by a callback before it
                called += 1
                try:
                    watcher.callback(_FROM_KERNEL[bits])
                except Exception as error:
                    table.on_error(error, watcher)
        except BaseException:
            self._repeat(batch, slots)
            raise
        if len(batch) == self._capacity:
            self._capacity = min(self._capacity * 2, _MAX_EVENTS)
        elif len(batch) * 8 < self._capacity:
            self._capacity = max(self._capacity // 2, _MIN_EVENTS)
        return called

    def _repeat(self, batch: list[tuple[int, int]], slots: list[Watcher | None]) -> None:
        # Ctrl+C in the middle of a batch. The levels of the rest come again; an edge that nobody was told of would not.
        for fd, _ in batch:
            watcher = slots[fd]
            if watcher is not None and watcher.edge and watcher.events:
                try:
                    self.modify(fd, watcher.events, edge=True)
                except OSError:
                    pass  # closed before

    def fileno(self) -> int:
        """Return the descriptor that another loop can wait for."""
        return self._epoll.fileno()

    def close(self) -> None:
        """Close the epoll instance and the eventfd."""
        if not self._epoll.closed:
            self._epoll.close()
            os.close(self.wake_fd)
