"""What may stand on the command line."""

from __future__ import annotations

import argparse
import math

LEVELS = ("debug", "info", "warning", "error", "critical")


def parser() -> argparse.ArgumentParser:
    """Return the parser; its errors end the program with status 2."""
    made = argparse.ArgumentParser(
        prog="python -m nimloop_http",
        description="Serve a folder, a handler or a WSGI application over HTTP. "
        "Ctrl+C finishes what is under way and stops; a second one stops at once.",
    )
    add_application_options(made)
    add_server_options(made)
    return made


def add_application_options(made: argparse.ArgumentParser) -> None:
    """Add what every command line that serves HTTP understands: what is served."""
    made.add_argument(
        "what",
        metavar="DIR | module:attr",
        nargs="?",
        default=".",
        help="the folder, or the handler or WSGI application, to serve (default: this folder)",
    )
    made.add_argument("--reload", action="store_true", help="start again when a Python file below this folder changes")
    made.add_argument(
        "--listing",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="show folders without an index page (default: on)",
    )
    made.add_argument("--dotfiles", action="store_true", help="serve files whose name begins with a dot, too")
    made.add_argument("--announce", action=argparse.BooleanOptionalAction, default=True, help=argparse.SUPPRESS)


def add_server_options(made: argparse.ArgumentParser) -> None:
    """Add the rest: where, with which certificate, and what it logs."""
    add_listening_options(made, port=8000)
    made.add_argument(
        "--access-log",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="write a line for each request to standard error (default: on)",
    )
    made.add_argument(
        "--proxy",
        metavar="NETWORK",
        action="append",
        default=[],
        help="believe what a proxy there says of the client: an address or a network, or unix for a Unix socket",
    )
    made.add_argument(
        "--proxy-fields",
        choices=("x-forwarded", "forwarded"),
        default="x-forwarded",
        help="where it says so: X-Forwarded-For, -Proto and -Host, or Forwarded (default: %(default)s)",
    )
    made.add_argument(
        "--proxy-protocol", action="store_true", help="each of its connections has to begin with a PROXY header"
    )
    add_running_options(made)


def add_listening_options(made: argparse.ArgumentParser, *, port: int) -> None:
    """Add where a server listens, and with which certificate."""
    made.add_argument("--host", default="127.0.0.1", help="address or name to listen on (default: %(default)s)")
    made.add_argument("--port", type=_port, default=port, help="port, 0 for a free one (default: %(default)s)")
    made.add_argument("--uds", metavar="PATH", help="listen on a Unix socket instead")
    made.add_argument(
        "--fd",
        metavar="N",
        type=int,
        action="append",
        default=[],
        help="serve a listening socket that was inherited; those of systemd are found without",
    )
    made.add_argument("--tls-cert", metavar="FILE", help="serve TLS with this certificate and its chain (PEM)")
    made.add_argument("--tls-key", metavar="FILE", help="its private key, unless that is in the same file")


def add_running_options(made: argparse.ArgumentParser) -> None:
    """Add what every command line understands: what it logs, how it waits and stops, which version it is."""
    made.add_argument(
        "--log-level", choices=LEVELS, default="info", help="what is worth a line otherwise (default: %(default)s)"
    )
    made.add_argument(
        "--grace",
        metavar="SECONDS",
        type=seconds,
        default=10.0,
        help="how long what is under way may take once it is asked to stop (default: %(default)g)",
    )
    made.add_argument("--backend", metavar="NAME", help="how to wait for events: epoll, poll (default: the best)")
    made.add_argument("--version", action="store_true", help="show the versions and exit")


def server_arguments(options: argparse.Namespace) -> list[str]:
    """Return the arguments for a child that serves the same on inherited sockets."""
    arguments = [options.what, "--grace", str(options.grace), "--log-level", options.log_level]
    arguments += ["--access-log" if options.access_log else "--no-access-log"]
    for name in ("uds", "tls_cert", "tls_key", "backend"):
        value = getattr(options, name)
        if value is not None:
            arguments += ["--" + name.replace("_", "-"), value]
    for network in options.proxy:
        arguments += ["--proxy", network]
    arguments += ["--proxy-fields", options.proxy_fields, *(["--proxy-protocol"] if options.proxy_protocol else [])]
    return arguments


def _port(text: str) -> int:
    try:
        port = int(text)
    except ValueError:
        port = -1
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"a port is a number between 0 and 65535, not {text!r}")
    return port


def seconds(text: str, *, may_be_zero: bool = False) -> float:
    """Read a time of an option; raises `argparse.ArgumentTypeError` for what is none, or more than a day."""
    try:
        time = float(text)
    except ValueError:
        time = math.nan
    if not 0 <= time <= 86400 or (time == 0 and not may_be_zero):
        least = "" if may_be_zero else "more than 0 and "
        raise argparse.ArgumentTypeError(f"a time is a number of seconds, {least}up to a day, not {text!r}")
    return time
