"""Serve a folder over HTTP from the command line."""

from __future__ import annotations

import argparse
import logging
import os
import platform
import socket
import sys
from collections.abc import Sequence
from importlib.metadata import version

from nimloop_core import BackendUnavailableError
from nimloop_http.server import HttpServer, serve
from nimloop_http.static import StaticFiles
from nimloop_net import AddressError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m nimloop_http",
        description="Serve a folder over HTTP. Ctrl+C finishes what is under way and stops.",
    )
    parser.add_argument("folder", metavar="DIR", nargs="?", default=".", help="the folder to serve (default: this one)")
    parser.add_argument("--host", default="127.0.0.1", help="address or name to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=8000, help="port, 0 for a free one (default: %(default)s)")
    parser.add_argument("--uds", metavar="PATH", help="listen on a Unix socket instead")
    parser.add_argument(
        "--access-log",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="write a line for each request to standard error (default: on)",
    )
    parser.add_argument(
        "--listing",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="show folders without an index page (default: on)",
    )
    parser.add_argument("--dotfiles", action="store_true", help="serve files whose name begins with a dot, too")
    parser.add_argument("--backend", metavar="NAME", help="how to wait for events: epoll, poll (default: the best)")
    parser.add_argument("--version", action="store_true", help="show the versions and exit")
    return parser


def _port(text: str) -> int:
    try:
        port = int(text)
    except ValueError:
        port = -1
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"a port is a number between 0 and 65535, not {text!r}")
    return port


def _version() -> str:
    packages = " ".join(f"{name} {version(name)}" for name in ("nimloop-http", "nimloop-net", "nimloop-core"))
    return f"{packages}; {platform.python_implementation()} {platform.python_version()}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0 after a clean stop, 2 when it could not begin."""
    options = _parser().parse_args(arguments)
    if options.version:
        print(_version())
        return 0
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S")
    try:
        files = StaticFiles(options.folder, listing=options.listing, dotfiles=options.dotfiles)
    except OSError as error:
        return _fail(f"cannot serve {options.folder!r}: {error.strerror}")

    def announce(server: HttpServer) -> None:
        folder = files.root if files.root.isprintable() else repr(files.root)
        _say(f"Serving {folder} at {_link(server)} (stop with Ctrl+C)")

    try:
        serve(
            files.serve,
            options.host,
            options.port,
            uds=options.uds,
            access_log=options.access_log,
            backend=options.backend,
            on_listening=announce,
        )
    except (AddressError, BackendUnavailableError) as error:
        return _fail(str(error))
    except OSError as error:
        text = error.strerror or str(error)
        if options.uds is not None:
            return _fail(f"cannot listen on {options.uds!r}: {text}")
        return _fail(f"cannot listen on {options.host!r}: {text}" if isinstance(error, socket.gaierror) else text)
    except KeyboardInterrupt:
        return 130  # Ctrl+C while a name was looked up; the shell's number for it
    return 0


def _link(server: HttpServer) -> str:
    address = server.addresses[0]
    if isinstance(address, str):
        return f"the Unix socket {address}"
    host, port = address
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _say(text: str) -> None:
    """Print a line. That nobody reads it, or that it cannot be spelt, is no reason not to serve."""
    try:
        print(text, flush=True)
    except UnicodeEncodeError:
        print(text.encode("ascii", "backslashreplace").decode("ascii"), flush=True)
    except OSError:
        # What is left in the buffer would fail once more at exit, with a complaint.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _fail(text: str) -> int:
    print(f"nimloop_http: {text}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
