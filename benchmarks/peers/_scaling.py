"""Applications whose answer costs some work, for servers with several workers."""

import os
from collections.abc import Awaitable, Callable
from typing import Final

import _asgi
import _wsgi

WORK: Final = "NIMLOOP_BENCH_WORK"
_ROUNDS: Final = range(int(os.environ.get(WORK, "0")))


def work() -> None:
    """Add up some numbers, with nothing that workers would have to share."""
    total = 0
    for number in _ROUNDS:
        total += number


async def asgi(
    scope: dict[str, object],
    receive: Callable[[], Awaitable[dict[str, object]]],
    send: Callable[[dict[str, object]], Awaitable[None]],
) -> None:
    """Work, then answer."""
    work()
    await _asgi.app(scope, receive, send)


def wsgi(environ: dict[str, object], start_response: Callable[[str, list[tuple[str, str]]], object]) -> list[bytes]:
    """Work, then answer."""
    work()
    return _wsgi.app(environ, start_response)
