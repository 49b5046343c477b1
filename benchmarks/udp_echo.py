"""UDP echo: CPU time per round trip, nimloop beside asyncio, uvloop and a floor in C."""

import sys

from _harness import Options, arguments, positive, run
from _net import NetWorkload, contenders, content


def main() -> int:
    """Parse, measure, report."""
    parser = arguments(__doc__)
    parser.add_argument("--size", type=positive, default=64, metavar="BYTES", help="of a datagram (default 64)")
    parser.set_defaults(connections=0)
    given = parser.parse_args()
    # Each has one datagram on its way, and all have to fit into the server's buffer: 208 KiB with what Linux adds.
    given.connections = given.connections or max(1, min(32, 65536 // given.size))
    options = Options.of(given)
    data = content(given.size)
    workload = NetWorkload(data, data, options.connections, f"datagrams of {given.size} bytes echoed", udp=True)
    return run(f"udp_echo, {given.size} bytes", contenders("--udp"), workload, options)


if __name__ == "__main__":
    sys.exit(main())
