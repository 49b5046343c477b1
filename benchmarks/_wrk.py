"""HTTP load from wrk, and the check that the answers are right."""

import http.client
import json
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from _harness import Load, LoadFailed, WrongAnswer

_SCRIPT: Final = Path(__file__).with_name("wrk.lua")
_HOST: Final = "127.0.0.1"
# A second is an age on loopback, but the machine may be shared.
_TIMEOUT: Final = 5.0


@dataclass(frozen=True, slots=True)
class HttpWorkload:
    """GET of one path from wrk, one thread."""

    path: str = "/hello"
    body: bytes = b"Hello, World!"
    connections: int = 64
    pipeline: int = 1
    close: bool = False
    prefix: tuple[str, ...] = ()
    unit: str = "request"

    def missing(self) -> str | None:
        """What has to be installed before this can run."""
        return None if shutil.which("wrk") else "wrk is not installed (Debian: apt-get install wrk)"

    def describe(self) -> str:
        """One line for the head of the report."""
        shape = f"{self.pipeline} deep" if self.pipeline > 1 else "not pipelined"
        kind = "Connection: close" if self.close else "keep-alive"
        return f"GET {self.path}, {self.connections} connections, {kind}, {shape}"

    def check(self, port: int, *, routes: bool) -> None:
        """Raises WrongAnswer unless status, body, persistence and the unknown path are as they must be."""
        connection = http.client.HTTPConnection(_HOST, port, timeout=_TIMEOUT)
        try:
            self._check_two(connection)
            if routes:
                connection.request("GET", self.path + "-not")
                status = connection.getresponse().status
                if status != 404:
                    raise WrongAnswer(f"status {status} for an unknown path, not 404")
        except http.client.HTTPException as error:
            raise WrongAnswer(f"not HTTP: {error!r}") from error
        finally:
            connection.close()
        if self.pipeline > 1:
            self._check_pipeline(port)

    def _check_two(self, connection: http.client.HTTPConnection) -> None:
        headers = {"Connection": "close"} if self.close else {}
        for turn in ("first", "second"):
            if connection.sock is None:
                connection.connect()
            before = connection.sock
            connection.request("GET", self.path, headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise WrongAnswer(f"status {answer.status} for the {turn} request, not 200")
            if body != self.body:
                raise WrongAnswer(f"body {body[:60]!r} for the {turn} request, not {self.body!r}")
            if (connection.sock is not before) is not self.close:
                state = "stayed open" if self.close else "was closed"
                raise WrongAnswer(f"the connection {state} after the {turn} request")

    def _check_pipeline(self, port: int) -> None:
        request = f"GET {self.path} HTTP/1.1\r\nHost: {_HOST}:{port}\r\n\r\n".encode()
        with socket.create_connection((_HOST, port), timeout=_TIMEOUT) as sock:
            sock.sendall(request * self.pipeline)
            for turn in range(self.pipeline):
                # No buffered reader: one per answer would swallow the beginning of the next.
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += _some(sock, 1, turn)
                body = b""
                while len(body) < len(self.body):
                    body += _some(sock, len(self.body) - len(body), turn)
                if not head.startswith(b"HTTP/1.1 200 ") or body != self.body:
                    raise WrongAnswer(f"answer {turn + 1} of the pipeline is {(head + body)[:60]!r}")

    def run(self, port: int, seconds: int) -> Load:
        """Load the server for so many seconds; raises LoadFailed on any error that wrk counted."""
        command = [*self.prefix, "wrk", "-t1", f"-c{self.connections}", f"-d{seconds}s", "-s", str(_SCRIPT)]
        command += [f"http://{_HOST}:{port}{self.path}", "--", str(self.pipeline)]
        command += ["close"] if self.close else []
        return run_wrk(command, seconds + 30)


def run_wrk(command: list[str], timeout: float) -> Load:
    """Run wrk with a script that reports; raises LoadFailed on any error that it counted."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as wrk:
        try:
            said, _ = wrk.communicate(timeout=timeout)
        except BaseException:
            wrk.send_signal(signal.SIGKILL)
            raise
    reports = [line.partition(" ")[2] for line in said.splitlines() if line.startswith("report ")]
    if wrk.returncode or len(reports) != 1:
        raise LoadFailed(f"wrk ended with {wrk.returncode}: {said.strip()[-300:]}")
    report = json.loads(reports[0])
    errors = {kind: count for kind, count in report["errors"].items() if count}
    if errors:
        counts = ", ".join(f"{kind} {count}" for kind, count in errors.items())
        raise LoadFailed(f"wrk counted errors: {counts}")
    if not report["requests"]:
        raise LoadFailed("wrk got no answer")
    return Load(int(report["requests"]), float(report["seconds"]))


def _some(sock: socket.socket, at_most: int, turn: int) -> bytes:
    try:
        data = sock.recv(at_most)
    except TimeoutError:
        raise WrongAnswer(f"answer {turn + 1} of the pipeline did not come") from None
    if not data:
        raise WrongAnswer(f"the connection was closed before answer {turn + 1} of the pipeline")
    return data
