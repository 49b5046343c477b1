"""Uploads: CPU time per multipart form with one file, taken apart and stored by nimloop and by others."""

import http.client
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from _harness import Contender, Load, Options, WrongAnswer, arguments, positive, python_peer, run
from _wrk import run_wrk

HOST: Final = "127.0.0.1"
BOUNDARY: Final = "----nimloop-benchmark"
TYPE: Final = f"multipart/form-data; boundary={BOUNDARY}"
SCRIPT: Final = Path(__file__).with_name("upload.lua")
# Line ends in it, as often as chance has them: parsers look for boundaries at each.
PATTERN: Final = bytes((byte * 167 + 13) % 256 for byte in range(65_521))


def form(size: int) -> bytes:
    """One text and one file, as a browser sends them."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="title"\r\n\r\na title\r\n--{BOUNDARY}\r\n'
    head += 'Content-Disposition: form-data; name="file"; filename="noise.bin"\r\n'
    content = (PATTERN * (size // len(PATTERN) + 1))[:size]
    return head.encode() + b"Content-Type: a/b\r\n\r\n" + content + f"\r\n--{BOUNDARY}--\r\n".encode()


@dataclass(frozen=True, slots=True)
class UploadWorkload:
    """The same form over and over from wrk, one thread; the answer is the size of the file."""

    size: int
    connections: int
    unit: str = "form"

    def missing(self) -> str | None:
        """What has to be installed before this can run."""
        return None if shutil.which("wrk") else "wrk is not installed (Debian: apt-get install wrk)"

    def describe(self) -> str:
        """One line for the head of the report."""
        return f"POST of multipart/form-data with a file of {self.size} bytes, {self.connections} connections"

    def check(self, port: int, *, routes: bool) -> None:
        """Raises WrongAnswer unless the size comes back."""
        del routes
        connection = http.client.HTTPConnection(HOST, port, timeout=20)
        try:
            for _ in range(2):
                connection.request("POST", "/", form(self.size), {"Content-Type": TYPE})
                answer = connection.getresponse()
                body = answer.read()
                if (answer.status, body) != (200, str(self.size).encode()):
                    raise WrongAnswer(f"{answer.status} {body[:60]!r} for a file of {self.size} bytes")
        except http.client.HTTPException as error:
            raise WrongAnswer(f"not HTTP: {error!r}") from error
        finally:
            connection.close()

    def run(self, port: int, seconds: int) -> Load:
        """Load the server for so many seconds; raises LoadFailed on any error that wrk counted."""
        with tempfile.NamedTemporaryFile() as body:
            body.write(form(self.size))
            body.flush()
            command = ["wrk", "-t1", f"-c{self.connections}", f"-d{seconds}s", "--timeout", "20s", "-s", str(SCRIPT)]
            command += [f"http://{HOST}:{port}/", "--", body.name, TYPE]
            return run_wrk(command, seconds + 60)


def main() -> int:
    """Parse, measure, report."""
    parser = arguments(__doc__)
    parser.add_argument("--size", type=positive, default=1 << 20, metavar="BYTES", help="of the file (default 1 MiB)")
    parser.set_defaults(connections=8)
    given = parser.parse_args()
    options = Options.of(given)
    contenders = [
        Contender("nimloop-memory", python_peer("upload_nimloop.py", "--keep", "memory")),
        Contender("nimloop-disk", python_peer("upload_nimloop.py", "--keep", "disk")),
        Contender("aiohttp", python_peer("upload_aiohttp.py")),
        Contender("tornado", python_peer("upload_tornado.py")),
    ]
    workload = UploadWorkload(given.size, options.connections)
    return run(f"http_upload, {given.size} bytes", contenders, workload, options, floor="nimloop-memory")


if __name__ == "__main__":
    sys.exit(main())
