"""Accepting in the supervisor, which hands each connection to the next worker in turn (SCM_RIGHTS, unix(7)).

All of them, where the kernel does not spread connections over sockets that share a port; else those of a place whose
worker is dead or hangs. While no worker answers, connections wait in the queue.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, final

from nimloop_core import READ, Loop, Watcher
from nimloop_mt._member import Member
from nimloop_net import LONGEST_BACKLOG

_QUOTA: Final = 64  # per event
_BACK_OFF: Final = 0.1  # seconds without accepting after an error


@final
class Handover:
    """Accepts on `sockets`, which stay somebody else's."""

    def __init__(self, loop: Loop, sockets: Sequence[socket.socket], members: Callable[[], Sequence[Member]]) -> None:
        self._loop: Final = loop
        self._members: Final = members
        self._sockets: Final = list(sockets)
        self._turn = 0
        self._watchers: Final[list[Watcher]] = []
        for sock in sockets:
            self._watchers.append(loop.register(sock, 0, partial(self._on_readable, sock)))

    def resume(self) -> None:
        """Accept: somebody may be ready."""
        for watcher in self._watchers:
            watcher.modify(READ)

    def finish(self) -> None:
        """Hand over what waits, and accept no more. Harmless when repeated."""
        for sock in self._sockets:
            self._accept(sock, LONGEST_BACKLOG)
        self.close()

    def close(self) -> None:
        """Accept no more. Harmless when repeated."""
        for watcher in self._watchers:
            watcher.unregister()
        self._watchers.clear()
        self._sockets.clear()

    def _pause(self) -> None:
        for watcher in self._watchers:
            watcher.modify(0)

    def _on_readable(self, listening: socket.socket, _events: int) -> None:
        self._accept(listening, _QUOTA)

    def _accept(self, listening: socket.socket, quota: int) -> None:
        for _ in range(quota):
            ready = [member for member in self._members() if member.serves]
            if not ready:
                self._pause()
                return
            try:
                sock, _peer = listening.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError:
                self._pause()
                self._loop.call_later(_BACK_OFF, self.resume)
                return
            with sock:
                self._hand_over(sock, ready)

    def _hand_over(self, sock: socket.socket, ready: Sequence[Member]) -> None:
        for _ in ready:  # one whose channel is full hangs: the next one, then
            self._turn += 1
            if ready[self._turn % len(ready)].channel.send({"do": "serve"}, sock.fileno()):
                return
