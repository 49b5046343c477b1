"""A body in a temporary file: written by threads, so that a slow disk slows its own request down and nobody else's.

The loop hands pieces over and never waits for the file. What is handed over and not yet written is bounded: beyond
`_HIGH_BYTES` the flow is paused until half of it is in the file.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from typing import BinaryIO, Final, final

from nimloop_core import Loop
from nimloop_http._files import write_all
from nimloop_http._workers import WorkerPool, call_soon

_HIGH_BYTES: Final = 1 << 20
_RETRY: Final = 0.05  # seconds until a pool that was full is asked again


@final
class BodyFile:
    """A body in a private temporary file (mode 0600), which is removed with its request unless it was saved.

    Made by `HttpRequest.stream_to_file`.
    """

    __slots__ = ("_there", "path", "size")

    def __init__(self, path: str) -> None:
        self.path: Final[str] = path
        """Where it is."""
        self.size: int = 0
        """Bytes of the body that have come so far."""
        self._there = True

    def open(self) -> BinaryIO:
        """Open it for reading; it can be read to the end even if it is removed meanwhile. Raises OSError."""
        return open(self.path, "rb")

    def read(self) -> bytes:
        """Return all of it. Raises OSError, for instance when the request is over and the file is gone."""
        with self.open() as file:
            return file.read()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Move it to `path`, which is replaced; call it once the body is complete. Raises OSError.

        On the same file system that is one rename. To another one the file is copied here and now.
        """
        shutil.move(self.path, path)
        self._there = False

    def remove(self) -> None:
        """Remove it, if it was not saved. Harmless when repeated; the server does it at the end of the request."""
        if self._there:
            self._there = False
            try:
                os.unlink(self.path)
            except FileNotFoundError:
                pass


def new_body_file(directory: str | os.PathLike[str] | None) -> tuple[BodyFile, int]:
    """Create an empty private file in `directory`, by default the system's for temporary files; and its descriptor."""
    fd, path = tempfile.mkstemp(prefix="nimloop-", dir=directory)
    return BodyFile(path), fd


@final
class SpoolWriter:
    """Writes to one descriptor in the threads of a pool, in order; closes it at the end.

    `write`, `finish` and `close` belong to the loop's thread, and so do the callbacks: ``on_room()`` after a `write`
    that returned False, ``on_error(error)`` once, after which nothing is written any more.
    """

    __slots__ = (
        "_closing",
        "_fd",
        "_full",
        "_lock",
        "_loop",
        "_on_done",
        "_on_error",
        "_on_room",
        "_pieces",
        "_pool",
        "_waiting",
        "_working",
    )

    def __init__(
        self,
        loop: Loop,
        pool: WorkerPool,
        fd: int,
        *,
        on_room: Callable[[], object],
        on_error: Callable[[Exception], object],
    ) -> None:
        """Take the descriptor over."""
        self._loop: Final = loop
        self._pool: Final = pool
        self._fd = fd
        self._on_room: Callable[[], object] | None = on_room
        self._on_error: Callable[[Exception], object] | None = on_error
        self._on_done: Callable[[], object] | None = None
        # Guards what follows, between the loop and the one thread that has the job.
        self._lock: Final = threading.Lock()
        self._pieces: Final[deque[bytes]] = deque()
        self._waiting = 0  # bytes in _pieces, and in the hands of the thread
        self._working = False  # a job is queued, or runs
        self._closing = False  # the descriptor is closed after what is queued
        self._full = False  # on_room is owed

    def write(self, data: bytes) -> bool:
        """Queue a piece; False when too much is waiting: `on_room` follows."""
        with self._lock:
            self._pieces.append(data)
            self._waiting += len(data)
            self._full = self._full or self._waiting > _HIGH_BYTES
            room = not self._full
        self._work_on()
        return room

    def finish(self, on_done: Callable[[], object]) -> None:
        """Call back when everything is written and the descriptor is closed."""
        self._on_done = on_done
        self._on_room = None
        self._close()

    def close(self) -> None:
        """Give up what was not yet written, and close the descriptor. Harmless when repeated."""
        self._on_done = self._on_room = self._on_error = None
        with self._lock:
            self._pieces.clear()
        self._close()

    def _close(self) -> None:
        with self._lock:
            self._closing = True
        self._work_on()

    def _work_on(self) -> None:
        with self._lock:
            if self._working or (not self._pieces and not (self._closing and self._fd >= 0)):
                return
            self._working = True
        if self._pool.submit(self._job):
            return
        if self._pool.closed or self._loop.closed:
            self._job()  # the server is gone, and this is the last of it
            return
        self._working = False
        self._loop.call_later(_RETRY, self._work_on)

    def _job(self) -> None:
        """Write what there is. In a thread of the pool."""
        error: Exception | None = None
        while True:
            with self._lock:
                data = b"".join(self._pieces)
                self._pieces.clear()
                if not data:
                    self._working = False
                    if self._closing:
                        self._shut()
                    break
            try:
                write_all(self._fd, data)
            except OSError as failure:
                error = failure
            with self._lock:
                self._waiting -= len(data)
                if error is not None:
                    self._pieces.clear()
                    self._closing = True
                if self._full and self._waiting <= _HIGH_BYTES // 2:
                    self._full = False
                    call_soon(self._loop, self._on_written)
        call_soon(self._loop, self._on_written if error is None else lambda: self._failed(error))

    def _shut(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _on_written(self) -> None:
        if self._on_room is not None and not self._full:
            self._on_room()
        if self._fd < 0 and self._on_done is not None:
            on_done, self._on_done = self._on_done, None
            self._on_room = self._on_error = None
            on_done()

    def _failed(self, error: Exception) -> None:
        on_error = self._on_error
        self._on_done = self._on_room = self._on_error = None
        if on_error is not None:
            on_error(error)
