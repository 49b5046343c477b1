"""What an upload holds: in memory while it is small, in one temporary file of the request's own when it is not.

The file has no name: `O_TMPFILE` where there is such a thing (open(2)), else it is unlinked as soon as it is made. So
nobody else can open it, and it is gone with its descriptor, even if the process is killed. All parts of a request
share it, one after the other, because a request may have many parts and a process has not that many descriptors.

A write to a disk may block, so it is done by a thread, one write of a spool at a time, while the loop collects the
next. Too much collected means that the disk is slower than the network: then `behind` says that nothing more should
be read for now.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import Final, final

from nimloop_core import Loop, NimloopError
from nimloop_http._workers import WorkerPool

_HIGH_BYTES: Final = 1 << 20  # collected, beyond which the sender has to wait
_WRITE_BYTES: Final = 1 << 18  # collected, from which on a thread is asked to write
_COPY_BYTES: Final = 1 << 20

# For all loops of the process: they share the disk too. Two, so that one slow disk does not stop what goes to another.
# Each spool has one write waiting at most, so the queue is no longer than there are connections.
_pool: Final = WorkerPool("files", threads=2, waiting=1 << 20)


def run_in_thread(job: Callable[[], object]) -> None:
    """Have something done that may block."""
    _pool.submit(job)


@final
class Spool:
    """Bytes that are appended first and read later. Used in the loop's thread only."""

    __slots__ = (
        "_busy",
        "_closed",
        "_collected",
        "_directory",
        "_file",
        "_memory",
        "_most",
        "error",
        "loop",
        "on_ready",
        "size",
    )

    def __init__(self, loop: Loop | None, memory: int | None, directory: str | None = None) -> None:
        """Keep up to `memory` bytes in memory, all of them for None; without a loop there is no file."""
        self.loop: Final = loop
        self._most: Final = memory if loop is not None else None
        self._directory: Final = directory
        self._memory = bytearray()
        self._file: io.FileIO | None = None
        self._collected = bytearray()  # for the file
        self._busy = False  # a thread is writing
        self._closed = False
        self.size = 0
        """Bytes appended so far."""
        self.error: OSError | None = None
        """What went wrong with the file; nothing more is written."""
        self.on_ready: Callable[[], object] | None = None
        """Called when there is room again after `behind`, and when everything is written after `flush`."""

    @property
    def in_memory(self) -> bool:
        """Whether there is no file."""
        return self._file is None

    @property
    def closed(self) -> bool:
        """Whether the content is gone."""
        return self._closed

    def append(self, data: bytes) -> None:
        """Add bytes. Raises OSError when there can be no file, or it could not be written."""
        if self.error is not None:
            raise self.error
        self.size += len(data)
        if self._file is None:
            if self._most is None or self.size <= self._most:
                self._memory += data
                return
            self._file = temporary_file(self._directory)
            self._collected = self._memory
            self._memory = bytearray()
        self._collected += data
        if not self._busy and len(self._collected) >= _WRITE_BYTES:
            self._write()

    @property
    def behind(self) -> bool:
        """Whether the disk is behind; `on_ready` follows."""
        return self._busy and len(self._collected) >= _HIGH_BYTES

    def flush(self) -> bool:
        """Have everything written; False when that is going on, and `on_ready` follows."""
        if self._collected and not self._busy and self.error is None:
            self._write()
        return not self._busy

    def read(self, offset: int, count: int) -> bytes:
        """Return up to so many bytes from an offset; everything has to be written. Raises ValueError once closed."""
        if self._closed:
            raise ValueError("the upload is gone: it lives as long as its request")
        if self._file is None:
            return bytes(self._memory[offset : offset + count])
        return read_at(self._file.fileno(), offset, count)

    def close(self) -> None:
        """Let go of everything, a write that is going on included. Harmless when repeated."""
        self._closed = True
        self.on_ready = None
        self._memory = self._collected = bytearray()
        if self._file is not None and not self._busy:
            self._file.close()

    def content(self, offset: int, count: int) -> bytes | io.FileIO:
        """Return a part for another thread, which has to close what it gets: the bytes, or a file to read them from."""
        if self._file is None:
            return self.read(offset, count)
        if self._closed:
            raise ValueError("the upload is gone: it lives as long as its request")
        return os.fdopen(os.dup(self._file.fileno()), "rb", buffering=0)

    def _write(self) -> None:
        assert self._file is not None
        data, self._collected = self._collected, bytearray()
        self._busy = True
        file, loop = self._file, self.loop
        assert loop is not None

        def write() -> None:
            error: OSError | None = None
            try:
                write_all(file.fileno(), data)
            except OSError as failure:
                error = failure
            try:
                loop.call_soon_threadsafe(lambda: self._written(error))
            except NimloopError:  # the loop has ended meanwhile, and with it the request
                file.close()

        run_in_thread(write)

    def _written(self, error: OSError | None) -> None:
        self._busy = False
        self.error = error
        if self._closed:
            assert self._file is not None
            self._file.close()
            return
        if self._collected and error is None:
            self._write()
        if self.on_ready is not None and not self.behind:
            self.on_ready()


def temporary_file(directory: str | None) -> io.FileIO:
    """Open a file without a name, for reading and writing, that only this user could open (0600)."""
    folder = directory or tempfile.gettempdir()
    nameless: int = getattr(os, "O_TMPFILE", 0)
    if nameless:
        try:
            return os.fdopen(os.open(folder, os.O_RDWR | os.O_CLOEXEC | nameless, 0o600), "r+b", buffering=0)
        except OSError:
            pass  # not every file system can (EOPNOTSUPP, EISDIR): what else is wrong will show at once
    # O_EXCL with a name that nobody can guess: a link put in its place would be an error.
    if sys.platform == "win32":
        return tempfile.TemporaryFile("r+b", buffering=0, dir=folder, prefix="nimloop-").file  # gone when closed
    descriptor, name = tempfile.mkstemp(prefix="nimloop-", dir=folder)
    os.unlink(name)
    return os.fdopen(descriptor, "r+b", buffering=0)


def write_all(descriptor: int, data: bytes | bytearray) -> None:
    """Write all of it, however many calls that takes (write(2) may do less than it was asked for)."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def read_at(descriptor: int, offset: int, count: int) -> bytes:
    """Read from a position, whatever the descriptor's own is."""
    if sys.platform != "win32":
        return os.pread(descriptor, count, offset)
    else:  # noqa: RET505 - for mypy, which skips the branch of another platform and not what follows one
        with _seek:
            os.lseek(descriptor, offset, os.SEEK_SET)
            return os.read(descriptor, count)


_seek: Final = threading.Lock()


@final
class SpoolReader(io.RawIOBase):
    """A part of a spool as a file of its own, with a position of its own."""

    def __init__(self, spool: Spool, start: int, count: int) -> None:
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
