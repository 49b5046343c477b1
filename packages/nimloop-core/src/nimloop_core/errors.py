"""Every exception that nimloop raises on its own account.

NimloopError
├── LoopClosedError (RuntimeError)      the loop was closed before the call
├── LoopRunningError (RuntimeError)     not possible while the loop runs, or not from inside it
├── WrongThreadError (RuntimeError)     a call that only the loop's own thread may make (development mode)
├── DelayError (ValueError)             a delay or interval that is negative, NaN or infinite
├── TimerCancelledError (RuntimeError)  a cancelled timer was asked to go on
├── BackendUnavailableError (ValueError)  no such backend on this system
└── WatcherError
    ├── AlreadyRegisteredError (ValueError)  one descriptor, one watcher
    └── NotRegisteredError (ValueError)      the watcher was unregistered before

``OSError`` is not wrapped: what the kernel refuses arrives as the kernel said it.
"""

from __future__ import annotations

__all__ = [
    "AlreadyRegisteredError",
    "BackendUnavailableError",
    "DelayError",
    "LoopClosedError",
    "LoopRunningError",
    "NimloopError",
    "NotRegisteredError",
    "TimerCancelledError",
    "WatcherError",
    "WrongThreadError",
]


class NimloopError(Exception):
    """The root of all nimloop exceptions, in every nimloop package."""


class LoopClosedError(NimloopError, RuntimeError):
    """The loop is closed; nothing can be scheduled or registered any more."""


class LoopRunningError(NimloopError, RuntimeError):
    """The call is not possible while the loop is running."""


class WrongThreadError(NimloopError, RuntimeError):
    """Another thread than the one that runs the loop made a call; use `call_soon_threadsafe`.

    Raised in development mode only. Without it, such a call may corrupt the loop.
    """


class DelayError(NimloopError, ValueError):
    """A delay must be a finite number of seconds, not negative; an interval must be positive."""


class TimerCancelledError(NimloopError, RuntimeError):
    """The timer was cancelled and has released its callback; make a new one."""


class BackendUnavailableError(NimloopError, ValueError):
    """The named backend does not exist on this system; the message lists those that do."""


class WatcherError(NimloopError):
    """A descriptor was registered or used in a way that cannot work."""


class AlreadyRegisteredError(WatcherError, ValueError):
    """The descriptor has a watcher already; modify or unregister that one."""


class NotRegisteredError(WatcherError, ValueError):
    """The watcher is no longer registered."""
