"""Picks how to receive and send datagrams: in C where that was built, unless ``NIMLOOP_EXTENSION=off`` forbids it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Final

from nimloop_net import _datagram_py
from nimloop_net._datagram_py import Data, Received
from nimloop_net._literals import SockAddress

BATCH: Final = _datagram_py.BATCH

receive: Callable[[socket.socket, int, bytearray], Received] = _datagram_py.receive
send: Callable[[socket.socket, int, Data], bool] = _datagram_py.send
send_to: Callable[[socket.socket, int, Data, SockAddress], bool] = _datagram_py.send_to
_buffer_bytes = _datagram_py.BUFFER_BYTES
_compiled = False

if os.environ.get("NIMLOOP_EXTENSION") != "off":
    try:
        from nimloop_net import _datagram_c
    except ImportError:
        pass  # not built
    else:
        receive = _datagram_c.receive
        send = _datagram_c.send
        send_to = _datagram_c.send_to
        _buffer_bytes = _datagram_c.BUFFER_BYTES
        _compiled = True

BUFFER_BYTES: Final = _buffer_bytes
"""What `receive` wants for its buffer."""

IMPLEMENTATION: Final = "C" if _compiled else "Python"
"""Which one it is."""
