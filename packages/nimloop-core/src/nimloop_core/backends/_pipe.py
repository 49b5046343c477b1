"""The pipe that ends a wait: bytes written to it are wake-ups."""

from __future__ import annotations

import errno
import os
import sys

if sys.platform == "win32":

    def create() -> tuple[int, int]:
        """Refuse: pipes cannot be waited for here."""
        raise OSError(errno.ENOSYS, "pipes cannot be waited for on Windows")

else:

    def create() -> tuple[int, int]:
        """Open a pipe, reading end first, neither end of which blocks."""
        ends = os.pipe()
        for end in ends:
            os.set_blocking(end, False)
        return ends


def ring(end: int) -> None:
    """Write one wake-up."""
    try:
        os.write(end, b"\0")
    except BlockingIOError:
        pass  # full of wake-ups: one is enough


def drain(end: int) -> None:
    """Take all wake-ups out."""
    try:
        while len(os.read(end, 4096)) == 4096:
            pass
    except BlockingIOError:
        pass
