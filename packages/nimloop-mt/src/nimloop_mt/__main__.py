"""Serve a folder, a handler or a WSGI application on all cores from the command line."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import Final

from nimloop_core import BackendUnavailableError
from nimloop_http import Timeouts
from nimloop_http.command import (
    ApplicationError,
    add_application_options,
    add_server_options,
    explain,
    fail,
    link,
    listen,
    log_to_stderr,
    opened_sockets,
    printable,
    say,
    seconds,
    tls_context,
    trusted_proxies,
    versions,
)
from nimloop_mt._folder import Folder
from nimloop_mt.errors import ModeError, WorkerStartError
from nimloop_mt.server import MultiThreadHttpServer
from nimloop_net import AddressError

_PROGRAM: Final = "nimloop_mt"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0 after a clean stop, 1 when it died, 2 when it could not begin."""
    options = _parser().parse_args(arguments)
    if options.version:
        print(versions("nimloop-mt"))
        return 0
    log_to_stderr(options.log_level)
    try:
        return _serve(options)
    except (ApplicationError, AddressError, BackendUnavailableError, ModeError, WorkerStartError) as error:
        return fail(_PROGRAM, str(error))
    except OSError as error:
        return fail(_PROGRAM, explain(error, options))
    except KeyboardInterrupt:
        return 130  # Ctrl+C while a name was looked up; the shell's number for it


def _serve(options: argparse.Namespace) -> int:
    secure = tls_context(options) is not None  # a certificate that cannot be read is told of here, once
    folder = _folder(options)
    if options.reload and folder is not None:
        raise ApplicationError("--reload is for module:attr: a folder is always up to date")
    with MultiThreadHttpServer(
        options.what if folder is None else None,
        factory=folder,
        workers=options.workers,
        mode="processes" if options.reload and options.mode == "auto" else options.mode,
        start_method="fork" if options.fork else "spawn",
        timeouts=Timeouts(grace=options.grace),
        tls=(options.tls_cert, options.tls_key) if secure else None,
        proxies=trusted_proxies(options),
        proxy_protocol=options.proxy_protocol,
        access_log=options.access_log,
        max_requests=options.max_requests or None,
        max_memory=options.max_memory << 20 or None,
        watchdog=options.watchdog or None,
        pin_cpus=options.pin_cpus,
        reload="." if options.reload else None,
        backend=options.backend,
        log_level=options.log_level,
    ) as server:
        listen(server, options, opened_sockets(options))
        if options.health_port is not None:
            server.listen_health(options.host, options.health_port)
        where = link(server.addresses[0], secure=secure)
        name = printable(options.what if folder is None else folder.path)
        text = f"Serving {name} at {where} with {server.workers} {server.mode} (stop with Ctrl+C)"
        report = server.run(lambda: say(text) if options.announce else None)
    if report.aborted or report.killed:
        logging.getLogger("nimloop.mt").warning(
            "cut off at the end: %d connections; killed: %d workers", report.aborted, report.killed
        )
    return 0


def _folder(options: argparse.Namespace) -> Folder | None:
    """Return the folder that is to be served; None when it is something else."""
    if ":" in options.what and not os.path.isdir(options.what):
        return None
    path = options.what and os.path.abspath(options.what)
    folder = Folder(path=path, listing=options.listing, dotfiles=options.dotfiles)
    try:
        folder.open()
    except OSError as error:
        raise ApplicationError(f"cannot serve {options.what!r}: {error.strerror}") from None
    return folder


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m nimloop_mt",
        description="Serve a folder, a handler or a WSGI application on all cores. SIGTERM or Ctrl+C finishes what is "
        "under way and stops, a second one stops at once; SIGHUP replaces the workers one by one.",
    )
    add_application_options(made)
    made.add_argument("--workers", type=_count, default=0, help="how many; 0, the default, for one per processor")
    made.add_argument(
        "--mode", choices=("auto", "threads", "processes"), default="auto", help="what they are (default: by the GIL)"
    )
    made.add_argument("--fork", action="store_true", help="copy this process rather than start new interpreters")
    made.add_argument(
        "--max-requests",
        metavar="N",
        type=_count,
        default=0,
        help="replace a worker that has answered so many (default: 0, never)",
    )
    made.add_argument(
        "--max-memory",
        metavar="MIB",
        type=_count,
        default=0,
        help="replace a worker that uses so much (default: 0, never)",
    )
    made.add_argument(
        "--watchdog",
        metavar="SECONDS",
        type=lambda text: seconds(text, may_be_zero=True),
        default=30.0,
        help="replace one that hangs; 0: never (default: 30)",
    )
    made.add_argument("--pin-cpus", action="store_true", help="tie each worker to a processor")
    made.add_argument("--health-port", metavar="PORT", type=_count, help="answer /live, /ready and /metrics there")
    add_server_options(made)
    return made


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number, not {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
