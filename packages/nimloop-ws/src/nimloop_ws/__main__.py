"""The command line: an echo server, and a client that talks.

python -m nimloop_ws                    serves an echo on ws://127.0.0.1:9001/
python -m nimloop_ws ws://…             connects; each line typed is a message
"""

from __future__ import annotations

import argparse
import ssl
import sys
from collections.abc import Sequence
from typing import Final

from nimloop_core import BackendUnavailableError, Loop
from nimloop_http.command import (
    ApplicationError,
    add_listening_options,
    add_running_options,
    explain,
    fail,
    link,
    listen,
    log_to_stderr,
    opened_sockets,
    run_until_signalled,
    say,
    tls_context,
    versions,
)
from nimloop_net import AddressError
from nimloop_ws import Deflate, WebSocket, WsLimits, WsServer, build
from nimloop_ws._console import Console
from nimloop_ws.errors import InvalidUrlError

_PROGRAM: Final = "nimloop_ws"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0 after a clean stop, 1 when it died, 2 when it could not begin."""
    options = _parser().parse_args(arguments)
    if options.version:
        print(versions("nimloop-ws", build.IMPLEMENTATION))
        return 0
    log_to_stderr(options.log_level)
    try:
        return _serve(options) if options.url is None else _talk(options)
    except (ApplicationError, AddressError, BackendUnavailableError, InvalidUrlError, ValueError) as error:
        return fail(_PROGRAM, str(error))
    except OSError as error:
        return fail(_PROGRAM, explain(error, options))


def _serve(options: argparse.Namespace) -> int:
    """Send every message back, until SIGINT or SIGTERM; a second one ends at once."""
    tls = tls_context(options)
    with (
        Loop(options.backend) as loop,
        WsServer(
            loop,
            on_message=echo,
            limits=_limits(options),
            compression=_compression(options),
            subprotocols=options.subprotocol,
            tls=tls,
        ) as server,
    ):
        listen(server, options, opened_sockets(options))
        where = link(server.addresses[0], secure=tls is not None, scheme="ws")
        text = f"Serving an echo at {where} (stop with Ctrl+C)"
        run_until_signalled(loop, server, options.grace, lambda: say(text))
    return 0


def _talk(options: argparse.Namespace) -> int:
    """Connect, and talk from the terminal."""
    context = ssl.create_default_context()
    if options.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    with Loop(options.backend) as loop:
        return Console(loop).talk(
            options.url,
            headers=options.header,
            subprotocols=options.subprotocol,
            limits=_limits(options),
            compression=_compression(options),
            tls=context,
        )


def _limits(options: argparse.Namespace) -> WsLimits:
    return WsLimits(frame=options.max_size, message=options.max_size)


def _compression(options: argparse.Namespace) -> Deflate | None:
    return Deflate() if options.compression else None


def echo(ws: WebSocket, message: str | bytes) -> None:
    """Send a message back."""
    ws.send(message)


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m nimloop_ws",
        description="Serve an echo over WebSockets, or talk to a WebSocket server: each line typed is a message. "
        "Ctrl+C closes what is open and stops; a second one stops at once.",
    )
    made.add_argument("url", metavar="ws://…", nargs="?", help="what to talk to (default: serve an echo)")
    made.add_argument("--insecure", action="store_true", help="talk to a server with any certificate")
    made.add_argument(
        "--header",
        metavar="NAME: VALUE",
        type=_field,
        action="append",
        default=[],
        help="one more field to ask a server with",
    )
    made.add_argument(
        "--subprotocol", metavar="NAME", action="append", default=[], help="offer this one, or speak it as a server"
    )
    made.add_argument(
        "--compression",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="permessage-deflate, where both sides want it (default: on)",
    )
    made.add_argument(
        "--max-size", metavar="BYTES", type=int, default=64 << 20, help="the largest message (default: %(default)d)"
    )
    add_listening_options(made, port=9001)
    add_running_options(made)
    return made


def _field(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"a field is NAME: VALUE, not {text!r}")
    return name.strip(), value.strip()


if __name__ == "__main__":
    sys.exit(main())
