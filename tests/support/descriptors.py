"""Descriptors by their numbers."""

from __future__ import annotations

import os


def is_open(fd: int) -> bool:
    """Tell whether anybody owns this number."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
