"""FileWatcher on inotify(7): from records to events.

* The two halves of a move carry the same cookie and are usually neighbours, but are not put into the queue in one
  go. Both parent folders are locked meanwhile: no other name can come to or leave either of them between the halves.
  So the first half can wait for the second without holding up the others, and has waited in vain when another name
  of its parent changes, or when `_MOVE_DEADLINE` has passed and the queue was read once more. Then it is a deletion.
* When the queue overflows, folders may have come, gone and moved unheard. The tree is built again from the root
  before the owner is told: what he lists afterwards is complete, and what comes later is reported.
* The folder that a file is in is watched instead of the file: who waits for an inode does not see it replaced.

What is known of the folders, and why it can be relied on, is the matter of `_watch_folders`.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from functools import partial
from typing import Final, final

from nimloop_core._inotify import (
    IN_ATTRIB,
    IN_CREATE,
    IN_DELETE,
    IN_DELETE_SELF,
    IN_IGNORED,
    IN_ISDIR,
    IN_MODIFY,
    IN_MOVE_SELF,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_Q_OVERFLOW,
    IN_UNMOUNT,
    MAX_RECORD_BYTES,
    Inotify,
    Record,
    parse,
)
from nimloop_core._timers import Timer
from nimloop_core._watch_events import ATTRIBUTES, CREATED, DELETED, ENDED, MODIFIED, OVERFLOW, RENAMED, Host
from nimloop_core._watch_folders import NAMES, Folder, Folders
from nimloop_core._watchers import READ

# 500 records, more or less: two wake-ups' worth of events.
_READ_BYTES: Final = 16_384

# The halves of a move are microseconds apart, unless the kernel was preempted in between: then a time slice or two.
_MOVE_DEADLINE: Final = 0.01

_EXPIRED: Final = 0  # the mask of a record of our own: the move with this cookie has waited long enough


@final
class _Move:
    """The first half of a move."""

    __slots__ = ("_known", "folder", "is_dir", "name", "timer")

    def __init__(self, folder: Folder, name: str, *, is_dir: bool, known: bool) -> None:
        self.folder = folder
        self.name = name
        self.is_dir = is_dir
        self.timer: Timer | None = None
        self._known = known

    @property
    def known(self) -> bool:
        """Whether the owner knows of what was moved. Otherwise it comes from nowhere, and its path may be another's."""
        return self._known and not self.folder.gone

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
        self._file: Final = None if is_dir else os.path.basename(path)
        self._exists = True
        self._records: Final[deque[Record]] = deque()
        self._moves: Final[dict[int, _Move]] = {}
        self._last_rename: tuple[str, str] | None = None
        self._inotify: Final = Inotify()
        try:
            self._folders: Final = Folders(
                host, self._inotify, path if is_dir else os.path.dirname(path), recursive=recursive and is_dir
            )
            self._watcher: Final = host.loop.register(self._inotify.fileno(), READ, self._on_readable)
        except BaseException:
            self._inotify.close()
            raise

    def advance(self) -> int:
        """List one folder, or apply one record."""
        if self._folders.busy:
            return self._folders.advance()
        if self._records:
            self._apply(self._records.popleft())
            return 1
        self._folders.settle()
        return 0

    def close(self) -> None:
        """Give the descriptor back and forget everything."""
        self._drop_moves()
        self._records.clear()
        self._folders.clear()
        self._watcher.unregister()
        self._inotify.close()

    def _on_readable(self, _events: int) -> None:
        if not self._records and not self._folders.busy:
            self._read()
            self._host.wake()

    def _read(self) -> None:
        # Everything is taken out of the buffer before anybody is called who might use it.
        buffer = self._host.loop.read_buffer[:_READ_BYTES]
        count = self._inotify.read(buffer)
        self._records.extend(parse(buffer[:count]))
        if count <= len(buffer) - MAX_RECORD_BYTES:
            self._folders.drained()

    def _apply(self, record: Record) -> None:
        wd, mask, cookie, name = record
        if mask & IN_Q_OVERFLOW:
            self._rebuild()
            return
        if mask == _EXPIRED:
            self._expire(cookie)
            return
        folder = self._folders.find(wd)
        if folder is None:  # of a watch that was ended while this was in the queue
            if mask & IN_MOVED_TO:
                self._expire(cookie)
            return
        if not name:
            self._apply_to_itself(folder, mask)
        elif self._file is not None:
            if name == self._file:
                self._apply_to_file(mask)
        else:
            if mask & NAMES:
                for other in [key for key, move in self._moves.items() if move.folder is folder and key != cookie]:
                    self._expire(other)
            self._apply_to_entry(folder, mask, cookie, name)

    def _apply_to_itself(self, folder: Folder, mask: int) -> None:
        if folder is self._folders.root:
            if mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED | IN_UNMOUNT):
                self._end()
            elif mask & IN_ATTRIB and self._file is None:
                self._host.emit(ATTRIBUTES, self._host.path, is_dir=True)
        elif mask & IN_UNMOUNT:
            self._rebuild()  # what was below the mount is there again, and not watched
        elif mask & IN_IGNORED:
            self._folders.lose(folder)

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

    def _apply_to_entry(self, folder: Folder, mask: int, cookie: int, name: str) -> None:
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
                self._folders.forget(folder.folders.get(name))
            else:
                self._host.emit(MODIFIED if mask & IN_MODIFY else ATTRIBUTES, path, is_dir=is_dir)

    def _appear(self, folder: Folder, name: str, *, is_dir: bool) -> None:
        if folder.seen is not None:
            folder.seen.add(name)
        self._host.emit(CREATED, os.path.join(folder.path, name), is_dir=is_dir)
        if is_dir:
            self._folders.enter(folder, name)

    def _arrive(self, folder: Folder, name: str, move: _Move | None, *, is_dir: bool) -> None:
        """Apply the second half of a move."""
        path = os.path.join(folder.path, name)
        last, self._last_rename = self._last_rename, None
        listed = folder.seen is not None and name in folder.seen
        if move is not None and move.timer:
            move.timer.cancel()
        source = move.folder.folders.get(move.name) if move else None
        target = folder.folders.get(name)
        # Listed after the move, or before: then it is not what was listed.
        told = listed and (not is_dir or self._folders.is_at(target, folder, name))
        if move is None or not move.known:
            self._folders.forget(source)
            if not told:
                self._appear(folder, name, is_dir=is_dir)
            elif not is_dir:
                self._host.emit(MODIFIED, path)
            return
        if is_dir and source is not None and ((told and source.wd < 0) or folder.is_in(source)):
            # It was listed where it is now, with all that is in it: what is known of the old place is out of date. Or
            # its new parent was, where that is going to be: in this one itself. It will have been moved again by then.
            self._host.emit(DELETED, move.path, is_dir=True)
            self._folders.forget(source)
            return
        if is_dir and not self._folders.is_at(source, folder, name):
            self._host.emit(DELETED, move.path, is_dir=True)
            self._folders.forget(source)
            self._appear(folder, name, is_dir=True)
        else:
            if folder.seen is not None:
                folder.seen.add(name)
            self._last_rename = (move.path, path)
            self._host.emit(RENAMED, path, move.path, is_dir=is_dir)
            self._folders.forget(target)
            if source is not None:
                self._folders.move(source, folder, name)
        if last == (path, move.path):
            self._look_for_exchanged(move.folder, move.name)

    def _look_for_exchanged(self, folder: Folder, name: str) -> None:
        """Tell what is there after two moves, there and back: renameat2(2) may have exchanged two entries."""
        try:
            status = self._folders.status(folder, name)
        except OSError:
            self._rebuild()  # the folder has moved, and what is at its path is another's
        else:
            if status is not None:
                self._appear(folder, name, is_dir=stat.S_ISDIR(status.st_mode))

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
        self._folders.forget(move.folder.folders.get(move.name))

    def _end(self) -> None:
        for cookie in list(self._moves):
            self._expire(cookie)
        if self._exists:
            self._host.emit(DELETED, self._host.path, is_dir=self._file is None)
        self._host.emit(ENDED, self._host.path, is_dir=self._file is None)
        self._records.clear()
        self._folders.clear()
        self._watcher.unregister()

    def _rebuild(self) -> None:
        self._drop_moves()
        if not self._folders.rebuild():
            self._exists = os.path.lexists(self._host.path)
            self._host.emit(OVERFLOW, self._host.path, is_dir=self._file is None)

    def _drop_moves(self) -> None:
        for move in self._moves.values():
            if move.timer:
                move.timer.cancel()
        self._moves.clear()
