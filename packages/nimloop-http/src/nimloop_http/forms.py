"""Forms: fields and files, from multipart/form-data (RFC 7578) or from application/x-www-form-urlencoded.

A part with a filename is a file, any other one is a field. Fields are held in memory, and their limits are small.
Files together share one temporary file without a name once they do not fit into memory; it lives as long as the
request, and no longer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, final
from urllib.parse import unquote_to_bytes

from nimloop_core import Loop
from nimloop_http._form import Form, Part
from nimloop_http._formspool import FormSpool
from nimloop_http._multipart import MultipartReader, PartHead, boundary_of
from nimloop_http._spool import SpoolWriter
from nimloop_http._workers import WorkerPool
from nimloop_http.errors import (
    FieldsTooLargeError,
    FieldTooLargeError,
    FileTooLargeError,
    NotAFormError,
    TooManyFilesError,
    TooManyPartsError,
)
from nimloop_http.limits import check_sizes

__all__ = ["DEFAULT_FORM_LIMITS", "Flow", "FormLimits", "FormReader", "parse_form"]

URLENCODED: Final = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True, kw_only=True)
class FormLimits:
    """How large a form may be; sizes are bytes. The body as a whole has its limit in ``Limits.body``."""

    parts: int = 1000
    """Fields and files together. `TooManyPartsError`."""
    files: int = 100
    """Files. `TooManyFilesError`."""
    field: int = 1 << 20
    """One field. `FieldTooLargeError`."""
    fields: int = 4 << 20
    """All fields together, which are held in memory. `FieldsTooLargeError`."""
    file: int = 1 << 30
    """One file. `FileTooLargeError`."""
    headers: int = 16
    """Header fields of one part; RFC 7578 knows three. `TooManyPartHeadersError`."""
    header_bytes: int = 4096
    """One header field of a part. `PartHeaderTooLongError`."""
    memory: int = 1 << 20
    """What all files together may take in memory; beyond that they go to a temporary file."""

    def __post_init__(self) -> None:
        check_sizes(self, may_be_zero={"files", "memory"})


DEFAULT_FORM_LIMITS: Final = FormLimits()


class Flow(Protocol):
    """What a `FormReader` needs of the body that flows into it: see `nimloop_http.RequestBody`."""

    @property
    def loop(self) -> Loop:
        """The loop that everything runs in."""

    @property
    def workers(self) -> WorkerPool:
        """Threads for what would block the loop."""

    def pause(self) -> None:
        """Deliver nothing until `resume`."""

    def resume(self) -> None:
        """Go on."""

    def fail(self, error: Exception) -> None:
        """End the request as if the sink had raised."""

    def at_end(self, callback: Callable[[], object]) -> None:
        """Call back when the request is over."""


@final
class FormReader:
    """Takes multipart/form-data piece by piece: a `BodySink`. The form is the same however it is cut.

    Made by `HttpRequest.receive_form`. Files beyond ``limits.memory`` go to a temporary file in `directory`, which is
    written by a thread and gone when the request is over. ``on_part(part)`` is called when a part begins, and may
    refuse it by raising a `ProtocolError`; ``on_progress(reader)`` after each piece.
    """

    __slots__ = (
        "_fields",
        "_files",
        "_flow",
        "_limits",
        "_part",
        "_reader",
        "_spool",
        "form",
        "on_part",
        "on_progress",
        "received",
    )

    def __init__(
        self,
        content_type: str,
        *,
        limits: FormLimits = DEFAULT_FORM_LIMITS,
        in_memory: bool = False,
        directory: str | os.PathLike[str] | None = None,
        on_part: Callable[[Part], object] | None = None,
        on_progress: Callable[[FormReader], object] | None = None,
    ) -> None:
        """Begin. Raises `NotAFormError` (415) or `FormError` (400) for a Content-Type that cannot be."""
        boundary = boundary_of(content_type)
        self._reader: Final = MultipartReader(boundary, headers=limits.headers, header_bytes=limits.header_bytes)
        folder = None if directory is None else os.fspath(directory)
        self._spool: Final = FormSpool(None if in_memory else limits.memory, folder)
        self._limits: Final = limits
        self._flow: Flow | None = None
        self._part: Part | None = None
        self._files = 0
        self._fields = 0
        self.form: Final[Form] = Form(self._spool)
        """What has arrived so far."""
        self.received: int = 0
        """Bytes of the body so far."""
        self.on_part: Callable[[Part], object] | None = on_part
        self.on_progress: Callable[[FormReader], object] | None = on_progress

    def begin(self, flow: Flow) -> None:
        """Write to a file when the time comes, and let go of it with the request."""
        self._flow = flow
        flow.at_end(self.close)
        self._spool.loop = flow.loop
        self._spool.make_writer = lambda fd: SpoolWriter(
            flow.loop, flow.workers, fd, on_room=flow.resume, on_error=flow.fail
        )

    def write(self, data: bytes) -> None:
        """Take a piece of the body.

        Raises `FormError`, a `LimitError`, what `on_part` raises, or OSError when there can be no temporary file; the
        form is of no use then.
        """
        self.received += len(data)
        room = True
        for event in self._reader.feed(data):
            if event is None:
                self._part = None
            elif isinstance(event, PartHead):
                self._begin(event)
            else:
                room = self._go_on(event) and room
        if self.on_progress is not None:
            self.on_progress(self)
        if not room and self._flow is not None:
            self._flow.pause()

    def end(self) -> None:
        """The body is complete. Raises `FormError` when the last boundary has not come."""
        self._reader.end()
        if self._flow is not None and not self._spool.finish(self._flow.resume):
            self._flow.pause()

    def abort(self, error: Exception) -> None:
        """The rest will never come: let go of everything."""
        del error
        self.close()

    def close(self) -> None:
        """Let go of everything that has arrived. Harmless when repeated."""
        flow, self._flow = self._flow, None  # which leads back here: a cycle
        self._spool.close()
        loop = self._spool.loop
        if flow is not None and loop is not None and not loop.closed:
            loop.call_soon(flow.resume)  # nobody waits for the disk any more

    def _begin(self, head: PartHead) -> None:
        limits = self._limits
        if len(self.form.parts) >= limits.parts:
            raise TooManyPartsError(f"the form has more than {limits.parts} parts")
        if head.filename is None:
            part = Part(head.name, b"", head)
        else:
            self._files += 1
            if self._files > limits.files:
                raise TooManyFilesError(f"the form has more than {limits.files} files")
            part = Part(head.name, b"", head, self._spool)
        self._part = part
        announced = head.headers.get("content-length")
        if announced is not None:  # the package sees to it that it is a number, and true
            self._check(part, int(announced))
        if self.on_part is not None:
            self.on_part(part)
        self.form.add(part)

    def _go_on(self, data: bytes) -> bool:
        part = self._part
        assert part is not None
        self._check(part, len(data))
        if not part.is_file:
            self._fields += len(data)
        return part.add(data)

    def _check(self, part: Part, count: int) -> None:
        """Raise a `LimitError` when there is no room for so many more bytes."""
        limits = self._limits
        if part.is_file:
            if part.size + count > limits.file:
                raise FileTooLargeError(f"the file {part.name!r} is larger than {limits.file} bytes")
        else:
            room, room_of_all = limits.field - part.size, limits.fields - self._fields
            if count > room and room <= room_of_all:  # the limit that comes first, however the bytes were cut
                raise FieldTooLargeError(f"the field {part.name!r} is longer than {limits.field} bytes")
            if count > room_of_all:
                raise FieldsTooLargeError(f"the fields of the form are longer than {limits.fields} bytes")


def parse_form(
    content_type: str, body: bytes, *, limits: FormLimits = DEFAULT_FORM_LIMITS, loop: Loop | None = None
) -> Form:
    """Read a form that is there as a whole, of either kind.

    Raises `NotAFormError` (415) for any other Content-Type, `FormError` (400) for a malformed one, and a `LimitError`.
    """
    if content_type.partition(";")[0].strip(" \t").lower() == URLENCODED:
        return _parse_urlencoded(body, limits)
    if not content_type.lower().lstrip(" \t").startswith("multipart/form-data"):
        raise NotAFormError(f"neither multipart/form-data nor {URLENCODED}: {content_type[:100]!r}")
    reader = FormReader(content_type, limits=limits, in_memory=True)
    reader.form.spool.loop = loop
    reader.write(body)
    reader.end()
    return reader.form


def _parse_urlencoded(body: bytes, limits: FormLimits) -> Form:
    """Read application/x-www-form-urlencoded (URL Standard, "urlencoded parsing")."""
    form = Form(FormSpool(None))
    if body.count(b"&") >= limits.parts:
        raise TooManyPartsError(f"the form has more than {limits.parts} parts")
    if len(body) > limits.fields:
        raise FieldsTooLargeError(f"the fields of the form are longer than {limits.fields} bytes")
    for pair in body.split(b"&"):
        if pair:
            name, _, value = pair.partition(b"=")
            data = unquote_to_bytes(value.replace(b"+", b" "))
            if len(data) > limits.field:
                raise FieldTooLargeError(f"a field is longer than {limits.field} bytes")
            form.add(Part(unquote_to_bytes(name.replace(b"+", b" ")).decode("utf-8", "replace"), data))
    return form
