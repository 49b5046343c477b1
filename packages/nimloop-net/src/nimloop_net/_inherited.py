"""Sockets that systemd has opened for us: the protocol of sd_listen_fds(3)."""

from __future__ import annotations

import os
import socket
from typing import Final

from nimloop_net.errors import AddressError

_FIRST: Final = 3  # SD_LISTEN_FDS_START
_UNNAMED: Final = "unknown"  # sd_listen_fds(3), for a descriptor without FileDescriptorName=
_VARIABLES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


def inherited_sockets() -> list[tuple[str, socket.socket]]:
    """Return the sockets that systemd has passed to this process, each with its name; none when it has passed none.

    They are for `TcpServer.adopt`, those of other kinds for whoever knows them. ``LISTEN_PID`` tells whether they are
    meant for this process. The variables are removed from the environment, so that a second call finds nothing, and the
    sockets are not passed on to child processes. Raises `AddressError` for variables that make no sense and for
    descriptors that are no sockets (a FIFO, say), and leaves all as it was.
    """
    pid, count, names = (os.environ.get(each) for each in _VARIABLES[:3])
    if pid is None or count is None or _number("LISTEN_PID", pid) != os.getpid():
        return []
    total = _number("LISTEN_FDS", count)
    labels = [_UNNAMED] * total if names is None else names.split(":") if names else []
    if len(labels) != total:
        raise AddressError(f"LISTEN_FDNAMES has {len(labels)} names for {total} descriptors: {names!r}")
    sockets: list[tuple[str, socket.socket]] = []
    for fd, name in enumerate(labels, _FIRST):
        try:
            # Family, type and protocol are asked of the kernel (socket(7): SO_DOMAIN and its like).
            sock = socket.socket(fileno=fd)
        except OSError as error:
            for _, other in sockets:
                other.detach()
            raise AddressError(f"descriptor {fd} ({name}) is no socket: {error.strerror}") from None
        sockets.append((name, sock))
    for _, sock in sockets:
        sock.set_inheritable(False)
    for variable in _VARIABLES:
        os.environ.pop(variable, None)
    return sockets


def _number(variable: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise AddressError(f"{variable} is no number: {text!r}")
    return int(text)
