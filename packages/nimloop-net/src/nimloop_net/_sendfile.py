"""A range of a file on its way to a channel: from the page cache where the system can do that, else through memory."""

from __future__ import annotations

import errno
import os
import sys
from typing import Final, final

from nimloop_core.abc import HasFileno
from nimloop_net._channel import Channel
from nimloop_net.errors import FileTruncatedError

_CHUNK: Final = 1 << 20  # bytes per sendfile call
_COPY: Final = 65536  # bytes per read where sendfile does not work

# Files that sendfile refuses, such as those of /proc, and systems without it.
_NO_SENDFILE: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


@final
class FileRange:
    """A part of an open file; the descriptor is closed when the range is sent or given up."""

    __slots__ = ("count", "fd", "offset", "use_sendfile")

    def __init__(self, fd: int, offset: int, count: int) -> None:
        self.fd = fd
        self.offset = offset
        self.count = count
        self.use_sendfile = hasattr(os, "sendfile")

    def send_some(self, sock: Channel) -> int:
        """Hand the next piece to the kernel; raises BlockingIOError, or FileTruncatedError at an early end."""
        if sys.platform != "win32" and self.use_sendfile:
            try:
                sent = os.sendfile(sock.fileno(), self.fd, self.offset, min(self.count, _CHUNK))
            except OSError as error:
                if error.errno not in _NO_SENDFILE:
                    raise
                self.use_sendfile = False
                return self.send_some(sock)
            if sent == 0:
                raise self._truncated()
        else:
            data = _read_at(self.fd, min(self.count, _COPY), self.offset)
            if not data:
                raise self._truncated()
            sent = sock.send(data)
        self.offset += sent
        self.count -= sent
        return sent

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)

    def _truncated(self) -> FileTruncatedError:
        return FileTruncatedError(
            f"the file ended at byte {self.offset}, {self.count} bytes before the end of the range"
        )


def _read_at(fd: int, count: int, offset: int) -> bytes:
    if sys.platform == "win32":
        os.lseek(fd, offset, os.SEEK_SET)
        data = os.read(fd, count)
    else:
        data = os.pread(fd, count, offset)
    return data


def open_range(file: int | HasFileno, offset: int, count: int | None) -> FileRange:
    """Make a range that owns its descriptor: the number that was given, or a duplicate of a file object's.

    Raises ValueError for what cannot be a range; a descriptor that was given is closed then, too.
    """
    fd = file if isinstance(file, int) else os.dup(file.fileno())
    if count is None:
        count = max(0, os.fstat(fd).st_size - offset)
    if offset < 0 or count < 0:
        os.close(fd)
        raise ValueError(f"offset and count must not be negative: {offset}, {count}")
    return FileRange(fd, offset, count)
