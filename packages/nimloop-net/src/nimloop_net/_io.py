"""Picks how to accept, receive and send: in C where that was built, unless ``NIMLOOP_EXTENSION=off`` forbids it.

The C knows descriptors only. So what is no bare socket, and may do something else in its methods, is always served by
the Python.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Final

from nimloop_net import _io_py
from nimloop_net._channel import Address, Channel

Accept = Callable[[socket.socket, int], tuple[Channel, Address | None] | None]
Receive = Callable[[Channel, int, memoryview], bytes | None]
Send = Callable[[Channel, int, bytes | memoryview], int]

_accept: Accept = _io_py.accept
_receive: Receive = _io_py.receive
_send: Send = _io_py.send
_accepted_kind: type = socket.socket
_compiled = False

if os.environ.get("NIMLOOP_EXTENSION") != "off":
    try:
        from nimloop_net import _accepted, _io_c
    except ImportError:
        pass  # not built
    else:
        _accept = _accepted.accept
        _receive = _io_c.receive
        _send = _io_c.send
        _accepted_kind = _accepted.AcceptedSocket
        _compiled = True

IMPLEMENTATION: Final = "C" if _compiled else "Python"
"""Which one it is."""


def acceptor(listener: socket.socket) -> Accept:
    """Return the function to accept with from this listening socket."""
    return _accept if type(listener) is socket.socket else _io_py.accept


def receiver(sock: Channel) -> Receive:
    """Return the function to receive from this channel with."""
    return _receive if _is_bare(sock) else _io_py.receive


def sender(sock: Channel) -> Send:
    """Return the function to send to this channel with."""
    return _send if _is_bare(sock) else _io_py.send


def _is_bare(sock: Channel) -> bool:
    kind = type(sock)
    return kind is _accepted_kind or kind is socket.socket


def socket_of(channel: Channel) -> socket.socket | None:
    """Return the socket that a channel is, to be the caller's; None when it is more than that."""
    if isinstance(channel, socket.socket):
        return channel
    return channel.release() if _compiled and isinstance(channel, _accepted.AcceptedSocket) else None
