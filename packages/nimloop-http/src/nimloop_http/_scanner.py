"""Picks how heads are scanned and chunks joined: in C where that is built, unless ``NIMLOOP_EXTENSION=off`` is set."""

from __future__ import annotations

import os
from typing import Final, Protocol

from nimloop_http import _scan_py


class _Finder(Protocol):
    def __call__(self, data: bytes | bytearray | memoryview, start: int = 0, end: int | None = None, /) -> int: ...


scan_request = _scan_py.scan_request
join_chunks = _scan_py.join_chunks
split_fields = _scan_py.split_fields
find_value = _scan_py.find_value
find_crlf: _Finder = _scan_py.find_crlf
find_double_crlf: _Finder = _scan_py.find_double_crlf
_implementation = "Python"

if os.environ.get("NIMLOOP_EXTENSION") != "off":
    try:
        from nimloop_http import _scan
    except ImportError:
        pass  # not built
    else:
        scan_request = _scan.scan_request
        join_chunks = _scan.join_chunks
        split_fields = _scan.split_fields
        find_value = _scan.find_value
        find_crlf = _scan.find_crlf
        find_double_crlf = _scan.find_double_crlf
        _implementation = f"C ({_scan.SIMD_NAME})"

IMPLEMENTATION: Final = _implementation
"""Which one it is: ``"C (SSE2)"``, ``"C (NEON)"``, ``"C (scalar)"`` or ``"Python"``."""
