"""The seams of nimloop-core: what other packages may ask of a loop, a clock and a callback.

These are Protocols, so that nothing has to inherit from a class of another package.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["Callback", "Clock", "EventCallback", "ExceptionHandler", "HasFileno"]

Callback = Callable[[], object]
"""A callable without arguments; its result is ignored."""

EventCallback = Callable[[int], object]
"""Called with the mask of events (``READ | WRITE | ERROR | HUP``) that happened."""

Clock = Callable[[], int]
"""Returns monotonic time in integer nanoseconds; ``time.monotonic_ns`` is the usual one."""

ExceptionHandler = Callable[[Exception, object], object]
"""Called with the exception that a callback raised and the callback's owner (a timer, a watcher, a function)."""


class HasFileno(Protocol):
    """Anything with a descriptor: a socket, a file, a pipe."""

    def fileno(self) -> int:
        """Return the descriptor, or −1 once it is closed."""
