"""The smallest ASGI application: one path, one answer, everything else is not found."""

from collections.abc import Awaitable, Callable
from typing import Final

from _peer import BODY, PATH

_TYPE: Final = (b"content-type", b"text/plain; charset=utf-8")


def _start(status: int, body: bytes) -> dict[str, object]:
    length = (b"content-length", str(len(body)).encode())
    return {"type": "http.response.start", "status": status, "headers": [_TYPE, length]}


# The messages are made once: a peer shall lose no time on what its authors would not.
_HELLO: Final = BODY.encode()
_FOUND: Final = _start(200, _HELLO)
_FOUND_BODY: Final[dict[str, object]] = {"type": "http.response.body", "body": _HELLO}
_MISSING: Final = _start(404, b"Not Found")
_MISSING_BODY: Final[dict[str, object]] = {"type": "http.response.body", "body": b"Not Found"}


async def app(
    scope: dict[str, object],
    receive: Callable[[], Awaitable[dict[str, object]]],
    send: Callable[[dict[str, object]], Awaitable[None]],
) -> None:
    """Answer one request."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    if scope["path"] == PATH:
        await send(_FOUND)
        await send(_FOUND_BODY)
    else:
        await send(_MISSING)
        await send(_MISSING_BODY)
