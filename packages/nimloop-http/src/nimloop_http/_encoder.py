"""Picks how to put a response together: in C where that was built, unless ``NIMLOOP_EXTENSION=off`` forbids it."""

from __future__ import annotations

import os
from typing import Final

from nimloop_http import _encode_py

encode = _encode_py.encode
_compiled = False

if os.environ.get("NIMLOOP_EXTENSION") != "off":
    try:
        from nimloop_http import _encode_c
    except ImportError:
        pass  # not built
    else:
        encode = _encode_c.encode
        _compiled = True

IMPLEMENTATION: Final = "C" if _compiled else "Python"
"""Which one it is."""
