"""Round trips over TCP and UDP from a client in C, and the check that the answers are right."""

import socket
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from _harness import Contender, Load, LoadFailed, WrongAnswer, c_program, compiler, pure_peer, python_peer

_HOST: Final = "127.0.0.1"
_TIMEOUT: Final = 10.0
# All bytes, so that an answer from a wrong place of the stream is a wrong answer.
_PATTERN: Final = bytes(range(256)) * 4096 + b"!"


def content(size: int) -> bytes:
    """What is sent, echoed, or in the file."""
    return (_PATTERN * (size // len(_PATTERN) + 1))[:size]


def contenders(*arguments: str) -> list[Contender]:
    """The servers that all of these benchmarks compare, told what to do."""
    floor = c_program("floor/echo.c")
    return [
        Contender("floor", lambda directory: [*floor(directory), *arguments]),
        Contender("nimloop", python_peer("net_nimloop.py", *arguments)),
        Contender("nimloop-python", pure_peer("net_nimloop.py", *arguments)),
        Contender("asyncio", python_peer("net_asyncio.py", "--loop", "asyncio", *arguments)),
        Contender("uvloop", python_peer("net_asyncio.py", "--loop", "uvloop", *arguments)),
    ]


@dataclass(slots=True)
class NetWorkload:
    """One request at a time on each connection, and an answer to each."""

    request: bytes
    answer: bytes
    connections: int
    what: str
    udp: bool = False
    unit: str = "round trip"
    _directory: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False)

    def describe(self) -> str:
        """One line for the head of the report."""
        return f"{self.what}, {self.connections} connections"

    def missing(self) -> str | None:
        """What has to be installed before this can run."""
        return None if compiler() else "no C compiler for the client"

    def check(self, port: int, *, routes: bool) -> None:
        """Raises WrongAnswer unless two answers are as they must be."""
        del routes
        kind = socket.SOCK_DGRAM if self.udp else socket.SOCK_STREAM
        with socket.socket(socket.AF_INET, kind) as sock:
            sock.settimeout(_TIMEOUT)
            sock.connect((_HOST, port))
            for _ in range(2):
                sock.sendall(self.request)
                got = bytearray()
                try:
                    while len(got) < len(self.answer) and (more := sock.recv(1 << 20)):
                        got += more
                except TimeoutError:
                    raise WrongAnswer(f"{len(got)} bytes in place of {len(self.answer)}") from None
                if got != self.answer:
                    raise WrongAnswer(f"{len(got)} bytes that begin with {bytes(got[:40])!r}")

    def run(self, port: int, seconds: int) -> Load:
        """Load the server for so many seconds; raises LoadFailed."""
        if self._directory is None:
            self._directory = tempfile.TemporaryDirectory(prefix="nimloop-net-")
            self._prepare(Path(self._directory.name))
        directory = Path(self._directory.name)
        command = [str(directory / "net_load"), "udp" if self.udp else "tcp", str(port), str(self.connections)]
        command += [str(seconds), str(directory / "request"), str(directory / "answer")]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=False)
        word, _, figures = ran.stdout.strip().partition(" ")
        if ran.returncode or word != "report":
            raise LoadFailed(f"the client ended with {ran.returncode}: {ran.stderr.strip()[-300:]}")
        count, elapsed = figures.split()
        if not int(count):
            raise LoadFailed("the client got no answer")
        return Load(int(count), float(elapsed))

    def _prepare(self, directory: Path) -> None:
        (directory / "request").write_bytes(self.request)
        (directory / "answer").write_bytes(self.answer)
        c_program("clients/net_load.c")(directory)
