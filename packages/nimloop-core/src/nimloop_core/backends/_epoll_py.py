"""Wait for events with epoll and call the watchers of the batch: the readable form of `_epoll_c`, and its twin."""

from __future__ import annotations

from typing import Final, Protocol

from nimloop_core._watchers import ERROR, HUP, READ, WRITE, WatcherTable

# Spelt out, because other systems' ``select`` lacks the names while type checkers look at every system.
EPOLLIN: Final = 0x001
EPOLLPRI: Final = 0x002
EPOLLOUT: Final = 0x004
EPOLLERR: Final = 0x008
EPOLLHUP: Final = 0x010
EPOLLRDHUP: Final = 0x2000
EPOLLET: Final = 1 << 31


def _mask(bits: int) -> int:
    return (
        (READ if bits & EPOLLIN else 0)
        | (WRITE if bits & EPOLLOUT else 0)
        | (ERROR if bits & EPOLLERR else 0)
        | (HUP if bits & (EPOLLHUP | EPOLLRDHUP | EPOLLPRI) else 0)
    )


# Every combination the kernel can report for what we ask; a table look-up is cheaper than four tests.
_FROM_KERNEL: Final = {bits | rdhup: _mask(bits | rdhup) for bits in range(0x20) for rdhup in (0, EPOLLRDHUP)}


class Pollable(Protocol):
    """What is used of `select.epoll`."""

    def poll(self, timeout: float, max_events: int, /) -> list[tuple[int, int]]:
        """Wait, then fetch events."""


def wait(  # noqa: PLR0917 - positional, as C takes them
    epoll: Pollable,
    epoll_fd: int,
    capacity: int,
    timeout_ns: int,
    table: WatcherTable,
    lost: list[int],
    /,
) -> tuple[int, int]:
    """Wait, then call the live watchers of the batch; return how many events there were, and how many were called.

    When a BaseException ends the batch, the descriptors that it held are added to `lost`.
    """
    # Python rounds up to nanoseconds, by which it goes on after a signal, and those to the kernel's milliseconds.
    # Half a nanosecond taken off keeps the error of binary fractions from rounding up once more.
    timeout = (timeout_ns - 0.5) / 1e9 if timeout_ns > 0 else (0 if timeout_ns == 0 else -1)
    batch = epoll.poll(timeout, capacity)
    if not batch:
        return 0, 0
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
        lost += [fd for fd, _ in batch]
        raise
    return len(batch), called
