"""Sockets brought into a state."""

from __future__ import annotations

import socket
import struct


def fill(end: socket.socket) -> None:
    """Send until the buffers are full."""
    try:
        while end.send(bytes(65_536)):
            pass
    except BlockingIOError:
        pass


def drain(end: socket.socket) -> None:
    """Receive all there is."""
    try:
        while end.recv(65_536):
            pass
    except BlockingIOError:
        pass


def reset(end: socket.socket) -> None:
    """Close with a RST instead of a FIN: socket(7), ``SO_LINGER``."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()
