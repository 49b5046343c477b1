"""A chat with a page, one room per path: open the link in two windows.

    python examples/ws/chat.py [PORT]

People have a name, see who comes and goes, and get the last messages when they join. Everything is JSON.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from pathlib import Path

from nimloop_http import HttpRequest, HttpResponse, HttpServer, serve, serve_file
from nimloop_ws import CloseCode, WebSocket, WsLimits, broadcast, upgrade

PAGE = Path(__file__).parent / "chat.html"
LIMITS = WsLimits(frame=4096, message=4096, buffer=256 * 1024)
REMEMBERED = 50  # messages


class Room:
    """Those who are in it, by name, and what was said last."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self.people: dict[WebSocket, str] = {}
        self.said: deque[dict[str, object]] = deque(maxlen=REMEMBERED)

    def tell(self, what: dict[str, object]) -> None:
        """Tell everybody, in one go."""
        broadcast(self.people, json.dumps(what))

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        """Take a name, then what is said."""
        try:
            given = json.loads(message)
            kind, text = given["type"], str(given["text"]).strip()
        except (ValueError, TypeError, KeyError):
            ws.close(CloseCode.UNSUPPORTED_DATA, "not a message of this chat")
            return
        if kind == "name" and ws not in self.people:
            self.join(ws, text[:30])
        elif kind == "say" and ws in self.people and text:
            what: dict[str, object] = {"type": "say", "name": self.people[ws], "text": text}
            self.said.append(what)
            self.tell(what)

    def join(self, ws: WebSocket, name: str) -> None:
        """Let somebody in, if the name is free."""
        if not name or name in self.people.values():
            ws.send(json.dumps({"type": "refused", "text": "that name is taken" if name else "a name is needed"}))
            return
        ws.send(json.dumps({"type": "welcome", "name": name, "said": list(self.said)}))
        self.people[ws] = name
        self.tell({"type": "people", "names": sorted(self.people.values()), "came": name})

    def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
        """Say that somebody has left."""
        if (name := self.people.pop(ws, None)) is not None:
            self.tell({"type": "people", "names": sorted(self.people.values()), "left": name})


rooms: dict[str, Room] = {}


def on_request(req: HttpRequest, res: HttpResponse) -> None:
    """Serve the page, and a WebSocket for each room."""
    if req.path == "/":
        serve_file(req, res, PAGE)
    elif req.path.startswith("/rooms/"):
        room = rooms.setdefault(req.path, Room()) if len(rooms) < 100 else rooms.get(req.path)
        if room is None:
            res.send_error(503, "there are enough rooms")
        else:
            upgrade(req, res, on_message=room.on_message, on_close=room.on_close, limits=LIMITS)
    else:
        res.send_error(404)


def announce(server: HttpServer) -> None:
    """Say where it is."""
    print("http://{}:{}/".format(*server.addresses[0]), flush=True)


if __name__ == "__main__":
    serve(on_request, port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000, on_listening=announce)
