"""What a check in a page does to the program above it."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import final

from websockets.sync.client import connect as ws_connect

PATIENCE = 20.0


class UnixConnection(http.client.HTTPConnection):
    """A connection to a Unix socket, with what a proxy adds."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        """Connect to the path."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(str(self._path))


@final
@dataclass(frozen=True)
class Target:
    """Where the program listens: at a port, or at a path if the check says so."""

    port: int
    path: Path

    def wait(self, *, unix: bool) -> None:
        """Return when it accepts connections. Raises OSError when it never does."""
        end = time.monotonic() + PATIENCE
        while True:
            with contextlib.closing(socket.socket(socket.AF_UNIX if unix else socket.AF_INET)) as sock:
                try:
                    sock.connect(str(self.path) if unix else ("127.0.0.1", self.port))
                except OSError:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.05)  # there is nothing to wait for that another process would tell
                else:
                    return

    def try_out(self, check: str) -> None:
        """Do what a check says, and compare."""
        asked, _, expected = check.partition(" -> ")
        what, _, rest = asked.partition(" ")
        match what:
            case "ws":
                path, _, message = rest.partition(" ")
                with ws_connect(f"ws://127.0.0.1:{self.port}{path}", open_timeout=PATIENCE) as ws:
                    ws.send(message)
                    assert ws.recv(PATIENCE) == expected
            case "tcp":
                with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as sock:
                    sock.sendall(rest.encode())
                    assert sock.recv(100).decode() == expected
            case _:
                status, body = self.ask(what, rest)
                wanted, _, words = expected.partition(" ")
                assert (status, words in body) == (int(wanted), True), f"{check}: got {status} {body[:200]}"

    def ask(self, what: str, rest: str) -> tuple[int, str]:
        """Make a request; return its status and, but for answers without end, its body."""
        headers = {"Host": "example.org"} if what == "unix" else {}
        connection: http.client.HTTPConnection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        if what == "tls":
            trusting = ssl._create_unverified_context()
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=PATIENCE, context=trusting)
        elif what == "unix":
            connection = UnixConnection(self.path)
            headers |= {
                "X-Forwarded-For": "203.0.113.7",
                "X-Forwarded-Proto": "https",
                "X-Forwarded-Host": "example.org",
            }
        method = what
        if what in {"tls", "unix"}:
            method, _, rest = rest.partition(" ")
        path, _, body = rest.partition(" ")
        if what == "stream":
            method = "GET"
        elif what == "upload":
            method = "POST"
            name, _, content = body.partition("=")
            head = f'Content-Disposition: form-data; name="{name}"; filename="a.txt"'
            body = f"--b\r\n{head}\r\n\r\n{content}\r\n--b--\r\n"
            headers["Content-Type"] = "multipart/form-data; boundary=b"
        with contextlib.closing(connection):
            connection.request(method, path, body.encode() or None, headers)
            answer = connection.getresponse()
            data = answer.readline() if what == "stream" else answer.read()
            return answer.status, data.decode()
