"""Signals as ordinary callbacks of the loop.

Python runs a signal handler between two bytecodes of the main thread, which may be in the middle of anything. So
the handler installed here does nothing; `signal.set_wakeup_fd` makes the C-level handler write the signal's number
into a socket, and the loop calls back when it gets to reading it.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import final

from nimloop_core._watchers import READ, Watcher, WatcherTable
from nimloop_core.abc import Callback, ExceptionHandler
from nimloop_core.backends import _standard

_Previous = Callable[[int, FrameType | None], object] | int | None


@final
class SignalHandler:
    """A callback for one signal. Made by `Loop.add_signal_handler`."""

    __slots__ = ("_hub", "callback", "number", "previous")

    def __init__(self, hub: SignalHub, number: int, callback: Callback, previous: _Previous) -> None:
        self._hub = hub
        self.number: int = number
        """The signal, such as `signal.SIGTERM`."""
        self.callback: Callback = callback
        self.previous: _Previous = previous

    @property
    def active(self) -> bool:
        """Whether the signal calls it: neither cancelled nor replaced, nor its loop closed."""
        return self._hub.handles(self)

    def cancel(self) -> None:
        """Put the handler back that was there before, and release the callback. Harmless when repeated."""
        self._hub.remove(self)

    def __repr__(self) -> str:
        state = f"active callback={self.callback!r}" if self.active else "cancelled"
        return f"<SignalHandler number={self.number} {state}>"


@final
class SignalHub:
    """The signal handlers of one loop; holds the wake-up descriptor while there are any."""

    def __init__(self, watchers: WatcherTable, on_error: ExceptionHandler) -> None:
        self._watchers = watchers
        self._on_error = on_error
        self._handlers: dict[int, SignalHandler] = {}
        self._ends: tuple[socket.socket, socket.socket] | None = None
        self._watcher: Watcher | None = None
        self._outer_fd = -1

    def add(self, number: int, callback: Callback) -> SignalHandler:
        """Handle a signal; a handler added for it before is replaced. Main thread only, else ValueError."""
        previous = signal.getsignal(number)
        if self._ends is None:
            self._open()
        try:
            signal.signal(number, _ignore)
        except (OSError, ValueError):
            self._close_if_unused()
            raise
        if hasattr(signal, "siginterrupt"):
            signal.siginterrupt(number, False)  # system calls go on instead of failing with EINTR
        old = self._handlers.get(number)
        handler = SignalHandler(self, number, callback, old.previous if old else previous)
        if old is not None:
            old.callback = released
        self._handlers[number] = handler
        return handler

    def handles(self, handler: SignalHandler) -> bool:
        """Tell whether `handler` is in charge of its signal."""
        return self._handlers.get(handler.number) is handler

    def remove(self, handler: SignalHandler) -> None:
        """Restore what was installed before `handler`, if it is still in charge."""
        if self.handles(handler):
            signal.signal(handler.number, handler.previous or signal.SIG_DFL)
            del self._handlers[handler.number]
            self._close_if_unused()
        handler.callback = released

    def close(self) -> None:
        """Restore every signal."""
        for handler in list(self._handlers.values()):
            self.remove(handler)

    def _open(self) -> None:
        with _standard.spared():
            ends = socket.socketpair()
        for end in ends:
            end.setblocking(False)
        try:
            self._outer_fd = signal.set_wakeup_fd(ends[1].fileno(), warn_on_full_buffer=False)
        except ValueError:
            for end in ends:
                end.close()
            raise ValueError("signal handlers can be added in the main thread only") from None
        self._ends = ends
        self._watcher = self._watchers.register(ends[0].fileno(), READ, self._on_readable, edge=False)

    def _close_if_unused(self) -> None:
        if self._handlers or self._ends is None or self._watcher is None:
            return
        try:
            current = signal.set_wakeup_fd(self._outer_fd)
        except (OSError, ValueError):
            current = signal.set_wakeup_fd(-1)  # the one from before was closed meanwhile
        if current != self._ends[1].fileno():
            signal.set_wakeup_fd(current)  # somebody came after us, another loop perhaps, and still needs it
        self._watcher.unregister()
        for end in self._ends:
            end.close()
        self._ends = self._watcher = None

    def _on_readable(self, _events: int) -> None:
        if self._ends is None:
            return
        try:
            numbers = self._ends[0].recv(4096)
        except BlockingIOError:
            return
        for number in numbers:
            handler = self._handlers.get(number)
            if handler is None:
                continue
            try:
                handler.callback()
            except Exception as error:
                self._on_error(error, handler)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Keep the signal from its default action; the wake-up descriptor carries the news."""


def released() -> None:
    """Stand in for the callback of a handler that was cancelled, which may refer to the handler."""
