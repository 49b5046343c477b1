"""What a connection needs of whatever carries its bytes: a socket, TLS over a socket, a pair of pipes.

`socket.socket` is a channel as it is, so a plain connection talks to the kernel without anything in between. The others
do as a non-blocking socket does: BlockingIOError when there is nothing to read or no room, 0 from `recv_into` at the
end, and, as epoll(7) has it for streams, a read that fills less than the buffer has emptied the source.
"""

from __future__ import annotations

import os
import sys
from typing import Protocol

Address = tuple[str, int] | str
"""``(host, port)``, or the path of a Unix socket: abstract names begin with a NUL, unnamed ends are empty."""


class Channel(Protocol):
    """The part of `socket.socket` that a connection uses."""

    def fileno(self) -> int: ...
    def recv_into(self, buffer: memoryview, /) -> int: ...
    def send(self, data: bytes | memoryview, flags: int = 0, /) -> int: ...
    def shutdown(self, how: int, /) -> None: ...
    def close(self) -> None: ...
    def getsockopt(self, level: int, option: int, /) -> int: ...
    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None: ...
    def getpeername(self) -> object: ...
    def getsockname(self) -> object: ...

    if sys.platform != "win32":  # which has no such call

        def sendmsg(self, pieces: list[bytes | memoryview], ancillary: tuple[()] = (), flags: int = 0, /) -> int: ...


class Watch(Protocol):
    """The part of `nimloop_core.Watcher` that a connection uses."""

    @property
    def edge(self) -> bool: ...
    def modify(self, events: int) -> None: ...
    def unregister(self) -> None: ...


def address_of(raw: object) -> Address:
    """Turn what the socket module calls an address into ours: flow and scope of IPv6 left out, names as text."""
    if isinstance(raw, tuple):
        host, port = raw[0], raw[1]
        return str(host), int(port)
    return os.fsdecode(raw) if isinstance(raw, bytes) else str(raw)


def format_address(address: Address) -> str:
    """Return an address as one reads it: ``127.0.0.1:80``, ``[::1]:80`` (RFC 3986 §3.2.2); a path in quotes."""
    if isinstance(address, str):
        return repr(address)
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
