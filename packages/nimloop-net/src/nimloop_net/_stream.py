"""Pipes, terminals, a process's standard input and output as connections."""

from __future__ import annotations

import os
import socket
import stat
import sys
from typing import Final

from nimloop_core import Loop
from nimloop_core.abc import HasFileno
from nimloop_net import _state as st
from nimloop_net._connection import Connection, OnClose, OnData, OnDrain, OnEof

_QUOTA: Final = 1 << 20  # bytes per turn: a pipe holds 64 KiB


def open_stream(
    loop: Loop,
    reader: int | HasFileno | None = None,
    writer: int | HasFileno | None = None,
    *,
    on_data: OnData | None = None,
    on_close: OnClose | None = None,
    on_drain: OnDrain | None = None,
    on_eof: OnEof | None = None,
) -> Connection:
    """Return a connection that reads from one descriptor and writes to another, or does only one of the two.

    Descriptors given as numbers are taken over and closed with the connection; of file objects, such as the pipes of
    `subprocess.Popen`, duplicates are used: close yours, or the other side never sees the end. The same descriptor for
    both directions is a terminal or a socket. Everything else is as described at `Connection`; ``on_close`` tells of a
    reader that is gone with BrokenPipeError.

    Raises ValueError without any descriptor, and OSError for what cannot be waited for: PermissionError for a file,
    which can be read at once. The descriptors stay the caller's then.
    """
    if reader is None and writer is None:
        raise ValueError("a stream needs a descriptor, to read from or to write to")
    both = reader is not None and _number(reader) == (None if writer is None else _number(writer))
    given = {fd for fd in (reader, writer) if isinstance(fd, int)}
    read_fd = _owned(reader)
    write_fd = read_fd if both else _owned(writer)
    try:
        if both and stat.S_ISSOCK(os.fstat(read_fd).st_mode):
            sock = socket.socket(fileno=read_fd)
            sock.setblocking(False)
            connection = Connection(loop, sock)
        else:
            connection = _over_pipes(loop, read_fd, write_fd)
    except BaseException:
        for fd in {read_fd, write_fd} - given:
            if fd >= 0:
                os.close(fd)
        raise
    connection.on_data = on_data
    connection.on_close = on_close
    connection.on_drain = on_drain
    connection.on_eof = on_eof
    connection.start()
    return connection


def _over_pipes(loop: Loop, read_fd: int, write_fd: int) -> Connection:
    connection: Connection | None = None
    if sys.platform != "win32":
        from nimloop_net._pipes import PipeChannel

        channel = PipeChannel(loop, read_fd, write_fd)
        connection = channel.connection = Connection(loop, channel, watch=channel.register)
        connection._outbox.go_through(channel, _QUOTA)
        if read_fd < 0:
            connection._state = st.PEER_DONE
        elif write_fd < 0:
            connection._state = st.ENDED
    if connection is None:
        raise NotImplementedError("pipes cannot be waited for on Windows")
    return connection


def _number(file: int | HasFileno) -> int:
    return file if isinstance(file, int) else file.fileno()


def _owned(file: int | HasFileno | None) -> int:
    return -1 if file is None else file if isinstance(file, int) else os.dup(file.fileno())
