"""The command line: an echo server, and a client that talks.

python -m nimloop_ws                    serves an echo on ws://127.0.0.1:9001/
python -m nimloop_ws ws://…             connects; each line typed is a message
"""

from __future__ import annotations

import argparse
import logging
import ssl
import sys

from nimloop_core import Loop
from nimloop_http.command import ApplicationError, link, run_until_signalled, tls_context
from nimloop_ws import Deflate, WebSocket, WsLimits, WsServer
from nimloop_ws._console import Console
from nimloop_ws.errors import InvalidUrlError


def main(arguments: list[str] | None = None) -> int:
    """Run; return 0 after a clean end, 1 when it could not begin or was cut off, 2 for a wrong call."""
    parser = argparse.ArgumentParser(prog="python -m nimloop_ws", description="A WebSocket echo server, and a client.")
    parser.add_argument("url", nargs="?", default="serve", help="ws:// or wss:// to connect; default: serve an echo")
    parser.add_argument("--host", default="127.0.0.1", help="to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=9001, help="to listen on; 0: any free one (default 9001)")
    parser.add_argument("--tls-cert", metavar="FILE", help="certificate chain, PEM: serve wss")
    parser.add_argument("--tls-key", metavar="FILE", help="its key, if not in the same file")
    parser.add_argument("--insecure", action="store_true", help="client: accept any certificate")
    parser.add_argument("--header", action="append", default=[], metavar="NAME: VALUE", help="client: an extra field")
    parser.add_argument("--subprotocol", action="append", default=[], metavar="NAME", help="offer, or speak, this one")
    parser.add_argument("--no-compression", action="store_true", help="without permessage-deflate")
    parser.add_argument("--max-size", type=int, default=64 << 20, help="bytes of a message (default 64 MiB)")
    parser.add_argument("--grace", type=float, default=5.0, help="seconds to end in, when stopped (default 5)")
    parser.add_argument("--log-level", default="warning", choices=("debug", "info", "warning", "error"))
    given = parser.parse_args(arguments)
    logging.basicConfig(level=given.log_level.upper(), format="%(asctime)s %(name)s %(message)s")
    limits = WsLimits(frame=given.max_size, message=given.max_size)
    compression = None if given.no_compression else Deflate()
    if given.url == "serve":
        try:
            tls = tls_context(given)
        except ApplicationError as error:
            parser.error(str(error))
        return serve(
            given.host,
            given.port,
            grace=given.grace,
            limits=limits,
            compression=compression,
            subprotocols=given.subprotocol,
            tls=tls,
        )
    context = ssl.create_default_context()
    if given.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    headers = [(name.strip(), value.strip()) for name, _, value in (field.partition(":") for field in given.header)]
    try:
        with Loop() as loop:
            console = Console(loop)
            return console.talk(
                given.url,
                headers=headers,
                subprotocols=given.subprotocol,
                limits=limits,
                compression=compression,
                tls=context,
            )
    except (InvalidUrlError, ValueError) as error:
        parser.error(str(error))


def serve(
    host: str,
    port: int,
    *,
    grace: float,
    limits: WsLimits,
    compression: Deflate | None,
    subprotocols: list[str],
    tls: ssl.SSLContext | None,
) -> int:
    """Send every message back, until SIGINT or SIGTERM; a second one ends at once."""
    with (
        Loop() as loop,
        WsServer(
            loop, on_message=echo, limits=limits, compression=compression, subprotocols=subprotocols, tls=tls
        ) as server,
    ):
        try:
            addresses = server.listen(host or None, port)
        except OSError as error:
            print(f"cannot listen: {error}", file=sys.stderr)
            return 1

        def announce() -> None:
            for address in addresses:
                print(link(address, secure=tls is not None, scheme="ws"), flush=True)

        return 1 if run_until_signalled(loop, server, grace, announce) else 0


def echo(ws: WebSocket, message: str | bytes) -> None:
    """Send a message back."""
    ws.send(message)


if __name__ == "__main__":
    sys.exit(main())
