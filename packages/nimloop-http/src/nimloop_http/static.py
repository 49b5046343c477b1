"""Files from a folder: type, index, listing, conditional requests, ranges; never anything outside the folder."""

from __future__ import annotations

import errno
import os
import stat
from functools import lru_cache
from typing import Final, final
from urllib.parse import quote

from nimloop_http._disposition import content_disposition
from nimloop_http._filebody import field_line, send_open_file
from nimloop_http._filecache import FileCache
from nimloop_http._folder import FolderPage
from nimloop_http._mime import is_compressed, type_line
from nimloop_http._negotiation import codings_wanted
from nimloop_http._paths import OPEN_FILE, names_folder, open_beneath, split_path
from nimloop_http.errors import ForbiddenPathError
from nimloop_http.request import HttpRequest
from nimloop_http.response import HttpResponse

__all__ = ["MEDIA_PIECE", "StaticFiles", "serve_file", "serve_static", "stream_file"]

MEDIA_PIECE: Final = 1 << 20
"""Bytes that `stream_file` answers a request for a range with, at most."""

# Content codings (RFC 9110 §8.4.1, RFC 8878 §7.2) and what the names of files in them end with; the first is the one
# that makes text smallest.
_CODINGS: Final = {"br": ".br", "zstd": ".zst", "gzip": ".gz"}
# That a name leads to nothing that could be read. ENXIO, EOPNOTSUPP: to a Unix socket, or a device that is not there;
# EILSEQ, EINVAL: no name on this file system.
_ABSENT: Final = frozenset(
    {
        errno.EILSEQ,
        errno.EINVAL,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENODEV,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ENXIO,
        errno.EOPNOTSUPP,
    }
)


@final
class StaticFiles:
    """Serves the files beneath one folder to GET and HEAD.

    ``index`` are the names tried in a folder; with ``listing``, a folder without any of them is shown as a page.
    Files whose name begins with a dot are hidden unless ``dotfiles``, except in ``/.well-known/`` (RFC 8615). Symbolic
    links are followed as long as they stay in the folder. ``prefix`` is the part of the URL that stands for the folder.

    With ``precompressed``, a client that takes a content coding gets ``app.js.br``, ``app.js.zst`` or ``app.js.gz``
    in place of ``app.js`` where there is such a file, each with validators of its own.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        prefix: str = "/",
        index: tuple[str, ...] = ("index.html", "index.htm"),
        listing: bool = False,
        dotfiles: bool = False,
        precompressed: bool = True,
        cache_control: str = "",
    ) -> None:
        """Check the folder. Raises FileNotFoundError, NotADirectoryError or PermissionError."""
        self.root: Final = os.path.realpath(root, strict=True)
        os.listdir(root)  # as it was given: "" is no folder, though its real path is the current one
        self.prefix: Final = "/" + "".join(f"{part}/" for part in prefix.split("/") if part)
        self.index: Final = index
        self.listing: Final = listing
        self.dotfiles: Final = dotfiles
        self.precompressed: Final = precompressed
        self.cache_control: Final = cache_control
        self._lines: Final = field_line("Cache-Control", cache_control) if cache_control else ""
        self._cache: Final = FileCache()

    def serve(self, req: HttpRequest, res: HttpResponse) -> None:
        """Answer the request with a file, a page, a redirection or an error; in any case answer it."""
        if req.method == "GET" and self._cache.send(req.head, res):
            return
        if req.method not in {"GET", "HEAD"}:
            res.header("Allow", "GET, HEAD").send_error(405)
            return
        raw_path = req.raw_path
        if not (raw_path + "/").startswith(self.prefix):
            res.send_error(404)
            return
        try:
            segments = split_path(raw_path[len(self.prefix) :])
            well_known = self.prefix == "/" and segments[:1] == [".well-known"]
            if not self.dotfiles and any(part[0] == "." for part in segments[well_known:]):
                res.send_error(404)
                return
            descriptor, status = _with_status(open_beneath(self.root, segments))
        except (ForbiddenPathError, OSError) as error:
            _send_refusal(res, error)
            return
        if stat.S_ISDIR(status.st_mode):
            self._serve_folder(req, res, descriptor, segments)
        elif names_folder(raw_path):
            os.close(descriptor)  # a file is not a folder, even if it is asked for as one
            res.send_error(404)
        else:
            self._send_file(req, res, descriptor, status, segments)

    def _serve_folder(self, req: HttpRequest, res: HttpResponse, descriptor: int, segments: list[str]) -> None:
        try:
            # Spelt anew from the decoded segments: what the client wrote might be read as another host.
            path = self.prefix + "".join(quote(os.fsencode(part)) + "/" for part in segments)
            if not req.raw_path.endswith("/") or req.raw_path.count("/") != path.count("/"):
                # Relative links in the page count the slashes, doubled ones too.
                res.redirect(f"{path}?{req.query}" if req.query else path, 301)
                return
            for name in self.index:
                try:
                    file, status = _with_status(open_beneath(self.root, [*segments, name]))
                except (ForbiddenPathError, OSError) as error:
                    if isinstance(error, FileNotFoundError):
                        continue
                    _send_refusal(res, error)  # it is there: what it stands before is not to be shown instead
                    return
                if not stat.S_ISDIR(status.st_mode):
                    self._send_file(req, res, file, status, [*segments, name])
                    return
                os.close(file)
            if self.listing:
                shown = self.prefix + "".join(part + "/" for part in segments)
                folder, descriptor = descriptor, -1
                FolderPage(req, res, folder, self.root, segments, path=shown, dotfiles=self.dotfiles).start()
            else:
                res.send_error(404)
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _send_file(
        self, req: HttpRequest, res: HttpResponse, descriptor: int, status: os.stat_result, segments: list[str]
    ) -> None:
        name = path = segments[-1]
        lines = self._lines
        if self.precompressed and not is_compressed(name):
            # Whether there is such a file or not: one that comes to exist must not be hidden by what a cache keeps.
            lines += "Vary: Accept-Encoding\r\n"
            accepted = req.headers.get("accept-encoding")
            for coding in codings_wanted(accepted, tuple(_CODINGS)) if accepted else ():
                path = name + _CODINGS[coding]
                sibling = self._open_sibling([*segments[:-1], path])
                if sibling is not None:
                    os.close(descriptor)
                    descriptor, status = sibling
                    lines += f"Content-Encoding: {coding}\r\n"
                    break
                path = name
        kind = type_line(name)

        def keep(lines: str, data: bytes) -> None:
            self._cache.keep(req.head, os.path.join(self.root, *segments[:-1], path), status, (lines, kind, data))

        send_open_file(req, res, descriptor, status, kind, lines=lines, keep=keep)

    def _open_sibling(self, segments: list[str]) -> tuple[int, os.stat_result] | None:
        try:
            descriptor, status = _with_status(open_beneath(self.root, segments))
        except (ForbiddenPathError, OSError):
            return None
        if stat.S_ISREG(status.st_mode):
            return descriptor, status
        os.close(descriptor)
        return None


def serve_static(req: HttpRequest, res: HttpResponse, prefix: str, root: str | os.PathLike[str]) -> None:
    """Answer with what the path names in the folder `root`, of which `prefix` is the URL; in any case answer.

    What `StaticFiles` does with its default settings. Raises FileNotFoundError, NotADirectoryError or PermissionError
    for the folder itself.
    """
    _static_files(os.fspath(root), prefix).serve(req, res)


@lru_cache(maxsize=64)
def _static_files(root: str, prefix: str) -> StaticFiles:
    return StaticFiles(root, prefix=prefix)


def serve_file(
    req: HttpRequest,
    res: HttpResponse,
    path: str | os.PathLike[str],
    *,
    content_type: str = "",
    cache_control: str = "",
    attachment: bool = False,
    filename: str = "",
) -> None:
    """Answer a GET or HEAD with one file, 404 if there is none; the path is trusted.

    Conditional requests and ranges are honoured. With `attachment` the client is to save it, under the `filename` or
    by default under the file's own name; a `filename` alone is a proposal for the case that it is saved.
    """
    name = os.fspath(path)
    lines = field_line("Cache-Control", cache_control) if cache_control else ""
    if attachment or filename:
        lines += field_line("Content-Disposition", content_disposition(filename or name, inline=not attachment))
    _send_named(req, res, name, content_type, lines)


def stream_file(
    req: HttpRequest,
    res: HttpResponse,
    path: str | os.PathLike[str],
    *,
    content_type: str = "",
    cache_control: str = "",
    piece: int = MEDIA_PIECE,
) -> None:
    """Answer like `serve_file`, for sound and film: a request for a range gets `piece` bytes at most.

    Players ask for everything from here on and break off where the user jumps to; in pieces, what was sent for nothing
    is little. They ask again for the rest, as Content-Range tells them how large the whole is. Programs that download
    do not all do that: use `serve_file` for them. Raises ValueError for a piece of no bytes.
    """
    if piece < 1:
        raise ValueError(f"a piece has at least one byte, not {piece}")
    lines = field_line("Cache-Control", cache_control) if cache_control else ""
    _send_named(req, res, os.fspath(path), content_type, lines, most=piece)


def _send_named(
    req: HttpRequest, res: HttpResponse, name: str, content_type: str, lines: str, *, most: int = 0
) -> None:
    kind = field_line("Content-Type", content_type) if content_type else type_line(name)
    try:
        descriptor, status = _with_status(os.open(name, OPEN_FILE))
    except OSError as error:
        _send_refusal(res, error)
        return
    send_open_file(req, res, descriptor, status, kind, lines=lines, most=most)


def _with_status(descriptor: int) -> tuple[int, os.stat_result]:
    try:
        return descriptor, os.fstat(descriptor)
    except BaseException:  # a network's file system may lose a file that is open
        os.close(descriptor)
        raise


def _send_refusal(res: HttpResponse, error: ForbiddenPathError | OSError) -> None:
    if isinstance(error, (ForbiddenPathError, PermissionError)):
        res.send_error(403)
    elif error.errno in _ABSENT:
        res.send_error(404)
    else:  # out of descriptors or memory, a disk that fails: nobody may conclude that the file is gone
        res.send_error(503)
