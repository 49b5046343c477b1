"""FileWatcher on kqueue(2): ``EVFILT_VNODE`` tells where to look, a comparison of listings what has happened.

Not yet run on macOS or a BSD: it was developed against a stand-in for the kernel's queue. From the manual pages:

* A vnode event belongs to an open descriptor: each file and folder of the tree costs one. Where there are more than
  ``ulimit -n`` allows, opening fails and nothing is hidden.
* ``NOTE_WRITE`` on a folder: an entry was added, removed or renamed; it does not say which. On a file: it was written.
* ``NOTE_DELETE`` and ``NOTE_RENAME`` follow the file, which keeps its descriptor; its path may have a new owner.
* macOS has ``O_EVTONLY``: a descriptor that reads nothing and keeps no volume from being unmounted. Elsewhere it is
  opened to be read; ``O_NONBLOCK``, so that a FIFO that has taken the place of a file does not hold us up.
* ``EV_CLEAR``: what was fetched does not come again. What changed before an event was added does not come at all: so
  a folder is looked at once more after its entries were opened.
* A queue can be waited for like any descriptor: it is nested in the one of the loop, or in any other backend.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Iterable, Sequence
from typing import Final, Protocol, cast, final

from nimloop_core._watch_events import ATTRIBUTES, MODIFIED, OVERFLOW, Host
from nimloop_core._watch_snapshot import Identity, Node, Steps, Tree
from nimloop_core._watchers import READ

# <sys/event.h>: NetBSD numbers the filters from 0 upwards, the others from −1 downwards; all agree on the notes.
_FILTER_VNODE: Final[int] = getattr(select, "KQ_FILTER_VNODE", -4)
_EV_ADD: Final = 0x0001
_EV_CLEAR: Final = 0x0020
_NOTE_DELETE: Final = 0x01
_NOTE_WRITE: Final = 0x02
_NOTE_EXTEND: Final = 0x04
_NOTE_ATTRIB: Final = 0x08
_NOTE_RENAME: Final = 0x20
_NOTE_REVOKE: Final = 0x40
_NOTES: Final = _NOTE_DELETE | _NOTE_WRITE | _NOTE_EXTEND | _NOTE_ATTRIB | _NOTE_RENAME | _NOTE_REVOKE

_OPEN_FLAGS: Final[int] = (
    getattr(os, "O_EVTONLY", os.O_RDONLY)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
)
_BATCH: Final = 64


class VnodeEvent(Protocol):
    """What is used of `select.kevent`."""

    @property
    def ident(self) -> int:
        """The descriptor."""

    @property
    def fflags(self) -> int:
        """What has happened to it."""


class VnodeQueue(Protocol):
    """What is used of `select.kqueue`."""

    def fileno(self) -> int:
        """Return the queue's own descriptor."""

    def control(
        self, changes: Iterable[VnodeEvent] | None, max_events: int, timeout: float | None, /
    ) -> Sequence[VnodeEvent]:
        """Make the changes, then fetch events, as kevent(2) does."""

    def close(self) -> None:
        """Close the queue."""


class VnodeApi(Protocol):
    """What is used of `select`, so that something else can stand in for it."""

    def kqueue(self) -> VnodeQueue:
        """Open a queue."""

    def kevent(self, ident: int, which: int, flags: int, fflags: int, /) -> VnodeEvent:
        """Make a change."""


@final
class KqueueWatch:
    """A queue, a descriptor for each entry, and the tree as it was."""

    def __init__(self, host: Host, *, recursive: bool, api: VnodeApi | None = None) -> None:
        self._host: Final = host
        self._api: Final = api or cast("VnodeApi", select)
        self._tree: Final = Tree(host, recursive=recursive)
        self._open: Final[dict[str, tuple[Identity, int]]] = {}
        self._paths: Final[dict[int, str]] = {}
        self._failed: set[str] = set()  # told already that there is no descriptor for it
        self._dirty: set[str] = {self._tree.path}
        self._steps: Steps | None = None
        self._queue: Final = self._api.kqueue()
        try:
            self._follow(may_raise=True)
            self._watcher: Final = host.loop.register(self._queue.fileno(), READ, self._on_readable)
        except BaseException:
            self._release()
            raise
        # What has changed since the first look.
        host.loop.call_soon(self._on_changed)

    def advance(self) -> int:
        """Look at one folder, compare it, or open what is new."""
        if self._steps is None:
            if not self._dirty or self._tree.ended:
                return 0
            self._steps = self._refresh()
        try:
            return next(self._steps)
        except StopIteration:
            self._steps = None
            return 1
        except OSError as error:
            self._steps = None
            self._host.fail(error)
            self._host.emit(OVERFLOW, self._host.path, is_dir=self._tree.file is None)
            return 0

    def close(self) -> None:
        """Close every descriptor, and the queue."""
        self._dirty.clear()
        self._steps = None
        self._watcher.unregister()
        self._release()

    def _release(self) -> None:
        for path in list(self._open):
            self._drop(path)
        self._queue.close()

    def _on_changed(self) -> None:
        if self._dirty:
            self._host.wake()

    def _on_readable(self, _events: int) -> None:
        if self._steps is not None:
            return
        for event in self._queue.control(None, _BATCH, 0.0):
            path = self._paths.get(event.ident)
            if path is None:
                continue  # closed since
            node = self._tree.find(path)
            self._dirty.add(path if path == self._tree.path else os.path.dirname(path))
            if node is not None and node.is_dir:
                self._dirty.add(path)
            elif node is not None and event.fflags & (_NOTE_WRITE | _NOTE_EXTEND):
                node.told.add(MODIFIED)  # also if the clock of the file system has not moved
            if node is not None and event.fflags & _NOTE_ATTRIB:
                node.told.add(ATTRIBUTES)
            if event.fflags & (_NOTE_DELETE | _NOTE_RENAME | _NOTE_REVOKE) and path != self._tree.path:
                self._drop(path)
        self._host.wake()

    def _refresh(self) -> Steps:
        dirty, self._dirty = self._dirty, set()
        try:
            yield from self._tree.refresh(dirty)
        except OSError:
            self._dirty |= dirty  # for the next look
            raise
        for path in self._tree.missed:
            self._dirty |= {path, os.path.dirname(path)}
        if not self._tree.ended:
            yield 1 + self._follow(may_raise=False)

    def _follow(self, *, may_raise: bool) -> int:
        """Have a descriptor for each entry that is there, and for no other."""
        wanted: dict[str, Node] = {}
        rest = [(self._tree.path, self._tree.root)]
        while rest:
            path, node = rest.pop()
            if node.is_dir or node.is_file:
                wanted[path] = node
            rest.extend((os.path.join(path, name), child) for name, child in node.children.items())
        for path, (identity, _) in list(self._open.items()):
            if path not in wanted or wanted[path].identity != identity:
                self._drop(path)
        opened = 0
        for path, node in wanted.items():
            if path in self._open:
                continue
            try:
                self._add(path, node)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM):
                    continue  # gone since it was listed, or not to be read
                if may_raise:
                    raise
                if path not in self._failed:
                    self._failed.add(path)
                    self._host.fail(error)
                    self._host.emit(OVERFLOW, path, is_dir=node.is_dir)
            else:
                opened += 1
        self._failed.intersection_update(wanted)
        return opened

    def _add(self, path: str, node: Node) -> None:
        flags = _OPEN_FLAGS
        if path == self._tree.path:
            flags &= ~getattr(os, "O_NOFOLLOW", 0)
        fd = os.open(path, flags)
        try:
            status = os.fstat(fd)
            self._queue.control([self._api.kevent(fd, _FILTER_VNODE, _EV_ADD | _EV_CLEAR, _NOTES)], 0, 0.0)
        except OSError:
            os.close(fd)
            raise
        self._open[path] = ((status.st_dev, status.st_ino), fd)
        self._paths[fd] = path
        # Once more, now that nothing can be missed; should it be another one by now, that look will show it.
        self._dirty.add(path if node.is_dir else os.path.dirname(path))
        if path != self._tree.path:
            self._dirty.add(os.path.dirname(path))

    def _drop(self, path: str) -> None:
        _, fd = self._open.pop(path)
        del self._paths[fd]
        os.close(fd)
