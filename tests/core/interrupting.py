"""Ctrl+C before any line of the table of watchers or of a backend."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Final, Self

from nimloop_core import _watchers, backends

if TYPE_CHECKING:
    from _typeshed import TraceFunction

FILES: Final = {_watchers.__file__, *map(str, Path(backends.__file__).parent.glob("*.py"))}


class CtrlC:
    """Raises KeyboardInterrupt before a line, told by its place among those that run, and takes it back at the end."""

    def __init__(self, line: int) -> None:
        self._left = line
        self._before = sys.gettrace()

    @property
    def came(self) -> bool:
        """Whether there was such a line."""
        return self._left <= 0

    def __enter__(self) -> Self:
        sys.settrace(self._trace)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        sys.settrace(self._before)
        # That of nobody else, and it is not kept from whoever called.
        assert self.came == (kind is KeyboardInterrupt)
        return self.came

    def _trace(self, frame: FrameType, event: str, _argument: object) -> TraceFunction | None:
        if frame.f_code.co_filename not in FILES:
            return None
        if event == "line":
            self._left -= 1
            if not self._left:
                raise KeyboardInterrupt
        return self._trace
