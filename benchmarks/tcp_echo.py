"""TCP echo: CPU time per round trip, nimloop beside asyncio, uvloop and a floor in C."""

import sys

from _harness import Options, arguments, positive, run
from _net import NetWorkload, contenders, content


def main() -> int:
    """Parse, measure, report."""
    parser = arguments(__doc__)
    parser.add_argument("--size", type=positive, default=64, metavar="BYTES", help="sent and echoed (default 64)")
    given = parser.parse_args()
    options = Options.of(given)
    data = content(given.size)
    workload = NetWorkload(data, data, options.connections, f"{given.size} bytes sent and echoed")
    return run(f"tcp_echo, {given.size} bytes", contenders(), workload, options)


if __name__ == "__main__":
    sys.exit(main())
