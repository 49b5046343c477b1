"""Accept from, receive from and send to a non-blocking socket: the readable form of `_io_c`, and its twin."""

from __future__ import annotations

import socket

from nimloop_net._channel import Address, Channel, address_of


def accept(listener: socket.socket, _fd: int, /) -> tuple[Channel, Address | None] | None:
    """Return the next connection, which does not block, and its peer where that is known by now; None for nobody."""
    try:
        sock, peer = listener.accept()
    except BlockingIOError:
        return None
    sock.setblocking(False)
    return sock, address_of(peer)


def receive(sock: Channel, _fd: int, buffer: memoryview, /) -> bytes | None:
    """Return what has arrived, as much as the buffer holds; ``b""`` at the end of the stream, None for nothing yet."""
    try:
        count = sock.recv_into(buffer)
    except BlockingIOError:
        return None
    return buffer[:count].tobytes()


def send(sock: Channel, _fd: int, data: bytes | memoryview, /) -> int:
    """Return how many bytes the kernel has taken, -1 when it has no room."""
    try:
        return sock.send(data)
    except BlockingIOError:
        return -1
