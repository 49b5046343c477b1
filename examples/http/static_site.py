"""A site from a folder, and an API beside it.

python examples/http/static_site.py [PORT]
"""

from __future__ import annotations

import sys
from pathlib import Path

from nimloop_http import CorsPolicy, HttpRequest, HttpResponse, HttpServer, RateLimiter, StaticFiles, serve

files = StaticFiles(Path(__file__).parent / "site", cache_control="max-age=60")
# Pages of any origin may read the notes; only our own may write them, since a preflight for POST with JSON is refused.
cors = CorsPolicy("*", methods=["GET"])
limiter = RateLimiter(10, 60.0)  # new notes per client and minute
notes: list[str] = ["This note was here first."]


def on_request(req: HttpRequest, res: HttpResponse) -> None:
    """Answer the API here, and everything else from the folder."""
    if req.path != "/api/notes":
        files.serve(req, res)
    elif cors.check(req, res):
        match req.method:
            case "GET" | "HEAD":
                res.header("Cache-Control", "no-cache").send_json(notes)
            case "POST":
                add_note(req, res)
            case _:
                res.header("Allow", "GET, HEAD, POST").send_error(405)


def add_note(req: HttpRequest, res: HttpResponse) -> None:
    """Take a note as JSON text."""
    if req.content_type != "application/json":
        res.send_error(415, "a note comes as application/json")
        return
    try:
        note = req.json()
    except ValueError as error:
        res.send_error(400, str(error))
        return
    if not isinstance(note, str) or not 0 < len(note) <= 200:
        res.send_error(422, "a note is a text of 1 to 200 characters")
    elif limiter.check(req, res):
        notes.append(note)
        del notes[:-100]
        res.status(201).send_json(note)


def announce(server: HttpServer) -> None:
    """Say where it is."""
    print("http://{}:{}/".format(*server.addresses[0]), flush=True)


if __name__ == "__main__":
    serve(on_request, port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000, on_listening=announce)
