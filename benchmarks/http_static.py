"""Static files: CPU time per request for a small file and for a large one, nimloop beside nginx and others."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from _builds import COMPILED, PURE, interpreter
from _harness import HERE, Contender, Options, arguments, positive, run
from _wrk import HttpWorkload

NAME: Final = "file.bin"
# Not zeros: what is not written would be a hole in the file, and cost less to send than a file does.
PATTERN: Final = bytes(range(256)) * 4096


def content(size: int) -> bytes:
    """What the file holds."""
    return (PATTERN * (size // len(PATTERN) + 1))[:size]


def peer(program: str, size: int, build: str = COMPILED) -> Callable[[Path], list[str]]:
    """The command of a program in `peers/` that is told which folder to serve."""

    def command(directory: Path) -> list[str]:
        folder = directory / "public"
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        directory.chmod(0o755)  # nginx serves as another user when it is started by root
        file = folder / NAME
        if not file.exists():
            file.write_bytes(content(size))
            os.utime(file, (1_700_000_000, 1_700_000_000))
        return [*interpreter(build), str(HERE / "peers" / program), "--root", str(folder)]

    return command


def main() -> int:
    """Parse, measure, report."""
    parser = arguments(__doc__)
    parser.add_argument("--size", type=positive, default=1024, metavar="BYTES", help="of the file (default 1024)")
    given = parser.parse_args()
    options = Options.of(given)
    contenders = [
        Contender("nginx", peer("static_nginx.py", given.size)),
        Contender("nimloop", peer("static_nimloop.py", given.size)),
        Contender("nimloop-python", peer("static_nimloop.py", given.size, PURE)),
        Contender("aiohttp", peer("static_aiohttp.py", given.size)),
        Contender("tornado", peer("static_tornado.py", given.size)),
    ]
    workload = HttpWorkload(path=f"/{NAME}", body=content(given.size), connections=options.connections)
    return run(f"http_static, {given.size} bytes", contenders, workload, options, floor="nginx")


if __name__ == "__main__":
    sys.exit(main())
