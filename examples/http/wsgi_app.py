"""A WSGI application that blocks, behind a server that does not.

python examples/http/wsgi_app.py [PORT]
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable
from html import escape
from urllib.parse import parse_qs
from wsgiref.types import StartResponse

from nimloop_http import HttpRequest, HttpResponse, HttpServer, WsgiBridge, serve


def application(environ: dict[str, object], start_response: StartResponse) -> Iterable[bytes]:
    """Take a second for each answer, as a slow database would. Any framework's application can stand here."""
    query = parse_qs(str(environ["QUERY_STRING"]))
    name = query.get("name", ["world"])[0]
    time.sleep(float(query.get("seconds", ["1"])[0]))
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return [f"<p>Hello, {escape(name)}, from {threading.current_thread().name}\n".encode()]


def main() -> None:
    """Serve the application from four threads, and something quick from the loop."""
    with WsgiBridge(application, threads=4) as bridge:

        def on_request(req: HttpRequest, res: HttpResponse) -> None:
            if req.path == "/health":
                res.send("well\n")  # at once, whatever the application is doing
            else:
                bridge.serve(req, res)

        def announce(server: HttpServer) -> None:
            print("http://{}:{}/".format(*server.addresses[0]), flush=True)

        serve(on_request, port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000, on_listening=announce)


if __name__ == "__main__":
    main()
