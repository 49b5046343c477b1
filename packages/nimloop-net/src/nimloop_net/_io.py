"""Picks how to receive and send: in C where that was built, unless ``NIMLOOP_EXTENSION=off`` forbids it.

The C knows descriptors only. So what is no bare socket, and may do something else in its methods, is always served by
the Python.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Final

from nimloop_net import _io_py
from nimloop_net._channel import Channel

Receive = Callable[[Channel, int, memoryview], bytes | None]
Send = Callable[[Channel, int, bytes | memoryview], int]

_receive: Receive = _io_py.receive
_send: Send = _io_py.send
_compiled = False

if os.environ.get("NIMLOOP_EXTENSION") != "off":
    try:
        from nimloop_net import _io_c
    except ImportError:
        pass  # not built
    else:
        _receive = _io_c.receive
        _send = _io_c.send
        _compiled = True

IMPLEMENTATION: Final = "C" if _compiled else "Python"
"""Which one it is."""


def receiver(sock: Channel) -> Receive:
    """Return the function to receive from this channel with."""
    return _receive if type(sock) is socket.socket else _io_py.receive


def sender(sock: Channel) -> Send:
    """Return the function to send to this channel with."""
    return _send if type(sock) is socket.socket else _io_py.send
