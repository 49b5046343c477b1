"""Sending a file: CPU time per file, nimloop beside asyncio, uvloop and a floor in C."""

import sys
import tempfile
from pathlib import Path

from _harness import Options, arguments, positive, run
from _net import NetWorkload, contenders, content


def main() -> int:
    """Parse, measure, report."""
    parser = arguments(__doc__)
    parser.add_argument("--size", type=positive, default=1 << 20, metavar="BYTES", help="of the file (default 1 MiB)")
    parser.set_defaults(connections=8)
    given = parser.parse_args()
    options = Options.of(given)
    answer = content(given.size)
    with tempfile.TemporaryDirectory(prefix="nimloop-file-") as directory:
        file = Path(directory) / "file"
        file.write_bytes(answer)
        workload = NetWorkload(
            b"?", answer, options.connections, f"a file of {given.size} bytes for every byte", unit="file"
        )
        return run(f"sendfile, {given.size} bytes", contenders("--file", str(file)), workload, options)


if __name__ == "__main__":
    sys.exit(main())
