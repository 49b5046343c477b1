"""WebSockets beside the routes of an HTTP server.

    python examples/ws/beside_http.py [PORT]

GET  /jobs         what is there, as JSON
POST /jobs         adds one, the body being its name: 201
GET  /jobs/live    a WebSocket that hears of each new one; needs ``Authorization: Bearer let-me-in``
"""

from __future__ import annotations

import json
import sys

from nimloop_http import HttpRequest, HttpResponse, HttpServer, Limits, serve
from nimloop_ws import WebSocket, broadcast, upgrade

TOKEN = "Bearer let-me-in"

jobs: list[dict[str, object]] = []
listeners: dict[WebSocket, None] = {}


def on_request(req: HttpRequest, res: HttpResponse) -> None:
    """Route by method and path."""
    match req.method, req.path:
        case "GET", "/jobs":
            res.send_json(jobs)
        case "POST", "/jobs":
            job: dict[str, object] = {"id": len(jobs) + 1, "name": req.text}
            jobs.append(job)
            broadcast(listeners, json.dumps(job))
            res.status(201).header("Location", f"/jobs/{job['id']}").send_json(job)
        case _, "/jobs/live":
            listen(req, res)
        case _:
            res.send_error(404)


def listen(req: HttpRequest, res: HttpResponse) -> None:
    """Refuse strangers with an answer of our own; let the others listen."""
    if req.headers.get("authorization") != TOKEN:
        res.status(401).header("WWW-Authenticate", "Bearer").send("who are you?\n")
        return
    ws = upgrade(req, res, on_close=lambda ws, _code, _reason: listeners.pop(ws), subprotocols=("jobs.v1",))
    if ws is not None:
        listeners[ws] = None


def announce(server: HttpServer) -> None:
    """Say where it is."""
    print("http://{}:{}/".format(*server.addresses[0]), flush=True)


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    serve(on_request, port=port, limits=Limits(body=4096), on_listening=announce)
