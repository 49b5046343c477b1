"""What nimloop-net runs on: see `nimloop_core.build`."""

from __future__ import annotations

from typing import Final

from nimloop_core.build import describe
from nimloop_net import _connection, _io

__all__ = ["IMPLEMENTATION"]

IMPLEMENTATION: Final = describe(_connection.__file__, _io.IMPLEMENTATION)
"""``"mypyc + C"``, ``"mypyc"``, ``"C"`` or ``"Python"``."""
