"""The sinks that come with the server: a file, and nowhere. See `nimloop_http._incoming.BodySink`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, final

from nimloop_http._spool import SpoolWriter, new_body_file

if TYPE_CHECKING:
    from nimloop_http._incoming import RequestBody


@final
class Nowhere:
    """Throws a body away."""

    __slots__ = ()

    def begin(self, flow: RequestBody) -> None:
        """Nothing to prepare."""

    def write(self, data: bytes) -> None:
        """Nothing to do."""

    def end(self) -> None:
        """Nothing to do."""

    def abort(self, error: Exception) -> None:
        """Nothing to give up."""


@final
class FileSink:
    """Writes a body to a private temporary file."""

    __slots__ = ("_fd", "_flow", "_writer", "file")

    def __init__(self, directory: str | os.PathLike[str] | None) -> None:
        """Create the file. Raises OSError."""
        file, fd = new_body_file(directory)
        self.file: Final = file
        self._fd: Final = fd
        self._flow: RequestBody | None = None
        self._writer: SpoolWriter | None = None

    def begin(self, flow: RequestBody) -> None:
        """Have the file removed with the request."""
        self._flow = flow
        flow.at_end(self.file.remove)
        self._writer = SpoolWriter(flow.loop, flow.workers, self._fd, on_room=flow.resume, on_error=flow.fail)

    def write(self, data: bytes) -> None:
        """Hand a piece over to the thread; hold the client back when that is behind."""
        assert self._flow is not None
        assert self._writer is not None
        self.file.size += len(data)
        if not self._writer.write(data):
            self._flow.pause()

    def end(self) -> None:
        """Let the request wait until everything is written."""
        flow, self._flow = self._flow, None  # which leads back here: a cycle
        assert flow is not None
        assert self._writer is not None
        flow.pause()
        self._writer.finish(flow.resume)

    def abort(self, error: Exception) -> None:
        """Close and remove the file."""
        del error
        self._flow = None
        if self._writer is not None:
            self._writer.close()
        self.file.remove()
