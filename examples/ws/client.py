"""A client that stays: prints what it hears, and connects again when the connection is lost.

    python examples/ws/client.py URL

It waits a little longer after each failure, and not exactly as long as all the others do (or a server that comes back
would meet them all at once).
"""

from __future__ import annotations

import random
import signal
import sys

from nimloop_core import Loop
from nimloop_ws import CloseCode, Opening, WebSocket, WsTimeouts, connect

FIRST_WAIT = 0.5  # seconds
LONGEST_WAIT = 30.0


class Client:
    """One WebSocket at a time, to one place."""

    def __init__(self, loop: Loop, url: str) -> None:
        """Connect."""
        self.loop = loop
        self.url = url
        self.wait = FIRST_WAIT
        self.ws: WebSocket | None = None
        self.opening: Opening | None = None
        self.stopping = False
        self.connect()

    def connect(self) -> None:
        """Try once."""
        if not self.stopping:
            self.opening = connect(
                self.loop,
                self.url,
                on_open=self.on_open,
                on_message=lambda _ws, message: print(message, flush=True),
                on_close=self.on_close,
                on_failure=self.on_failure,
                timeouts=WsTimeouts(ping=10.0, pong=5.0),
            )

    def on_open(self, ws: WebSocket) -> None:
        """Take note that it went well."""
        self.ws = ws
        self.wait = FIRST_WAIT
        print("connected", flush=True)

    def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
        """Come back, unless that was the plan."""
        self.ws = None
        print(f"closed: {code} {reason}".rstrip(), flush=True)
        if self.stopping:
            self.loop.stop()
        else:
            self.later()

    def on_failure(self, error: Exception) -> None:
        """Try again later."""
        print(f"failed: {error}", flush=True)
        self.later()

    def later(self) -> None:
        """Wait, longer each time."""
        self.loop.call_later(self.wait * random.uniform(0.5, 1.0), self.connect)
        self.wait = min(2 * self.wait, LONGEST_WAIT)

    def stop(self) -> None:
        """Say goodbye; twice: do not wait for an answer."""
        if self.ws is None or self.stopping:
            self.loop.stop()
        self.stopping = True
        if self.ws is not None:
            self.ws.close(CloseCode.GOING_AWAY)


def main() -> None:
    """Stay until Ctrl+C."""
    with Loop() as loop:
        client = Client(loop, sys.argv[1])
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, client.stop)
        loop.run()
        if client.opening is not None:
            client.opening.cancel()


if __name__ == "__main__":
    main()
