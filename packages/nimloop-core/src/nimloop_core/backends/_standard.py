"""Keeps the loop's own descriptors off the numbers of standard input, output and error.

The kernel hands out the lowest free number. In a process that was started without some of the three, a counter or a
pipe of the loop would get it, and whoever then writes to standard error, or puts another file there as daemons do,
would hit the loop.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def spared() -> Iterator[None]:
    """Open nothing on the numbers 0 to 2 meanwhile."""
    held: list[int] = []
    try:
        while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
            held.append(fd)
        os.close(fd)
        yield
    finally:
        for fd in held:
            os.close(fd)
