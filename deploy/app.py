"""What the files beside this one deploy: an application that tells who has asked, and a WebSocket that sends back.

On its own, or under systemd:  python -m nimloop_mt app:on_request
Behind a proxy:                python app.py --proxy 10.0.0.0/8 [--proxy-protocol]
"""

from __future__ import annotations

import argparse

from nimloop_http import HttpRequest, HttpResponse, TrustedProxies
from nimloop_mt import MultiThreadHttpServer
from nimloop_net import inherited_sockets
from nimloop_ws import upgrade


def on_request(req: HttpRequest, res: HttpResponse) -> None:
    """Answer with what is known of the client."""
    if req.path == "/ws":
        upgrade(req, res, on_message=lambda ws, message: ws.send(message))
    else:
        res.send(f"hello {req.client_ip}, by {req.scheme}, to {req.host}\n")


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--health-port", type=int, default=8001)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--proxy", metavar="NETWORK", action="append", default=[], help="a proxy whose word counts")
    parser.add_argument("--proxy-protocol", action="store_true", help="each of its connections begins with PROXY")
    options = parser.parse_args()
    with MultiThreadHttpServer(
        on_request,
        workers=options.workers,
        proxies=TrustedProxies(options.proxy) if options.proxy else None,
        proxy_protocol=options.proxy_protocol,
    ) as server:
        sockets = inherited_sockets()
        for _name, sock in sockets:
            server.adopt(sock)
        if not sockets:
            server.listen(options.host, options.port)
        server.listen_health(options.host, options.health_port)
        server.run(lambda: print("serving", *server.addresses, flush=True))


if __name__ == "__main__":
    main()
