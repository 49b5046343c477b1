"""poll(2), for systems without anything better.

It reports levels only, and costs time in proportion to the descriptors watched. It is woken through a pipe whose
reading end is emptied on every wake-up.
"""

from __future__ import annotations

import os
import select
from typing import Final, Protocol, cast, final

from nimloop_core._watchers import ERROR, HUP, READ, WRITE, WatcherTable
from nimloop_core.backends import _pipe

__all__ = ["PollBackend"]

_POLLIN: Final = 0x001
_POLLOUT: Final = 0x004
_POLLERR: Final = 0x008
_POLLHUP: Final = 0x010
_POLLNVAL: Final = 0x020
_POLLRDHUP: Final[int] = getattr(select, "POLLRDHUP", 0)  # Linux only

_TO_KERNEL: Final = (0, _POLLIN | _POLLRDHUP, _POLLOUT, _POLLIN | _POLLRDHUP | _POLLOUT)


class Poll(Protocol):
    """What is used of what `select.poll` returns."""

    def register(self, fd: int, mask: int, /) -> None:
        """Start to watch a descriptor, or change what is watched."""

    def modify(self, fd: int, mask: int, /) -> None:
        """Change what is watched."""

    def unregister(self, fd: int, /) -> None:
        """Stop watching."""

    def poll(self, timeout_ms: int | None, /) -> list[tuple[int, int]]:
        """Wait, then fetch events."""


class PollApi(Protocol):
    """What is used of `select`."""

    def poll(self) -> Poll:
        """Make an empty set of descriptors."""


@final
class PollBackend:
    """Waits with poll and is woken through a pipe."""

    def __init__(self) -> None:
        self.name = "poll"
        self.edge = False
        self._poll = cast("PollApi", select).poll()
        self.wake_fd: int
        self.wake_fd, self._wake_end = _pipe.create()
        self._poll.register(self.wake_fd, _POLLIN)
        self._closed = False

    def add(self, fd: int, events: int, *, edge: bool) -> None:
        """Start to watch a descriptor; poll(2) itself would not notice a closed one until it waits."""
        del edge
        os.fstat(fd)
        self._poll.register(fd, _TO_KERNEL[events])

    def modify(self, fd: int, events: int, *, edge: bool) -> None:
        """Change what is watched."""
        del edge
        os.fstat(fd)
        self._poll.modify(fd, _TO_KERNEL[events])

    def remove(self, fd: int) -> None:
        """Stop watching."""
        try:
            self._poll.unregister(fd)
        except KeyError:
            pass  # closed before: the POLLNVAL for it came first

    def wake(self) -> None:
        """End the wait, from any thread."""
        _pipe.ring(self._wake_end)

    def poll(self, timeout_ns: int, table: WatcherTable) -> int:
        """Wait, then call the live watchers of the batch."""
        batch = self._poll.poll(-(-timeout_ns // 1_000_000) if timeout_ns >= 0 else None)
        ready: list[tuple[int, int]] = []
        for fd, bits in batch:
            if fd == self.wake_fd:
                _pipe.drain(self.wake_fd)
            elif bits & _POLLNVAL:
                # Closed without being unregistered. epoll forgets such a descriptor; poll would report it for ever.
                self.remove(fd)
            else:
                ready.append((fd, _mask(bits)))
        return table.dispatch(ready)

    def fileno(self) -> int:
        """Return −1: there is nothing that another loop could wait for."""
        return -1

    def close(self) -> None:
        """Close both ends of the pipe."""
        if not self._closed:
            self._closed = True
            os.close(self.wake_fd)
            os.close(self._wake_end)


def _mask(bits: int) -> int:
    return (
        (READ if bits & _POLLIN else 0)
        | (WRITE if bits & _POLLOUT else 0)
        | (ERROR if bits & _POLLERR else 0)
        | (HUP if bits & (_POLLHUP | _POLLRDHUP) else 0)
    )
