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

from nimloop_core._watchers import WatcherTable
from nimloop_core.backends import _capacity
from nimloop_core.backends._epoll_py import EPOLLET, EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDHUP, Pollable
from nimloop_core.backends._epoll_wait import wait

__all__ = ["EpollBackend"]

_TO_KERNEL: Final = (
    0,
    EPOLLIN | EPOLLPRI | EPOLLRDHUP,
    EPOLLOUT,
    EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLOUT,
)


class Epoll(Pollable, Protocol):
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
        self._capacity = _capacity.LEAST
        self._epoll = cast("EpollApi", select).epoll()
        self._fd: Final = self._epoll.fileno()
        self._lost: Final[list[int]] = []
        system = cast("EventfdApi", os)
        self._write = system.eventfd_write
        try:
            self.wake_fd: int = system.eventfd(0, system.EFD_NONBLOCK | system.EFD_CLOEXEC)
        except OSError:
            self._epoll.close()
            raise
        self._epoll.register(self.wake_fd, EPOLLIN | EPOLLET)

    def add(self, fd: int, events: int, *, edge: bool) -> None:
        """Start to watch a descriptor."""
        self._epoll.register(fd, _TO_KERNEL[events] | (EPOLLET if edge else 0))

    def modify(self, fd: int, events: int, *, edge: bool) -> None:
        """Change what is watched; with `edge`, what is ready by now is reported again."""
        self._epoll.modify(fd, _TO_KERNEL[events] | (EPOLLET if edge else 0))

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
        try:
            events, called = wait(self._epoll, self._fd, self._capacity, timeout_ns, table, self._lost)
        except BaseException:
            table.repeat(self._lost)
            self._lost.clear()
            raise
        self._capacity = _capacity.adapted(self._capacity, events)
        return called

    def fileno(self) -> int:
        """Return the descriptor that another loop can wait for."""
        return self._fd

    def close(self) -> None:
        """Close the epoll instance and the eventfd."""
        if not self._epoll.closed:
            self._epoll.close()
            os.close(self.wake_fd)
