"""A completion port and the socket driver of Windows, written down as a model over the sockets of this system.

What it takes from the documentation and from those who have stood on the real ones
------------------------------------------------------------------------------------
* A poll is answered once: in the call when a condition holds, else as soon as one does. The answer is written to the
  record, the completion goes to the end of the port's queue.
* A cancellation completes the poll, through the port, never in the call. `ModelPort.slow` makes it take its time. One
  that comes too late changes nothing.
* Closing a socket completes its poll with ``LOCAL_CLOSE``, asked for or not. A poll belongs to the socket, not to
  its number: another socket under the number is none of its business.
* Asking about a closed socket fails in the call, and then nothing completes.
* A posted completion ends the wait; so does any other; nothing else but its time does.
* Until a completion is taken out, the record is written to by its address: the model has no reference that would
  keep a record alive, and writes where the real one would crash the process or worse.

It is stricter than the real ones: two polls of one socket, a record that was let go, changed or handed over again too
early, a handle closed with polls on it, are errors here, kept in `ModelPort.violations`.

Conditions are looked up with poll(2), at each call and while waiting: what is true for a moment between two calls goes
unnoticed, unless `ModelPort.look` is called in that moment. What it is not a model of: layered service providers,
out-of-band data, and whatever Microsoft has not told.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import socket
import stat
import sys
import time
import weakref
from collections import deque
from dataclasses import dataclass
from typing import Final, final

from nimloop_core.backends import _afd
from nimloop_core.backends._afd import PollRecord

assert sys.platform != "win32"  # for type checkers, to whom Windows has no such names

_RDHUP: Final[int] = getattr(select, "POLLRDHUP", 0)


@dataclass(eq=False)
class _Pending:
    """A poll that was not answered yet."""

    record: weakref.ref[PollRecord]
    address: int
    device: int
    fd: int
    inode: int
    asked: int
    image: bytes
    cancelled: bool = False


@final
class ModelPort:
    """Stands in for `WindowsPort`."""

    def __init__(self, violations: list[str] | None = None) -> None:
        self.violations: Final[list[str]] = [] if violations is None else violations
        self.pending: Final[dict[int, _Pending]] = {}  # by the address of the record
        self.queue: Final[deque[int]] = deque()
        self.devices: Final[dict[int, int]] = {}  # polls by handle
        self.slow = False  # whether cancellations stay away
        self.deaf = False  # whether the kernel loses everything: for the worst case of close
        self.submit_error: OSError | None = None
        self.interrupt = ""  # where the next KeyboardInterrupt comes
        self.waits: Final[deque[tuple[int, int]]] = deque(maxlen=100)
        self.submitted = 0
        self.cancelled = 0
        self.records: Final[weakref.WeakSet[_Handle]] = weakref.WeakSet()
        self.closed = False
        self._held: list[int] = []
        self._connected: set[int] = set()
        self._next_device = 1_000
        self._bell, self._button = os.pipe()
        os.set_blocking(self._bell, False)
        os.set_blocking(self._button, False)

    # The Port protocol ----------------------------------------------------------------------------------------

    def open_device(self) -> int:
        """Number the handles from 1000."""
        self._next_device += 1
        self.devices[self._next_device] = 0
        return self._next_device

    def close_device(self, device: int) -> None:
        """Allow it only without polls."""
        if self.devices.pop(device):
            self._violate(f"handle {device} closed with polls on it")

    def base_handle(self, fd: int) -> int:
        """Refuse what is not a socket."""
        try:
            kind = os.fstat(fd).st_mode
        except OSError:
            raise OSError(errno.ENOTSOCK, "not open") from None
        if not stat.S_ISSOCK(kind):
            raise OSError(errno.ENOTSOCK, "not a socket")
        return fd

    def submit(self, device: int, record: PollRecord) -> None:
        """Take over a record."""
        self._trip("before submit")
        record.submitted = True
        address = ctypes.addressof(record)
        before = self.pending.get(address)
        if before is not None and before.record() is None:
            self._violate(f"the record of socket {before.fd} was let go too early, and its memory used again")
        elif before is not None or address in self.queue or address in self._held:
            self._violate("a record was handed over before it was given back")
        asked = (record.number_of_handles, record.exclusive, record.internal, record.timeout > 1 << 62)
        if asked != (1, 0, _afd.STATUS_PENDING, True):
            self._violate(f"a strange question: {asked}")
        if self.submit_error is not None:
            record.submitted = False
            raise self.submit_error
        fd = record.handle
        inode = _inode(fd)
        if not inode:
            record.submitted = False
            raise OSError(errno.EBADF, "closed")
        if any(each.fd == fd and each.inode == inode for each in self.pending.values()):
            self._violate(f"two polls of socket {fd}")
        pending = _Pending(weakref.ref(record), address, device, fd, inode, record.events, _image(record))
        self.pending[address] = pending
        self.records.add(_handle(record))
        self.devices[device] += 1
        self.submitted += 1
        self._answer(pending)
        self._trip("after submit")

    def cancel(self, device: int, record: PollRecord) -> None:
        """Mark a poll, or find that it is over."""
        self.cancelled += 1
        pending = self.pending.get(ctypes.addressof(record))
        if pending is not None:
            self._answer(pending)
            if pending.device != device:
                self._violate("cancelled through another handle")
            pending.cancelled = True

    def wait(self, capacity: int, timeout_ms: int) -> int:
        """Wait until something completes."""
        if not self._held:
            self.waits.append((capacity, timeout_ms))
            deadline = time.monotonic_ns() + timeout_ms * 1_000_000
            self.look()
            while not self.queue:
                left = deadline - time.monotonic_ns()
                if left <= 0:
                    return 0
                self._sleep(-(-left // 1_000_000))
                self.look()
            while self.queue and len(self._held) < capacity:
                self._held.append(self.queue.popleft())
            self._trip("after wait")
        return len(self._held)

    def completed(self, index: int) -> int:
        """Tell the address, or 0."""
        self._trip(f"at completion {index}")
        return self._held[index]

    def release(self) -> None:
        """Forget what was taken out."""
        self._trip("before release")
        self._held.clear()

    def post(self) -> None:
        """Complete something that is none, and ring the bell for a wait in another thread."""
        self._trip("before post")
        self.queue.append(0)
        try:
            os.write(self._button, b"\0")
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Let go of the descriptors; the records are checked a last time."""
        self.look()
        if not self.closed:
            self.closed = True
            os.close(self._bell)
            os.close(self._button)

    # The kernel -----------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Answer the polls for which something holds right now."""
        for pending in list(self.pending.values()):
            self._answer(pending)

    def fail(self, fd: int, status: int) -> None:
        """Complete the poll of a socket with an error."""
        for pending in list(self.pending.values()):
            if pending.fd == fd:
                self._complete(pending, status, 0)

    def outstanding(self) -> set[int]:
        """Return the addresses that the kernel may still write to, or has in its queue."""
        return set(self.pending) | {address for address in self.queue if address}

    def held(self) -> set[int]:
        """Return the addresses that were taken out of the queue, and not released."""
        return {address for address in self._held if address}

    def _answer(self, pending: _Pending) -> None:
        if self.deaf:
            return
        if _inode(pending.fd) != pending.inode:
            self._complete(pending, _afd.STATUS_SUCCESS, _afd.LOCAL_CLOSE)
        elif found := self._conditions(pending.fd, pending.inode) & pending.asked:
            self._complete(pending, _afd.STATUS_SUCCESS, found)
        elif pending.cancelled and not self.slow:
            self._complete(pending, _afd.STATUS_CANCELLED, 0)

    def _complete(self, pending: _Pending, status: int, events: int) -> None:
        del self.pending[pending.address]
        self.devices[pending.device] -= 1
        record = pending.record()
        if record is None:
            self._violate(f"the record of socket {pending.fd} was let go too early")
            return
        if _image(record) != pending.image:
            self._violate(f"the record of socket {pending.fd} was used again too early")
        record.internal = status
        record.number_of_handles = 1 if events else 0
        record.events = events
        record.timeout = 0
        self.queue.append(pending.address)

    def _conditions(self, fd: int, inode: int) -> int:
        bits = _poll(fd)
        if not bits and inode in self._connected:
            return 0
        end = socket.socket(fileno=os.dup(fd))
        with end:
            listening = end.family != socket.AF_UNIX and end.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            if inode not in self._connected:
                try:
                    end.getpeername()
                    self._connected.add(inode)
                except OSError:
                    pass
        if listening:
            return _afd.ACCEPT if bits & select.POLLIN else 0
        if bits & select.POLLERR:
            return _afd.ABORT if inode in self._connected else _afd.CONNECT_FAIL
        if bits & select.POLLHUP and inode not in self._connected:
            return 0  # never connected: Windows has nothing to tell of it
        return (
            (_afd.RECEIVE if bits & select.POLLIN else 0)
            | (_afd.SEND if bits & select.POLLOUT else 0)
            | (_afd.DISCONNECT if bits & (_RDHUP | select.POLLHUP) else 0)
        )

    def _sleep(self, timeout_ms: int) -> None:
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        for pending in self.pending.values():
            # poll(2) tells of these unasked. They can only be unasked-for here, and nothing comes after them.
            if _poll(pending.fd) & (select.POLLHUP | select.POLLERR):
                continue
            poll.register(
                pending.fd,
                (select.POLLIN if pending.asked & (_afd.RECEIVE | _afd.ACCEPT) else 0)
                | (select.POLLOUT if pending.asked & _afd.SEND else 0)
                | (_RDHUP if pending.asked & _afd.DISCONNECT else 0),
            )
        poll.poll(timeout_ms)
        try:
            os.read(self._bell, 65_536)
        except BlockingIOError:
            pass

    def _trip(self, place: str) -> None:
        if self.interrupt == place:
            self.interrupt = ""
            raise KeyboardInterrupt

    def _violate(self, what: str) -> None:
        self.violations.append(what)


class _Handle:
    """Lives as long as a record does: a structure itself has no hash to be found by."""


def _handle(record: PollRecord) -> _Handle:
    found = vars(record).setdefault("handle_of_model", _Handle())
    assert isinstance(found, _Handle)
    return found


def _image(record: PollRecord) -> bytes:
    return ctypes.string_at(ctypes.addressof(record), ctypes.sizeof(record))


def _inode(fd: int) -> int:
    try:
        return os.fstat(fd).st_ino
    except OSError:
        return 0


def _poll(fd: int) -> int:
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLOUT | _RDHUP)
    return next((bits for _, bits in poll.poll(0)), 0)
