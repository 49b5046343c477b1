"""Live figures of this machine, to everybody who watches. Linux.

    python examples/ws/dashboard.py [PORT]

Measured once a second while somebody looks, encoded once for all of them. Who is too slow for a figure misses it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from nimloop_core import Timer
from nimloop_http import HttpRequest, HttpResponse, HttpServer, serve, serve_file
from nimloop_ws import WebSocket, broadcast, upgrade

PAGE = Path(__file__).parent / "dashboard.html"
INTERVAL = 1.0  # seconds


def read(path: str) -> list[list[str]]:
    """Return the words of each line of a file of the kernel."""
    return [line.split() for line in Path(path).read_text(encoding="ascii").splitlines()]


class Dashboard:
    """What is measured, and who watches."""

    def __init__(self) -> None:
        """Begin without a clock: nobody watches yet."""
        self.watchers: dict[WebSocket, None] = {}
        self.timer: Timer | None = None
        self.busy = 0.0
        self.total = 0.0
        self.traffic = 0

    def on_request(self, req: HttpRequest, res: HttpResponse) -> None:
        """Serve the page, and the figures."""
        match req.path:
            case "/":
                serve_file(req, res, PAGE)
            case "/figures":
                upgrade(req, res, on_open=self.on_open, on_close=self.on_close)
            case _:
                res.send_error(404)

    def on_open(self, ws: WebSocket) -> None:
        """One more watches; the first one starts the clock."""
        self.watchers[ws] = None
        if self.timer is None:
            self.measure()
            self.timer = ws.loop.call_every(INTERVAL, self.tell)

    def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
        """One less; the last one stops the clock."""
        del self.watchers[ws]
        if not self.watchers and self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def tell(self) -> None:
        """Send the figures of the last second to all."""
        broadcast(self.watchers, json.dumps(self.measure()), skip_behind=True)

    def measure(self) -> dict[str, float]:
        """Return the figures since the last call."""
        times = [float(word) for word in read("/proc/stat")[0][1:9]]
        total, idle = sum(times), times[3] + times[4]
        busy = total - idle
        share = (busy - self.busy) / (total - self.total) if total > self.total else 0.0
        memory = {words[0]: int(words[1]) for words in read("/proc/meminfo")}
        traffic = sum(int(words[1]) + int(words[9]) for words in read("/proc/net/dev")[2:])
        moved = traffic - self.traffic if self.traffic else 0
        self.busy, self.total, self.traffic = busy, total, traffic
        return {
            "cpu": round(100 * share, 1),
            "load": round(os.getloadavg()[0], 2),
            "memory": round(100 - 100 * memory["MemAvailable:"] / memory["MemTotal:"], 1),
            "network": round(moved / INTERVAL / 1e6, 3),
            "watchers": len(self.watchers),
        }


def announce(server: HttpServer) -> None:
    """Say where it is."""
    print("http://{}:{}/".format(*server.addresses[0]), flush=True)


if __name__ == "__main__":
    serve(Dashboard().on_request, port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000, on_listening=announce)
