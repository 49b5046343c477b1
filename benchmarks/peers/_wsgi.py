"""The smallest WSGI application: one path, one answer, everything else is not found."""

from collections.abc import Callable
from typing import Final

from _peer import BODY, PATH

_HELLO: Final = BODY.encode()


def app(environ: dict[str, object], start_response: Callable[[str, list[tuple[str, str]]], object]) -> list[bytes]:
    """Answer one request; the headers are new each time because servers may change the list."""
    status, body = ("200 OK", _HELLO) if environ["PATH_INFO"] == PATH else ("404 Not Found", b"Not Found")
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    start_response(status, headers)
    return [body]
