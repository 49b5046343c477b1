"""Windows: readiness from the socket driver, through an I/O completion port.

A completion port tells that something is over, and the loop wants to know that something can begin. In between stands
the driver under all sockets, which can be asked when a socket will be ready (`nimloop_core.backends._afd`): the answer
is a completion. What follows from that:

**Levels, no edges.** A poll is answered once, at once when the socket is ready already. Asking again after the
callbacks of a batch is exactly a level: whatever the callbacks have left unread is reported again. An edge cannot be
had: a new poll about a socket with unread bytes is answered by the old bytes, and only the caller knows when he has
drained it, which is not in the contract. So ``edge`` is False, and a caller who is tired of ``WRITE`` takes the
interest away.

**One poll per socket at a time.** With two outstanding, the driver completes the one with the events of the other.
Interest that gets narrower is only masked when the answer comes. Interest that gets wider cancels the poll, and the
next is asked when the cancellation has come back; a new registration of a handle whose last poll is still on its way
back waits for it in the same way. (Two handles of one socket, made by ``dup`` or ``share``, are beyond our sight:
do not watch both.)

**A poll outlives its registration.** Its record is the kernel's memory until the completion is taken out of the port,
so a registration is kept in ``_in_flight`` until then, removed or not, and its late answer is dropped. Records are
handed to the kernel by `IocpBackend.poll` alone, after everything it has taken out before is dealt with: a new record
can then never be mistaken for an old one at the same address. `close` cancels all and waits for them. What the kernel
does not give back within a second is kept until the process ends: to leak a hundred bytes is better than to have them
written to when they are somebody else's. A backend that is forgotten rather than closed keeps them, too.

**Nothing taken out is lost.** Ctrl+C may come between any two steps. Completions stay with the port until they are
released, and handling one a second time does nothing. For a watcher that has been told, or was about to be, the next
poll is asked by the next call: the level comes again.

**Ctrl+C cannot end a wait for completions**, unlike one for descriptors elsewhere: a wait is cut into slices of a
second, after each of which Python gets to its signal handlers. Waits end on the tick of the system's clock, perhaps
before their time: the clock is asked, and the rest waited for.

**Events.** ``ABORT`` (a reset) and ``CONNECT_FAIL`` leave an error for the next call, which then does not block: ERROR,
with all that was asked for; a reset also is a hang-up. ``DISCONNECT`` (the peer has sent his FIN) is READ and HUP.
``LOCAL_CLOSE`` comes unasked when the socket was closed in spite of being watched: the driver has forgotten it, and so
do we. ``CONNECT`` is not asked for: ``SEND`` holds as soon as a socket is connected. Nor is urgent data: a read that
stops short of it does no harm where levels come again.

**Up to 32 sockets share a handle of the driver**: the time of a cancellation grows with the polls of its handle.

None of this has been run on Windows so far. The logic below is tested against a model of the port over real sockets,
the results of the calls against made-up ones, and the structures against documented sizes.
"""

from __future__ import annotations

import errno
import time
from typing import Final, final

from nimloop_core._watchers import ERROR, HUP, READ, WRITE, WatcherTable
from nimloop_core.backends import _capacity
from nimloop_core.backends._afd import (
    ABORT,
    ACCEPT,
    CONNECT_FAIL,
    DISCONNECT,
    LOCAL_CLOSE,
    RECEIVE,
    SEND,
    STATUS_CANCELLED,
    STATUS_PENDING,
    STATUS_SUCCESS,
    PollRecord,
)
from nimloop_core.backends._port import Port, WindowsPort

__all__ = ["IocpBackend"]

_DEVICE_SOCKETS: Final = 32
_SLICE_MS: Final = 1_000
_CLOSE_MS: Final = 1_000

_ALWAYS: Final = ABORT | CONNECT_FAIL | LOCAL_CLOSE
_TO_KERNEL: Final = (
    0,
    RECEIVE | ACCEPT | DISCONNECT | _ALWAYS,
    SEND | _ALWAYS,
    RECEIVE | ACCEPT | DISCONNECT | SEND | _ALWAYS,
)


def _mask(bits: int, interest: int) -> int:
    """Translate what the driver has found, as far as a watcher with this interest is concerned."""
    bits &= _TO_KERNEL[interest]
    return (
        (READ if bits & (RECEIVE | ACCEPT | DISCONNECT) else 0)
        | (WRITE if bits & SEND else 0)
        | (HUP if bits & (DISCONNECT | ABORT) else 0)
        | (ERROR | interest if bits & (ABORT | CONNECT_FAIL) else 0)
    )


@final
class _Device:
    """A handle of the driver, shared by some sockets."""

    __slots__ = ("handle", "users")

    def __init__(self, handle: int) -> None:
        self.handle: Final = handle
        self.users = 0


@final
class _Registration:
    """One descriptor from `add` to `remove`, and on until the kernel has given its record back."""

    __slots__ = ("asked", "base", "cancelled", "device", "fd", "interest", "record", "released")

    def __init__(self, fd: int, base: int, device: _Device, interest: int) -> None:
        self.fd: Final = fd
        self.base: Final = base
        self.device: Final = device
        self.record: Final = PollRecord()
        self.interest = interest  # 0 once removed
        self.asked = 0  # bits of the poll in flight, if there is one
        self.cancelled = False
        self.released = False


# Records that the kernel may write to, of all backends: what is in here outlives a backend that nobody has closed.
_records: Final[dict[int, dict[int, _Registration]]] = {}


@final
class IocpBackend:
    """Waits for polls of the socket driver to complete, and is woken by a completion that is none."""

    def __init__(self, port: Port | None = None) -> None:
        self.name = "iocp"
        self.edge = False
        self.wake_fd = -1
        self._port: Final[Port] = WindowsPort() if port is None else port
        self._capacity = _capacity.LEAST
        self._registered: Final[dict[int, _Registration]] = {}
        # Whose record is the kernel's, by its address. Removed ones are also in _draining, by their handle.
        self._in_flight: Final[dict[int, _Registration]] = {}
        self._draining: Final[dict[int, _Registration]] = {}
        # To be polled as soon as possible; to be polled once the callbacks have been called. Sets in order.
        self._idle: Final[dict[_Registration, None]] = {}
        self._told: Final[dict[_Registration, None]] = {}
        self._roomy: Final[dict[_Device, None]] = {}
        self._harvesting = False
        self._woken = False
        self._closed = False
        _records[id(self._in_flight)] = self._in_flight

    def add(self, fd: int, events: int, *, edge: bool) -> None:
        """Start to watch a socket. OSError for what is none; the poll itself is asked by `poll`."""
        del edge
        base = self._port.base_handle(fd)
        self.remove(fd)  # one whose owner was lost to an exception
        registration = _Registration(fd, base, self._acquire_device(), events)
        self._registered[fd] = registration
        self._idle[registration] = None

    def modify(self, fd: int, events: int, *, edge: bool) -> None:
        """Change what is watched."""
        del edge
        registration = self._registered.get(fd)
        if registration is None or self._port.base_handle(fd) != registration.base:
            raise OSError(errno.EBADF, f"socket {fd} was closed without being unregistered")
        if (
            registration.record.address in self._in_flight
            and not registration.cancelled
            and _TO_KERNEL[events] & ~registration.asked
        ):
            self._port.cancel(registration.device.handle, registration.record)
            registration.cancelled = True
        registration.interest = events

    def remove(self, fd: int) -> None:
        """Stop watching. The record stays until the kernel is done with it."""
        registration = self._registered.get(fd)
        if registration is None:
            return  # closed before
        registration.interest = 0
        self._idle.pop(registration, None)
        self._told.pop(registration, None)
        if registration.record.address not in self._in_flight:
            self._release_device(registration)
        else:
            self._draining[registration.base] = registration
            if not registration.cancelled:
                registration.cancelled = True
                try:
                    self._port.cancel(registration.device.handle, registration.record)
                except OSError:
                    pass  # then the poll ends when the socket is closed, or something happens to it
        # Last, so that whoever was interrupted by Ctrl+C can remove it again.
        del self._registered[fd]

    def wake(self) -> None:
        """End the wait, from any thread."""
        if self._woken:
            return  # it is on its way, and ends the poll that finds it
        try:
            self._woken = True
            self._port.post()
        except BaseException:
            self._woken = False
            raise

    def poll(self, timeout_ns: int, table: WatcherTable) -> int:
        """Ask, wait, then call the live watchers of the batch."""
        ready: list[tuple[int, int]] = []
        deadline = time.monotonic_ns() + timeout_ns if timeout_ns > 0 else 0
        left = timeout_ns
        if self._told:
            self._idle.update(self._told)
            self._told.clear()
        # What an exception has left in the port comes before any new poll: see above, on addresses.
        woken = self._harvest(0, ready) < 0 if self._harvesting else False
        while True:
            if self._idle:
                self._ask(ready)
            if ready or woken or left == 0:
                wait_ms = 0
            elif left < 0:
                wait_ms = _SLICE_MS
            else:
                wait_ms = min(-(-left // 1_000_000), _SLICE_MS)
            count = self._harvest(wait_ms, ready)
            if count < 0:
                woken = True
            if timeout_ns > 0:
                left = max(deadline - time.monotonic_ns(), 0)
            if count and (self._idle or not (ready or woken)):
                continue  # cancellations and late answers: their sockets can be asked now, or there is more behind them
            if ready or woken or left == 0:
                break
        return table.dispatch(ready)

    def fileno(self) -> int:
        """Return −1: there is nothing that another loop could wait for."""
        return -1

    def close(self) -> None:
        """Cancel all polls, wait until the kernel is done with their records, close the port."""
        if self._closed:
            return
        self._closed = True
        for fd in list(self._registered):
            self.remove(fd)
        try:
            while self._in_flight and self._harvest(_CLOSE_MS, []):
                pass
        finally:
            self._port.close()
            if not self._in_flight:
                del _records[id(self._in_flight)]

    def _ask(self, ready: list[tuple[int, int]]) -> None:
        """Give the kernel the records of all that are idle; who cannot be polled is told of an error."""
        in_flight = self._in_flight
        port = self._port
        for registration in list(self._idle):
            record = registration.record
            if record.address not in in_flight:
                if registration.base in self._draining:
                    continue  # until the one before it has come back
                registration.asked = _TO_KERNEL[registration.interest]
                registration.cancelled = False
                record.prepare(registration.base, registration.asked)
                try:
                    in_flight[record.address] = registration
                    port.submit(registration.device.handle, record)
                except OSError as error:
                    del in_flight[record.address]
                    if error.errno == errno.EBADF:
                        self._forget(registration)
                    else:
                        # Out of memory, most likely: the watcher may give up, or else it is tried again.
                        del self._idle[registration]
                        self._told[registration] = None
                        ready.append((registration.fd, ERROR))
                    continue
                except BaseException:
                    if not record.submitted:
                        in_flight.pop(record.address, None)
                    raise
            del self._idle[registration]

    def _harvest(self, timeout_ms: int, ready: list[tuple[int, int]]) -> int:
        """Take completions out of the port and deal with them; return how many, negative if a wake-up was among them.

        Any step may be the last before an exception, after which all of them are taken again.
        """
        port = self._port
        self._harvesting = True
        count = port.wait(self._capacity, timeout_ms)
        woken = False
        for index in range(count):
            address = port.completed(index)
            if not address:
                self._woken = False
                woken = True
                continue
            registration = self._in_flight.get(address)
            if registration is None:
                continue  # dealt with, before the exception
            status, bits = registration.record.answer()
            if status == STATUS_PENDING:
                continue  # no completion of this record, whatever it is
            if not registration.interest:
                if self._draining.get(registration.base) is registration:
                    del self._draining[registration.base]
                del self._in_flight[address]
                self._release_device(registration)
            elif status == STATUS_SUCCESS and bits & LOCAL_CLOSE:
                self._forget(registration)
                del self._in_flight[address]
            else:
                if status == STATUS_SUCCESS:
                    events = _mask(bits, registration.interest)
                else:
                    events = 0 if status == STATUS_CANCELLED else ERROR
                if events:
                    self._idle.pop(registration, None)  # there already, if an exception came after this
                    self._told[registration] = None
                    ready.append((registration.fd, events))
                else:
                    self._idle[registration] = None
                del self._in_flight[address]
        if count:
            port.release()
            self._capacity = _capacity.adapted(self._capacity, count)
        self._harvesting = False
        return -count if woken else count

    def _forget(self, registration: _Registration) -> None:
        # Closed by its owner, perhaps with a successor under the same number.
        if self._registered.get(registration.fd) is registration:
            del self._registered[registration.fd]
        registration.interest = 0
        self._idle.pop(registration, None)
        self._release_device(registration)

    def _acquire_device(self) -> _Device:
        device = next(iter(self._roomy), None)
        if device is None:
            device = _Device(self._port.open_device())
            self._roomy[device] = None
        device.users += 1
        if device.users == _DEVICE_SOCKETS:
            del self._roomy[device]
        return device

    def _release_device(self, registration: _Registration) -> None:
        if registration.released:
            return
        registration.released = True
        device = registration.device
        device.users -= 1
        self._roomy[device] = None
        if not device.users and len(self._roomy) > 1:
            del self._roomy[device]
            self._port.close_device(device.handle)
