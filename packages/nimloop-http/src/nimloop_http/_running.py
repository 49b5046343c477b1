"""Running a server until somebody wants it to end: what `serve` and the command lines have in common."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Protocol

from nimloop_core import Loop


class Stoppable(Protocol):
    """A server that can be asked to end, and be cut off."""

    def shutdown(self, grace: float | None = None, on_done: Callable[[int], object] | None = None) -> None:
        """End what is under way; tell how many connections had to be cut off."""

    def close(self) -> None:
        """Cut off every connection, now."""


def run_until_signalled(
    loop: Loop, server: Stoppable, grace: float | None = None, on_running: Callable[[], object] | None = None
) -> int:
    """Run the loop until SIGINT or SIGTERM, then finish what is under way; a second signal ends at once.

    ``on_running()`` is called once the signals are taken care of. `grace` is in seconds, None for what the server has
    by default. Returns the number of connections that had to be cut off. Main thread only.
    """
    aborted = 0

    def done(count: int) -> None:
        nonlocal aborted
        aborted = count
        loop.stop()

    stopping = False

    def stop() -> None:
        nonlocal stopping
        if stopping:
            server.close()
        else:
            stopping = True
            server.shutdown(grace, done)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    if on_running is not None:
        on_running()
    loop.run()
    return aborted
