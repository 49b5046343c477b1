"""Files by their descriptors: all of what is to be written, and from any place what is to be read."""

from __future__ import annotations

import os
import sys
import threading
from typing import Final

_seek: Final = threading.Lock()  # on Windows, the position of a descriptor belongs to whoever reads from it


def write_all(fd: int, data: bytes) -> None:
    """Write everything; os.write may take less, above all when the disk is nearly full."""
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]


def read_at(fd: int, offset: int, count: int) -> bytes:
    """Read up to so many bytes from an offset, whatever the descriptor's own position is."""
    if sys.platform == "win32":
        with _seek:
            os.lseek(fd, offset, os.SEEK_SET)
            return os.read(fd, count)
    else:
        return os.pread(fd, count, offset)
