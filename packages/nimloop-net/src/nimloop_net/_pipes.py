"""Two descriptors, or one, that look like a socket to the connection above.

What is different from a socket: each direction may have a descriptor of its own, so ending ours means closing that
one; there is no reset; a terminal hands out a line per read, however many there are, so a short read proves nothing,
and its events are taken as levels; and whether reading blocks belongs to what the descriptor stands for and is shared
with other processes (fcntl(2): O_NONBLOCK is a flag of the open file description), so it is put back as it was.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from typing import Final, final

from nimloop_core import READ, WRITE, Loop, Watcher
from nimloop_core.abc import EventCallback
from nimloop_net._connection import Connection

assert sys.platform != "win32"


@final
class PipeChannel:
    """A descriptor to read from and one to write to, perhaps the same; -1 stands for a direction that is not there."""

    __slots__ = ("_blocking", "_loop", "_read_fd", "_reading", "_write_fd", "_writing", "connection", "edge")

    def __init__(self, loop: Loop, read_fd: int, write_fd: int) -> None:
        self.connection: Connection | None = None
        self._loop: Final = loop
        self._read_fd: Final = read_fd
        self._write_fd = write_fd
        self._blocking: Final = [fd for fd in {read_fd, write_fd} if fd >= 0 and os.get_blocking(fd)]
        self._reading: Watcher | None = None
        self._writing: Watcher | None = None
        self.edge = True

    # What a watcher can do ------------------------------------------------------------------------------------

    def register(self, callback: EventCallback) -> PipeChannel:
        """Watch what is there, interested in nothing for now."""
        fds = {self._read_fd, self._write_fd} - {-1}
        edge = all(stat.S_ISFIFO(os.fstat(fd).st_mode) for fd in fds)
        try:
            for fd in fds:
                os.set_blocking(fd, False)
                watcher = self._loop.register(fd, READ, callback, edge=edge)  # which tells whether that is possible
                watcher.modify(0)
                self.edge = watcher.edge
                if fd == self._read_fd:
                    self._reading = watcher
                else:
                    self._writing = watcher
        except BaseException:
            self.unregister()
            self._restore(fds)
            raise
        return self

    def modify(self, events: int) -> None:
        """Ask each descriptor for its part of the events."""
        if self._reading is not None:
            self._reading.modify(events if self._write_fd == self._read_fd else events & READ)
        if self._writing is not None:
            self._writing.modify(events & WRITE)

    def unregister(self) -> None:
        """Hear of no more events."""
        for watcher in (self._reading, self._writing):
            if watcher is not None:
                watcher.unregister()
        self._reading = self._writing = None

    # What a socket can do -------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """Return the descriptor to read from, or the only one there is."""
        return self._read_fd if self._read_fd >= 0 else self._write_fd

    def recv_into(self, buffer: memoryview, /) -> int:
        """Read what is there."""
        try:
            return os.readv(self._read_fd, [buffer])
        except OSError as error:
            if error.errno == errno.EIO:  # the other side of a terminal is closed (read(2), pty(7))
                return 0
            raise

    def send(self, data: bytes | memoryview, _flags: int = 0, /) -> int:
        """Write as much as there is room for."""
        return os.write(self._write_fd, data)

    def sendmsg(self, pieces: list[bytes | memoryview], _ancillary: tuple[()] = (), _flags: int = 0, /) -> int:
        """Write the pieces, as much as there is room for."""
        return os.writev(self._write_fd, pieces)

    def shutdown(self, how: int, /) -> None:
        """Close the descriptor for writing; with one for both directions, everything, because half is not possible."""
        if self._write_fd == self._read_fd:
            assert self.connection is not None
            self._loop.call_soon(self.connection.close)
            return
        if self._writing is not None:
            self._writing.unregister()
            self._writing = None
        fd, self._write_fd = self._write_fd, -1
        if fd >= 0:
            if stat.S_ISFIFO(os.fstat(fd).st_mode):  # with a terminal, what is read from would begin to block
                self._restore({fd})
            os.close(fd)

    def close(self) -> None:
        """Close what is open."""
        self.connection = None
        fds = {self._read_fd, self._write_fd} - {-1}
        self._restore(fds)
        for fd in fds:
            os.close(fd)

    def _restore(self, fds: set[int]) -> None:
        for fd in fds.intersection(self._blocking):
            os.set_blocking(fd, True)

    def getsockopt(self, level: int, option: int, /) -> int:
        """Tell the only error that a pipe can have pending: nobody reads any more."""
        return errno.EPIPE

    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None:
        """Do nothing: there is no reset."""

    def getpeername(self) -> object:
        """Return no address."""
        return ""

    def getsockname(self) -> object:
        """Return no address."""
        return ""
