"""WebSocket load from a client in C, and the check that the answers are right."""

import base64
import os
import socket
import struct
import subprocess
import tempfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from _harness import Load, LoadFailed, WrongAnswer, compiler

_HOST: Final = "127.0.0.1"
_TIMEOUT: Final = 10.0
_SOURCE: Final = Path(__file__).parent / "clients" / "ws_load.c"
# Without context take-over every answer is the same, so that the client need not inflate it.
_DEFLATE: Final = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


def text_like(size: int) -> bytes:
    """Bytes that compress about as well as JSON does."""
    line = b'{"id": %d, "name": "item %d", "price": %d.95, "tags": ["one", "two"]},'
    data = b"".join(line % (i, i * 7919 % 9973, i * 31 % 500) for i in range(size // 50 + 1))
    return data[:size]


@dataclass(slots=True)
class WsWorkload:
    """Messages of one size, echoed on each connection, or sent on to all of them."""

    size: int = 256
    connections: int = 32
    compress: bool = False
    broadcast: bool = False
    unit: str = "message"
    _directory: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False)

    @property
    def path(self) -> str:
        """Tells the server what to do."""
        return "/broadcast" if self.broadcast else "/echo"

    def describe(self) -> str:
        """One line for the head of the report."""
        kind = "broadcast to" if self.broadcast else "echoed on"
        how = "compressed" if self.compress else "not compressed"
        return f"{self.size} bytes, binary, {how}, {kind} {self.connections} connections"

    def missing(self) -> str | None:
        """What has to be installed before this can run."""
        return None if compiler() else "no C compiler for the client"

    def check(self, port: int, *, routes: bool) -> None:
        """Raises WrongAnswer unless a message comes back as it was."""
        del routes
        message = text_like(self.size)
        with socket.create_connection((_HOST, port), timeout=_TIMEOUT) as sock:
            fields = f"Sec-WebSocket-Extensions: {_DEFLATE}\r\n" if self.compress else ""
            sock.sendall(
                f"GET {self.path} HTTP/1.1\r\nHost: {_HOST}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n"
                f"Sec-WebSocket-Version: 13\r\n{fields}\r\n".encode()
            )
            with sock.makefile("rb") as incoming:
                try:
                    self._check_head(incoming)
                    for _ in range(2):
                        sock.sendall(self._frame(message))
                        self._check_frame(incoming, message)
                except TimeoutError:
                    raise WrongAnswer("no answer in time") from None

    def _check_head(self, incoming: BinaryIO) -> None:
        status = incoming.readline()
        head = b""
        while (line := incoming.readline()) not in {b"\r\n", b""}:
            head += line
        if not status.startswith(b"HTTP/1.1 101 "):
            raise WrongAnswer(f"not a WebSocket: {status!r}")
        if (b"permessage-deflate" in head.lower()) is not self.compress:
            raise WrongAnswer(f"compression is not as asked for: {head!r}")

    def _check_frame(self, incoming: BinaryIO, message: bytes) -> None:
        first, length = incoming.read(2)
        if length > 125:
            length = int.from_bytes(incoming.read(2 if length == 126 else 8), "big")
        payload = incoming.read(length)
        if self.compress:
            payload = zlib.decompressobj(-15).decompress(payload + b"\0\0\xff\xff")
        if first != (0xC2 if self.compress else 0x82) or payload != message:
            raise WrongAnswer(f"a frame that begins with {first:#x} and holds {payload[:40]!r}")

    def _frame(self, message: bytes) -> bytes:
        first = 0x82
        if self.compress:
            first = 0xC2
            compressor = zlib.compressobj(wbits=-12)
            message = compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH)[:-4]
        size = len(message)
        if size < 126:
            head = struct.pack("!BB", first, 128 | size)
        elif size < 65536:
            head = struct.pack("!BBH", first, 128 | 126, size)
        else:
            head = struct.pack("!BBQ", first, 128 | 127, size)
        key = b"\x12\x34\x56\x78"
        masked = int.from_bytes(message, "little") ^ int.from_bytes((key * (size // 4 + 1))[:size], "little")
        return head + key + masked.to_bytes(size, "little")

    def run(self, port: int, seconds: int) -> Load:
        """Load the server for so many seconds; raises LoadFailed."""
        if self._directory is None:
            self._directory = tempfile.TemporaryDirectory(prefix="nimloop-ws-")
            self._build(Path(self._directory.name))
        directory = Path(self._directory.name)
        command = [str(directory / "ws_load"), str(port), str(self.connections), str(seconds), self.path]
        command += [str(directory / "frame"), _DEFLATE if self.compress else ""]
        command += ["broadcast" if self.broadcast else "echo"]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=False)
        word, _, figures = ran.stdout.strip().partition(" ")
        if ran.returncode or word != "report":
            raise LoadFailed(f"the client ended with {ran.returncode}: {ran.stderr.strip()[-300:]}")
        count, elapsed = figures.split()
        if not int(count):
            raise LoadFailed("the client got no answer")
        return Load(int(count), float(elapsed))

    def _build(self, directory: Path) -> None:
        (directory / "frame").write_bytes(self._frame(text_like(self.size)))
        command = [*compiler(), "-O2", "-o", str(directory / "ws_load"), str(_SOURCE)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            raise LoadFailed(f"the client does not compile: {made.stderr.strip()[-600:]}")
