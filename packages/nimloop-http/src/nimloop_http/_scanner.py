"""Picks how to scan a head: in C where that was built, unless ``NIMLOOP_EXTENSION=off`` forbids it."""

from __future__ import annotations

import os
from typing import Final

from nimloop_http import _scan_py

scan_head = _scan_py.scan_head
_compiled = False

if os.environ.get("NIMLOOP_EXTENSION") != "off":
    try:
        from nimloop_http import _scan_c
    except ImportError:
        pass  # not built
    else:
        scan_head = _scan_c.scan_head
        _compiled = True

IMPLEMENTATION: Final = "C" if _compiled else "Python"
"""Which one it is."""
