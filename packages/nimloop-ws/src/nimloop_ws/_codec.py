"""Picks how to read, mask and write a frame: in C where that was built, unless ``NIMLOOP_EXTENSION=off`` forbids it."""

from __future__ import annotations

import os
from typing import Final

from nimloop_ws import _frame_py

apply_mask = _frame_py.apply_mask
gather = _frame_py.gather
read_frame = _frame_py.read_frame
encode_frame = _frame_py.encode_frame
_implementation = "Python"

if os.environ.get("NIMLOOP_EXTENSION") != "off":
    try:
        from nimloop_ws import _frame_c
    except ImportError:
        pass  # not built
    else:
        apply_mask = _frame_c.apply_mask
        gather = _frame_c.gather
        read_frame = _frame_c.read_frame
        encode_frame = _frame_c.encode_frame
        _implementation = f"C ({_frame_c.SIMD_NAME})"

IMPLEMENTATION: Final = _implementation
"""Which one it is: ``"C (AVX2)"``, ``"C (SSE2)"``, ``"C (NEON)"``, ``"C (scalar)"`` or ``"Python"``."""
