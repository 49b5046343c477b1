"""Receive from and send to a non-blocking socket: the readable form of `_io_c`, and its twin."""

from __future__ import annotations

from nimloop_net._channel import Channel


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
