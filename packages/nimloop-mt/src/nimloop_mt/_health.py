"""What an orchestrator asks: is it alive, is it ready, what has it done."""

from __future__ import annotations

from collections.abc import Callable

from nimloop_http import HttpRequest, HttpResponse
from nimloop_http.metrics import format_metrics
from nimloop_mt._supervisor import Supervisor


def health_handler(supervisor: Supervisor) -> Callable[[HttpRequest, HttpResponse], None]:
    """Return a handler for ``/live``, ``/ready`` and ``/metrics``."""

    def handle(req: HttpRequest, res: HttpResponse) -> None:
        res.header("Cache-Control", "no-store")
        match req.path:
            case "/live":
                res.send("alive\n")
            case "/ready":
                ready = supervisor.ready
                res.status(200 if ready else 503).send("ready\n" if ready else "not ready\n")
            case "/metrics":
                res.header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                res.send(format_metrics(supervisor.stats, "nimloop_http"))
            case _:
                res.status(404).send("not here\n")

    return handle
