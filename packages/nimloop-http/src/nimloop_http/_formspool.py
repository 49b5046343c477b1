"""What a form holds: in memory while it is small, in one temporary file of the request's own when it is not.

The file has no name: `O_TMPFILE` where there is such a thing (open(2)), else it is unlinked as soon as it is made. So
nobody else can open it, and it is gone with its descriptor, even if the process is killed. All parts of a form share
it, one after the other, because a form may have many parts and a process has not that many descriptors.
"""

from __future__ import annotations

import errno
import io
import os
import secrets
import sys
import tempfile
from collections.abc import Callable
from typing import Final, final

from nimloop_core import Loop
from nimloop_http._files import read_at, write_all
from nimloop_http._spool import SpoolWriter
from nimloop_http._workers import WorkerPool, call_soon

_WRITE_BYTES: Final = 1 << 16  # collected, from which on they are handed to a thread
_COPY_BYTES: Final = 1 << 20

# Saving goes on when the request is over, and perhaps its server: so these threads are nobody's but the process's.
_savers: Final = WorkerPool("nimloop-save", threads=2, waiting=1024)


@final
class FormSpool:
    """Bytes that are appended first and read later. Used in the loop's thread only."""

    __slots__ = (
        "_collected",
        "_directory",
        "_file",
        "_memory",
        "_most",
        "_writer",
        "closed",
        "loop",
        "make_writer",
        "size",
    )

    def __init__(self, memory: int | None, directory: str | None = None) -> None:
        """Keep up to `memory` bytes in memory, all of them for None."""
        self._most: Final = memory
        self._directory: Final = directory
        self._memory = bytearray()
        self._file: io.FileIO | None = None
        self._writer: SpoolWriter | None = None
        self._collected = bytearray()  # for the writer
        self.make_writer: Callable[[int], SpoolWriter] | None = None
        """Given a descriptor, makes what writes to it. Without one everything stays in memory."""
        self.loop: Loop | None = None
        self.closed: bool = False
        """Whether the content is gone."""
        self.size: int = 0
        """Bytes appended so far."""

    def append(self, data: bytes) -> bool:
        """Add bytes; False when the disk is behind. Raises OSError when there can be no file."""
        self.size += len(data)
        if self.closed:
            return True  # the answer was given before the form was complete, and nobody can read it any more
        if self._writer is None:
            if self._most is None or self.size <= self._most or self.make_writer is None:
                self._memory += data
                return True
            self._file = temporary_file(self._directory)
            self._writer = self.make_writer(os.dup(self._file.fileno()))
            self._collected, self._memory = self._memory, bytearray()
        self._collected += data
        return len(self._collected) < _WRITE_BYTES or self._hand_over(self._writer)

    def finish(self, on_done: Callable[[], object]) -> bool:
        """Everything was appended; False when it has to be written first, and `on_done` follows."""
        if self._writer is None:
            return True
        self._hand_over(self._writer)
        self._writer.finish(on_done)
        return False

    def read(self, offset: int, count: int) -> bytes:
        """Return up to so many bytes from an offset. Raises ValueError once closed."""
        if self.closed:
            raise ValueError("the form is gone: it lives as long as its request")
        if self._file is None:
            return bytes(self._memory[offset : offset + count])
        return read_at(self._file.fileno(), offset, count)

    def content(self, offset: int, count: int) -> bytes | io.FileIO:
        """Return a part for another thread, which has to close what it gets: the bytes, or a file to read them from."""
        if self._file is None or self.closed:
            return self.read(offset, count)
        return os.fdopen(os.dup(self._file.fileno()), "rb", buffering=0)

    def close(self) -> None:
        """Let go of everything; what is not yet written is not written. Harmless when repeated."""
        self.closed = True
        self._memory = self._collected = bytearray()
        self.make_writer = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._file is not None:
            self._file.close()

    def _hand_over(self, writer: SpoolWriter) -> bool:
        data, self._collected = self._collected, bytearray()
        return writer.write(bytes(data))


def save_in_thread(
    loop: Loop,
    content: bytes | io.FileIO,
    job: Callable[[], object],
    on_done: Callable[[OSError | None], object],
) -> None:
    """Have a thread do something with a content, which it closes, and the loop be told how it went."""

    def run() -> None:
        problem: OSError | None = None
        try:
            job()
        except OSError as error:
            problem = error
        call_soon(loop, lambda: on_done(problem))

    if not _savers.submit(run):
        _close(content)
        loop.call_soon(lambda: on_done(OSError(errno.EAGAIN, "too many files are being saved")))


def temporary_file(directory: str | None) -> io.FileIO:
    """Open a file without a name, for reading and writing, that only this user could open (0600)."""
    folder = directory or tempfile.gettempdir()
    # O_EXCL with a name that nobody can guess: a link put in its place would be an error.
    if sys.platform == "win32":
        name = os.path.join(folder, f"nimloop-{secrets.token_hex(16)}")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_BINARY | os.O_TEMPORARY  # removed when it is closed
        descriptor = os.open(name, flags, 0o600)
    else:
        descriptor = _nameless(folder)
        if descriptor < 0:
            descriptor, name = tempfile.mkstemp(prefix="nimloop-", dir=folder)
            os.unlink(name)
    return os.fdopen(descriptor, "r+b", buffering=0)


def _nameless(folder: str) -> int:
    """Return a descriptor of a file that never had a name; -1 where that is not possible."""
    flag: int = getattr(os, "O_TMPFILE", 0)
    if flag:
        try:
            return os.open(folder, os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | flag, 0o600)
        except OSError:
            pass  # not every file system can (EOPNOTSUPP, EISDIR): what else is wrong will show at once
    return -1


@final
class SpoolReader(io.RawIOBase):
    """A part of a spool as a file of its own, with a position of its own."""

    def __init__(self, spool: FormSpool, start: int, count: int) -> None:
        super().__init__()
        self._spool: Final = spool
        self._start: Final = start
        self._count: Final = count
        self._position = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Fill a buffer from the position on; 0 at the end."""
        most = max(0, min(len(buffer), self._count - self._position))
        data = self._spool.read(self._start + self._position, most)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Set the position."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._count}[whence]
        if base + offset < 0:
            raise ValueError(f"no position before the beginning: {base + offset}")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position


def copy_to(path: str, content: bytes | io.FileIO, start: int, count: int, mode: int) -> None:
    """Copy a part to a path: whole or not at all, in place of what was there. The content is closed in any case."""
    folder, name = os.path.split(path)
    try:
        descriptor, draft = tempfile.mkstemp(prefix=f".{name[:100]}.", dir=folder or ".")
    except BaseException:
        _close(content)
        raise
    try:
        try:
            _copy(descriptor, content, start, count)
            if sys.platform != "win32":
                os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)
            _close(content)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise


def _copy(descriptor: int, content: bytes | io.FileIO, start: int, count: int) -> None:
    if isinstance(content, bytes):
        write_all(descriptor, content)
        return
    at, end = start, start + count
    while at < end:
        data = read_at(content.fileno(), at, min(_COPY_BYTES, end - at))
        if not data:
            raise OSError(f"the temporary file has only {at - start} of {count} bytes")
        write_all(descriptor, data)
        at += len(data)


def _close(content: bytes | io.FileIO) -> None:
    if isinstance(content, io.FileIO):
        content.close()
