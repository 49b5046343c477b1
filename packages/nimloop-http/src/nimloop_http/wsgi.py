"""WSGI applications (PEP 3333) behind this server: Flask, Django, Bottle, Falcon and whatever else has a callable.

A WSGI application may block: in its database, in `time.sleep`, in its own computing. In the loop's thread that would
stop every connection, so it runs in a thread of a pool, and only what it wants sent crosses over to the loop. The
number of threads is bounded, the number of requests that wait for one is bounded (503 beyond), and so is what an
application may be ahead of its client: it is not asked for the next block before the last one has found room.
"""

from __future__ import annotations

import re
from types import TracebackType
from typing import Final, Self, final
from wsgiref.types import WSGIApplication

from nimloop_http._environ import make_environ
from nimloop_http._workers import WorkerPool
from nimloop_http._wsgicall import WsgiCall
from nimloop_http.request import HttpRequest
from nimloop_http.response import HttpResponse

__all__ = ["WsgiBridge"]

_MEMORY_BYTES: Final = 1 << 20  # of a body that is kept in memory; most forms, and most of what an API is sent


@final
class WsgiBridge:
    """Answers requests by a WSGI application: ``serve(WsgiBridge(app).serve, port=8000)``.

    Up to `threads` requests run at once, up to `waiting` more wait for a thread, and further ones get 503. With
    ``threads=0`` the application runs in the loop's thread, which costs less and is right only for one that never
    blocks. `script_name` is the path at which the application is mounted; other paths get 404. `url_scheme` is
    that of the request, which knows TLS and trusted proxies, unless it is given here.

    With ``on_headers=bridge.on_headers`` large bodies go to a file instead of memory, and may have `body` bytes.
    """

    __slots__ = ("_app", "_body", "_pool", "_script_name", "_url_scheme", "threads")

    def __init__(
        self,
        app: WSGIApplication,
        *,
        threads: int = 8,
        waiting: int = 128,
        script_name: str = "",
        url_scheme: str = "",
        body: int | None = None,
    ) -> None:
        """Take the application. Raises ValueError for a script name that is no path, or numbers below 0."""
        if script_name and not re.fullmatch(r"(?:/[!-.0-~]+)+", script_name):
            raise ValueError(f'script_name is "" or ASCII like "/app", without a slash at the end: {script_name!r}')
        self.threads: Final = threads
        self._app: Final[WSGIApplication] = app
        self._script_name: Final = script_name
        self._url_scheme: Final = url_scheme
        self._body: Final = body
        self._pool: Final = WorkerPool("wsgi", threads, waiting) if threads else None

    def on_headers(self, req: HttpRequest, res: HttpResponse) -> None:
        """Let a body that is large, or of unknown length, go to a private file until the application reads it."""
        if self._body is not None:
            req.limit_body(self._body)
        if req.head.has_body and (req.content_length is None or req.content_length > _MEMORY_BYTES):
            req.stream_to_file()

    def serve(self, req: HttpRequest, res: HttpResponse) -> None:
        """Answer the request by the application, now or later; in any case answer it."""
        prefix = self._script_name
        if prefix and not (req.path + "/").startswith(prefix + "/"):
            res.send_error(404)
            return
        environ = make_environ(req, prefix, self._url_scheme, threads=self.threads > 1)
        call = WsgiCall(self._app, environ, req, res, threaded=self._pool is not None)
        if self._pool is None:
            call.advance()
        elif not self._pool.submit(call.run):
            call.give_up()
            res.header("Retry-After", "1").send_error(503, "all threads of the application are busy")

    def close(self) -> None:
        """Let the threads end when their requests are answered. Harmless when repeated."""
        if self._pool is not None:
            self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
