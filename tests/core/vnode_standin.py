"""A stand-in for ``EVFILT_VNODE`` where the kernel has inotify: as much of it as a watcher of files needs.

It follows kqueue(2) of FreeBSD and macOS: an event belongs to an open descriptor, tells nothing about names, is reset
when it is fetched, and vanishes with its descriptor. The queue is an inotify instance that watches the open files
themselves, through ``/proc/self/fd``.

Its limits: no ``EV_DELETE``, which nobody needs here; a folder that is deleted while it is open says nothing, so its
parent is watched, too; ``NOTE_LINK`` and ``NOTE_REVOKE`` never come; any number of changes are one ``NOTE_ATTRIB``.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from nimloop_core import _inotify
from nimloop_core._inotify import Inotify

NOTE_DELETE: Final = 0x01
NOTE_WRITE: Final = 0x02
NOTE_EXTEND: Final = 0x04
NOTE_ATTRIB: Final = 0x08
NOTE_RENAME: Final = 0x20

_NAMES: Final = _inotify.IN_CREATE | _inotify.IN_DELETE | _inotify.IN_MOVED_FROM | _inotify.IN_MOVED_TO
_MASK: Final = _NAMES | _inotify.IN_MODIFY | _inotify.IN_ATTRIB | _inotify.IN_MOVE_SELF | _inotify.IN_MASK_ADD

AVAILABLE: Final = _inotify.available() and Path("/proc/self/fd").exists()


@final
@dataclass
class Kevent:
    """Look like `select.kevent`."""

    ident: int
    filter: int = 0
    flags: int = 0
    fflags: int = 0


@final
class Queue:
    """Look like `select.kqueue`."""

    def __init__(self) -> None:
        self._inotify = Inotify()
        self._known: dict[int, tuple[int, tuple[int, int]]] = {}  # by descriptor: the watch, and what is open

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._inotify.fileno()

    def close(self) -> None:
        """Close the queue."""
        self._inotify.close()

    def control(self, changes: Iterable[object] | None, max_events: int, timeout: float | None, /) -> list[Kevent]:
        """Add events, or fetch some."""
        assert timeout == 0
        for change in changes or ():
            assert isinstance(change, Kevent)
            status = os.fstat(change.ident)
            path = f"/proc/self/fd/{change.ident}"
            wd = self._inotify.add(path, _MASK)
            if stat.S_ISDIR(status.st_mode):
                self._inotify.add(str(Path(path).readlink().parent), _inotify.IN_DELETE | _inotify.IN_MASK_ADD)
            self._known[change.ident] = (wd, (status.st_dev, status.st_ino))
        # A record has 16 bytes at least: what is read fits into the list.
        buffer = memoryview(bytearray(16 * max_events))
        found: dict[int, int] = {}
        for record in _inotify.parse(buffer[: self._inotify.read(buffer)] if max_events else b""):
            self._note(record, found)
        return [Kevent(fd, fflags=notes) for fd, notes in found.items()]

    def _note(self, record: _inotify.Record, found: dict[int, int]) -> None:
        for fd, (wd, born) in list(self._known.items()):
            try:
                status = os.fstat(fd)
            except OSError:
                del self._known[fd]
                continue
            if (status.st_dev, status.st_ino) != born:
                del self._known[fd]
                continue
            notes = 0
            if wd == record.wd:
                notes = _translate(record)
            if status.st_nlink == 0:
                notes |= NOTE_DELETE
                del self._known[fd]
            if notes:
                found[fd] = found.get(fd, 0) | notes


def _translate(record: _inotify.Record) -> int:
    if record.name:
        return NOTE_WRITE if record.mask & _NAMES else 0
    if record.mask & _inotify.IN_MODIFY:
        return NOTE_WRITE | NOTE_EXTEND
    if record.mask & _inotify.IN_ATTRIB:
        return NOTE_ATTRIB
    return NOTE_RENAME if record.mask & _inotify.IN_MOVE_SELF else 0


@final
class StandIn:
    """Look like the module `select`, as far as these queues are concerned."""

    def kqueue(self) -> Queue:
        """Open a queue."""
        return Queue()

    def kevent(self, ident: int, which: int, flags: int, fflags: int, /) -> Kevent:
        """Make a change."""
        return Kevent(ident, which, flags, fflags)
