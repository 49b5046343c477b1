"""What happens when a response is complete, or lost with its client: for the few that somebody waits for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from nimloop_core import Loop
    from nimloop_http.response import HttpResponse


@final
class Ending:
    """Who wants to know about the end of one response. Temporary files are removed here, whatever happens."""

    __slots__ = ("cleanups", "log", "on_done", "started_ns")

    def __init__(self) -> None:
        self.on_done: Callable[[HttpResponse], object] | None = None
        self.log: Callable[[HttpResponse, int], object] | None = None
        self.started_ns: int = 0
        self.cleanups: list[Callable[[], object]] = []

    def tell(self, response: HttpResponse, loop: Loop, *, complete: bool) -> None:
        """Tell everybody, once; `on_done` is only for a response that is complete."""
        log, self.log = self.log, None
        on_done, self.on_done = self.on_done, None
        cleanups, self.cleanups = self.cleanups, []
        try:
            if log is not None:
                log(response, self.started_ns)
            if on_done is not None and complete:
                on_done(response)
        except Exception as error:
            loop.exception_handler(error, response)
        for cleanup in cleanups:
            try:
                cleanup()
            except Exception as error:
                loop.exception_handler(error, response)
