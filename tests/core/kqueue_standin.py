"""A stand-in for `select.kqueue` and `select.kevent` where the kernel has none, over real pipes and sockets.

It follows kqueue(2) of FreeBSD and macOS, and CPython's `select` for what is checked before the kernel is asked. Each
filter is an epoll instance of its own, because that knows one registration per descriptor, as a queue knows one event
per descriptor and filter; a third one, around the two, does the waiting. ``EV_CLEAR`` is ``EPOLLET``: both are reset
when they are fetched, set again by the next change, and run once more when they are added again. A closed descriptor
leaves an epoll instance by itself, too.

Where the manuals leave room, the sources of FreeBSD decide: adding again does not change ``EV_CLEAR``, receipts end
the call, and, if wanted, the write filter of a pipe without a reader is refused.

Its limits:

* Only sockets, pipes, FIFOs, terminals and queues, for which any epoll instance stands; a regular file is EINVAL. Only
  the filters to read and to write.
* A queue waits in milliseconds, never shorter than asked, and outlives fork(2).
* The error of a socket cannot be read without taking it away from its owner: ``fflags`` is ECONNRESET for any.
* A TCP socket that was never connected has ``EV_EOF``, because epoll calls it hung up. A socket after its own
  ``shutdown(SHUT_WR)`` has not.
* A queue that has got the number of another queue is not told from it.
* A descriptor closed while a duplicate of it is open stays registered: epoll watches the open file behind it.
* ``data`` of a listening socket is 1 for any number of connections; of a socket to write to, it is an estimate.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import stat
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol, cast, final

assert sys.platform != "win32"  # for type checkers, to whom Windows has no such names

FILTER_READ: Final[int] = getattr(select, "KQ_FILTER_READ", -1)
FILTER_WRITE: Final[int] = getattr(select, "KQ_FILTER_WRITE", -2)

EV_ADD: Final = 0x0001
EV_DELETE: Final = 0x0002
EV_ENABLE: Final = 0x0004
EV_DISABLE: Final = 0x0008
EV_ONESHOT: Final = 0x0010
EV_CLEAR: Final = 0x0020
EV_RECEIPT: Final = 0x0040
EV_ERROR: Final = 0x4000
EV_EOF: Final = 0x8000

# epoll_ctl(2), for type checkers on systems without it.
_EPOLLIN: Final = 0x001
_EPOLLOUT: Final = 0x004
_EPOLLERR: Final = 0x008
_EPOLLHUP: Final = 0x010
_EPOLLRDHUP: Final = 0x2000
_EPOLLET: Final = 1 << 31

_F_GETPIPE_SZ: Final = 1032  # fcntl(2)

AVAILABLE: Final = hasattr(select, "epoll")
"""Whether this system can run the stand-in."""


class _Epoll(Protocol):
    """What is used of `select.epoll`."""

    @property
    def closed(self) -> bool: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...
    def register(self, fd: int, mask: int, /) -> None: ...
    def modify(self, fd: int, mask: int, /) -> None: ...
    def unregister(self, fd: int, /) -> None: ...
    def poll(self, timeout: float = -1, max_events: int = -1, /) -> list[tuple[int, int]]: ...


def _open_epoll() -> _Epoll:
    return cast("Callable[[], _Epoll]", getattr(select, "epoll", None))()


@final
@dataclass
class Kevent:
    """Look like `select.kevent`."""

    ident: int
    filter: int = FILTER_READ
    flags: int = EV_ADD
    fflags: int = 0
    data: int = 0
    udata: int = 0


@final
@dataclass
class _Note:
    """What the queue knows of an event: the open file it is about, and how it was added."""

    born: tuple[int, int]
    flags: int
    udata: int
    disabled: bool = False


@final
class Queue:
    """Look like `select.kqueue`."""

    def __init__(self, *, refuse_broken_pipes: bool) -> None:
        self._refuse_broken_pipes = refuse_broken_pipes
        self._filters = {FILTER_READ: _open_epoll(), FILTER_WRITE: _open_epoll()}
        self._gate = _open_epoll()
        for epoll in self._filters.values():
            self._gate.register(epoll.fileno(), _EPOLLIN)
        self._notes: dict[tuple[int, int], _Note] = {}
        self._order = (FILTER_READ, FILTER_WRITE)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._gate.closed

    def fileno(self) -> int:
        """Return a descriptor that is readable while events are pending."""
        if self.closed:
            raise ValueError("I/O operation on closed kqueue object")
        return self._gate.fileno()

    def close(self) -> None:
        """Forget every event. Harmless when repeated."""
        for epoll in (self._gate, *self._filters.values()):
            epoll.close()

    def control(
        self, changes: Iterable[object] | None, max_events: int, timeout: float | None = None, /
    ) -> list[Kevent]:
        """Apply the changes, then wait for events, as kevent(2) does."""
        if self.closed:
            raise ValueError("I/O operation on closed kqueue object")
        if max_events < 0:
            raise ValueError(f"Length of eventlist must be 0 or positive, got {max_events}")
        if timeout is not None and timeout < 0:
            raise ValueError("timeout must be positive or None")
        listed: list[Kevent] = []
        for change in changes or ():
            if not isinstance(change, Kevent):
                raise TypeError("changelist must be an iterable of select.kevent objects")
            listed.append(change)
        results: list[Kevent] = []
        for change in listed:
            error = self._apply(change)
            if error or change.flags & EV_RECEIPT:
                if len(results) == max_events:
                    if error:
                        raise OSError(error, os.strerror(error))
                    return results
                results.append(Kevent(change.ident, change.filter, EV_ERROR, data=error, udata=change.udata))
        if results or max_events == 0:
            return results
        return self._wait(max_events, timeout)

    # Changes --------------------------------------------------------------------------------------------------

    def _apply(self, change: Kevent) -> int:
        """Apply one change and return the number of its error, or 0."""
        key = (change.ident, change.filter)
        if change.filter not in self._filters:
            return errno.EINVAL
        try:
            status = os.fstat(change.ident)
        except OSError:
            self._notes.pop(key, None)
            return errno.EBADF
        born = (status.st_dev, status.st_ino)
        note = self._notes.get(key)
        if note is not None and note.born != born:
            del self._notes[key]  # closed, and the number has found another owner
            note = None
        if note is None:
            if not change.flags & EV_ADD:
                return errno.ENOENT
            if not _is_supported(status.st_mode, change.filter):
                return errno.EINVAL
            if self._refuse_broken_pipes and change.filter == FILTER_WRITE and _is_broken_pipe(change.ident, status):
                return errno.EPIPE
            note = self._notes[key] = _Note(born, change.flags & (EV_CLEAR | EV_ONESHOT), change.udata)
        if change.flags & EV_DELETE:
            self._disarm(key)
            del self._notes[key]
            return 0
        if change.flags & EV_ADD:
            note.udata = change.udata
        if change.flags & EV_DISABLE:
            note.disabled = True
        elif change.flags & (EV_ADD | EV_ENABLE):
            note.disabled = False
        if note.disabled:
            self._disarm(key)
        else:
            self._arm(key, note)
        return 0

    def _arm(self, key: tuple[int, int], note: _Note) -> None:
        fd, which = key
        mask = _EPOLLIN | _EPOLLRDHUP if which == FILTER_READ else _EPOLLOUT
        if note.flags & EV_CLEAR:
            mask |= _EPOLLET
        epoll = self._filters[which]
        try:
            epoll.modify(fd, mask)
        except FileNotFoundError:
            epoll.register(fd, mask)

    def _disarm(self, key: tuple[int, int]) -> None:
        fd, which = key
        try:
            self._filters[which].unregister(fd)
        except FileNotFoundError:
            pass  # disabled, or being made and deleted in one change

    # Events ---------------------------------------------------------------------------------------------------

    def _wait(self, max_events: int, timeout: float | None) -> list[Kevent]:
        deadline = None if timeout is None else time.monotonic_ns() + round(timeout * 1e9)
        while True:
            found = self._collect(max_events)
            if found:
                return found
            if deadline is None:
                self._gate.poll()
                continue
            left = deadline - time.monotonic_ns()
            if left <= 0:
                return []
            # Whole milliseconds, and half of one less, so that they are not rounded up a second time.
            self._gate.poll((-(-left // 1_000_000) - 0.5) / 1000)

    def _collect(self, max_events: int) -> list[Kevent]:
        self._order = self._order[::-1]  # so that one filter does not keep the other away from a short list
        found: list[Kevent] = []
        for which in self._order:
            room = max_events - len(found)
            if room:
                found += [self._event(fd, which, bits) for fd, bits in self._filters[which].poll(0, room)]
        return found

    def _event(self, fd: int, which: int, bits: int) -> Kevent:
        mode = os.fstat(fd).st_mode
        if which == FILTER_READ:
            eof = bool(bits & (_EPOLLHUP | _EPOLLRDHUP))
        else:
            eof = bool(bits & _EPOLLHUP) or (stat.S_ISFIFO(mode) and bool(bits & _EPOLLERR))
        failed = eof and stat.S_ISSOCK(mode) and bool(bits & _EPOLLERR)
        note = self._notes[fd, which]
        if note.flags & EV_ONESHOT:
            self._disarm((fd, which))
            del self._notes[fd, which]
        return Kevent(
            fd,
            which,
            note.flags | (EV_EOF if eof else 0),
            errno.ECONNRESET if failed else 0,
            _readable_bytes(fd, mode) if which == FILTER_READ else _writable_bytes(fd, mode),
            note.udata,
        )


@final
class StandIn:
    """Look like the module `select`, as far as queues are concerned."""

    def __init__(self, *, refuse_broken_pipes: bool = False) -> None:
        self._refuse_broken_pipes = refuse_broken_pipes
        self.kevent = Kevent

    def kqueue(self) -> Queue:
        """Open a queue."""
        return Queue(refuse_broken_pipes=self._refuse_broken_pipes)


def _is_queue(mode: int) -> bool:
    return stat.S_IFMT(mode) == 0  # an epoll instance, as in a queue of ours: it has no file behind it


def _is_supported(mode: int, which: int) -> bool:
    if _is_queue(mode):
        return which == FILTER_READ  # kqueue_kqfilter in the kern_event.c of FreeBSD
    return stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def _is_broken_pipe(fd: int, status: os.stat_result) -> bool:
    if not stat.S_ISFIFO(status.st_mode):
        return False
    poll = select.poll()
    poll.register(fd, 0)
    return any(bits & select.POLLERR for _, bits in poll.poll(0))


def _ask(fd: int, request: int) -> int:
    return int(struct.unpack("i", fcntl.ioctl(fd, request, bytes(4)))[0])


def _option(fd: int, name: int) -> int:
    with socket.socket(fileno=os.dup(fd)) as duplicate:
        return duplicate.getsockopt(socket.SOL_SOCKET, name)


def _readable_bytes(fd: int, mode: int) -> int:
    if stat.S_ISSOCK(mode) and _option(fd, socket.SO_ACCEPTCONN):
        return 1
    if _is_queue(mode):
        return 1  # the number of its events, says the manual, which epoll does not tell
    return _ask(fd, termios.FIONREAD)


def _writable_bytes(fd: int, mode: int) -> int:
    if stat.S_ISFIFO(mode):
        return fcntl.fcntl(fd, _F_GETPIPE_SZ) - _ask(fd, termios.FIONREAD)
    if stat.S_ISSOCK(mode):
        return max(0, _option(fd, socket.SO_SNDBUF) - _ask(fd, termios.TIOCOUTQ))
    return 0
