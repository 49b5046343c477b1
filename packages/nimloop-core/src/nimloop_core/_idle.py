"""Callbacks for when there is nothing else to do."""

from __future__ import annotations

from typing import final

from nimloop_core._guard import ThreadGuard
from nimloop_core._signals import released
from nimloop_core.abc import Callback


@final
class IdleHandler:
    """A callback for iterations without events. Made by `Loop.add_idle`."""

    __slots__ = ("_guard", "_handlers", "callback")

    def __init__(self, handlers: dict[IdleHandler, None], callback: Callback, guard: ThreadGuard | None) -> None:
        self._handlers = handlers
        self._guard = guard
        self.callback: Callback = callback

    @property
    def active(self) -> bool:
        """Whether it is going to be called: not cancelled, nor its loop closed."""
        return self in self._handlers

    def cancel(self) -> None:
        """Call it no more, and release the callback at once. Harmless when repeated."""
        if self._guard is not None:
            self._guard.check()
        self.release()

    def release(self) -> None:
        """The same for the loop itself, which may be closed by any thread."""
        self._handlers.pop(self, None)
        self.callback = released  # which may refer to this handler

    def __repr__(self) -> str:
        return f"<IdleHandler active callback={self.callback!r}>" if self.active else "<IdleHandler cancelled>"
