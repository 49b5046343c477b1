"""Watchers: which callback wants to hear of which events on which descriptor.

Two mistakes that every loop makes once are made impossible here.

* **A stale event.** A batch from the kernel may hold an event for a descriptor that a callback earlier in the same
  batch has unregistered, and whose number may by then belong to a new socket, or one that nobody wants to hear of
  any more. Every registration, and every modification that takes interest away, gets the next generation number; a
  backend calls only watchers that are not younger than the batch.
* **A watcher freed while it runs.** Unregistering takes the watcher out of the table at once, but its callback is
  kept until the batch is over, on the list of the retired.

The table is indexed by descriptor: no hash look-up for an event. Kernels hand out the lowest free number, so it
stays dense. The callbacks stand in a list of their own beside the watchers, and the last generation number in a list
too, because from C an item of a list costs a tenth of an attribute.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol, final

from nimloop_core._guard import ThreadGuard
from nimloop_core.abc import EventCallback, ExceptionHandler
from nimloop_core.errors import AlreadyRegisteredError, NotRegisteredError

READ: Final = 1
"""There is something to read, to accept, or the end of the stream."""
WRITE: Final = 2
"""There is room to write."""
ERROR: Final = 4
"""An error is pending on the descriptor; reported without being asked for."""
HUP: Final = 8
"""The peer will send no more: read on to the end. Reported without being asked for.

A watcher with no interest at all (0) is told nothing, not even these two.
"""


class Backend(Protocol):
    """What the loop needs from a system's way to wait; the contract is told in `nimloop_core.backends`."""

    name: str
    edge: bool
    wake_fd: int

    def add(self, fd: int, events: int, *, edge: bool) -> None: ...
    def modify(self, fd: int, events: int, *, edge: bool) -> None: ...
    def remove(self, fd: int) -> None: ...
    def wake(self) -> None: ...
    def poll(self, timeout_ns: int, table: WatcherTable) -> int: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...


@final
class Watcher:
    """One registered descriptor. Made by `Loop.register`; ends with `unregister` or with the loop."""

    __slots__ = ("_table", "callback", "edge", "events", "fd", "generation")

    def __init__(self, table: WatcherTable, fd: int, events: int, callback: EventCallback, *, edge: bool) -> None:
        self._table = table
        self.fd: Final[int] = fd
        """The descriptor."""
        self.events: int = events
        """What it waits for: `READ`, `WRITE`, both or 0. `modify` changes it."""
        # `_forgotten` once the watcher is retired and the batch over; else never changed
        self.callback: EventCallback = callback
        """Called with the mask of what has happened. `modify` changes it."""
        self.edge: Final[bool] = edge
        """Whether it is told of changes only; False where edges were asked for and there are none."""
        self.generation: int = 0

    @property
    def active(self) -> bool:
        """Whether the watcher is registered."""
        return self._table.find(self.fd) is self

    def modify(self, events: int) -> None:
        """Ask for `events` (``READ``, ``WRITE``, both or 0) from now on; raises `NotRegisteredError`."""
        self._table.modify(self, events)

    def unregister(self) -> None:
        """Forget the descriptor, before it is closed. No event comes any more, not even from this batch.

        Harmless when repeated. The descriptor stays open: it belongs to whoever opened it.
        """
        self._table.unregister(self)

    def __repr__(self) -> str:
        state = "active" if self.active else "unregistered"
        return f"<Watcher fd={self.fd} {state} callback={self.callback!r}>"


def _forgotten(_events: int) -> None:
    """Stand in for the callback of a retired watcher."""


@final
class WatcherTable:
    """All watchers of one loop, by descriptor, and the backend that knows about them."""

    __slots__ = ("_backend", "callbacks", "guard", "newest", "on_error", "retired", "slots")

    def __init__(self, backend: Backend, on_error: ExceptionHandler, guard: ThreadGuard | None = None) -> None:
        self._backend = backend
        self.guard: Final = guard
        self.on_error: Final = on_error
        self.newest: Final = [0]
        """The last generation number that was given out: where it is that of the batch, no watcher is younger."""
        self.slots: Final[list[Watcher | None]] = [None] * 64
        self.callbacks: Final[list[EventCallback | None]] = [None] * 64
        self.retired: list[Watcher] = []
        self._reserve(backend.wake_fd)  # so that its events find an empty slot

    @property
    def generation(self) -> int:
        """The last generation number that was given out."""
        return self.newest[0]

    def _renew(self, watcher: Watcher) -> None:
        """Make a watcher younger than the batch."""
        self.newest[0] = watcher.generation = self.newest[0] + 1

    def find(self, fd: int) -> Watcher | None:
        """Return the live watcher of a descriptor."""
        return self.slots[fd] if 0 <= fd < len(self.slots) else None

    def register(self, fd: int, events: int, callback: EventCallback, *, edge: bool) -> Watcher:
        """Begin to watch `fd`. Whatever the backend raises leaves the table as it was."""
        _check_events(events)
        if fd < 0:
            raise ValueError(f"a descriptor is not negative: {fd} (closed already?)")
        if not callable(callback):
            raise TypeError(f"the callback must be callable, not {callback!r}")
        if self.find(fd) is not None:
            raise AlreadyRegisteredError(
                f"descriptor {fd} has a watcher already; unregister it (before closing the descriptor) or modify it"
            )
        edge = edge and self._backend.edge
        watcher = Watcher(self, fd, events, callback, edge=edge)
        beyond = fd >= len(self.slots)
        try:
            # A number out of thin air must not make the table as long as itself: the backend has to know it first, and
            # only the backend can tell, because a socket of Windows is nothing that os.fstat would find.
            if events or beyond:
                self._backend.add(fd, events or READ, edge=edge)
            if beyond:
                self._reserve(fd)
                if not events:
                    self._backend.remove(fd)
            self._renew(watcher)
            self.callbacks[fd] = callback
            self.slots[fd] = watcher
        except BaseException:
            # An error, or Ctrl+C anywhere above: the backend must not report what has no place in the table.
            if fd < len(self.slots):
                self.slots[fd] = self.callbacks[fd] = None
            self._backend.remove(fd)
            raise
        return watcher

    def modify(self, watcher: Watcher, events: int) -> None:
        """Change what a live watcher waits for."""
        _check_events(events)
        if self.guard is not None:
            self.guard.check()
        if self.find(watcher.fd) is not watcher:
            raise NotRegisteredError(f"{watcher!r} was unregistered before")
        if events == watcher.events:
            return
        # With no interest at all a descriptor leaves the backend: kernels report HUP and ERROR unasked, and as long
        # as they last, to somebody who has said that he does not want to hear.
        if not watcher.events:
            try:
                self._backend.add(watcher.fd, events, edge=watcher.edge)
                watcher.events = events
            except BaseException:
                watcher.events = 0
                self._backend.remove(watcher.fd)
                raise
            return
        if events:
            self._backend.modify(watcher.fd, events, edge=watcher.edge)
        else:
            self._backend.remove(watcher.fd)
        if watcher.events & ~events:
            # What this batch still holds may be the very event that is no longer wanted. Nothing else is lost: the
            # kernel reports what is ready again, levels by themselves and edges because of the modification.
            self._renew(watcher)
        watcher.events = events

    def unregister(self, watcher: Watcher) -> None:
        """Take a watcher out of the table and retire it."""
        if self.guard is not None:
            self.guard.check()
        if self.find(watcher.fd) is watcher:
            # In this order, Ctrl+C leaves a watcher that can be unregistered again.
            if watcher.events:
                self._backend.remove(watcher.fd)
            self.slots[watcher.fd] = self.callbacks[watcher.fd] = None
            self.retired.append(watcher)

    def dispatch(self, batch: Iterable[tuple[int, int]]) -> int:
        """Call back for each descriptor of a batch with its mask of events; return how many watchers were called.

        Left out is who was unregistered by a callback before it, and who is younger than the batch.
        """
        slots = self.slots
        youngest = self.newest[0]
        called = 0
        for fd, events in batch:
            watcher = slots[fd]
            if watcher is None or watcher.generation > youngest:
                continue
            called += 1
            try:
                watcher.callback(events)
            except Exception as error:
                self.on_error(error, watcher)
        return called

    def repeat(self, fds: Iterable[int]) -> None:
        """Have the edges of a batch told again that Ctrl+C has ended: nobody was told of them, and only levels last."""
        for fd in fds:
            watcher = self.find(fd)
            if watcher is not None and watcher.edge and watcher.events:
                try:
                    self._backend.modify(fd, watcher.events, edge=True)
                except OSError:
                    pass  # closed before

    def sweep(self) -> None:
        """Let go of the callbacks of retired watchers, once no event of the batch can need them."""
        for watcher in self.retired:
            watcher.callback = _forgotten
        self.retired.clear()

    def clear(self) -> None:
        """Unregister everything."""
        for watcher in self.slots:
            if watcher is not None:
                self.unregister(watcher)
        self.sweep()

    def __len__(self) -> int:
        return sum(watcher is not None for watcher in self.slots)

    def _reserve(self, fd: int) -> None:
        missing = fd + 1 - len(self.slots)
        if missing > 0:
            more = max(missing, len(self.slots))
            self.callbacks.extend([None] * more)  # before the other, which tells whether there is room
            self.slots.extend([None] * more)


def _check_events(events: int) -> None:
    if events & ~(READ | WRITE):
        raise ValueError(f"events must be READ, WRITE, both or 0, not {events!r}; ERROR and HUP always come")
