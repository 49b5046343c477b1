"""Two listings of a tree, and the events that lead from the one to the other: for polling and kqueue.

The older tree is changed while events are made, each time as the owner of the watcher will change his own picture
when he gets the event. So what is still missing can be seen at any time, and in the end both pictures are the same,
however the renames are entangled.

Two entries are the same one, renamed, when device and inode are the same and, of files, time of modification and
size: inode numbers are used again at once. Where that is wrong, a deletion and a creation were told as a rename.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Generator
from typing import Final, Self, final

from nimloop_core._watch_events import ATTRIBUTES, CREATED, DELETED, ENDED, MODIFIED, RENAMED, Host, Kind

Steps = Generator[int, None, None]
"""Work in small pieces: each gives what it cost, about one per entry."""

Identity = tuple[int, int]
"""Device and inode."""

# A folder is opened before it is listed: while its path is in other hands, that path lists somebody else's entries.
# Windows opens no folders; there every look is at everything, so that the next one mends what this one got wrong.
_OPEN_FOLDER: Final[int] = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_OPENS_FOLDERS: Final = os.scandir in os.supports_fd
_MOVED: Final = (errno.ENOENT, errno.ENOTDIR)


@final
class Node:
    """An entry as it was when it was looked at."""

    __slots__ = ("changed_ns", "children", "content", "identity", "is_dir", "is_file", "permissions", "told")

    def __init__(self, status: os.stat_result) -> None:
        self.identity: Identity = (status.st_dev, status.st_ino)
        self.is_dir = stat.S_ISDIR(status.st_mode)
        self.is_file = stat.S_ISREG(status.st_mode)
        # The content of a folder is its entries, which are looked at themselves.
        self.content = (0, 0) if self.is_dir else (status.st_mtime_ns, status.st_size)
        self.permissions = (status.st_mode, status.st_uid, status.st_gid)
        self.changed_ns = 0 if self.is_dir else status.st_ctime_ns
        self.children: dict[str, Node] = {}
        self.told: set[Kind] = set()  # what the kernel has said of it by itself

    def copy(self) -> Self:
        """Return the same entry without children and news."""
        new = object.__new__(type(self))
        new.identity, new.is_dir, new.is_file = self.identity, self.is_dir, self.is_file
        new.content, new.permissions, new.changed_ns = self.content, self.permissions, self.changed_ns
        new.children, new.told = {}, set()
        return new

    def is_still(self, other: Node) -> bool:
        """Whether the other one, at the same path, can be told as a change of this one."""
        return not (self.is_dir or other.is_dir) or (self.is_dir and other.is_dir and self.identity == other.identity)


@final
class _Lost:
    """An entry that is not at its path any more."""

    __slots__ = ("folder", "gone", "name", "node", "parent")

    def __init__(self, node: Node, name: str, folder: Node, parent: _Lost | str) -> None:
        self.node = node
        self.name = name
        self.folder = folder
        self.parent = parent
        self.gone = False  # told as deleted or renamed

    @property
    def path(self) -> str:
        """Where the owner believes it to be."""
        return os.path.join(self.parent if isinstance(self.parent, str) else self.parent.path, self.name)


@final
class _Comparison:
    """The way from one tree to another."""

    def __init__(self, host: Host) -> None:
        self._emit = host.emit
        self._lost: dict[int, _Lost] = {}  # by id of the node
        self._by_key: dict[tuple[object, ...], _Lost] = {}
        self._pairs: deque[tuple[str, Node, Node]] = deque()  # folders that are both there and there
        self._new: deque[tuple[str, Node, str, Node]] = deque()

    def run(self, path: str, old: Node, new: Node) -> Steps:
        """Emit the events."""
        self._pairs.append((path, old, new))
        while self._pairs or self._new:
            # All pairs first: what is new somewhere may be lost elsewhere.
            if self._pairs:
                yield self._match(*self._pairs.popleft())
            else:
                yield self._arrive(*self._new.popleft())
        for lost in list(self._lost.values()):
            if not lost.gone:
                yield self._remove(lost)

    def _match(self, path: str, old: Node, new: Node) -> int:
        if old.children is new.children:
            return 1  # not looked at
        for name, node in old.children.items():
            there = new.children.get(name)
            if there is None or not node.is_still(there):
                self._lose(node, name, old, path)
        for name, there in new.children.items():
            known = old.children.get(name)
            if known is None or not known.is_still(there) or known.identity != there.identity:
                self._new.append((path, old, name, there))
            else:
                self._change(os.path.join(path, name), known, there, renamed=False)
        return 1 + len(old.children) + len(new.children)

    def _change(self, path: str, old: Node, new: Node, *, renamed: bool) -> None:
        """Tell what is different in the same entry."""
        if old.content != new.content or MODIFIED in old.told:
            self._emit(MODIFIED, path, is_dir=new.is_dir)
        # A rename changes the time of the last change, and so does writing.
        elif (
            old.permissions != new.permissions
            or (old.changed_ns != new.changed_ns and not renamed)
            or ATTRIBUTES in old.told
        ):
            self._emit(ATTRIBUTES, path, is_dir=new.is_dir)
        if new.is_dir:
            self._pairs.append((path, old, new))

    def _lose(self, node: Node, name: str, folder: Node, parent: _Lost | str) -> None:
        rest: list[tuple[Node, str, Node, _Lost | str]] = [(node, name, folder, parent)]
        while rest:
            lost = _Lost(*rest.pop())
            if id(lost.node) in self._lost:
                continue  # with its folder, which was renamed, and it is not there either
            self._lost[id(lost.node)] = lost
            self._by_key[_key(lost.node)] = lost
            rest.extend((child, child_name, lost.node, lost) for child_name, child in lost.node.children.items())

    def _arrive(self, path: str, folder: Node, name: str, new: Node) -> int:
        """Tell of an entry that was not at this path before."""
        new_path = os.path.join(path, name)
        source = self._by_key.get(_key(new))
        if source is not None and source.gone:
            source = None
        there = folder.children.get(name)
        if there is not None and (new.is_dir or there.is_dir):
            lost = self._lost[id(there)]
            if source is not None and self._is_below(source, lost):
                source = None
            self._remove(lost)
            there = None
        if source is None:
            old = new.copy()
            self._emit(CREATED if there is None else MODIFIED, new_path, is_dir=new.is_dir)
        else:
            old = source.node
            self._emit(RENAMED, new_path, source.path, is_dir=new.is_dir)
            source.gone = True
            del source.folder.children[source.name]
            source.folder, source.parent, source.name = folder, path, name
            # What stays below it is found again; what does not stays lost.
            self._find(old, new)
        folder.children[name] = old
        self._change(new_path, old, new, renamed=True)
        return 1

    def _find(self, old: Node, new: Node) -> None:
        """Take what is the same in a renamed folder off the list of the lost."""
        rest = [(old, new)]
        while rest:
            before, after = rest.pop()
            for name, node in before.children.items():
                there = after.children.get(name)
                if there is not None and node.is_still(there):
                    self._lost.pop(id(node)).gone = True
                    rest.append((node, there))

    def _is_below(self, inner: _Lost, outer: _Lost) -> bool:
        while inner is not outer:
            if isinstance(inner.parent, str):
                return False
            inner = inner.parent
        return True

    def _remove(self, lost: _Lost) -> int:
        """Tell that an entry, and all that is below it in the owner's picture, is gone: the innermost first."""
        found = [(lost.path, lost.node)]
        for path, node in found:
            found.extend((os.path.join(path, name), child) for name, child in node.children.items())
        for path, node in reversed(found):
            self._emit(DELETED, path, is_dir=node.is_dir)
            self._lost[id(node)].gone = True
        del lost.folder.children[lost.name]
        return len(found)


def _fill(folder: Node, path: str, fd: int | None) -> None:
    with os.scandir(path if fd is None else fd) as listing:
        for entry in listing:
            try:
                # With a descriptor, the path of an entry is its name. Its own stat() knows no inodes on Windows.
                folder.children[entry.name] = Node(os.lstat(entry.path, dir_fd=fd))
            except FileNotFoundError:
                continue  # gone since it was listed


def _key(node: Node) -> tuple[object, ...]:
    return (node.identity, node.is_dir, node.content)


@final
class Tree:
    """What a watcher's owner knows of, and the way to bring it up to date."""

    def __init__(self, host: Host, *, recursive: bool) -> None:
        """Look once. Raises FileNotFoundError."""
        self._host: Final = host
        os.lstat(host.path)
        is_dir = os.path.isdir(host.path)
        self.file: Final = None if is_dir else os.path.basename(host.path)
        self.path: Final = host.path if is_dir else os.path.dirname(host.path)
        self._recursive = recursive and is_dir
        self.ended = False
        self.missed: set[str] = set()
        """Folders that had moved when the last look came to them: it has to be repeated there and one above."""
        self.root = Node(os.stat(self.path))
        for _ in self._look(self.root, None, None):
            pass

    def find(self, path: str) -> Node | None:
        """Return what is known of a path."""
        if path == self.path:
            return self.root
        if self.file is not None:
            return self.root.children.get(self.file)
        node: Node | None = self.root
        for name in os.path.relpath(path, self.path).split(os.sep):
            node = node.children.get(name) if node else None
        return node

    def refresh(self, dirty: set[str] | None = None) -> Steps:
        """Look again, at these folders or at everything, and emit what has changed."""
        try:
            root = Node(os.stat(self.path))
            yield from self._look(root, self.root, dirty)
        except (FileNotFoundError, NotADirectoryError):
            self._end()
            return
        if not self.root.is_still(root):
            self._end()
            return
        if self.file is None and (self.root.permissions != root.permissions or ATTRIBUTES in self.root.told):
            self._host.emit(ATTRIBUTES, self.path, is_dir=True)
        old, self.root = self.root, root
        yield from _Comparison(self._host).run(self.path, old, root)

    def _look(self, root: Node, old_root: Node | None, dirty: set[str] | None) -> Steps:
        """List the root and, if wanted, all below it; clean folders are taken over as they were."""
        self.missed.clear()
        rest: list[tuple[str, Node, Node | None]] = [(self.path, root, old_root)]
        while rest:
            path, folder, old = rest.pop()
            if old is not None and not old.is_still(folder):
                old = None  # nor is a file that lent its inode number to this folder
            if dirty is None or old is None or path in dirty:
                self._list(path, folder, old)
            elif not any(each.startswith(os.path.join(path, "")) for each in dirty):
                folder.children = old.children
                continue
            else:
                for name, node in old.children.items():
                    folder.children[name] = node.copy() if node.is_dir else node
            if self._recursive:
                rest.extend(
                    (os.path.join(path, name), node, old.children.get(name) if old else None)
                    for name, node in folder.children.items()
                    if node.is_dir
                )
            yield 1 + len(folder.children)

    def _list(self, path: str, folder: Node, old: Node | None) -> None:
        if self.file is not None:
            try:
                folder.children[self.file] = Node(os.lstat(self._host.path))
            except FileNotFoundError:
                pass
            return
        try:
            self._read(path, folder)
        except PermissionError:
            folder.children = old.children if old else {}  # nobody knows: as far as we do, nothing has changed
        except OSError as error:
            if path == self.path or error.errno not in _MOVED:
                raise
            folder.children = {}
            self.missed.add(path)

    def _read(self, path: str, folder: Node) -> None:
        """Read the entries of this very folder. Raises OSError with ENOENT where it is not at its path any more."""
        if not _OPENS_FOLDERS:
            _fill(folder, path, None)
            return
        fd = os.open(path, _OPEN_FOLDER)
        try:
            status = os.fstat(fd)
            if (status.st_dev, status.st_ino) != folder.identity:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            _fill(folder, path, fd)
        finally:
            os.close(fd)

    def _end(self) -> None:
        self.ended = True
        if self.file is None or self.file in self.root.children:
            self._host.emit(DELETED, self._host.path, is_dir=self.file is None)
        self._host.emit(ENDED, self._host.path, is_dir=self.file is None)
