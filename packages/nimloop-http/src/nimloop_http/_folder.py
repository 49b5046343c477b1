"""A folder's page, made by one of the server's threads: a large folder or a slow disk keeps no other client waiting.

A thread that computes would still keep the interpreter's lock for 5 ms at a time, and the loop as long from its timers:
`_listing` gives way every few entries.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final, final

from nimloop_http import _listing
from nimloop_http._negotiation import prefers_json
from nimloop_http._paths import resolve_beneath
from nimloop_http._workers import call_soon
from nimloop_http.errors import ForbiddenPathError
from nimloop_http.request import HttpRequest
from nimloop_http.response import HttpResponse


@final
class FolderPage:
    """One answer that is being made."""

    __slots__ = ("_descriptor", "_dotfiles", "_loop", "_path", "_render", "_res", "_root", "_segments")

    def __init__(
        self,
        req: HttpRequest,
        res: HttpResponse,
        descriptor: int,
        root: str,
        segments: list[str],
        *,
        path: str,
        dotfiles: bool,
    ) -> None:
        """Take the open folder over; it is `segments` beneath `root`, and called `path` in the page."""
        self._res: Final = res
        self._loop: Final = res.connection.loop
        self._descriptor: Final = descriptor
        self._root: Final = root
        self._segments: Final = segments
        self._path: Final = path
        self._dotfiles: Final = dotfiles
        res.header("Cache-Control", "no-cache").header("Vary", "Accept").header("X-Content-Type-Options", "nosniff")
        self._render: Final = self._choose(req)

    def _choose(self, req: HttpRequest) -> Callable[[list[_listing.Entry]], bytes]:
        if prefers_json(req.headers.get("accept", "")):
            self._res.header("Content-Type", "application/json")
            return lambda entries: _listing.render_json(self._path, entries)
        params = req.params
        sort, descending = params.get("sort", "name"), params.get("order") == "desc"
        self._res.header("Content-Type", "text/html; charset=utf-8")
        self._res.header("Content-Security-Policy", _listing.CONTENT_SECURITY_POLICY)
        return lambda entries: _listing.render_html(self._path, entries, sort=sort, descending=descending)

    def start(self) -> None:
        """The answer follows; when too many wait for theirs already, it is 503 at once."""
        if not self._res.workers.submit(self._work):
            os.close(self._descriptor)
            self._res.send_error(503)

    def _work(self) -> None:
        try:
            try:
                entries = self._entries()
            finally:
                os.close(self._descriptor)
            page = self._render(entries)
        except Exception as error:
            failure = error  # the name of the clause ends with it
            call_soon(self._loop, lambda: self._failed(failure))
        else:
            call_soon(self._loop, lambda: self._send(page))

    def _send(self, page: bytes) -> None:
        if not self._res.closed:
            self._res.send(page)

    def _failed(self, error: Exception) -> None:
        self._loop.exception_handler(error, self._res)
        if not self._res.closed:
            self._res.replace_by_error(500, close=False)

    def _entries(self) -> list[_listing.Entry]:
        entries: list[_listing.Entry] = []
        # Windows cannot list an open folder; there the path was resolved and checked just before.
        listed = self._descriptor if os.scandir in os.supports_fd else Path(self._root, *self._segments)
        with os.scandir(listed) as folder:
            for item in folder:
                if item.name[0] == "." and not self._dotfiles:
                    continue
                try:
                    if item.is_symlink():
                        resolve_beneath(self._root, [*self._segments, item.name])
                    status = item.stat()
                except (ForbiddenPathError, OSError):
                    continue  # removed meanwhile, or a link to nothing that is served
                is_dir = stat.S_ISDIR(status.st_mode)
                if is_dir or stat.S_ISREG(status.st_mode):
                    entries.append(_listing.Entry(item.name, is_dir, status.st_size, status.st_mtime))
        return entries
