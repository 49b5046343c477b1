"""The client of the command line: lines from the terminal become messages, messages become lines."""

from __future__ import annotations

import os
import signal
import ssl
import sys
from typing import Final, final

from nimloop_core import READ, Loop, Watcher
from nimloop_ws.client import connect
from nimloop_ws.deflate import Deflate
from nimloop_ws.frames import CloseCode
from nimloop_ws.handshake import ExtraHeaders
from nimloop_ws.settings import WsLimits
from nimloop_ws.websocket import WebSocket

_READ: Final = 65536
_LAST: Final = b"end of input"


@final
class Console:
    """Talks to one server. The end of the input closes the WebSocket; so does Ctrl+C."""

    def __init__(self, loop: Loop) -> None:
        self._loop: Final = loop
        self._watcher: Watcher | None = None
        self._ws: WebSocket | None = None
        self._line = b""  # the beginning of a line
        self._status = 1

    def talk(
        self,
        url: str,
        *,
        headers: ExtraHeaders,
        subprotocols: list[str],
        limits: WsLimits,
        compression: Deflate | None,
        tls: ssl.SSLContext,
    ) -> int:
        """Connect and talk until one side closes; return 0, or 1 when that went wrong."""
        opening = connect(
            self._loop,
            url,
            on_open=self._on_open,
            on_message=self._on_message,
            on_close=self._on_close,
            on_pong=lambda ws, payload: ws.close() if payload == _LAST else None,
            on_drain=lambda _ws: self._watch(),
            on_failure=self._on_failure,
            headers=headers,
            subprotocols=subprotocols,
            limits=limits,
            compression=compression,
            tls=tls,
        )

        def stop() -> None:
            if self._ws is not None:
                self._ws.close(CloseCode.GOING_AWAY)
            else:
                opening.cancel()
                self._loop.stop()

        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, stop)
        self._loop.run()
        return self._status

    def _on_open(self, ws: WebSocket) -> None:
        self._ws = ws
        say(f"connected{f', speaking {ws.subprotocol}' if ws.subprotocol else ''}; end with Ctrl+D")
        self._watch()

    def _on_message(self, ws: WebSocket, message: str | bytes) -> None:
        if isinstance(message, str):
            print(message, flush=True)
        else:
            print(f"({len(message)} bytes) {message[:64].hex(' ')}{' …' if len(message) > 64 else ''}", flush=True)

    def _on_close(self, ws: WebSocket, code: int, reason: str) -> None:
        self._unwatch()
        say(f"closed: {code} {reason}".rstrip())
        self._status = 0 if code in {CloseCode.NORMAL, CloseCode.GOING_AWAY, CloseCode.NO_STATUS} else 1
        self._loop.stop()

    def _on_failure(self, error: Exception) -> None:
        say(f"cannot connect: {error}")
        self._loop.stop()

    def _watch(self) -> None:
        """Read on from the terminal. A file, which epoll(7) refuses to watch, can always be read."""
        if self._watcher is not None or self._ws is None or not self._ws.is_open:
            return
        try:
            self._watcher = self._loop.register(sys.stdin.fileno(), READ, self._on_input)
        except (OSError, ValueError):
            self._loop.call_soon(lambda: self._on_input(READ))

    def _unwatch(self) -> None:
        if self._watcher is not None:
            self._watcher.unregister()
            self._watcher = None

    def _on_input(self, _events: int) -> None:
        ws = self._ws
        if ws is None or not ws.is_open:
            return
        data = os.read(sys.stdin.fileno(), _READ)
        *lines, self._line = (self._line + data).split(b"\n")
        if not data and self._line:
            lines.append(self._line)
        room = True
        for line in lines:
            room = ws.send(line.decode("utf-8", "replace"))
        if not data:
            self._unwatch()
            ws.ping(_LAST)  # its pong comes behind whatever the server answers at once to what was typed
        elif not room:
            self._unwatch()  # until on_drain
        elif self._watcher is None:
            self._watch()


def say(text: str) -> None:
    """Tell the person, not the pipe."""
    print(text, file=sys.stderr, flush=True)
