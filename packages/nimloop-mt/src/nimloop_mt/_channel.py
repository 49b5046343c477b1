"""Lines of JSON between the supervisor and a worker, with descriptors beside them where there are any to hand over.

One message of each kind at most is under way, but for connections that are handed over: what does not fit into the
socket's buffer is refused rather than queued, so nothing here can grow.
"""

from __future__ import annotations

import json
import socket
import sys
from collections import deque
from collections.abc import Callable
from typing import Final, cast, final

from nimloop_core import READ, Loop

Message = dict[str, object]

_MOST: Final = 1 << 16  # bytes per read; more than a worker has to say at a time
_MOST_FDS: Final = 64  # unix(7): the kernel passes up to 253 at a time


@final
class Channel:
    """One end of a socket pair on a loop. ``on_end()`` is called once, when the other end is gone."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        on_message: Callable[[Message], object],
        on_end: Callable[[], object],
    ) -> None:
        sock.setblocking(False)
        self._sock: Final = sock
        self._on_message: Final = on_message
        self._on_end: Final = on_end
        self._data = b""
        self._fds: Final[deque[int]] = deque()
        self._watcher: Final = loop.register(sock, READ, self._on_readable)
        self.closed = False

    def fileno(self) -> int:
        """Return the descriptor, -1 when it is closed."""
        return self._sock.fileno()

    def send(self, message: Message, *fds: int) -> bool:
        """Send a message; False when the other end is gone, or does not read."""
        if self.closed:
            return False
        line = json.dumps(message).encode() + b"\n"
        try:
            # A message is far smaller than the buffer, and a stream socket of Unix takes it whole or not at all.
            if sys.platform != "win32" and fds:
                sent = socket.send_fds(self._sock, [line], fds)
            else:
                sent = self._sock.send(line)
        except OSError:
            return False
        return sent == len(line)

    def take_socket(self) -> socket.socket | None:
        """Return the next socket that was handed over; None when it was lost, for want of a descriptor (unix(7))."""
        return socket.socket(fileno=self._fds.popleft()) if self._fds else None

    def read_rest(self) -> None:
        """Deliver what was sent before the other end went."""
        while not self.closed and self._read():
            pass

    def close(self) -> None:
        """Close this end, and every descriptor that nobody took. Harmless when repeated."""
        if not self.closed:
            self.closed = True
            self._watcher.unregister()
            self._sock.close()
            while (sock := self.take_socket()) is not None:
                sock.close()

    def _on_readable(self, _events: int) -> None:
        self._read()

    def _read(self) -> bool:
        """Read and deliver; False when there is nothing more for now."""
        fds: list[int] = []
        try:
            if sys.platform == "win32":
                data = self._sock.recv(_MOST)
            else:
                data, fds, _, _ = socket.recv_fds(self._sock, _MOST, _MOST_FDS)
        except BlockingIOError:
            return False
        except OSError:
            data, fds = b"", []
        self._fds.extend(fds)
        if not data:
            self.close()
            self._on_end()
            return False
        *lines, self._data = (self._data + data).split(b"\n")
        for line in lines:
            if self.closed:
                break
            self._on_message(cast("Message", json.loads(line)))
        return True
