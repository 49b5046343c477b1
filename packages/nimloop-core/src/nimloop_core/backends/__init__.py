"""How a system waits: one module per mechanism, all with the same meaning.

The contract
------------
``name``, ``edge``, ``wake_fd``
    What the user calls it; whether it can report changes instead of levels; the descriptor of its own that shows up
    among the events (−1 where there is none).
``add(fd, events, edge=…)``, ``modify(fd, events, edge=…)``, ``remove(fd)``
    Interest in ``READ``, ``WRITE`` or both, never in nothing: then the table removes the descriptor. ``add`` and
    ``modify`` raise what the kernel says; ``modify`` makes what is ready by then come (again), also as an edge.
    ``remove`` never raises: the owner may have closed the descriptor already, and then the kernel has forgotten it by
    itself. It may be called for what was never added, and after Ctrl+C in the middle of any of the three it tidies up.
``wake()``
    Ends a ``poll`` in progress, or the next one, at once. The only method for other threads and signal handlers.
``poll(timeout_ns, table)``
    Waits until there are events, or ``timeout_ns`` nanoseconds have passed (negative: no limit; a day at most),
    never shorter.
    Then calls the watcher in ``table.slots[fd]`` for each event, unless the slot is empty or its generation is
    younger than the batch. A watcher's exception goes to ``table.on_error`` and the batch goes on: all this is
    ``table.dispatch``. A BaseException ends the batch, and what it held is reported by the next one, edges too (see
    ``table.repeat``). Returns how many were called; being woken up is not an event.
``fileno()``
    A descriptor that becomes readable when ``poll`` would have something to report, −1 where there is none.
``close()``
    Gives back the backend's own descriptors, and no others.

What an event means is the same everywhere: ``READ`` when a read would not block (data, a connection to accept, the
end of the stream), ``WRITE`` when a write would not block, ``HUP`` when the peer has ended its side or both sides
are gone, ``ERROR`` when an error is pending. ``HUP`` and ``ERROR`` come unasked. Any event may be spurious: the only
proof is the system call. An edge-triggered watcher is called once per change and has to go on until the call would
block, or until a read came back shorter than its buffer without ``HUP``.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from typing import Final

from nimloop_core._watchers import Backend
from nimloop_core.backends import _standard
from nimloop_core.errors import BackendUnavailableError

__all__ = ["Backend", "available", "create"]


def _epoll() -> Backend:
    from nimloop_core.backends.epoll import EpollBackend

    return EpollBackend()


def _kqueue() -> Backend:
    from nimloop_core.backends.kqueue import KqueueBackend

    return KqueueBackend()


def _iocp() -> Backend:
    from nimloop_core.backends.iocp import IocpBackend

    return IocpBackend()


def _poll() -> Backend:
    from nimloop_core.backends.poll import PollBackend

    return PollBackend()


# Whether this system has it, and what makes one; the best first.
_FACTORIES: Final[dict[str, tuple[Callable[[], bool], Callable[[], Backend]]]] = {
    "epoll": (lambda: hasattr(select, "epoll"), _epoll),
    "kqueue": (lambda: hasattr(select, "kqueue"), _kqueue),
    "iocp": (lambda: sys.platform == "win32", _iocp),
    "poll": (lambda: hasattr(select, "poll"), _poll),
}


def available() -> list[str]:
    """Return the names of the backends that this system has, the best one first."""
    return [name for name, (exists, _) in _FACTORIES.items() if exists()]


def create(name: str | None = None) -> Backend:
    """Make the named backend; by default what ``NIMLOOP_BACKEND`` names, or else the best one.

    Raises `BackendUnavailableError`, which lists what there is.
    """
    names = available()
    wanted = name or os.environ.get("NIMLOOP_BACKEND") or (names[0] if names else "any")
    if wanted not in names:
        raise BackendUnavailableError(f"no backend {wanted!r} on this system; it has: {', '.join(names) or 'none'}")
    with _standard.spared():
        return _FACTORIES[wanted][1]()
