"""Where the exceptions of callbacks go."""

from __future__ import annotations

import logging
from typing import Final, final

from nimloop_core.abc import ExceptionHandler

_log: Final = logging.getLogger("nimloop.core")


@final
class Reporter:
    """Tells the exception handler of a loop; apart from the loop, so that nothing in a loop refers back to it."""

    __slots__ = ("handler",)

    def __init__(self) -> None:
        self.handler: ExceptionHandler = log_exception

    def report(self, error: Exception, owner: object) -> None:
        try:
            self.handler(error, owner)
        except Exception:
            _log.exception("the exception handler failed while it was told about %r from %r", error, owner)


def log_exception(error: Exception, owner: object) -> None:
    """Log the exception of a callback, with its traceback, to ``nimloop.core``: the default handler."""
    _log.error("callback of %r failed", owner, exc_info=error)
