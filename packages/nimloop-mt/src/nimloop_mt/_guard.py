"""The last resort of a worker's process, when nobody is left to kill it.

Once the supervisor is dead, the loop of a worker sees the end of the channel, and drains. A loop that does not run sees
nothing: a handler hangs, or its module is still being imported. So one thread waits for that end, too. Until then it
costs nothing: it sleeps in the kernel. It cannot run while a library hangs that does not let go of the GIL.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import Final, final

SLACK: Final = 2.0  # seconds beyond the grace that a worker has anyway to report and end
_PAUSE: Final = 1.0  # seconds between two looks, where poll(2) returns without what it was asked for


@final
class Guard:
    """Ends this process at once, `grace` seconds and a few after the end of the channel, should it still be there."""

    def __init__(self, control: socket.socket) -> None:
        self.grace = 0.0
        """What has begun to be served may take so long."""
        self._control: Final = control.dup()
        threading.Thread(target=self._watch, name="nimloop-mt-guard", daemon=True).start()

    def hang_up(self) -> None:
        """Let the supervisor see the end of the channel, which this copy of it holds open: the worker has finished."""
        with suppress(OSError):  # it was the first to go
            self._control.shutdown(socket.SHUT_RDWR)

    def _watch(self) -> None:
        if sys.platform != "win32":  # where no worker is a process
            poller = select.poll()
            poller.register(self._control, select.POLLHUP)
            while not poller.poll():
                time.sleep(_PAUSE)
            time.sleep(self.grace + SLACK)
            os._exit(1)
