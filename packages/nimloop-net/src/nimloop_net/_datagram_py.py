"""Receive from and send to a non-blocking datagram socket: the readable form of `_datagram_c`, and its twin."""

from __future__ import annotations

import socket
from typing import Final

from nimloop_net._literals import SockAddress

BATCH: Final = 16  # datagrams per event; the socket stays readable, and the others have their turn meanwhile
BUFFER_BYTES: Final = 0
"""What `receive` wants for its buffer."""

_LARGEST: Final = 65536  # bytes; a length of 16 bits counts the header, too (RFC 768)

Data = bytes | bytearray | memoryview
Received = list[tuple[bytes, SockAddress] | OSError]


def receive(sock: socket.socket, _fd: int, _buffer: bytearray, /) -> Received:
    """Return what has arrived, at most `BATCH` datagrams with their senders; an error comes last, in its turn."""
    received: Received = []
    try:
        while len(received) < BATCH:
            received.append(sock.recvfrom(_LARGEST))
    except BlockingIOError:
        pass
    except OSError as error:
        received.append(error)
    return received


def send(sock: socket.socket, _fd: int, data: Data, /) -> bool:
    """Hand a datagram for the connected peer to the kernel; tell whether it had room."""
    try:
        sock.send(data)
    except BlockingIOError:
        return False
    return True


def send_to(sock: socket.socket, _fd: int, data: Data, address: SockAddress, /) -> bool:
    """Hand a datagram for a literal address to the kernel; tell whether it had room."""
    try:
        sock.sendto(data, address)
    except BlockingIOError:
        return False
    return True
