"""Picks how to wait with epoll: in C where that was built, unless ``NIMLOOP_EXTENSION=off`` forbids it."""

from __future__ import annotations

import os
from typing import Final

from nimloop_core.backends import _epoll_py

wait = _epoll_py.wait
_compiled = False

if os.environ.get("NIMLOOP_EXTENSION") != "off":
    try:
        from nimloop_core.backends import _epoll_c
    except ImportError:
        pass  # not built
    else:
        wait = _epoll_c.wait
        _compiled = True

IMPLEMENTATION: Final = "C" if _compiled else "Python"
"""Which one it is."""
