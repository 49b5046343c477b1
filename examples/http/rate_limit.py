"""A service that has enough of each client for a while.

python examples/http/rate_limit.py [PORT]
"""

from __future__ import annotations

import sys

from nimloop_http import HttpRequest, HttpResponse, HttpServer, RateLimiter, network_of, serve

KEYS = {"key-of-ann": "ann", "key-of-bob": "bob"}


def client_of(req: HttpRequest) -> str:
    """Count those who have a key by their name, and everybody else by address."""
    name = KEYS.get(req.headers.get("x-api-key", ""))
    return f"user {name}" if name else network_of(req.client_ip)


# No more than 5 in any second, and no more than 20 in any minute.
limiter = RateLimiter(5, 1.0, (20, 60.0), key=client_of)


def on_request(req: HttpRequest, res: HttpResponse) -> None:
    """Greet whoever has not asked too often."""
    if limiter.check(req, res):
        res.send_json({"hello": client_of(req)})


def announce(server: HttpServer) -> None:
    """Say where it is."""
    print("http://{}:{}/".format(*server.addresses[0]), flush=True)


if __name__ == "__main__":
    serve(on_request, port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000, on_listening=announce)
