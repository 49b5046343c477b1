"""A worker: one loop, one server, and the channel on which the supervisor speaks to it.

The same code in a thread and in a process. When the supervisor is gone, however that happened, the channel ends, and
the worker finishes what is under way and ends as well.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final, final

from nimloop_core import Loop, Timer
from nimloop_http import HttpServer
from nimloop_http.command import ApplicationError
from nimloop_mt._channel import Channel, Message
from nimloop_mt._guard import Guard
from nimloop_mt._settings import Settings

_LINGER: Final = 1.0  # seconds that idle connections are kept for a request that is on its way
_LOOK: Final = 0.02  # seconds between two looks whether somebody is still there

_log: Final = logging.getLogger("nimloop.mt")


@final
class _Worker:
    def __init__(self, loop: Loop, control: socket.socket, server: HttpServer, guard: Guard | None = None) -> None:
        self._loop: Final = loop
        self._server: Final = server
        self._guard: Final = guard
        self._allow(server.timeouts.grace)
        self._leaving: Timer | None = None
        self.channel: Final = Channel(loop, control, self._on_message, self.drain)

    def drain(self, grace: float | None = None) -> None:
        """Stop listening, answer what is under way, then end; after `grace` seconds whatever happens.

        A client may be sending its next request on an idle connection right now, so these are closed later, or by the
        answer to that request (RFC 9112 §9.3.1).
        """
        if self._server.stopping:
            return
        left = self._server.timeouts.grace if grace is None else grace
        self._allow(left)
        end = self._loop.time() + left
        farewell = self._loop.time() + min(_LINGER, left / 2)
        self._server.retire()
        self._leaving = self._loop.call_every(_LOOK, lambda: self._leave(farewell, end))

    def _allow(self, grace: float) -> None:
        if self._guard is not None:
            self._guard.grace = grace

    def _leave(self, farewell: float, end: float) -> None:
        """Close what is still idle at the time of the farewell, or everything when nobody is connected any more."""
        now = self._loop.time()
        if self._leaving is not None and (now >= farewell or self._server.stats.connections == 0):
            self._leaving.cancel()
            self._leaving = None
            self._server.shutdown(max(end - now, 0.0), self._done)

    def on_term(self) -> None:
        """Drain: as the supervisor has said if it was the supervisor, which says so first."""
        self.channel.read_rest()
        self.drain()

    def report(self, what: str, **more: object) -> None:
        """Tell the supervisor something, with the numbers as they are."""
        self.channel.send({"is": what, "stats": asdict(self._server.stats), "memory": resident_bytes(), **more})

    def _on_message(self, message: Message) -> None:
        match message:
            case {"do": "report"}:
                self.report("alive")
            case {"do": "drain", "grace": float() | int() as grace}:
                self.drain(grace)
            case {"do": "serve"}:
                sock = self.channel.take_socket()
                if sock is not None:
                    self._serve(sock)

    def _serve(self, sock: socket.socket) -> None:
        try:
            self._server.inject(sock)
        except OSError:  # reset on its way from the supervisor to here: accept(2) would not have shown it
            sock.close()

    def _done(self, aborted: int) -> None:
        self.report("done", aborted=aborted)
        self._loop.stop()


def run_worker(
    settings: Settings,
    sockets: Sequence[socket.socket],
    control: socket.socket,
    cpu: int | None,
    guard: Guard | None = None,
) -> None:
    """Serve on `sockets`, which are taken over, until the supervisor says otherwise or is gone.

    With a `guard` this process is the worker's own; else the thread is.
    """
    try:
        if sys.platform == "linux" and cpu is not None:
            os.sched_setaffinity(0, {cpu})  # sched_setaffinity(2): 0 is this thread
        with Loop(settings.backend) as loop:
            _serve(loop, settings, sockets, control, guard)
    except BaseException as error:
        _log.debug("a worker could not begin", exc_info=True)
        _fail(control, error)
        if not isinstance(error, Exception):
            raise
    finally:
        for sock in sockets:
            sock.close()
        control.close()
        if guard is not None:
            guard.hang_up()


def _serve(
    loop: Loop, settings: Settings, sockets: Sequence[socket.socket], control: socket.socket, guard: Guard | None
) -> None:
    with settings.build(loop) as server:
        worker = _Worker(loop, control, server, guard)
        try:
            if guard is not None:
                loop.add_signal_handler(signal.SIGTERM, worker.on_term)
            for sock in sockets:
                server.adopt(sock)
            worker.report("ready")
            loop.run()
        except Exception as error:
            worker.channel.send({"is": "failed", "why": _describe(error)})
            raise
        finally:
            worker.channel.close()


def _fail(control: socket.socket, error: BaseException) -> None:
    """Tell the supervisor, as long as there is no channel to do it."""
    try:
        control.setblocking(False)
        control.send(json.dumps({"is": "failed", "why": _describe(error)}).encode() + b"\n")
    except OSError:
        pass  # it has heard, or is gone itself


def _describe(error: BaseException) -> str:
    if isinstance(error, ApplicationError):
        return str(error)[:4096]
    text = f"{type(error).__name__}: {error}"
    if not isinstance(error, SyntaxError):  # which says where, and was raised elsewhere
        text += "".join(f" ({at.filename}, line {at.lineno})" for at in traceback.extract_tb(error.__traceback__)[-1:])
    return text[:4096]


def resident_bytes() -> int:
    """Return how much memory this process has in use, 0 where the system does not say (proc(5), statm)."""
    if sys.platform != "linux":
        return 0
    else:  # noqa: RET505 - for mypy, which knows one of the two systems at a time
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
