"""Development mode's watch over threads: who may touch a loop while it runs."""

from __future__ import annotations

import threading
from typing import final

from nimloop_core.errors import WrongThreadError


@final
class ThreadGuard:
    """Knows which thread runs a loop; a loop that is not in development mode has none."""

    __slots__ = ("owner",)

    def __init__(self) -> None:
        self.owner: int = 0
        """The identifier of the thread that runs the loop; 0 while nobody does."""

    def check(self) -> None:
        """Raise `WrongThreadError` when another thread runs the loop."""
        if self.owner and threading.get_ident() != self.owner:
            raise WrongThreadError("the loop runs in another thread: use call_soon_threadsafe")
