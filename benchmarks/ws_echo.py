"""WebSocket echo: CPU time per message, nimloop beside picows, aiohttp and websockets."""

import sys
from typing import Final

from _harness import Contender, Options, arguments, positive, python_peer, run
from _ws import WsWorkload

CONTENDERS: Final = (
    Contender("nimloop", python_peer("ws_nimloop.py")),
    Contender("picows", python_peer("ws_picows.py")),
    Contender("aiohttp", python_peer("ws_aiohttp.py")),
    Contender("websockets", python_peer("ws_websockets.py")),
)


def main() -> int:
    """Parse, measure, report."""
    parser = arguments(__doc__)
    parser.set_defaults(connections=32)
    parser.add_argument("--size", type=positive, default=256, help="bytes of a message (default 256)")
    parser.add_argument("--compress", action="store_true", help="with permessage-deflate, which picows does not have")
    given = parser.parse_args()
    options = Options.of(given)
    workload = WsWorkload(given.size, options.connections, compress=given.compress)
    contenders = [each for each in CONTENDERS if not given.compress or each.name != "picows"]
    return run("ws_echo", contenders, workload, options, floor="nimloop" if given.compress else "picows")


if __name__ == "__main__":
    sys.exit(main())
