"""What a package runs on: the Python as it stands, C beside it, or modules compiled by mypyc."""

from __future__ import annotations

from typing import Final

from nimloop_core import _timers
from nimloop_core.backends import _epoll_wait

__all__ = ["IMPLEMENTATION", "describe"]


def describe(module_file: str | None, leaf: str) -> str:
    """Say it in a word or two, for a package that has a hot module at `module_file` and its C part, if any, in `leaf`.

    ``"mypyc + C"``, ``"mypyc"``, ``"C"`` or ``"Python"``; `leaf` is ``"Python"`` or begins with ``"C"``.
    """
    compiled = module_file is not None and not module_file.endswith(".py")
    if not compiled:
        return leaf
    return "mypyc" if leaf == "Python" else f"mypyc + {leaf}"


IMPLEMENTATION: Final = describe(_timers.__file__, _epoll_wait.IMPLEMENTATION)
"""What nimloop-core runs on."""
