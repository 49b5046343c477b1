"""``--reload``: serve in a child process, and start another one when the source has changed.

The listening sockets belong to the parent and are inherited by each child, so no client is refused meanwhile: it waits.
A child that cannot start, because of a syntax error say, has told why on standard error; the next change brings the
next attempt.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Final, final

from nimloop_core import Loop
from nimloop_http._sources import SourceWatcher

_BACKLOG: Final = 2048  # as the server itself has it
PARENT_PIPE: Final = "NIMLOOP_PARENT_PIPE"
"""The variable that tells a child the descriptor whose end means that its parent is gone."""


@final
class Reloader:
    """Keeps one child running, and replaces it when something has changed."""

    __slots__ = ("_child", "_command", "_fds", "_loop", "_pending", "_pipe", "_say", "_stopping")

    def __init__(
        self, loop: Loop, command: Sequence[str], sockets: Sequence[socket.socket], say: Callable[[str], object]
    ) -> None:
        self._loop: Final = loop
        self._command: Final = list(command)
        self._fds: Final = [sock.fileno() for sock in sockets]
        self._pipe: Final = os.pipe()  # its writing end is ours alone, so it ends with us, however that happens
        self._say: Final = say
        self._child: subprocess.Popen[bytes] | None = None
        self._pending = False  # a change that the child there is does not know of
        self._stopping = 0

    def start(self) -> None:
        """Start a child."""
        self._pending = False
        arguments = [argument for fd in self._fds for argument in ("--fd", str(fd))]
        self._child = subprocess.Popen(  # noqa: S603 - the arguments are those of our own command line
            [*self._command, *arguments],
            pass_fds=[*self._fds, self._pipe[0]],
            env=os.environ | {PARENT_PIPE: str(self._pipe[0])},
            process_group=0,  # Ctrl+C is for the parent, which passes it on once
        )

    def on_change(self) -> None:
        """The source has changed: have it read."""
        if self._stopping:
            return
        self._pending = True
        if self._child is None:
            self.start()
        else:
            self._child.send_signal(signal.SIGTERM)  # then `on_child` starts the next one

    def on_child(self) -> None:
        """A child has ended, or something else has happened to one."""
        if self._child is None or self._child.poll() is None:
            return
        status = self._child.returncode
        self._child = None
        if self._stopping:
            self._loop.stop()
        elif self._pending:
            self.start()
        else:
            self._say(f"ended with status {status}; waiting for a change")

    def stop(self) -> None:
        """End the child, then the loop; the second time, without patience."""
        self._stopping += 1
        if self._child is None:
            self._loop.stop()
        else:
            self._child.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """Leave nothing behind."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        for fd in self._pipe:
            os.close(fd)


def run_reloading(
    arguments: Sequence[str], sockets: Sequence[socket.socket], say: Callable[[str], object], folder: str = "."
) -> int:
    """Serve with `arguments` in a child process until SIGINT or SIGTERM; return 0."""
    command = [sys.executable, "-m", "nimloop_http", *arguments, "--no-announce"]
    with Loop() as loop:
        reloader = Reloader(loop, command, sockets, say)
        try:
            if sys.platform != "win32":
                loop.add_signal_handler(signal.SIGCHLD, reloader.on_child)
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, reloader.stop)
            watcher = SourceWatcher(loop, reloader.on_change, folder)
            reloader.start()
            loop.run()
            watcher.close()
        finally:
            reloader.close()
    return 0


def open_sockets(host: str, port: int) -> list[socket.socket]:
    """Listen on every address of `host`; port 0 takes a free one, the same for all. Raises OSError."""
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            sock = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
            sockets.append(sock)
            port = sock.getsockname()[1]
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets
