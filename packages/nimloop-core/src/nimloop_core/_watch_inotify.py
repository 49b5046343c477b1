"""FileWatcher on inotify(7).

What the kernel does, and what follows
--------------------------------------
* A watch belongs to an inode, not to a path, and is not recursive. So the folders are kept as a tree of nodes, each
  with its watch and its name; a path is put together when it is needed, and renaming a folder changes one node.
* Watching an inode once more gives the same watch. So asking for a watch at a path is a way to ask who is there now.
* What a path leads to may be newer than the record that led us there. A folder is therefore opened, watched and
  listed, and whoever finds another folder at its path afterwards does not trust the node (`_Folder.trusted`): a
  rename of such a one is told as deleted and created, and it is listed again.
* A folder is watched first and listed second. What happened in between comes twice, from the list and as a record;
  what came and went before is a record about something never heard of. `_Folder.seen` holds the names that the
  watcher's owner knows of, as long as such records can be in the queue: until a read, begun after the list was made,
  has emptied it.
* The two halves of a move carry the same cookie and are usually neighbours, but are not put into the queue in one
  go. Both parent folders are locked meanwhile: no other name can come to or leave either of them between the halves.
  So the first half can wait for the second without holding up the others, and has waited in vain when another name
  of its parent changes, or when `_MOVE_DEADLINE` has passed and the queue was read once more. Then it is a deletion.
* When the queue overflows, folders may have come, gone and moved unheard. The tree is built again from the root
  before the owner is told: what he lists afterwards is complete, and what comes later is reported.

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
from collections import deque
from functools import partial
from typing import Final, final

from nimloop_core._inotify import (
    IN_ATTRIB,
    IN_CREATE,
    IN_DELETE,
    IN_DELETE_SELF,
    IN_DONT_FOLLOW,
    IN_EXCL_UNLINK,
    IN_IGNORED,
    IN_ISDIR,
    IN_MASK_ADD,
    IN_MODIFY,
    IN_MOVE_SELF,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_ONLYDIR,
    IN_Q_OVERFLOW,
    IN_UNMOUNT,
    MAX_RECORD_BYTES,
    Inotify,
    Record,
    parse,
)
from nimloop_core._timers import Timer
from nimloop_core._watch_events import ATTRIBUTES, CREATED, DELETED, ENDED, MODIFIED, OVERFLOW, RENAMED, Host
from nimloop_core._watchers import READ

_NAMES: Final = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO
_COMMON: Final = IN_MODIFY | IN_ATTRIB | _NAMES | IN_EXCL_UNLINK | IN_ONLYDIR
_ROOT_MASK: Final = _COMMON | IN_DELETE_SELF | IN_MOVE_SELF
_FOLDER_MASK: Final = _COMMON | IN_DONT_FOLLOW | IN_MASK_ADD

# 500 records, more or less: two wake-ups' worth of events.
_READ_BYTES: Final = 16_384

# The halves of a move are microseconds apart, unless the kernel was preempted in between: then a time slice or two.
_MOVE_DEADLINE: Final = 0.01

_EXPIRED: Final = 0  # the mask of a record of our own: the move with this cookie has waited long enough

# A folder that has gone or changed since it was named: the record of that is on its way. And one that we may not read.
_PASSED: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES)


@final
class _Folder:
    """A folder that is watched, or about to be."""

    __slots__ = ("folders", "gone", "name", "parent", "seen", "trusted", "wd")

    def __init__(self, name: str, parent: _Folder | None) -> None:
        self.name = name  # of the root: its path
        self.parent = parent
        self.folders: dict[str, _Folder] = {}
        self.wd = -1
        self.seen: set[str] | None = None
        self.trusted = False
        self.gone = False

    @property
    def path(self) -> str:
        """The path as the owner knows it."""
        return os.path.join(self.parent.path, self.name) if self.parent else self.name


@final
class _Move:
    """The first half of a move."""

    __slots__ = ("folder", "is_dir", "known", "name", "timer")

    def __init__(self, folder: _Folder, name: str, *, is_dir: bool, known: bool) -> None:
        self.folder = folder
        self.name = name
        self.is_dir = is_dir
        self.known = known
        self.timer: Timer | None = None

    @property
    def path(self) -> str:
        """Where it was."""
        return os.path.join(self.folder.path, self.name)


@final
class InotifyWatch:
    """One inotify descriptor and what it says."""

    def __init__(self, host: Host, *, recursive: bool) -> None:
        self._host: Final = host
        path = host.path
        os.lstat(path)  # FileNotFoundError; a link that leads nowhere is there all the same
        is_dir = os.path.isdir(path)
        self._file = None if is_dir else os.path.basename(path)
        self._exists = True
        self._recursive = recursive and is_dir
        self._records: Final[deque[Record]] = deque()
        self._moves: Final[dict[int, _Move]] = {}
        self._unlisted: Final[list[_Folder]] = []
        self._fresh: Final[list[_Folder]] = []
        self._settling: Final[list[tuple[_Folder, set[str] | None]]] = []
        self._last_rename: tuple[str, str] | None = None
        self._quiet = True  # nothing that a listing finds is news
        self._stale: set[int] | None = None  # watches from before an overflow
        self._root = _Folder(path if is_dir else os.path.dirname(path), None)
        self._inotify: Final = Inotify()
        try:
            self._root.wd = self._inotify.add(self._root.path, _ROOT_MASK)
            self._folders = {self._root.wd: self._root}
            if self._recursive:
                self._unlisted.append(self._root)
                while self._unlisted:
                    self._list(self._unlisted.pop())
            self._quiet = False
            self._watcher: Final = host.loop.register(self._inotify.fileno(), READ, self._on_readable)
        except BaseException:
            self._inotify.close()
            raise

    def close(self) -> None:
        """Give the descriptor back and forget everything."""
        for move in self._moves.values():
            if move.timer:
                move.timer.cancel()
        self._moves.clear()
        self._records.clear()
        self._unlisted.clear()
        self._folders.clear()
        self._watcher.unregister()
        self._inotify.close()

    # Work in small pieces -------------------------------------------------------------------------------------

    def _on_readable(self, _events: int) -> None:
        if not self._records and not self._unlisted:
            self._read()
            self._host.wake()

    def _read(self) -> None:
        # Everything is taken out of the buffer before anybody is called who might use it.
        buffer = self._host.loop.read_buffer[:_READ_BYTES]
        count = self._inotify.read(buffer)
        self._records.extend(parse(buffer[:count]))
        if count <= len(buffer) - MAX_RECORD_BYTES:  # the queue is empty
            self._settling.extend((folder, folder.seen) for folder in self._fresh)
            self._fresh.clear()

    def advance(self) -> int:
        """List one folder, or apply one record."""
        if self._unlisted:
            folder = self._unlisted.pop()
            try:
                return self._list(folder)
            except OSError as error:
                self._host.fail(error)
                self._host.emit(OVERFLOW, folder.path, is_dir=True)
                self._forget(folder)
                return 1
        if self._stale is not None:
            self._finish_rebuilding(self._stale)
            return 1
        if self._records:
            self._apply(self._records.popleft())
            return 1
        for folder, seen in self._settling:
            if folder.seen is seen:
                folder.seen = None
        self._settling.clear()
        return 0

    # Folders --------------------------------------------------------------------------------------------------

    def _enter(self, parent: _Folder, name: str) -> None:
        """Have a folder watched and listed."""
        self._forget(parent.folders.get(name))
        folder = parent.folders[name] = _Folder(name, parent)
        self._unlisted.append(folder)

    def _list(self, folder: _Folder) -> int:
        """Watch a folder, tell what is in it, and have its sub-folders listed."""
        if folder.gone:
            return 1
        path = folder.path
        is_root = folder is self._root
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
                self._forget(folder)
                return 1
            entries = []
        folder.seen = {name for name, _ in entries}
        self._fresh.append(folder)
        for name, is_dir in entries:
            if not self._quiet:
                self._host.emit(CREATED, os.path.join(path, name), is_dir=is_dir)
            if is_dir:
                self._enter(folder, name)
        return 1 + len(entries)

    def _watch(self, folder: _Folder, path: str) -> None:
        if folder is self._root:
            return
        wd = self._inotify.add(path, _FOLDER_MASK)
        other = self._folders.get(wd)
        if other is self._root:  # a bind mount
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if other is not None:
            other.wd = -1  # it has moved here, and the record of that is on its way
        folder.wd = wd
        self._folders[wd] = folder

    def _forget(self, folder: _Folder | None) -> None:
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
                del self._folders[each.wd]
                self._inotify.remove(each.wd)
                each.wd = -1
            rest.extend(each.folders.values())

    def _rebuild(self) -> None:
        """Begin to list everything again."""
        for move in self._moves.values():
            if move.timer:
                move.timer.cancel()
        self._moves.clear()
        if self._recursive:
            self._stale = set(self._folders)
            root = _Folder(self._root.name, None)
            root.wd = self._root.wd
            self._root = root
            self._folders = {root.wd: root}
            self._quiet = True
            self._unlisted.append(root)
        else:
            self._exists = os.path.lexists(self._host.path)
            self._host.emit(OVERFLOW, self._host.path, is_dir=self._file is None)

    def _finish_rebuilding(self, stale: set[int]) -> None:
        for wd in stale - self._folders.keys():
            self._inotify.remove(wd)
        self._stale = None
        self._quiet = False
        self._host.emit(OVERFLOW, self._host.path, is_dir=True)

    # Records --------------------------------------------------------------------------------------------------

    def _apply(self, record: Record) -> None:
        wd, mask, cookie, name = record
        if mask & IN_Q_OVERFLOW:
            self._rebuild()
            return
        if mask == _EXPIRED:
            self._expire(cookie)
            return
        folder = self._folders.get(wd)
        if folder is None:
            return  # of a watch that was ended while this was in the queue
        if not name:
            self._apply_to_itself(folder, mask)
        elif self._file is not None:
            if name == self._file:
                self._apply_to_file(mask)
        else:
            if mask & _NAMES:
                for other in [key for key, move in self._moves.items() if move.folder is folder and key != cookie]:
                    self._expire(other)
            self._apply_to_entry(folder, mask, cookie, name)

    def _apply_to_itself(self, folder: _Folder, mask: int) -> None:
        if folder is self._root:
            if mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED | IN_UNMOUNT):
                self._end()
            elif mask & IN_ATTRIB and self._file is None:
                self._host.emit(ATTRIBUTES, self._host.path, is_dir=True)
        elif mask & IN_UNMOUNT:
            self._rebuild()  # what was below the mount is there again, and not watched
        elif mask & IN_IGNORED:
            del self._folders[folder.wd]
            folder.wd = -1

    def _apply_to_file(self, mask: int) -> None:
        path = self._host.path
        is_dir = bool(mask & IN_ISDIR)
        if mask & (IN_DELETE | IN_MOVED_FROM):
            self._exists = False
            self._host.emit(DELETED, path, is_dir=is_dir)
        elif mask & (IN_CREATE | IN_MOVED_TO):
            self._host.emit(MODIFIED if self._exists else CREATED, path, is_dir=is_dir)
            self._exists = True
        else:
            self._host.emit(MODIFIED if mask & IN_MODIFY else ATTRIBUTES, path, is_dir=is_dir)

    def _apply_to_entry(self, folder: _Folder, mask: int, cookie: int, name: str) -> None:
        is_dir = bool(mask & IN_ISDIR)
        seen = folder.seen
        known = seen is None or name in seen
        if mask & IN_CREATE:
            if seen is None or name not in seen:
                self._appear(folder, name, is_dir=is_dir)
        elif mask & IN_MOVED_TO:
            self._arrive(folder, name, self._moves.pop(cookie, None), is_dir=is_dir)
        elif mask & IN_MOVED_FROM:
            if seen is not None:
                seen.discard(name)
            move = self._moves[cookie] = _Move(folder, name, is_dir=is_dir, known=known)
            if not self._records or self._records[0].cookie != cookie:
                move.timer = self._host.loop.call_later(_MOVE_DEADLINE, partial(self._on_deadline, cookie))
        elif known:
            path = os.path.join(folder.path, name)
            if mask & IN_DELETE:
                if seen is not None:
                    seen.discard(name)
                self._host.emit(DELETED, path, is_dir=is_dir)
                self._forget(folder.folders.get(name))
            else:
                self._host.emit(MODIFIED if mask & IN_MODIFY else ATTRIBUTES, path, is_dir=is_dir)

    def _appear(self, folder: _Folder, name: str, *, is_dir: bool) -> None:
        if folder.seen is not None:
            folder.seen.add(name)
        self._host.emit(CREATED, os.path.join(folder.path, name), is_dir=is_dir)
        if is_dir and self._recursive:
            self._enter(folder, name)

    def _arrive(self, folder: _Folder, name: str, move: _Move | None, *, is_dir: bool) -> None:
        """Apply the second half of a move."""
        path = os.path.join(folder.path, name)
        last, self._last_rename = self._last_rename, None
        listed = folder.seen is not None and name in folder.seen
        if move is not None and move.timer:
            move.timer.cancel()
        source = move.folder.folders.get(move.name) if move else None
        if move is None or not move.known:
            self._forget(source)
            if not listed:
                self._appear(folder, name, is_dir=is_dir)
            elif not is_dir:
                self._host.emit(MODIFIED, path)  # listed before or after the move: it may have been replaced
            return
        if is_dir and listed:
            # It was listed where it is now, with all that is in it: what is known of the old place is out of date.
            self._host.emit(DELETED, move.path, is_dir=True)
            self._forget(source)
            return
        if is_dir and self._recursive and (source is None or not self._is_at(source, path)):
            self._host.emit(DELETED, move.path, is_dir=True)
            self._forget(source)
            self._appear(folder, name, is_dir=True)
        else:
            if folder.seen is not None:
                folder.seen.add(name)
            self._last_rename = (move.path, path)
            self._host.emit(RENAMED, path, move.path, is_dir=is_dir)
            self._forget(folder.folders.get(name))
            if source is not None:
                del move.folder.folders[move.name]
                source.name, source.parent = name, folder
                folder.folders[name] = source
        if last == (path, move.path) and os.path.lexists(move.path):
            # There and back in two neighbouring moves: renameat2(2) has exchanged two entries.
            self._appear(move.folder, move.name, is_dir=os.path.isdir(move.path) and not os.path.islink(move.path))

    def _is_at(self, folder: _Folder, path: str) -> bool:
        """Whether it is that folder which is at the path now, or nothing is: then the record of why is on its way."""
        if not folder.trusted:
            return False
        try:
            wd = self._inotify.add(path, _FOLDER_MASK)
        except OSError as error:
            return error.errno in _PASSED
        if wd not in self._folders:
            self._inotify.remove(wd)  # only asked for
        return wd == folder.wd

    def _on_deadline(self, cookie: int) -> None:
        # The loop may have been late, and the other half may have been waiting for it.
        self._read()
        self._records.append(Record(-1, _EXPIRED, cookie, ""))
        self._host.wake()

    def _expire(self, cookie: int) -> None:
        move = self._moves.pop(cookie, None)
        if move is None:
            return
        if move.timer:
            move.timer.cancel()
        if move.known:
            self._host.emit(DELETED, move.path, is_dir=move.is_dir)
        self._forget(move.folder.folders.get(move.name))

    def _end(self) -> None:
        for cookie in list(self._moves):
            self._expire(cookie)
        if self._exists:
            self._host.emit(DELETED, self._host.path, is_dir=self._file is None)
        self._host.emit(ENDED, self._host.path, is_dir=self._file is None)
        self._records.clear()
        self._folders.clear()
        self._watcher.unregister()
