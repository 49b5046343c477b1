"""Descriptors by their numbers."""

from __future__ import annotations

import os
import tempfile


def is_open(fd: int) -> bool:
    """Tell whether anybody owns this number."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def file_with(data: bytes) -> int:
    """Open a nameless file with some content."""
    with tempfile.TemporaryFile() as file:
        fd = os.dup(file.fileno())
    os.write(fd, data)
    return fd
