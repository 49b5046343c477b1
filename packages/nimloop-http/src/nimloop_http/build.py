"""What nimloop-http runs on: see `nimloop_core.build`."""

from __future__ import annotations

from typing import Final

from nimloop_core.build import describe
from nimloop_http import _scanner, _session

__all__ = ["IMPLEMENTATION"]

IMPLEMENTATION: Final = describe(_session.__file__, _scanner.IMPLEMENTATION)
"""``"mypyc + C (SSE2)"``, ``"C (SSE2)"``, ``"Python"`` and so on."""
