"""The smallest server.

python examples/http/hello.py [PORT]
"""

import sys

from nimloop_http import HttpRequest, HttpResponse, HttpServer, serve


def on_request(req: HttpRequest, res: HttpResponse) -> None:
    """Answer everybody."""
    res.send(f"Hello from {req.path}\n")


def say(server: HttpServer) -> None:
    """Tell where it is."""
    print("http://{}:{}/".format(*server.addresses[0]), flush=True)


if __name__ == "__main__":
    serve(on_request, port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000, on_listening=say)
