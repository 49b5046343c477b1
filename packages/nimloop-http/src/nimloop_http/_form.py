"""What a form consists of: fields and files by name."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, Final, cast, final

from nimloop_http._charset import decode
from nimloop_http._formspool import FormSpool, SpoolReader, copy_to, save_in_thread
from nimloop_http._headers import Headers
from nimloop_http._multipart import PartHead


@final
class Part:
    """A field or a file of a form."""

    __slots__ = ("_data", "_head", "_spool", "_start", "content_type", "filename", "name", "size")

    def __init__(self, name: str, data: bytes, head: PartHead | None = None, spool: FormSpool | None = None) -> None:
        """Made by a form: a field with its `data`, or a file in a `spool`."""
        self.name: Final[str] = name
        """The field's name in the form."""
        self.filename: Final[str | None] = None if head is None else head.filename
        """The name of a file as the client calls it, without directories, perhaps ``""``; None for a field."""
        self.content_type: Final[str] = "" if head is None else head.content_type
        """The media type that the client claims, in lower case and without parameters; perhaps ``""``."""
        self.size: int = len(data)
        """In bytes."""
        self._head: Final = head
        self._data: Final = bytearray(data)
        self._spool: Final = spool
        self._start: Final = 0 if spool is None else spool.size

    @property
    def is_file(self) -> bool:
        """Whether it came with a filename."""
        return self.filename is not None

    @property
    def headers(self) -> Headers:
        """The header fields of the part."""
        return Headers() if self._head is None else self._head.headers

    @property
    def data(self) -> bytes:
        """The content. Of a large file, rather use `open` or `save`. Raises ValueError when the request is over."""
        return bytes(self._data) if self._spool is None else self._spool.read(self._start, self.size)

    @property
    def text(self) -> str:
        """The content as text, in the character set that the part names, else UTF-8; U+FFFD for what does not fit."""
        return decode(self.data, "utf-8" if self._head is None else self._head.charset)

    def open(self) -> BinaryIO:
        """Return the content as a file to read from, with a position of its own; it ends with the request."""
        if self._spool is None:
            return io.BytesIO(self._data)
        return cast("BinaryIO", io.BufferedReader(SpoolReader(self._spool, self._start, self.size)))

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        mode: int = 0o600,
        on_done: Callable[[OSError | None], object] | None = None,
    ) -> None:
        """Copy the content to a path, whole or not at all; what was there is replaced.

        This may block. With `on_done` it is done by a thread, also beyond the end of the request, and
        ``on_done(error)`` is called by the loop; `error` is None when all went well. Never build the path from
        `filename` alone: it is the client's choice. `mode` are the permissions. Raises OSError.
        """
        spool = self._spool
        loop = None if spool is None else spool.loop
        if on_done is not None and loop is None:
            raise ValueError("on_done needs a loop: this form was read without one")
        content = bytes(self._data) if spool is None else spool.content(self._start, self.size)
        name, start, size = os.fspath(path), self._start, self.size
        if on_done is None or loop is None:
            copy_to(name, content, start, size, mode)
        else:
            save_in_thread(loop, content, lambda: copy_to(name, content, start, size, mode), on_done)

    def add(self, data: bytes) -> bool:
        """Called while the form arrives; False when the disk is behind."""
        self.size += len(data)
        if self._spool is not None:
            return self._spool.append(data)
        self._data.extend(data)
        return True

    def __repr__(self) -> str:
        kind = "field" if self.filename is None else f"file {self.filename!r}"
        return f"<Part {self.name!r}: {kind}, {self.size} bytes>"


@final
class Form(Mapping[str, Part]):
    """Fields and files by name: ``form["title"].text``, ``form["photo"].save(path)``. Several may have one name."""

    __slots__ = ("_index", "parts", "spool")

    def __init__(self, spool: FormSpool) -> None:
        self.parts: Final[list[Part]] = []
        """All of them, in order."""
        self._index: Final[dict[str, list[Part]]] = {}
        self.spool: Final = spool

    def __getitem__(self, name: str) -> Part:
        """Return the first part of a name."""
        return self._index[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)

    def get_all(self, name: str) -> list[Part]:
        """Return all parts of a name, in order; empty when there is none."""
        return list(self._index.get(name, ()))

    def get_text(self, name: str, default: str = "") -> str:
        """Return the text of the first field of a name; the default when there is none, or it is a file."""
        part = self.get(name)
        return default if part is None or part.is_file else part.text

    def add(self, part: Part) -> None:
        """Called while the form arrives."""
        self.parts.append(part)
        self._index.setdefault(part.name, []).append(part)

    def close(self) -> None:
        """Let go of the files. Done for you at the end of the request; harmless when repeated."""
        self.spool.close()

    def __repr__(self) -> str:
        return f"Form({self.parts!r})"
