"""Permissions count for the tests, whoever runs them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY = 65534


@contextmanager
def unprivileged(folder: Path | None = None) -> Iterator[None]:
    """Live as somebody for whom permissions count, and who can enter the folder; else the test is skipped."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        if folder is not None and not os.access(folder, os.X_OK, effective_ids=True):
            pytest.skip("the temporary folder is closed to others")
        yield
    finally:
        os.seteuid(0)
