"""A page that plays a film from this machine.

python examples/http/video.py FILE [PORT]
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

from nimloop_http import HttpRequest, HttpResponse, HttpServer, serve, stream_file

PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}</title>
<link rel="icon" href="data:,">
<style>body {{ margin: 0; background: #000; display: grid; place-items: center; min-height: 100vh }}
video {{ max-width: 100%; max-height: 100vh }}</style>
<video src="/film" controls preload="metadata"></video>
"""


def main() -> None:
    """Serve the page and the film. Where the viewer jumps to, the browser asks for a range."""
    film = Path(sys.argv[1])

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        match req.path:
            case "/":
                res.header("Content-Type", "text/html; charset=utf-8").send(PAGE.format(name=escape(film.name)))
            case "/film":
                stream_file(req, res, film)
            case _:
                res.send_error(404)

    def announce(server: HttpServer) -> None:
        print("http://{}:{}/".format(*server.addresses[0]), flush=True)

    serve(on_request, port=int(sys.argv[2]) if len(sys.argv) > 2 else 8000, on_listening=announce)


if __name__ == "__main__":
    main()
