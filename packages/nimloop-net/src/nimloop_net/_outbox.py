"""What a connection still has to send: bytes and ranges of files, in order.

`Outbox.write_to` hands as much as possible to the kernel in as few system calls as possible: small pieces are joined,
larger ones gathered, file ranges go from the page cache without passing through Python.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from typing import Final, final

from nimloop_net import _io_py
from nimloop_net._io import Send
from nimloop_net.errors import FileTruncatedError

_JOIN_BYTES: Final = 65536  # up to here, joining pieces, however many, is cheaper than describing them to sendmsg
_GATHER: Final = 64  # pieces per sendmsg; Linux allows 1024 (IOV_MAX), beyond a few dozen nothing is gained
_QUOTA: Final = 4 << 20  # bytes per turn, so that a fast reader cannot keep the loop for itself
_CHUNK: Final = 1 << 20  # bytes per sendfile call
_COPY: Final = 65536  # bytes per read where sendfile does not work

_MSG_MORE: Final[int] = getattr(socket, "MSG_MORE", 0)  # Linux: a head and its file leave in full packets
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

    def send_some(self, sock: socket.socket) -> int:
        """Hand the next piece to the kernel; raises BlockingIOError, or FileTruncatedError at an early end."""
        if self.use_sendfile:
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
            data = os.pread(self.fd, min(self.count, _COPY), self.offset)
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


@final
class Outbox:
    """A queue of unsent bytes and file ranges. `size` counts both, `files` only the ranges."""

    __slots__ = ("_items", "_send", "files", "size")

    def __init__(self, send: Send = _io_py.send) -> None:
        """Make an empty one; `send` hands a single piece to the kernel."""
        self._send: Final = send
        self._items: deque[bytes | memoryview | FileRange] = deque()
        self.size = 0
        self.files = 0

    @property
    def memory(self) -> int:
        """Unsent bytes that are held in memory."""
        return self.size - self.files

    def add(self, data: bytes) -> int:
        """Queue bytes that nobody will change; return the new size."""
        self._items.append(data)
        self.size = size = self.size + len(data)
        return size

    def add_file(self, item: FileRange) -> int:
        """Queue a range of a file and take the file over; return the new size."""
        self._items.append(item)
        self.files += item.count
        self.size += item.count
        return self.size

    def write_to(self, sock: socket.socket, fd: int = -1) -> bool:
        """Send until empty, until the kernel is full or the quota of a turn is used up.

        Returns True when the kernel was not full, so that no event will announce room for the rest.
        """
        items = self._items
        stop = self.size - _QUOTA
        try:
            while items:
                first = items[0]
                if isinstance(first, FileRange):
                    sent = first.send_some(sock)
                    self.files -= sent
                    self.size -= sent
                    if first.count == 0:
                        items.popleft()
                        first.close()
                elif len(items) == 1:
                    sent = self._send(sock, fd, first)
                    if sent == self.size:  # nearly always
                        items.clear()
                        self.size = 0
                        return True
                    if sent < 0:
                        return False
                    self._drop(sent)
                else:
                    self._drop(self._send_several(sock))
                if self.size <= stop:
                    return True
        except BlockingIOError:
            return False
        return True

    def clear(self) -> None:
        """Give everything up and close the files."""
        for item in self._items:
            if isinstance(item, FileRange):
                item.close()
        self._items.clear()
        self.size = self.files = 0

    def _send_several(self, sock: socket.socket) -> int:
        pieces: list[bytes | memoryview] = []
        total = 0
        more = 0
        for item in self._items:
            if isinstance(item, FileRange):
                more = _MSG_MORE
                break
            if len(pieces) >= _GATHER and total + len(item) > _JOIN_BYTES:
                break
            pieces.append(item)
            total += len(item)
        if total <= _JOIN_BYTES:
            return sock.send(b"".join(pieces), more)
        return sock.sendmsg(pieces, (), more)

    def _drop(self, sent: int) -> None:
        """Forget `sent` bytes from the front."""
        self.size -= sent
        items = self._items
        while sent:
            first = items[0]
            assert not isinstance(first, FileRange)
            length = len(first)
            if sent < length:
                items[0] = memoryview(first)[sent:]
                return
            sent -= length
            items.popleft()
