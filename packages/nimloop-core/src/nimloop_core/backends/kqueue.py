"""kqueue(2) of macOS and the BSDs.

What the kernel does, from the manual pages of macOS and FreeBSD unless another source is named:

* An event is named by descriptor *and* filter. Who waits to read and to write has two, and gets two.
* ``EV_ADD`` of what is there keeps one event. FreeBSD's ``kern_event.c`` fixes ``EV_CLEAR`` when an event is attached:
  adding again does not change it. A filter is run on registration, to detect what is ready already.
* ``EV_CLEAR`` resets an event when it is fetched, and so makes an edge of it.
* Closing a descriptor removes its events. The queue itself is not inherited over fork(2).
* Without room for events an error in the list of changes ends the call: what is before it has been done, what is
  behind it has not. When a signal interrupts the call, all changes have been done, yet Python (PEP 475) passes the
  list again, and a second ``EV_DELETE`` is ENOENT.
* ``EV_EOF`` comes with the read filter when nothing more will arrive, maybe while data is left, and with the write
  filter when nobody reads any more; ``fflags`` is then the error of the socket. An error that does not end a socket,
  such as an ICMP message to a UDP socket, makes it ready without a mark (``filt_soread`` in ``uipc_socket.c``).
* The write filter of a pipe without a reader cannot be added: EPIPE (``pipe_kqfilter`` in the ``sys_pipe.c`` of
  FreeBSD and DragonFly; macOS 10.11 and before say it of the read filter too).
* macOS attaches to a device only if it can tell how many bytes it has: other devices are EINVAL. Regular files are
  readable until their end, and cannot be waited for to be writable.

What follows:

* The two events of a descriptor are merged into one call per batch.
* Changes are made at once and never together with a wait: an error belongs to the `add` that caused it, and none is
  made twice. A call that neither waits nor fetches cannot be interrupted.
* To tell an edge again, a filter is deleted and added. That needs no more than what the manual promises, and finds
  out when a number has changed hands: ENOENT.
* A filter refused with EPIPE is kept in mind, tried again before every wait, and told as a hang-up as long as it is
  refused. Everywhere else such a pipe is an event, too, and not an error of whoever registers it.
* ``EV_EOF`` is ``HUP``, and ``ERROR`` with an error beside it. After our own ``shutdown(SHUT_WR)`` the write filter
  says it as well: a spurious ``HUP`` for those who still wait to write then.
* Wake-ups are bytes in a pipe, emptied when they arrive. ``EVFILT_USER`` would save a descriptor, but its number
  differs from system to system, `select` does not name it, OpenBSD got it late; and a byte written is all that a
  signal handler or a foreign thread has to do.
* Python allocates room for as many events as are asked for on every call: the capacity follows the load.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Iterable, Sequence
from typing import Final, Protocol, cast, final

from nimloop_core._watchers import ERROR, HUP, READ, WRITE, WatcherTable
from nimloop_core.backends import _capacity, _pipe

__all__ = ["KqueueBackend"]

# Linux has no names for these, and type checkers look at every system. <sys/event.h> of macOS, FreeBSD, OpenBSD,
# DragonFly and NetBSD agree on the flags. NetBSD numbers the filters from 0 upwards, the others from −1 downwards.
_FILTER_READ: Final[int] = getattr(select, "KQ_FILTER_READ", -1)
_FILTER_WRITE: Final[int] = getattr(select, "KQ_FILTER_WRITE", -2)
_EV_ADD: Final = 0x0001
_EV_DELETE: Final = 0x0002
_EV_CLEAR: Final = 0x0020
_EV_ERROR: Final = 0x4000
_EV_EOF: Final = 0x8000

_FILTERS: Final = ((READ, _FILTER_READ), (WRITE, _FILTER_WRITE))

# Beside READ and WRITE in the record of what the kernel knows.
_EDGE: Final = 4


class Kevent(Protocol):
    """What is used of `select.kevent`."""

    @property
    def ident(self) -> int:
        """The descriptor."""

    @property
    def filter(self) -> int:
        """To read or to write."""

    @property
    def flags(self) -> int:
        """What to do, or in what state the event is."""

    @property
    def fflags(self) -> int:
        """The number of the socket's error, beside ``EV_EOF``."""


class Kqueue(Protocol):
    """What is used of `select.kqueue`."""

    def control(self, changes: Iterable[Kevent] | None, max_events: int, timeout: float | None, /) -> Sequence[Kevent]:
        """Make the changes, then fetch events, as kevent(2) does."""

    def fileno(self) -> int:
        """Return the queue's own descriptor."""

    def close(self) -> None:
        """Close the queue."""


class KqueueApi(Protocol):
    """What is used of `select`, so that something else can stand in for it."""

    def kqueue(self) -> Kqueue:
        """Open a queue."""

    def kevent(self, ident: int, which: int, flags: int, /) -> Kevent:
        """Make a change."""


@final
class KqueueBackend:
    """Waits with kqueue and is woken through a pipe."""

    def __init__(self, api: KqueueApi | None = None) -> None:
        self.name = "kqueue"
        self.edge = True
        api = api or cast("KqueueApi", select)
        self._kevent = api.kevent
        self._capacity = _capacity.LEAST
        self._known: dict[int, int] = {}
        self._refused: dict[int, int] = {}
        self._closed = False
        self._kqueue = api.kqueue()
        try:
            self.wake_fd: int
            self.wake_fd, self._wake_end = _pipe.create()
        except OSError:
            self._kqueue.close()
            raise
        try:
            self._submit([self._kevent(self.wake_fd, _FILTER_READ, _EV_ADD)])
        except OSError:
            self.close()
            raise

    def add(self, fd: int, events: int, *, edge: bool) -> None:
        """Start to watch a descriptor."""
        self._change(fd, 0, events | (_EDGE if edge else 0))

    def modify(self, fd: int, events: int, *, edge: bool) -> None:
        """Change what is watched; with `edge`, what is ready by now is reported again."""
        if fd not in self._known:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        self._change(fd, self._known[fd], events | (_EDGE if edge else 0))

    def remove(self, fd: int) -> None:
        """Stop watching."""
        known = self._known.get(fd, 0)
        changes = [self._kevent(fd, which, _EV_DELETE) for bit, which in _FILTERS if known & bit]
        try:
            self._submit(changes)
        except OSError:
            self._take_back(changes)  # closed before, as a rule; else the first error must not shield the second filter
        # Last, so that whoever was interrupted by Ctrl+C can remove it again.
        self._known.pop(fd, None)
        self._refused.pop(fd, None)

    def wake(self) -> None:
        """End the wait, from any thread."""
        _pipe.ring(self._wake_end)

    def poll(self, timeout_ns: int, table: WatcherTable) -> int:
        """Wait, then call the live watchers of the batch."""
        ready: dict[int, int] = {}
        if self._refused:
            self._try_refused(ready)
        # Python rounds up to the kernel's nanoseconds. A day of them is less than 2^53: the division is off by less
        # than one, and cannot round below the whole number.
        timeout = 0.0 if ready else timeout_ns / 1e9 if timeout_ns >= 0 else None
        batch = self._kqueue.control(None, self._capacity, timeout)
        if not batch and not ready:
            return 0
        try:
            for event in batch:
                bits = READ if event.filter == _FILTER_READ else WRITE
                flags = event.flags
                if flags & _EV_EOF:
                    bits |= HUP | ERROR if event.fflags else HUP
                if flags & _EV_ERROR:
                    bits |= ERROR
                fd = event.ident
                ready[fd] = ready.get(fd, 0) | bits
            if self.wake_fd in ready:
                _pipe.drain(self.wake_fd)
            called = table.dispatch(ready.items())
        except BaseException:
            table.repeat({*ready, *(event.ident for event in batch)})
            raise
        self._capacity = _capacity.adapted(self._capacity, len(batch))
        return called

    def fileno(self) -> int:
        """Return the descriptor that another loop can wait for; what the kernel has refused does not show there."""
        return self._kqueue.fileno()

    def close(self) -> None:
        """Close the queue and both ends of the pipe."""
        if not self._closed:
            self._closed = True
            self._kqueue.close()
            os.close(self.wake_fd)
            os.close(self._wake_end)

    def _submit(self, changes: list[Kevent]) -> None:
        # No room for events: nothing is fetched, nothing waits, and the first error is raised.
        if changes:
            self._kqueue.control(changes, 0, 0.0)

    def _change(self, fd: int, known: int, wanted: int) -> None:
        kevent = self._kevent
        add = _EV_ADD | _EV_CLEAR if wanted & _EDGE else _EV_ADD
        new: list[Kevent] = []
        rest: list[Kevent] = []
        for bit, which in _FILTERS:
            if not known & bit:
                if wanted & bit:
                    new.append(kevent(fd, which, add))
            elif not wanted & bit:
                rest.append(kevent(fd, which, _EV_DELETE))
            elif (known | wanted) & _EDGE:
                rest += kevent(fd, which, _EV_DELETE), kevent(fd, which, add)
        # What is new comes first: where it fails, nothing has been taken away.
        try:
            self._submit(new + rest)
            self._known[fd] = wanted
        except BrokenPipeError:
            self._change_singly(fd, wanted, new, rest)
            return
        except BaseException:
            self._take_back(new)
            raise
        self._refused.pop(fd, None)

    def _change_singly(self, fd: int, wanted: int, new: list[Kevent], rest: list[Kevent]) -> None:
        # Rare, and therefore simple: the same changes once more, each by itself. A deletion may have been done before.
        refused = 0
        for change in new + rest:
            try:
                self._submit([change])
            except BrokenPipeError:
                refused |= READ if change.filter == _FILTER_READ else WRITE
            except FileNotFoundError:
                pass
            except BaseException:
                self._take_back(new)
                raise
        self._known[fd] = wanted & ~refused
        self._refused[fd] = refused

    def _take_back(self, new: list[Kevent]) -> None:
        for change in new:
            try:
                self._submit([self._kevent(change.ident, change.filter, _EV_DELETE)])
            except OSError:
                pass  # never added, or gone with its descriptor

    def _try_refused(self, ready: dict[int, int]) -> None:
        for fd, refused in list(self._refused.items()):
            edge = self._known[fd] & _EDGE
            for bit, which in _FILTERS:
                if not refused & bit:
                    continue
                try:
                    self._submit([self._kevent(fd, which, _EV_ADD | (_EV_CLEAR if edge else 0))])
                except BrokenPipeError:
                    ready[fd] = ready.get(fd, 0) | bit | HUP
                    if not edge:
                        continue
                except OSError:
                    pass  # closed before
                else:
                    self._known[fd] |= bit
                self._refused[fd] &= ~bit
            if not self._refused[fd]:
                del self._refused[fd]
