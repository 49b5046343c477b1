"""The folders that an inotify descriptor watches: which there are, where they are, and what is known of them.

* A watch belongs to an inode, not to a path, and is not recursive. So the folders are kept as a tree of nodes, each
  with its watch and its name; a path is put together when it is needed, and renaming a folder changes one node.
* Watching an inode once more gives the same watch. So asking for a watch at a path is a way to ask who is there now.
* What a path leads to may be newer than the record that led us there. A folder is therefore opened, watched and
  listed, and whoever finds another folder at its path afterwards does not trust the node (`Folder.trusted`): a
  rename of such a one is told as deleted and created, and it is listed again.
* A folder is watched first and listed second. What happened in between comes twice, from the list and as a record;
  what came and went before is a record about something never heard of. `Folder.seen` holds the names that the
  watcher's owner knows of, as long as such records can be in the queue: until a read, begun after the list was made,
  has emptied it. (A name changes and its record is queued under the same lock that a listing needs.)

The mask of a folder
--------------------
``IN_MODIFY`` instead of ``IN_CLOSE_WRITE``: a log file is never closed, and both would be two events for one save.
``IN_EXCL_UNLINK``: what an open file without a name goes through is nobody's business. ``IN_ONLYDIR`` and, below
the root, ``IN_DONT_FOLLOW``: what has become a link since it was listed is not followed. ``IN_MASK_ADD`` below the
root: asking again must not take the ``*_SELF`` events away from the root, should a bind mount lead back to it. Only
the root needs those; of the others, the folder above tells. ``IN_ACCESS``, ``IN_OPEN`` and ``IN_CLOSE_NOWRITE`` would
report every reader.
"""

from __future__ import annotations

import errno
import os
from typing import Final, final

from nimloop_core._inotify import (
    IN_ATTRIB,
    IN_CREATE,
    IN_DELETE,
    IN_DELETE_SELF,
    IN_DONT_FOLLOW,
    IN_EXCL_UNLINK,
    IN_MASK_ADD,
    IN_MODIFY,
    IN_MOVE_SELF,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_ONLYDIR,
    Inotify,
)
from nimloop_core._watch_events import CREATED, OVERFLOW, Host

NAMES: Final = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO
_COMMON: Final = IN_MODIFY | IN_ATTRIB | NAMES | IN_EXCL_UNLINK | IN_ONLYDIR
_ROOT_MASK: Final = _COMMON | IN_DELETE_SELF | IN_MOVE_SELF
_FOLDER_MASK: Final = _COMMON | IN_DONT_FOLLOW | IN_MASK_ADD

# A folder that has gone or changed since it was named: the record of that is on its way. And one that we may not read.
_PASSED: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES)


@final
class Folder:
    """A folder that is watched, or about to be."""

    __slots__ = ("folders", "gone", "name", "parent", "seen", "trusted", "wd")

    def __init__(self, name: str, parent: Folder | None) -> None:
        self.name = name  # of the root: its path
        self.parent = parent
        self.folders: dict[str, Folder] = {}
        self.wd = -1
        self.seen: set[str] | None = None
        self.trusted = False
        self.gone = False

    @property
    def path(self) -> str:
        """The path as the owner knows it."""
        return os.path.join(self.parent.path, self.name) if self.parent else self.name


@final
class Folders:
    """The tree of one descriptor. Without `recursive`, the root and nothing below it."""

    def __init__(self, host: Host, inotify: Inotify, path: str, *, recursive: bool) -> None:
        """Watch everything there is. Raises OSError."""
        self._host: Final = host
        self._inotify: Final = inotify
        self._recursive: Final = recursive
        self._unlisted: Final[list[Folder]] = []
        self._fresh: Final[list[Folder]] = []
        self._settling: Final[list[tuple[Folder, set[str] | None]]] = []
        self._quiet = recursive  # nothing that a listing finds is news
        self._stale: set[int] | None = None  # watches from before an overflow
        self.root = Folder(path, None)
        self.root.wd = inotify.add(path, _ROOT_MASK)
        self._by_wd = {self.root.wd: self.root}
        if recursive:
            self._unlisted.append(self.root)
            while self._unlisted:
                self._list(self._unlisted.pop())
            self._quiet = False

    @property
    def busy(self) -> bool:
        """Whether there is something to list; until that is done no record may be applied."""
        return bool(self._unlisted) or self._stale is not None

    def find(self, wd: int) -> Folder | None:
        """Return the folder of a watch."""
        return self._by_wd.get(wd)

    def advance(self) -> int:
        """List one folder, and return what it cost."""
        if not self._unlisted:
            self._finish_rebuilding()
            return 1
        folder = self._unlisted.pop()
        try:
            return self._list(folder)
        except OSError as error:
            self._host.fail(error)
            self._host.emit(OVERFLOW, folder.path, is_dir=True)
            self.forget(folder)
            return 1

    def drained(self) -> None:
        """Note that a read has emptied the queue: once these records are applied, what was listed before is old."""
        self._settling.extend((folder, folder.seen) for folder in self._fresh)
        self._fresh.clear()

    def settle(self) -> None:
        """Note that all records were applied."""
        for folder, seen in self._settling:
            if folder.seen is seen:
                folder.seen = None
        self._settling.clear()

    def enter(self, parent: Folder, name: str) -> None:
        """Have a new folder watched and listed, if that is wanted."""
        if self._recursive:
            self.forget(parent.folders.get(name))
            folder = parent.folders[name] = Folder(name, parent)
            self._unlisted.append(folder)

    def forget(self, folder: Folder | None) -> None:
        """End the watches of a folder and of everything below it."""
        if folder is None or folder.parent is None:
            return
        if folder.parent.folders.get(folder.name) is folder:
            del folder.parent.folders[folder.name]
        rest = [folder]
        while rest:
            each = rest.pop()
            each.gone = True
            if each.wd >= 0:
                del self._by_wd[each.wd]
                self._inotify.remove(each.wd)
                each.wd = -1
            rest.extend(each.folders.values())

    def lose(self, folder: Folder) -> None:
        """Note that the kernel has ended a watch."""
        del self._by_wd[folder.wd]
        folder.wd = -1

    def move(self, folder: Folder, parent: Folder, name: str) -> None:
        """Put a folder into another place, instead of what may have been there."""
        if folder.parent is not None:
            del folder.parent.folders[folder.name]
        folder.name, folder.parent = name, parent
        parent.folders[name] = folder

    def is_at(self, folder: Folder | None, path: str) -> bool:
        """Whether it is that folder which is at the path now, or nothing is: then the record of why is on its way."""
        if not self._recursive:
            return True
        if folder is None or not folder.trusted:
            return False
        try:
            wd = self._inotify.add(path, _FOLDER_MASK)
        except OSError as error:
            return error.errno in _PASSED
        if wd not in self._by_wd:
            self._inotify.remove(wd)  # only asked for
        return wd == folder.wd

    def rebuild(self) -> bool:
        """Begin to list everything again, and tell the owner to do the same afterwards; False if there is no need."""
        if not self._recursive:
            return False
        self._stale = set(self._by_wd)
        wd = self.root.wd
        self.root = Folder(self.root.name, None)
        self.root.wd = wd
        self._by_wd = {wd: self.root}
        self._quiet = True
        self._unlisted.append(self.root)
        return True

    def _finish_rebuilding(self) -> None:
        for wd in (self._stale or set()) - self._by_wd.keys():
            self._inotify.remove(wd)
        self._stale = None
        self._quiet = False
        self._host.emit(OVERFLOW, self._host.path, is_dir=True)

    def clear(self) -> None:
        """Forget everything; the kernel does when the descriptor is closed."""
        self._unlisted.clear()
        self._by_wd.clear()

    def _list(self, folder: Folder) -> int:
        """Watch a folder, tell what is in it, and have its sub-folders listed."""
        if folder.gone:
            return 1
        path = folder.path
        is_root = folder is self.root
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if is_root else os.O_NOFOLLOW))
            try:
                self._watch(folder, path)
                with os.scandir(fd) as listing:
                    entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in listing]
                there = os.stat(path, follow_symlinks=is_root)
                folder.trusted = os.path.samestat(there, os.fstat(fd))
            finally:
                os.close(fd)
        except OSError as error:
            if error.errno not in _PASSED:
                raise
            if folder.wd < 0:
                self.forget(folder)
                return 1
            entries = []
        folder.seen = {name for name, _ in entries}
        self._fresh.append(folder)
        for name, is_dir in entries:
            if not self._quiet:
                self._host.emit(CREATED, os.path.join(path, name), is_dir=is_dir)
            if is_dir:
                self.enter(folder, name)
        return 1 + len(entries)

    def _watch(self, folder: Folder, path: str) -> None:
        if folder is self.root:
            return
        wd = self._inotify.add(path, _FOLDER_MASK)
        other = self._by_wd.get(wd)
        if other is self.root:  # a bind mount: this way lies a loop
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if other is not None:
            other.wd = -1  # it has moved here, and the record of that is on its way
        folder.wd = wd
        self._by_wd[wd] = folder
