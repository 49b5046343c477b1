"""What nimloop-ws runs on: see `nimloop_core.build`."""

from __future__ import annotations

from typing import Final

from nimloop_core.build import describe
from nimloop_ws import _codec, parser

__all__ = ["IMPLEMENTATION"]

_VECTORS: Final = {"avx2": "AVX2", "sse2": "SSE2", "neon": "NEON", "words": "scalar"}
_LEAF: Final = f"C ({_VECTORS[_codec.IMPLEMENTATION]})" if _codec.IMPLEMENTATION in _VECTORS else "Python"

IMPLEMENTATION: Final = describe(parser.__file__, _LEAF)
"""``"mypyc + C (AVX2)"``, ``"C (AVX2)"``, ``"Python"`` and so on."""
