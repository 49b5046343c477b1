"""WebSocket broadcast: CPU time per delivered message, nimloop beside picows, aiohttp and websockets."""

import sys

from _harness import Options, arguments, positive, run
from _ws import WsWorkload
from ws_echo import CONTENDERS


def main() -> int:
    """Parse, measure, report."""
    parser = arguments(__doc__)
    parser.set_defaults(connections=200)
    parser.add_argument("--size", type=positive, default=256, help="bytes of a message (default 256)")
    parser.add_argument("--compress", action="store_true", help="with permessage-deflate, which picows does not have")
    given = parser.parse_args()
    options = Options.of(given)
    workload = WsWorkload(given.size, options.connections, compress=given.compress, broadcast=True)
    contenders = [each for each in CONTENDERS if not given.compress or each.name != "picows"]
    return run("ws_broadcast", contenders, workload, options, floor="nimloop" if given.compress else "picows")


if __name__ == "__main__":
    sys.exit(main())
