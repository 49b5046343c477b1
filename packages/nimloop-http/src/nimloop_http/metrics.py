"""What a server has done, as numbers, and as text for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nimloop_http.request import HttpRequest
    from nimloop_http.response import HttpResponse
    from nimloop_http.server import HttpServer

__all__ = ["ServerStats", "format_metrics", "metrics_handler"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStats:
    """A snapshot of a server's numbers. All but `connections` count from its beginning."""

    connections: int
    """Open now, upgraded ones included."""
    accepted: int
    """Connections that were let in."""
    rejected: int
    """Connections that ended before their first request: a failed TLS handshake or PROXY header."""
    responses: int
    """Answers that are complete, refusals of broken requests included."""
    statuses: dict[int, int]
    """The same by status."""
    lost: int
    """Requests whose client went away before the answer was complete."""
    bytes_sent: int
    """Bytes that were handed to the kernel, heads and upgraded connections included."""


def metrics_handler(server: HttpServer, *, prefix: str = "nimloop_http") -> Callable[[HttpRequest, HttpResponse], None]:
    """Return a handler that answers with the server's numbers in the text format of Prometheus.

    It tells everybody who asks: route it where only the right ones can.
    """

    def handle(_req: HttpRequest, res: HttpResponse) -> None:
        res.header("Content-Type", "text/plain; version=0.0.4; charset=utf-8").header("Cache-Control", "no-store")
        res.send(format_metrics(server.stats, prefix))

    return handle


def format_metrics(stats: ServerStats, prefix: str) -> str:
    """Spell a snapshot in the text format of Prometheus, version 0.0.4."""
    statuses = [(f'{{status="{status}"}}', count) for status, count in stats.statuses.items()]
    metrics = [
        ("connections", "gauge", "Connections that are open now.", [("", stats.connections)]),
        ("connections_accepted_total", "counter", "Connections that were let in.", [("", stats.accepted)]),
        ("connections_rejected_total", "counter", "Ended before their first request.", [("", stats.rejected)]),
        ("responses_total", "counter", "Answers that are complete.", statuses),
        ("requests_lost_total", "counter", "Client gone before the answer was complete.", [("", stats.lost)]),
        ("sent_bytes_total", "counter", "Bytes that were handed to the kernel.", [("", stats.bytes_sent)]),
    ]
    lines = []
    for name, kind, text, values in metrics:
        lines += [f"# HELP {prefix}_{name} {text}", f"# TYPE {prefix}_{name} {kind}"]
        lines += [f"{prefix}_{name}{labels} {value}" for labels, value in values]
    return "\n".join(lines) + "\n"
