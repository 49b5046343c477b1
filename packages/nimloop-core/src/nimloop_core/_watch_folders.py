"""The folders that an inotify descriptor watches: which there are, where they are, and what is known of them.

* A watch belongs to an inode, not to a path, and is not recursive. So the folders are kept as a tree of nodes, each
  with its watch and its name; a path is put together when it is needed, and renaming a folder changes one node.
* Watching an inode once more gives the same watch. So asking for a watch at a path is a way to ask who is there now.
* What a path leads to may be newer than the records, at each of its steps. A folder is therefore opened by name in
  its parent, after the parent was found to be the one that is meant; it is watched and listed through that one
  descriptor, by way of ``/proc/self/fd``. What the name stands for may still be newer than the record that led us
  there: then the record of that is on its way. If the parent is not where it should be, the folder has to wait until
  one of those above has moved (`Folders._missing`).
* A folder found by listing may be further in its history than the records: it is in its new place already, and still
  in the old one, without its watch (`Folder.wd` is −1), until the record of the move comes.
* A folder is watched first and listed second. What happened in between comes twice, from the list and as a record;
  what came and went before is a record about something never heard of. `Folder.seen` holds the names that the
  watcher's owner knows of, as long as such records can be in the queue: until a read, begun after the list was made,
  has emptied it. (A name changes and its record is queued under the same lock that a listing needs.)

The mask of a folder
--------------------
``IN_MODIFY`` instead of ``IN_CLOSE_WRITE``: a log file is never closed, and both would be two events for one save.
``IN_EXCL_UNLINK``: what an open file without a name goes through is nobody's business. Not ``IN_DONT_FOLLOW``: what
has become a link cannot be opened (``O_NOFOLLOW``), and the path in ``/proc`` is one. ``IN_MASK_ADD`` when an open
folder is asked for: it must not take the ``*_SELF`` events away from the root, which alone needs them.
"""

from __future__ import annotations

import errno
import os
from typing import Final, final

from nimloop_core import _inotify as ino
from nimloop_core._inotify import Inotify
from nimloop_core._watch_events import CREATED, OVERFLOW, Host

NAMES: Final = ino.IN_CREATE | ino.IN_DELETE | ino.IN_MOVED_FROM | ino.IN_MOVED_TO
_COMMON: Final = ino.IN_MODIFY | ino.IN_ATTRIB | NAMES | ino.IN_EXCL_UNLINK | ino.IN_ONLYDIR
_ROOT_MASK: Final = _COMMON | ino.IN_DELETE_SELF | ino.IN_MOVE_SELF
_OPEN_MASK: Final = _COMMON | ino.IN_MASK_ADD
_NO_FOLLOW: Final[int] = getattr(os, "O_NOFOLLOW", 0)
_OPEN_FLAGS: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)

# A folder that has gone or changed since it was named: the record of that is on its way. And one that we may not read.
_PASSED: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES)


@final
class Folder:
    """A folder that is watched, or about to be."""

    __slots__ = ("folders", "gone", "name", "parent", "seen", "wd")

    def __init__(self, name: str, parent: Folder | None) -> None:
        self.name = name  # of the root: its path
        self.parent = parent
        self.folders: dict[str, Folder] = {}
        self.wd = -1
        self.seen: set[str] | None = None
        self.gone = False

    @property
    def path(self) -> str:
        """The path as the owner knows it."""
        return os.path.join(self.parent.path, self.name) if self.parent else self.name

    def is_in(self, other: Folder) -> bool:
        """Whether it is that folder, or below it."""
        folder: Folder | None = self
        while folder is not None and folder is not other:
            folder = folder.parent
        return folder is other


@final
class Folders:
    """The tree of one descriptor. Without `recursive`, the root and nothing below it."""

    def __init__(self, host: Host, inotify: Inotify, path: str, *, recursive: bool) -> None:
        """Watch everything there is. Raises OSError."""
        self._host: Final = host
        self._inotify: Final = inotify
        self._recursive: Final = recursive
        self._unlisted: Final[list[Folder]] = []
        self._missing: Final[set[Folder]] = set()
        self._fresh: Final[list[Folder]] = []
        self._settling: Final[list[Folder]] = []
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
        self._settling.extend(self._fresh)
        self._fresh.clear()

    def settle(self) -> None:
        """Note that all records were applied."""
        for folder in self._settling:
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
        if folder is None or folder.gone or folder.parent is None:
            return
        del folder.parent.folders[folder.name]
        rest = [folder]
        while rest:
            each = rest.pop()
            each.gone = True
            self._missing.discard(each)
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
        assert folder.parent, "the root does not move without being the end"
        del folder.parent.folders[folder.name]
        folder.name, folder.parent = name, parent
        parent.folders[name] = folder
        found = [each for each in self._missing if each.is_in(folder)]
        self._missing.difference_update(found)
        self._unlisted.extend(found)

    def is_at(self, folder: Folder | None, parent: Folder, name: str) -> bool:
        """Whether it is that folder which is there now, or nothing is: then the record of why is on its way."""
        if not self._recursive:
            return True
        if folder is None or folder.wd < 0:
            return False
        try:
            above = self._open(parent)
        except OSError:
            return False
        try:
            fd = os.open(name, _OPEN_FLAGS | _NO_FOLLOW, dir_fd=above)
        except OSError as error:
            return error.errno in _PASSED
        finally:
            os.close(above)
        try:
            return self._ask(fd, os.path.join(parent.path, name)) == folder.wd
        except OSError:
            return False
        finally:
            os.close(fd)

    def status(self, parent: Folder, name: str) -> os.stat_result | None:
        """Return what is there now, None if nothing is. Raises OSError where the parent is not at its path any more."""
        above = self._open(parent)
        try:
            return os.stat(name, dir_fd=above, follow_symlinks=False)
        except FileNotFoundError:
            return None
        finally:
            os.close(above)

    def rebuild(self) -> bool:
        """Begin to list everything again, and tell the owner to do the same afterwards; False if there is no need."""
        if not self._recursive:
            return False
        self._stale = set(self._by_wd)
        old, self.root = self.root, Folder(self.root.name, None)
        self.root.wd = old.wd
        self._by_wd = {old.wd: self.root}
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
        try:
            if folder.parent is None:
                fd = os.open(path, _OPEN_FLAGS)
            else:
                above = self._open(folder.parent)
                try:
                    fd = os.open(folder.name, _OPEN_FLAGS | _NO_FOLLOW, dir_fd=above)
                finally:
                    os.close(above)
            try:
                if folder is not self.root:
                    self._watch(folder, self._add(fd, path))
                with os.scandir(fd) as listing:
                    entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in listing]
            finally:
                os.close(fd)
        except OSError as error:
            if error.errno not in _PASSED:
                raise
            if error.errno == errno.EACCES:
                self.forget(folder)
            else:
                self._missing.add(folder)
            return 1
        folder.seen = {name for name, _ in entries}
        self._fresh.append(folder)
        for name, is_dir in entries:
            if not self._quiet:
                self._host.emit(CREATED, os.path.join(path, name), is_dir=is_dir)
            if is_dir:
                self.enter(folder, name)
        return 1 + len(entries)

    def _watch(self, folder: Folder, wd: int) -> None:
        other = self._by_wd.get(wd)
        if other is self.root:  # a bind mount: this way lies a loop
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        if other is not None:
            other.wd = -1  # it has moved here, and the record of that is on its way
        folder.wd = wd
        self._by_wd[wd] = folder

    def _open(self, folder: Folder) -> int:
        """Open a watched folder, and no other one that may be at its path by now."""
        path = folder.path
        fd = os.open(path, _OPEN_FLAGS)
        try:
            if self._ask(fd, path) != folder.wd:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        except OSError:
            os.close(fd)
            raise
        return fd

    def _ask(self, fd: int, path: str) -> int:
        """Return the watch of an open folder, without having it watched for more than this moment."""
        wd = self._add(fd, path)
        if wd not in self._by_wd:
            self._inotify.remove(wd)
        return wd

    def _add(self, fd: int, path: str) -> int:
        """Watch an open folder. Its path is only needed where /proc is not mounted."""
        try:
            return self._inotify.add(f"/proc/self/fd/{fd}", _OPEN_MASK)
        except FileNotFoundError:
            wd = self._inotify.add(path, _OPEN_MASK)
            if os.path.samestat(os.stat(path), os.fstat(fd)):
                return wd
            raise
        except OSError as error:
            error.filename = path
            raise
