"""Serve a folder, a handler or a WSGI application from the command line."""

from __future__ import annotations

import os
import socket
import ssl
import sys
import traceback
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from nimloop_core import READ, BackendUnavailableError
from nimloop_http._arguments import parser, server_arguments
from nimloop_http._reload import PARENT_PIPE, open_sockets, run_reloading
from nimloop_http.command import (
    ApplicationError,
    as_handler,
    explain,
    fail,
    link,
    load_application,
    log_to_stderr,
    opened_sockets,
    printable,
    say,
    tls_context,
    trusted_proxies,
    versions,
)
from nimloop_http.limits import DEFAULT_TIMEOUTS
from nimloop_http.proxy import TrustedProxies
from nimloop_http.server import HttpServer, OnRequest, serve
from nimloop_http.static import StaticFiles
from nimloop_net import Address, AddressError, address_of

_PROGRAM: Final = "nimloop_http"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0 after a clean stop, 1 when it died, 2 when it could not begin."""
    options = parser().parse_args(arguments)
    if options.version:
        print(versions())
        return 0
    log_to_stderr(options.log_level)
    try:
        tls = tls_context(options)
        proxies = trusted_proxies(options)
        sockets = opened_sockets(options)
        if options.reload:
            return _reload(options, sockets, secure=tls is not None)
        application = _application(options)
    except (ApplicationError, AddressError) as error:
        return fail(_PROGRAM, str(error))
    except OSError as error:
        return fail(_PROGRAM, explain(error, options))
    except KeyboardInterrupt:
        return 130
    except Exception:
        traceback.print_exc()
        return 1
    return _serve(options, application, tls, proxies, sockets)


def _serve(
    options: Namespace,
    application: tuple[OnRequest, str],
    tls: ssl.SSLContext | None,
    proxies: TrustedProxies | None,
    sockets: list[socket.socket],
) -> int:
    on_request, name = application

    def announce(server: HttpServer) -> None:
        if options.announce:
            say(f"Serving {name} at {link(server.addresses[0], secure=tls is not None)} (stop with Ctrl+C)")
        parent = os.environ.get(PARENT_PIPE)
        if parent is not None:
            server.loop.register(int(parent), READ, lambda _events: os._exit(1))

    try:
        serve(
            on_request,
            options.host,
            options.port,
            uds=options.uds,
            sockets=sockets,
            tls=tls,
            proxies=proxies,
            proxy_protocol=options.proxy_protocol,
            timeouts=replace(DEFAULT_TIMEOUTS, grace=options.grace),
            access_log=options.access_log,
            backend=options.backend,
            on_listening=announce,
        )
    except (AddressError, BackendUnavailableError) as error:
        return fail(_PROGRAM, str(error))
    except OSError as error:
        return fail(_PROGRAM, explain(error, options))
    except KeyboardInterrupt:
        return 130  # Ctrl+C while a name was looked up; the shell's number for it
    return 0


def _application(options: Namespace) -> tuple[OnRequest, str]:
    """Return what is to be served, and what it is called."""
    what: str = options.what
    if ":" in what and not os.path.isdir(what):
        return as_handler(load_application(what)), what
    try:
        files = StaticFiles(what, listing=options.listing, dotfiles=options.dotfiles)
    except OSError as error:
        raise ApplicationError(f"cannot serve {what!r}: {error.strerror}") from None
    return files.serve, printable(files.root)


def _reload(options: Namespace, sockets: list[socket.socket], *, secure: bool) -> int:
    """Serve in a child process that is replaced when the source changes."""
    if os.name == "nt":
        raise ApplicationError("--reload needs sockets that a child process inherits, which Windows does not have")
    if ":" not in options.what:
        raise ApplicationError("--reload is for module:attr: a folder is always up to date")
    # A Unix socket's path belongs to whoever listens, so there the child does; clients have to try again.
    opened = sockets if sockets or options.uds is not None else open_sockets(options.host, options.port)
    address: Address = address_of(opened[0].getsockname()) if opened else options.uds
    say(f"Serving {options.what} at {link(address, secure=secure)} (reloading; stop with Ctrl+C)")
    try:
        return run_reloading(server_arguments(options), opened, lambda text: fail(_PROGRAM, f"{options.what} {text}"))
    finally:
        for sock in opened:
            sock.close()


if __name__ == "__main__":
    sys.exit(main())
