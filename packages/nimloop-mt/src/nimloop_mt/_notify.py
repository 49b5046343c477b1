"""What is said to whoever has started the program, if it has asked to be told (sd_notify(3))."""

from __future__ import annotations

import logging
import os
import socket
import sys
from typing import Final

_log: Final = logging.getLogger("nimloop.mt")

_PATIENCE: Final = 1.0  # seconds for room in the queue of a socket that is read by the first of all processes


def notify(state: str) -> None:
    """Send a state such as ``READY=1`` to the socket that ``NOTIFY_SOCKET`` names; nothing without one."""
    name = os.environ.get("NOTIFY_SOCKET")
    if sys.platform != "win32" and name:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(_PATIENCE)
            try:
                sock.connect("\0" + name[1:] if name.startswith("@") else name)  # unix(7): the abstract namespace
                sock.send(state.encode())
            except OSError as error:
                _log.warning("cannot say %s to %s: %s", state, name, error)
