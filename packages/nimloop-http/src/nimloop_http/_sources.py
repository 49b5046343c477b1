"""Telling that the source of what is served has changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from nimloop_core import FileEvent, FileWatcher, Loop, Timer

_SETTLE: Final = 0.1  # seconds: an editor that saves everything is done by then


@final
class SourceWatcher:
    """Calls ``on_change()`` once Python files below `folder` have changed, and no more of them do."""

    __slots__ = ("_loop", "_on_change", "_timer", "_watcher")

    def __init__(self, loop: Loop, on_change: Callable[[], object], folder: str = ".") -> None:
        self._loop: Final = loop
        self._on_change: Final = on_change
        self._timer: Timer | None = None
        try:
            watcher = FileWatcher(loop, folder, self._note, recursive=True)
        except OSError:  # the system's limit of watches
            watcher = FileWatcher(loop, folder, self._note, recursive=True, mechanism="polling")
        self._watcher: Final = watcher

    def close(self) -> None:
        """Watch no more."""
        self._watcher.close()
        if self._timer is not None:
            self._timer.cancel()

    def _note(self, event: FileEvent) -> None:
        if event.kind == "overflow" or str(event.path).endswith(".py"):
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(_SETTLE, self._on_change)
