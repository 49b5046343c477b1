"""What nimloop-ws runs on: see `nimloop_core.build`."""

from __future__ import annotations

from typing import Final

from nimloop_core.build import describe
from nimloop_ws import _codec, parser

__all__ = ["IMPLEMENTATION"]

IMPLEMENTATION: Final = describe(parser.__file__, _codec.IMPLEMENTATION)
"""``"mypyc + C (AVX2)"``, ``"C (AVX2)"``, ``"Python"`` and so on."""
