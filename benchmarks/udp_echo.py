"""UDP echo: CPU time per round trip, nimloop beside asyncio, uvloop and a floor in C."""

import sys

from _harness import Options, arguments, positive, run
from _net import NetWorkload, contenders, content


def main() -> int:
    """Parse, measure, report."""
    parser = arguments(__doc__)
    parser.add_argument("--size", type=positive, default=64, metavar="BYTES", help="of a datagram (default 64)")
    parser.set_defaults(connections=32)  # each has one datagram on its way: all fit into the server's buffer
    given = parser.parse_args()
    options = Options.of(given)
    data = content(given.size)
    workload = NetWorkload(data, data, options.connections, f"datagrams of {given.size} bytes echoed", udp=True)
    return run(f"udp_echo, {given.size} bytes", contenders("--udp"), workload, options)


if __name__ == "__main__":
    sys.exit(main())
