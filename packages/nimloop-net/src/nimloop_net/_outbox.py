"""What a connection still has to send: bytes and ranges of files, in order.

`Outbox.write_to` hands as much as possible to the kernel in as few system calls as possible: small pieces are joined,
larger ones gathered, file ranges go from the page cache without passing through Python.
"""

from __future__ import annotations

import socket
import sys
from typing import Final, cast, final

from nimloop_net import _io_py
from nimloop_net._channel import Channel
from nimloop_net._io import Send, sender
from nimloop_net._sendfile import FileRange

_JOIN_BYTES: Final = 65536  # up to here, joining pieces, however many, is cheaper than describing them to sendmsg
_GATHER: Final = 64  # pieces per sendmsg; Linux allows 1024 (IOV_MAX), beyond a few dozen nothing is gained
_QUOTA: Final = 2 << 20  # bytes per turn, so that a fast reader cannot keep the loop for itself
_CALL: Final = 1 << 20  # bytes per call, because the kernel goes on as long as the peer makes room

# Linux: a head and its file leave in full packets. Measured over loopback with files of 100 bytes to 100 KB: one packet
# less, and 15 to 23 % less CPU. TCP_CORK would take two more calls to do the same, and for bytes alone there is nothing
# to hold together: they leave in one call anyway.
_MSG_MORE: Final[int] = getattr(socket, "MSG_MORE", 0)


Item = bytes | memoryview | FileRange


@final
class Outbox:
    """A queue of unsent bytes and file ranges. `size` counts both, `files` only the ranges.

    The first item has a place of its own, because it is nearly always the only one. The others stand in a list, those
    at its front that are gone left out: a deque would cost most of what an idle connection takes, and, compiled, a call
    of a method for every answer.
    """

    __slots__ = ("_first", "_gone", "_later", "_quota", "_send", "_use_sendfile", "files", "size")

    def __init__(self, send: Send = _io_py.send) -> None:
        """Make an empty one; `send` hands a single piece to the kernel."""
        self._send = send
        self._first: Item | None = None
        self._later: list[Item] | None = None  # there is one left at least
        self._gone = 0  # of those
        self.size = 0
        self.files = 0
        self._quota = _QUOTA
        self._use_sendfile = True

    @property
    def memory(self) -> int:
        """Unsent bytes that are held in memory."""
        return self.size - self.files

    def add(self, data: bytes) -> int:
        """Queue bytes that nobody will change; return the new size."""
        if self._first is None:
            self._first = data
        else:
            self._append(data)
        self.size = size = self.size + len(data)
        return size

    def add_file(self, item: FileRange) -> int:
        """Queue a range of a file and take the file over; return the new size."""
        item.use_sendfile = item.use_sendfile and self._use_sendfile
        if self._first is None:
            self._first = item
        else:
            self._append(item)
        self.files += item.count
        self.size += item.count
        return self.size

    def _append(self, item: Item) -> None:
        if self._later is None:
            self._later = [item]
        else:
            self._later.append(item)

    def _pop(self) -> None:
        """Forget the first item. The list is moved up when half of it is gone: constant work for each."""
        later = self._later
        if later is None:
            self._first = None
            return
        gone = self._gone
        self._first = later[gone]
        later[gone] = b""
        gone += 1
        if gone == len(later):
            self._later = None
            gone = 0
        elif gone * 2 >= len(later):
            del later[:gone]
            gone = 0
        self._gone = gone

    def write_to(self, sock: Channel, fd: int = -1) -> bool:
        """Send until empty, until the kernel is full or the quota of a turn is used up.

        Returns True when the kernel was not full, so that no event will announce room for the rest.
        """
        stop = self.size - self._quota
        try:
            while True:
                first = self._first
                if first is None:
                    return True
                if isinstance(first, FileRange):
                    sent = first.send_some(sock)
                    self.files -= sent
                    self.size -= sent
                    if first.count == 0:
                        self._pop()
                        first.close()
                elif self._later is not None and (self.files or self.size > _JOIN_BYTES):
                    self._drop(self._send_several(sock))
                else:
                    size = self.size
                    data = first if self._later is None else self._join()
                    sent = self._send(sock, fd, data if size <= _CALL else memoryview(data)[:_CALL])
                    if sent == size:  # nearly always
                        self._forget_all()
                        return True
                    if sent < 0:
                        return False
                    self._drop(sent)
                if self.size <= stop:
                    return True
        except BlockingIOError:
            return False

    def go_through(self, sock: Channel, quota: int) -> None:
        """Send to a channel that is no bare socket: files are read for it, `quota` bytes are enough for a turn."""
        self._send = sender(sock)
        self._use_sendfile = False
        self._quota = quota

    def take(self) -> bytes:
        """Give out everything that is queued, of which nothing is a file, and keep nothing."""
        data = self._join()
        self.clear()
        return data

    def clear(self) -> None:
        """Give everything up and close the files."""
        items = self._items()
        self._forget_all()
        self.files = 0
        for item in items:
            if isinstance(item, FileRange):
                item.close()

    def _forget_all(self) -> None:
        self._first = self._later = None
        self._gone = 0
        self.size = 0

    def _join(self) -> bytes:
        """Return everything, of which nothing is a file."""
        return b"".join(cast("list[bytes]", self._items()))

    def _items(self) -> list[Item]:
        if self._first is None:
            return []
        if self._later is None:
            return [self._first]
        return [self._first, *(self._later[self._gone :] if self._gone else self._later)]

    def _send_several(self, sock: Channel) -> int:
        pieces: list[bytes | memoryview] = []
        total = 0
        more = 0
        item, later = self._first, self._later
        assert item is not None
        assert later is not None
        following = self._gone
        while True:
            if isinstance(item, FileRange):
                more = _MSG_MORE
                break
            if len(pieces) >= _GATHER and total + len(item) > _JOIN_BYTES:
                break
            if total + len(item) >= _CALL:
                pieces.append(memoryview(item)[: _CALL - total])
                total = _CALL
                break
            pieces.append(item)
            total += len(item)
            if following == len(later):
                break
            item = later[following]
            following += 1
        if sys.platform != "win32" and total > _JOIN_BYTES:
            return sock.sendmsg(pieces, (), more)
        return sock.send(b"".join(pieces), more)

    def _drop(self, sent: int) -> None:
        """Forget `sent` bytes from the front."""
        self.size -= sent
        while sent:
            first = self._first
            assert isinstance(first, (bytes, memoryview))
            length = len(first)
            if sent < length:
                self._first = memoryview(first)[sent:]
                return
            sent -= length
            self._pop()
