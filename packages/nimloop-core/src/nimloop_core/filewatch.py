"""Files and folders as a source of callbacks.

What each mechanism sees
------------------------
``inotify`` (Linux)
    Every change, in order, with names. Not seen: writing through ``mmap``, changes made on another host of a network
    file system, and that a folder *above* the watched one was moved. A watched folder that somebody holds open is
    gone only when it is let go. A file is watched through the folder it is in, by name; what is written to it by
    another name of its own (a hard link) is not seen.
``kqueue`` (macOS, BSD)
    The kernel tells that a folder or a file has changed, for one open descriptor each; a comparison of the folder
    before and after tells what. So the limits of polling hold for what happens twice in quick succession. Developed
    against a stand-in for the kernel's queue: not yet run on a real BSD or macOS.
``polling`` (everywhere)
    Two listings, `interval` seconds apart, are compared. What came and went in between is not seen; several changes
    are one; a file changed within the resolution of the file system's clock, at the same size, looks unchanged; of
    something renamed and changed, or exchanged with another, only the result is told: deleted, created, modified.
    The listings are not atomic. A file moved while one is made may be deleted in this and created in the next one.

With each of them: what the events say, applied one after the other, gives what is really there, once it is quiet.
A symbolic link is an entry like any other and never followed, except for the watched folder itself.
"""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final, Protocol, Self, final

from nimloop_core import _inotify
from nimloop_core._loop import Loop
from nimloop_core._watch_events import ATTRIBUTES as ATTRIBUTES
from nimloop_core._watch_events import CREATED as CREATED
from nimloop_core._watch_events import DELETED as DELETED
from nimloop_core._watch_events import ENDED as ENDED
from nimloop_core._watch_events import MODIFIED as MODIFIED
from nimloop_core._watch_events import OVERFLOW as OVERFLOW
from nimloop_core._watch_events import RENAMED as RENAMED
from nimloop_core._watch_events import FileEvent as FileEvent
from nimloop_core._watch_events import Host, Kind, Mechanism
from nimloop_core.errors import BackendUnavailableError

__all__ = [
    "ATTRIBUTES",
    "CREATED",
    "DELETED",
    "ENDED",
    "MODIFIED",
    "OVERFLOW",
    "RENAMED",
    "FileEvent",
    "FileWatcher",
    "available",
]

# Per wake-up, as many callbacks and as many entries looked at: a millisecond or so, whatever a storm brings.
_QUOTA: Final = 256


class _Maker(Protocol):
    def __call__(self, host: Host, *, recursive: bool, interval: float) -> Mechanism: ...


def _make_inotify(host: Host, *, recursive: bool, interval: float) -> Mechanism:
    from nimloop_core._watch_inotify import InotifyWatch

    return InotifyWatch(host, recursive=recursive)


def _make_kqueue(host: Host, *, recursive: bool, interval: float) -> Mechanism:
    from nimloop_core._watch_kqueue import KqueueWatch

    return KqueueWatch(host, recursive=recursive)


def _make_polling(host: Host, *, recursive: bool, interval: float) -> Mechanism:
    from nimloop_core._watch_polling import PollingWatch

    return PollingWatch(host, recursive=recursive, interval=interval)


# Best first.
_MECHANISMS: Final[dict[str, tuple[Callable[[], bool], _Maker]]] = {
    "inotify": (_inotify.available, _make_inotify),
    "kqueue": (lambda: hasattr(select, "kqueue"), _make_kqueue),
    "polling": (lambda: True, _make_polling),
}


def available() -> list[str]:
    """Return the names of the mechanisms that this system has, the best one first."""
    return [name for name, (exists, _) in _MECHANISMS.items() if exists()]


@final
class FileWatcher:
    """Tells a callback what happens to a file, to the entries of a folder, or to a whole tree."""

    __slots__ = (
        "__weakref__",
        "_closed",
        "_events",
        "_mechanism",
        "_recent",
        "_scheduled",
        "loop",
        "mechanism",
        "on_change",
        "path",
    )

    def __init__(
        self,
        loop: Loop,
        path: str | os.PathLike[str],
        on_change: Callable[[FileEvent], object],
        *,
        recursive: bool = False,
        mechanism: str | None = None,
        interval: float = 1.0,
    ) -> None:
        """Begin to watch: whatever happens after this call is reported, what is there now is not.

        With `recursive`, sub-folders too, new ones with what they hold already. A sub-folder that may not be read is
        seen from outside only. The first listing of a large tree takes its time, here and not in the loop.

        A file may come and go: an editor that writes another one and renames it has ``"modified"`` the file. It ends
        with the folder it is in. The end of a watched folder, deleted or moved, is ``"deleted"``, then ``"ended"``.

        Equal events in a row, ``"modified"`` or ``"attributes"``, may be reported as one. An ``"overflow"`` means
        that events were lost: list the tree again. `mechanism` is one of `available`, by default the first;
        `interval` is the time in seconds between two looks of ``"polling"``.

        Raises FileNotFoundError without a file or folder at `path`, and OSError with ENOSPC or EMFILE when the system
        has no more watches or descriptors; should that happen later, the error goes to the exception handler of the
        loop, and an ``"overflow"`` names the folder that is not watched. Raises `BackendUnavailableError`.
        """
        if not callable(on_change):
            raise TypeError(f"the callback must be callable, not {on_change!r}")
        names = available()
        self.mechanism: Final[str] = names[0] if mechanism is None else mechanism
        """Who finds it out: one of `available()`."""
        if self.mechanism not in names:
            raise BackendUnavailableError(f"no mechanism {mechanism!r} on this system; it has: {', '.join(names)}")
        self.loop: Final = loop
        self.path: Final[str] = os.path.abspath(path)
        """What is watched, as an absolute path."""
        self.on_change: Callable[[FileEvent], object] = on_change
        """Called with each change; may be replaced at any time."""
        self._closed = False
        self._scheduled = False
        self._events: Final[deque[FileEvent]] = deque()
        # Which changes of content or attributes are queued already, with nothing else behind them.
        self._recent: Final[set[tuple[Kind, str]]] = set()
        self._mechanism: Final = _MECHANISMS[self.mechanism][1](self, recursive=recursive, interval=interval)

    @property
    def closed(self) -> bool:
        """Whether `close` was called, or the watcher has ended."""
        return self._closed

    def close(self) -> None:
        """Stop watching. No event comes any more, not even from this batch. Harmless when repeated."""
        if not self._closed:
            self._closed = True
            self._events.clear()
            self._mechanism.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<FileWatcher {'closed' if self._closed else 'active'} {self.mechanism} path={self.path!r}>"

    # For the mechanism ----------------------------------------------------------------------------------------

    def emit(self, kind: Kind, path: str, old_path: str | None = None, *, is_dir: bool = False) -> None:
        """Queue an event, unless it says nothing new. For mechanisms."""
        if kind in (MODIFIED, ATTRIBUTES):
            if (kind, path) in self._recent:
                return
            self._recent.add((kind, path))
        else:
            self._recent.clear()
        self._events.append(FileEvent(kind, path, old_path, is_dir))

    def fail(self, error: Exception) -> None:
        """Report an error to the exception handler of the loop. For mechanisms."""
        self.loop._report(error, self)

    def wake(self) -> None:
        """Work, unless the rest of earlier work is queued already. For mechanisms."""
        if not self._scheduled:
            self._step()

    def _continue(self) -> None:
        self._scheduled = False
        self._step()

    def _step(self) -> None:
        if self._closed:
            return
        left = _QUOTA
        while left > 0 and len(self._events) < _QUOTA:
            cost = self._mechanism.advance()
            if not cost:
                break
            left -= cost
        else:
            cost = 1  # there may be more
        try:
            self._deliver()
        finally:  # Ctrl+C included: the rest is not lost
            if not self.closed and (cost or self._events):
                self._scheduled = True
                self.loop.call_soon(self._continue)

    def _deliver(self) -> None:
        self._recent.clear()
        for _ in range(min(len(self._events), _QUOTA)):
            event = self._events.popleft()
            if event.kind == ENDED:
                self.close()
            try:
                self.on_change(event)
            except Exception as error:
                self.fail(error)
            if self._closed:
                return
