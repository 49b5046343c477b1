"""The environment of a WSGI application: PEP 3333, "environ Variables", and what others have learned since."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import BinaryIO, Final, Protocol, final
from urllib.parse import unquote_to_bytes

from nimloop_http._sinks import FileSink
from nimloop_http.request import HttpRequest

_BLOCK: Final = 65536

# Not passed on. "Proxy" would become HTTP_PROXY, which programs take for their own setting (httpoxy, CVE-2016-5385).
# These two have names without HTTP_ (RFC 3875 §4.1).
_LEFT_OUT: Final = frozenset({"proxy", "content-type", "content-length"})


class Readable(Protocol):
    """What `FileWrapper` needs of a file."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, none at the end."""


@final
class FileWrapper:
    """`wsgi.file_wrapper`: a file as the result of an application. Regular files leave by sendfile."""

    def __init__(self, filelike: Readable, blksize: int = _BLOCK) -> None:
        self.filelike: Final = filelike
        self.blksize: Final = blksize

    def close(self) -> None:
        """Close the file, if it can be closed."""
        close = getattr(self.filelike, "close", None)
        if close is not None:
            close()

    def __iter__(self) -> Iterator[bytes]:
        """Return the iterator, as any other server would have it read."""
        return self

    def __next__(self) -> bytes:
        """Return the next block."""
        data = self.filelike.read(self.blksize)
        if not data:
            raise StopIteration
        return data


def make_environ(req: HttpRequest, script_name: str, url_scheme: str, *, threads: bool) -> dict[str, object]:
    """Return the environment for a request; called in the loop's thread, because only that may look at a request.

    Text in it stands for bytes, one character each (PEP 3333, "Unicode Issues"). Fields with an underscore are left
    out: ``X_Forwarded_For`` would pass for X-Forwarded-For, which a proxy has checked.
    """
    scheme = url_scheme or req.scheme
    body, size = _input(req)
    local = req.connection.local
    name, port = local if isinstance(local, tuple) else _split_host(req.host, scheme)
    # RFC 3875 §4.1.5: it is empty, or begins with a slash; the asterisk of OPTIONS is neither.
    path = unquote_to_bytes(req.raw_path).decode("latin-1") if req.target != "*" else ""
    environ: dict[str, object] = {
        "REQUEST_METHOD": req.method,
        "SCRIPT_NAME": script_name,
        "PATH_INFO": path[len(script_name) :],
        "QUERY_STRING": req.query,
        "REQUEST_URI": req.target,
        "CONTENT_TYPE": req.headers.get("content-type", ""),
        "CONTENT_LENGTH": str(size) if req.head.has_body else "",
        "SERVER_NAME": name,
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": f"HTTP/{req.http_version}",
        "REMOTE_ADDR": req.client_ip,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.input": body,
        "wsgi.input_terminated": True,  # the end of the input is the end of the body, also if that came chunked
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": threads,
        "wsgi.multiprocess": True,  # nimloop_mt may well run several
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
    }
    headers = req.headers
    for field in headers:
        variable = _variable(field)
        if variable:
            # RFC 6265 §5.4: a cookie's pairs are separated by semicolons, and RFC 9110 §5.3 does not apply.
            environ[variable] = headers[field] if field != "cookie" else "; ".join(headers.get_all(field))
    return environ


def _input(req: HttpRequest) -> tuple[BinaryIO, int]:
    """Return the body to read from, and its size."""
    if isinstance(req.sink, FileSink):
        file = req.sink.file
        return file.open(), file.size
    return io.BytesIO(req.body), len(req.body)


@lru_cache(maxsize=512)
def _variable(field: str) -> str:
    """Return the name of the variable for a field; "" for one that is not passed on."""
    return "" if "_" in field or field in _LEFT_OUT else f"HTTP_{field.upper().replace('-', '_')}"


def regular_file(wrapper: FileWrapper) -> tuple[int, int, int] | None:
    """Return a new descriptor, position and rest of a wrapped file, if its bytes are those of a regular file.

    Only plain binary files: a `gzip.GzipFile`, for one, has a descriptor too, of other bytes.
    """
    file = wrapper.filelike
    if type(file) is not io.BufferedReader or type(file.raw) is not io.FileIO:
        return None
    try:
        position = file.tell()
        descriptor = os.dup(file.fileno())
    except (OSError, ValueError):  # a pipe, or closed
        return None
    rest = os.fstat(descriptor).st_size - position
    if rest > 0:
        return descriptor, position, rest
    os.close(descriptor)
    return None


def _split_host(host: str, url_scheme: str) -> tuple[str, str]:
    """Return name and port for a server on a Unix socket, which has none of its own: as the client calls it."""
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdecimal():
        name, port = host, "443" if url_scheme == "https" else "80"
    return name or "localhost", port
