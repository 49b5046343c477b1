"""A JSON API with a router of thirty lines.

python examples/http/json_api.py [PORT]
curl -i http://127.0.0.1:8000/notes -d '{"text": "buy milk"}'
curl -i http://127.0.0.1:8000/notes/1
curl -i -X DELETE http://127.0.0.1:8000/notes/1
"""

import re
import sys
from collections.abc import Callable
from itertools import count

from nimloop_http import HttpRequest, HttpResponse, HttpServer, Limits, serve

Handler = Callable[[HttpRequest, HttpResponse, dict[str, str]], object]


class Router:
    """Finds the handler for a method and a path. ``{name}`` stands for one segment, and is passed on."""

    def __init__(self) -> None:
        self._routes: list[tuple[re.Pattern[str], dict[str, Handler]]] = []

    def route(self, method: str, path: str) -> Callable[[Handler], Handler]:
        """Register a handler."""

        def register(handler: Handler) -> Handler:
            pattern = re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path)))
            for known, methods in self._routes:
                if known.pattern == pattern.pattern:
                    methods[method] = handler
                    return handler
            self._routes.append((pattern, {method: handler}))
            return handler

        return register

    def __call__(self, req: HttpRequest, res: HttpResponse) -> None:
        """Answer a request: by its handler, with 404, or with 405 and what is allowed."""
        for pattern, methods in self._routes:
            match = pattern.fullmatch(req.path)
            if match is not None:
                handler = methods.get("GET" if req.method == "HEAD" else req.method)  # whose body is left out then
                if handler is None:
                    allowed = {*methods, "HEAD"} if "GET" in methods else methods
                    res.header("Allow", ", ".join(sorted(allowed))).send_error(405)
                else:
                    handler(req, res, match.groupdict())
                return
        res.send_error(404)


app = Router()
notes: dict[str, str] = {}  # by number, as it stands in the path
numbers = count(1)


@app.route("GET", "/notes")
def list_notes(_req: HttpRequest, res: HttpResponse, _path: dict[str, str]) -> None:
    """Return all of them."""
    res.send_json([{"id": int(number), "text": text} for number, text in notes.items()])


@app.route("POST", "/notes")
def add_note(req: HttpRequest, res: HttpResponse, _path: dict[str, str]) -> None:
    """Add one."""
    try:
        data = req.json()
    except ValueError:
        data = None
    if not isinstance(data, dict) or not isinstance(data.get("text"), str):
        res.send_error(400, 'expected {"text": "…"}')
        return
    number = next(numbers)
    notes[str(number)] = data["text"]
    res.status(201).header("Location", f"/notes/{number}").send_json({"id": number, "text": data["text"]})


@app.route("GET", "/notes/{number}")
def get_note(_req: HttpRequest, res: HttpResponse, path: dict[str, str]) -> None:
    """Return one."""
    number = path["number"]
    if number in notes:
        res.send_json({"id": int(number), "text": notes[number]})
    else:
        res.send_error(404)


@app.route("DELETE", "/notes/{number}")
def delete_note(_req: HttpRequest, res: HttpResponse, path: dict[str, str]) -> None:
    """Forget one."""
    number = path["number"]
    if notes.pop(number, None) is not None:
        res.status(204).send()
    else:
        res.send_error(404)


def say(server: HttpServer) -> None:
    """Tell where it is."""
    print("http://{}:{}/notes".format(*server.addresses[0]), flush=True)


if __name__ == "__main__":
    serve(app, port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000, limits=Limits(body=1 << 16), on_listening=say)
