"""Files from a folder: type, index, listing, conditional requests, ranges; never anything outside the folder."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from pathlib import Path
from typing import Final, final
from urllib.parse import quote

from nimloop_http import _listing
from nimloop_http._conditional import evaluate, range_applies, validators_of
from nimloop_http._mime import media_type
from nimloop_http._paths import OPEN_FILE, open_beneath, resolve_beneath, split_path
from nimloop_http._ranges import ByteRange, parse_range
from nimloop_http.errors import ForbiddenPathError, RangeNotSatisfiableError
from nimloop_http.request import HttpRequest
from nimloop_http.response import HttpResponse

_READ_BYTES: Final = 32768  # a smaller file is sent together with its head, which is cheaper than sendfile
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
# RFC 9110 §12.4.2: weight = OWS ";" OWS "q=" qvalue
_MEDIA_RANGE: Final = re.compile(
    r"([^ \t;,]+)(?:[^,]*?;[ \t]*q=([01](?:\.[0-9]{0,3})?))?[^,]*", re.IGNORECASE | re.ASCII
)


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
        os.listdir(root)  # as it was given: "" is no folder, though its real path is the current one
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
        elif raw_path.endswith("/"):
            os.close(descriptor)  # a file is not a folder, even if it is asked for as one
            res.send_error(404)
        else:
            send_open_file(req, res, descriptor, status, media_type(segments[-1]), cache_control=self.cache_control)

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
                    send_open_file(req, res, file, status, media_type(name), cache_control=self.cache_control)
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
                    if item.is_symlink():
                        resolve_beneath(self.root, [*segments, item.name])
                    status = item.stat()
                except (ForbiddenPathError, OSError):
                    continue  # removed meanwhile, or a link to nothing that is served
                is_dir = stat.S_ISDIR(status.st_mode)
                if is_dir or stat.S_ISREG(status.st_mode):
                    entries.append(_listing.Entry(item.name, is_dir, status.st_size, status.st_mtime))
        path = self.prefix + "".join(part + "/" for part in segments)
        res.header("Cache-Control", "no-cache").header("Vary", "Accept").header("X-Content-Type-Options", "nosniff")
        if _prefers_json(req.headers.get("accept", "")):
            res.header("Content-Type", "application/json").send(_listing.render_json(path, entries))
            return
        params = req.params
        page = _listing.render_html(
            path, entries, sort=params.get("sort", "name"), descending=params.get("order") == "desc"
        )
        res.header("Content-Security-Policy", _listing.CONTENT_SECURITY_POLICY)
        res.header("Content-Type", "text/html; charset=utf-8").send(page)


def serve_file(req: HttpRequest, res: HttpResponse, path: str | os.PathLike[str], *, content_type: str = "") -> None:
    """Answer a GET or HEAD with one file, 404 if there is none; the path is trusted.

    Conditional requests and a single range are honoured.
    """
    name = os.fspath(path)
    try:
        descriptor, status = _with_status(os.open(name, OPEN_FILE))
    except OSError as error:
        _send_refusal(res, error)
        return
    send_open_file(req, res, descriptor, status, content_type or media_type(name))


def send_open_file(
    req: HttpRequest,
    res: HttpResponse,
    descriptor: int,
    status: os.stat_result,
    content_type: str,
    *,
    cache_control: str = "",
) -> None:
    """Answer with an open file whose status is known; the descriptor is taken over and closed in any case."""
    try:
        if not stat.S_ISREG(status.st_mode):
            res.send_error(403)  # a pipe or a device: reading it could block, or never end
            return
        validators = validators_of(status)
        outcome = evaluate(req.headers, validators)
        if outcome == 412:
            res.send_error(412)
            return
        selected = None
        wanted = req.headers.get("range")
        # RFC 9110 §14.2: only GET has ranges, and preconditions come first.
        if wanted is not None and outcome == 200 and req.method == "GET" and range_applies(req.headers, validators):
            selected = parse_range(wanted, status.st_size)
        res.header("ETag", validators.etag).header("Last-Modified", validators.last_modified)
        res.header("Accept-Ranges", "bytes").header("X-Content-Type-Options", "nosniff")
        if cache_control:
            res.header("Cache-Control", cache_control)
        if outcome == 304:
            res.status(304).send()
            return
        res.header("Content-Type", content_type)
        if selected is not None:
            res.status(206).header("Content-Range", selected.content_range)
        part = selected or ByteRange(0, status.st_size, status.st_size)
        if part.length <= _READ_BYTES and req.method == "GET":
            data = _read(descriptor, part)
            if len(data) == part.length:
                res.send(data)
                return
            # Shortened just now. What was promised cannot be kept, and the connection will break as it would for
            # any larger file.
        taken, descriptor = descriptor, -1
        res.send_file(taken, part.start, part.length)
    except RangeNotSatisfiableError as error:
        res.header("Content-Range", f"bytes */{error.size}").send_error(416, str(error))
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _with_status(descriptor: int) -> tuple[int, os.stat_result]:
    try:
        return descriptor, os.fstat(descriptor)
    except BaseException:  # a network's file system may lose a file that is open
        os.close(descriptor)
        raise


def _read(descriptor: int, part: ByteRange) -> bytes:
    if sys.platform != "win32":
        return os.pread(descriptor, part.length, part.start)
    else:  # noqa: RET505 - for mypy, which skips the branch of another platform and not what follows one
        os.lseek(descriptor, part.start, os.SEEK_SET)
        return os.read(descriptor, part.length)


def _send_refusal(res: HttpResponse, error: ForbiddenPathError | OSError) -> None:
    if isinstance(error, (ForbiddenPathError, PermissionError)):
        res.send_error(403)
    elif error.errno in _ABSENT:
        res.send_error(404)
    else:  # out of descriptors or memory, a disk that fails: nobody may conclude that the file is gone
        res.send_error(503)


def _prefers_json(accept: str) -> bool:
    """Tell whether JSON is asked for by name, and no less than HTML is (RFC 9110 §12.5.1)."""
    weights = {name.lower(): float(weight or 1) for name, weight in _MEDIA_RANGE.findall(accept)}
    json = weights.get("application/json", 0)
    return json > 0 and json >= weights.get("text/html", 0)
