"""Files from a folder: type, index, listing, conditional requests, ranges; never anything outside the folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final, final
from urllib.parse import quote

from nimloop_http import _listing
from nimloop_http._conditional import evaluate, range_applies, validators_of
from nimloop_http._mime import media_type
from nimloop_http._paths import open_beneath, split_path
from nimloop_http._ranges import ByteRange, parse_range
from nimloop_http.errors import ForbiddenPathError, RangeNotSatisfiableError
from nimloop_http.request import HttpRequest
from nimloop_http.response import HttpResponse

_READ_BYTES: Final = 32768  # a smaller file is sent together with its head, which is cheaper than sendfile


@final
class StaticFiles:
    """Serves the files beneath one folder to GET and HEAD.

    ``index`` are the names tried in a folder; with ``listing``, a folder without any of them is shown as a page.
    Files whose name begins with a dot are hidden unless ``dotfiles``, except in ``/.well-known/`` (RFC 8615). Symbolic
    links are followed as long as they stay in the folder. ``prefix`` is the part of the URL that stands for the folder.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        prefix: str = "/",
        index: tuple[str, ...] = ("index.html", "index.htm"),
        listing: bool = False,
        dotfiles: bool = False,
        cache_control: str = "",
    ) -> None:
        """Check the folder. Raises FileNotFoundError, NotADirectoryError or PermissionError."""
        self.root: Final = os.path.realpath(root, strict=True)
        os.listdir(self.root)
        self.prefix: Final = "/" + "".join(f"{part}/" for part in prefix.split("/") if part)
        self.index: Final = index
        self.listing: Final = listing
        self.dotfiles: Final = dotfiles
        self.cache_control: Final = cache_control

    def serve(self, req: HttpRequest, res: HttpResponse) -> None:
        """Answer the request with a file, a page, a redirection or an error; in any case answer it."""
        if req.method not in {"GET", "HEAD"}:
            res.header("Allow", "GET, HEAD").send_error(405)
            return
        raw_path = req.raw_path
        if not (raw_path + "/").startswith(self.prefix):
            res.send_error(404)
            return
        try:
            segments = split_path(raw_path[len(self.prefix) :])
            if not self.dotfiles and any(part[0] == "." for part in segments if part != ".well-known"):
                raise FileNotFoundError
            descriptor = open_beneath(self.root, segments)
        except (ForbiddenPathError, PermissionError):
            res.send_error(403)
            return
        except OSError:
            res.send_error(404)
            return
        try:
            status = os.fstat(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        if stat.S_ISDIR(status.st_mode):
            self._serve_folder(req, res, descriptor, segments)
        elif raw_path.endswith("/"):
            os.close(descriptor)  # a file is not a folder, even if it is asked for as one
            res.send_error(404)
        else:
            if self.cache_control:
                res.header("Cache-Control", self.cache_control)
            send_open_file(req, res, descriptor, status, media_type(segments[-1]))

    def _serve_folder(self, req: HttpRequest, res: HttpResponse, descriptor: int, segments: list[str]) -> None:
        try:
            if not req.raw_path.endswith("/"):
                # Spelt anew from the decoded segments: what the client wrote might be read as another host.
                path = self.prefix + "".join(quote(os.fsencode(part)) + "/" for part in segments)
                res.redirect(f"{path}?{req.query}" if req.query else path, 301)
                return
            for name in self.index:
                try:
                    file = open_beneath(self.root, [*segments, name])
                except (OSError, ForbiddenPathError):
                    continue
                status = os.fstat(file)
                if stat.S_ISREG(status.st_mode):
                    send_open_file(req, res, file, status, media_type(name))
                    return
                os.close(file)
            if self.listing:
                self._send_listing(req, res, descriptor, segments)
            else:
                res.send_error(404)
        finally:
            os.close(descriptor)

    def _send_listing(self, req: HttpRequest, res: HttpResponse, descriptor: int, segments: list[str]) -> None:
        entries: list[_listing.Entry] = []
        # Windows cannot list an open folder; there the path was resolved and checked just before.
        with os.scandir(descriptor if os.scandir in os.supports_fd else Path(self.root, *segments)) as folder:
            for item in folder:
                if item.name[0] == "." and not self.dotfiles:
                    continue
                try:
                    status = item.stat()
                except OSError:
                    continue  # removed meanwhile, or a dangling link
                entries.append(
                    _listing.Entry(item.name, stat.S_ISDIR(status.st_mode), status.st_size, status.st_mtime)
                )
        path = self.prefix + "".join(part + "/" for part in segments)
        res.header("Cache-Control", "no-cache").header("Vary", "Accept").header("X-Content-Type-Options", "nosniff")
        if "application/json" in req.headers.get("accept", ""):
            res.header("Content-Type", "application/json").send(_listing.render_json(path, entries))
            return
        params = req.params
        page = _listing.render_html(
            path, entries, sort=params.get("sort", "name"), descending=params.get("order") == "desc"
        )
        res.header("Content-Security-Policy", _listing.CONTENT_SECURITY_POLICY)
        res.header("Content-Type", "text/html; charset=utf-8").send(page)


def serve_file(
    req: HttpRequest, res: HttpResponse, path: str | os.PathLike[str], *, content_type: str = ""
) -> None:
    """Answer a GET or HEAD with one file, 404 if there is none; the path is trusted.

    Conditional requests and a single range are honoured.
    """
    name = os.fspath(path)
    try:
        descriptor = os.open(name, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0))
    except PermissionError:
        res.send_error(403)
        return
    except OSError:
        res.send_error(404)
        return
    send_open_file(req, res, descriptor, os.fstat(descriptor), content_type or media_type(name))


def send_open_file(
    req: HttpRequest, res: HttpResponse, descriptor: int, status: os.stat_result, content_type: str
) -> None:
    """Answer with an open file whose status is known; the descriptor is taken over and closed in any case."""
    try:
        if not stat.S_ISREG(status.st_mode):
            res.send_error(403)  # a pipe or a device: reading it could block, or never end
            return
        validators = validators_of(status)
        res.header("ETag", validators.etag).header("Last-Modified", validators.last_modified)
        res.header("Accept-Ranges", "bytes").header("X-Content-Type-Options", "nosniff")
        outcome = evaluate(req.headers, validators)
        if outcome == 304:
            res.status(304).send()
            return
        if outcome == 412:
            res.send_error(412)
            return
        res.header("Content-Type", content_type)
        part = ByteRange(0, status.st_size, status.st_size)
        wanted = req.headers.get("range")
        if wanted is not None and req.method == "GET" and range_applies(req.headers, validators):
            selected = parse_range(wanted, status.st_size)
            if selected is not None:
                part = selected
                res.status(206).header("Content-Range", part.content_range)
        if part.length > _READ_BYTES or req.method == "HEAD":
            taken, descriptor = descriptor, -1
            res.send_file(taken, part.start, part.length)
        else:
            res.send(_read(descriptor, part))
    except RangeNotSatisfiableError as error:
        res.header("Content-Range", f"bytes */{error.size}").header("Content-Type", "text/plain; charset=utf-8")
        res.send_error(416, str(error))
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _read(descriptor: int, part: ByteRange) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(descriptor, part.length, part.start)
    os.lseek(descriptor, part.start, os.SEEK_SET)
    return os.read(descriptor, part.length)
