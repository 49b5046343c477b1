"""A server on a Unix socket, behind nginx say.

    python examples/http/unix_socket.py PATH
    curl --unix-socket PATH http://localhost/

The proxy writes the client's address into X-Forwarded-For; who comes through the socket is trusted to do so.
"""

import sys

from nimloop_http import HttpRequest, HttpResponse, HttpServer, TrustedProxies, serve


def on_request(req: HttpRequest, res: HttpResponse) -> None:
    """Tell the client who it is."""
    res.send(f"{req.client_ip or 'somebody here'} asks for {req.scheme}://{req.host}{req.path}\n")


def say(server: HttpServer) -> None:
    """Tell where it is."""
    print(server.addresses[0], flush=True)


if __name__ == "__main__":
    serve(on_request, uds=sys.argv[1], proxies=TrustedProxies(["unix"]), on_listening=say)
