"""inotify(7) through the C library: one queue, and the records that come out of it."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Final, NamedTuple, final

# <sys/inotify.h>
IN_MODIFY: Final = 0x0000_0002
IN_ATTRIB: Final = 0x0000_0004
IN_MOVED_FROM: Final = 0x0000_0040
IN_MOVED_TO: Final = 0x0000_0080
IN_CREATE: Final = 0x0000_0100
IN_DELETE: Final = 0x0000_0200
IN_DELETE_SELF: Final = 0x0000_0400
IN_MOVE_SELF: Final = 0x0000_0800
IN_UNMOUNT: Final = 0x0000_2000
IN_Q_OVERFLOW: Final = 0x0000_4000
IN_IGNORED: Final = 0x0000_8000
IN_ONLYDIR: Final = 0x0100_0000
IN_EXCL_UNLINK: Final = 0x0400_0000
IN_MASK_ADD: Final = 0x2000_0000
IN_ISDIR: Final = 0x4000_0000

# struct inotify_event: int wd; uint32_t mask, cookie, len; then len bytes of name, padded with NUL.
_HEADER: Final = struct.Struct("=iIII")

MAX_RECORD_BYTES: Final = _HEADER.size + 255 + 1
"""The longest record: NAME_MAX and its NUL. A read with less room left has not seen the end of the queue."""


class Record(NamedTuple):
    """One ``struct inotify_event``; `name` is empty when the record is about the watched object itself."""

    wd: int
    mask: int
    cookie: int
    name: str


OVERFLOW_RECORD: Final = Record(-1, IN_Q_OVERFLOW, 0, "")


def parse(data: bytes | memoryview) -> list[Record]:
    """Split what one read returned into records.

    The kernel never cuts a record. Should one claim more than there is, nothing behind its beginning can be trusted,
    and an overflow takes its place.
    """
    records: list[Record] = []
    end = len(data)
    at = 0
    while at < end:
        name_at = at + _HEADER.size
        if name_at > end:
            records.append(OVERFLOW_RECORD)
            break
        wd, mask, cookie, length = _HEADER.unpack_from(data, at)
        at = name_at + length
        if at > end:
            records.append(OVERFLOW_RECORD)
            break
        name = bytes(data[name_at:at]).partition(b"\0")[0]
        records.append(Record(wd, mask, cookie, os.fsdecode(name)))
    return records


def available() -> bool:
    """Whether the C library of this process has inotify."""
    if os.name != "posix":
        return False
    return hasattr(ctypes.CDLL(None), "inotify_init1")


# <sys/inotify.h>: IN_NONBLOCK and IN_CLOEXEC are O_NONBLOCK and O_CLOEXEC, which differ between processors, and which
# systems without inotify may lack.
_FLAGS: Final[int] = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


@final
class Inotify:
    """One inotify descriptor. Raises OSError as the kernel does, and says which limit was reached."""

    def __init__(self) -> None:
        # The library that is loaded already: asking for one by name would get the wrong one beside musl.
        libc = ctypes.CDLL(None, use_errno=True)
        self._add_watch = libc.inotify_add_watch
        self._add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
        self._rm_watch = libc.inotify_rm_watch
        self._rm_watch.argtypes = (ctypes.c_int, ctypes.c_int)
        fd = int(libc.inotify_init1(_FLAGS))
        if fd < 0:
            raise _error("no more inotify instances: see fs.inotify.max_user_instances and ulimit -n", errno.EMFILE)
        # A file object warns when it is forgotten open.
        self._file = os.fdopen(fd, "rb", buffering=0)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._file.fileno()

    def add(self, path: str, mask: int) -> int:
        """Watch what is at `path` and return its watch descriptor: the one it has, where it is watched already."""
        wd = int(self._add_watch(self.fileno(), os.fsencode(path), mask))
        if wd < 0:
            raise _error("no more inotify watches: see fs.inotify.max_user_watches", errno.ENOSPC, path)
        return wd

    def remove(self, wd: int) -> None:
        """End a watch. Harmless when the kernel has ended it before."""
        self._rm_watch(self.fileno(), wd)

    def read(self, buffer: memoryview) -> int:
        """Move records into `buffer` and return how many bytes they have: 0 when there are none."""
        return self._file.readinto(buffer) or 0

    def close(self) -> None:
        """Close the descriptor, which ends all watches. Harmless when repeated."""
        self._file.close()


def _error(hint: str, hinted: int, path: str | None = None) -> OSError:
    number = ctypes.get_errno()
    message = os.strerror(number)
    return OSError(number, f"{message} ({hint})" if number == hinted else message, path)
