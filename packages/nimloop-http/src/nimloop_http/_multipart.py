"""From the bytes of multipart/form-data (RFC 7578) to parts, however the bytes are cut.

The parsing is done by the `multipart` package. What it decides depends in three places on how much it has seen: where
the first boundary is looked for, what a lone LF in a header is, and when a header that does not end is too long. Here
the first boundary is waited for, and each part's header is looked at once more when it is complete. Its limits are a
little above ours, which are then the ones that count.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from typing import Final, Protocol, final
from urllib.parse import unquote

from nimloop_http._disposition import UNFIT
from nimloop_http._headers import Headers
from nimloop_http.errors import FormError, NotAFormError, PartHeaderTooLongError, ProtocolError, TooManyPartHeadersError

# RFC 2045 §5.1: parameter := attribute "=" value, value := token / quoted-string.
_PARAMETER: Final = re.compile(r';[ \t]*([^\s()<>@,;:\\"/\[\]?=]+)=("(?:[^"\\]|\\.)*"|[^\s()<>@,;:\\"/\[\]?=]+)[ \t]*')
# RFC 2046 §5.1.1: boundary := 0*69<bchars> bcharsnospace
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]", re.ASCII)
# RFC 8187 §3.2. RFC 7578 §4.2 forbids it in forms, and some clients have sent nothing else for a name beyond ASCII.
_EXTENDED_NAME: Final = re.compile(r";[ \t]*filename\*=(utf-8|iso-8859-1)'[^']*'([^;\s]*)", re.IGNORECASE | re.ASCII)
_PREAMBLE_BYTES: Final = 4096  # RFC 2046 §5.1.1 lets a text for people stand before the first boundary


class _Segment(Protocol):
    """What the package tells of a part."""

    headerlist: list[tuple[str, str]]
    name: str | None
    filename: str | None
    content_type: str | None
    charset: str | None


class _Parser(Protocol):
    """What is used of the package's parser."""

    def parse(self, chunk: bytes) -> Iterable[_Segment | bytes | None]:
        """Take a chunk and give what it holds; None ends a part."""

    def close(self, check_complete: bool = True) -> None:  # noqa: FBT001, FBT002 - as it is there
        """Complain if anything is missing."""


@final
class PartHead:
    """What a part says of itself."""

    __slots__ = ("charset", "content_type", "filename", "headers", "name")

    def __init__(self, segment: _Segment) -> None:
        self.headers: Final = Headers(segment.headerlist)
        self.name: Final = segment.name or ""
        filename = segment.filename
        if filename is None:
            extended = _EXTENDED_NAME.search(self.headers.get("content-disposition", ""))
            if extended is not None:
                filename = unquote(extended[2], extended[1], "replace")
        self.filename: Final = None if filename is None else base_name(filename)
        self.content_type: Final = segment.content_type or ""
        self.charset: Final = segment.charset or "utf-8"


def base_name(filename: str) -> str:
    """Return a name without directories and without characters that no name should have; ``""`` if nothing is left."""
    name = UNFIT.sub("", filename.replace("\\", "/").rpartition("/")[2]).strip(" ")
    return "" if name in {".", ".."} else name


def boundary_of(content_type: str) -> str:
    """Return the boundary that a Content-Type names. Raises `NotAFormError` or `FormError`."""
    kind, _, _ = content_type.partition(";")
    if kind.strip(" \t").lower() != "multipart/form-data":
        raise NotAFormError(f"the body is {kind.strip() or 'of no type'}, not multipart/form-data")
    found = [value for name, value in _PARAMETER.findall(content_type) if name.lower() == "boundary"]
    if len(found) != 1:
        raise FormError("multipart/form-data needs a boundary" if not found else "there is more than one boundary")
    boundary: str = found[0]
    if boundary[0] == '"':
        boundary = re.sub(r"\\(.)", r"\1", boundary[1:-1])
    if not _BOUNDARY.fullmatch(boundary):
        raise FormError(f"not a boundary of up to 70 characters: {boundary[:100]!r}")
    return boundary


@final
class MultipartReader:
    """Gives the heads of parts, pieces of their bodies, and None at the end of each."""

    __slots__ = ("_delimiter", "_header_bytes", "_headers", "_library", "_parser", "_preamble")

    def __init__(self, boundary: str, *, headers: int, header_bytes: int) -> None:
        """Begin. Raises ImportError when the `multipart` package is not installed."""
        self._library: Final = importlib.import_module("multipart")
        make = getattr(self._library, "PushMultipartParser", None)
        if make is None:
            raise ImportError(
                "the module `multipart` is not that of the package multipart; python-multipart's, perhaps"
            )
        self._headers: Final = headers
        self._header_bytes: Final = header_bytes
        parser: _Parser = make(boundary, max_header_size=header_bytes + 2, max_header_count=headers + 1)
        self._parser: Final = parser
        self._delimiter: Final = b"--" + boundary.encode("ascii")
        self._preamble: bytearray | None = bytearray()

    def feed(self, data: bytes) -> Iterable[PartHead | bytes | None]:
        """Give what the bytes hold. Raises `FormError` or a `LimitError`; nothing can follow then."""
        if self._preamble is not None:
            data = self._skip_preamble(data)
        if not data:
            return
        try:
            for event in self._parser.parse(data):
                if event is None or isinstance(event, (bytes, bytearray)):
                    yield event
                else:
                    yield self._checked(event)
        except self._library.MultipartError as error:
            raise self._translated(error) from None

    def end(self) -> None:
        """Raises `FormError` when the last boundary has not come."""
        try:
            if self._preamble is not None:
                raise FormError("the body has no boundary")
            self._parser.close()
        except self._library.MultipartError:
            raise FormError("the form ends before its last boundary") from None

    def _skip_preamble(self, data: bytes) -> bytes:
        """Return what begins with the first boundary, nothing while that is not complete."""
        assert self._preamble is not None
        self._preamble += data
        delimiter = self._delimiter
        most = _PREAMBLE_BYTES + len(delimiter)
        at = 0 if self._preamble.startswith(delimiter) else self._preamble.find(b"\r\n" + delimiter, 0, most + 2) + 2
        if at == 1:  # not found
            if len(self._preamble) >= most + 2:
                raise FormError(f"no boundary in the first {_PREAMBLE_BYTES} bytes")
            return b""
        rest = bytes(self._preamble[at:])
        self._preamble = None
        return rest

    def _checked(self, segment: _Segment) -> PartHead:
        if len(segment.headerlist) > self._headers:
            raise TooManyPartHeadersError(f"a part of the form has more than {self._headers} header fields")
        for name, value in segment.headerlist:
            if len(name) + len(value) > self._header_bytes:
                raise PartHeaderTooLongError(f"a header field of a part is longer than {self._header_bytes} bytes")
            if "\n" in value or "\r" in value or "\0" in value:
                raise FormError("a header field of a part has control characters")
        return PartHead(segment)

    def _translated(self, error: Exception) -> ProtocolError:
        if not isinstance(error, self._library.ParserLimitReached):
            return FormError(f"the form is malformed: {error.args[0]}")
        if "count" in str(error):
            return TooManyPartHeadersError(f"a part of the form has more than {self._headers} header fields")
        return PartHeaderTooLongError(f"a header field of a part is longer than {self._header_bytes} bytes")
