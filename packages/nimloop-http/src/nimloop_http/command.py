"""What command lines that serve have in common: their options, what these stand for, and how they speak.

They end with 0 after a clean stop, with 1 when they died, and with 2 when they could not begin.
"""

from __future__ import annotations

import socket
import ssl
from argparse import Namespace
from typing import Protocol

from nimloop_http._application import ApplicationError as ApplicationError
from nimloop_http._application import as_handler as as_handler
from nimloop_http._application import load_application as load_application
from nimloop_http._arguments import add_application_options as add_application_options
from nimloop_http._arguments import add_listening_options as add_listening_options
from nimloop_http._arguments import add_running_options as add_running_options
from nimloop_http._arguments import add_server_options as add_server_options
from nimloop_http._arguments import seconds as seconds
from nimloop_http._running import run_until_signalled as run_until_signalled
from nimloop_http._sources import SourceWatcher as SourceWatcher
from nimloop_http._speaking import explain as explain
from nimloop_http._speaking import fail as fail
from nimloop_http._speaking import log_to_stderr as log_to_stderr
from nimloop_http._speaking import printable as printable
from nimloop_http._speaking import say as say
from nimloop_http._speaking import versions as versions
from nimloop_http.proxy import TrustedProxies
from nimloop_net import Address, AddressError, format_address, inherited_sockets

__all__ = [
    "ApplicationError",
    "Listening",
    "SourceWatcher",
    "add_application_options",
    "add_listening_options",
    "add_running_options",
    "add_server_options",
    "as_handler",
    "explain",
    "fail",
    "link",
    "listen",
    "load_application",
    "log_to_stderr",
    "opened_sockets",
    "printable",
    "run_until_signalled",
    "say",
    "seconds",
    "tls_context",
    "trusted_proxies",
    "versions",
]


def tls_context(options: Namespace) -> ssl.SSLContext | None:
    """Return what ``--tls-cert`` and ``--tls-key`` ask for, or None. `ApplicationError` when it cannot be read."""
    if options.tls_cert is None:
        if options.tls_key is not None:
            raise ApplicationError("--tls-key needs --tls-cert")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(options.tls_cert, options.tls_key)
    except OSError as error:  # ssl.SSLError is one
        text = error.strerror or str(error)
        raise ApplicationError(f"cannot load the certificate {options.tls_cert!r}: {text}") from None
    return context


def trusted_proxies(options: Namespace) -> TrustedProxies | None:
    """Return what ``--proxy`` and ``--proxy-fields`` ask for, or None. `ApplicationError` for what is no network."""
    if not options.proxy:
        if options.proxy_protocol:
            raise ApplicationError("--proxy-protocol needs to know from whom: --proxy")
        return None
    try:
        return TrustedProxies(options.proxy, fields=options.proxy_fields)
    except ValueError as error:
        raise ApplicationError(f"--proxy: {error}") from None


def opened_sockets(options: Namespace) -> list[socket.socket]:
    """Return the sockets that somebody else has opened: those of ``--fd``, or else those of systemd.

    Raises `AddressError` for a descriptor that is no socket.
    """
    found: list[socket.socket] = []
    for fd in options.fd:
        try:
            found.append(socket.socket(fileno=fd))
        except OSError as error:
            raise AddressError(f"descriptor {fd} is no socket: {error.strerror}") from None
    if not found and options.uds is None:
        found = [sock for _, sock in inherited_sockets() if sock.type == socket.SOCK_STREAM]
    return found


class Listening(Protocol):
    """A server that can be told where to listen."""

    def adopt(self, sock: socket.socket) -> None:
        """Serve a listening socket that somebody else has opened."""

    def listen_unix(self, path: str) -> None:
        """Listen on a Unix socket."""

    def listen(self, host: str | None, port: int) -> list[tuple[str, int]]:
        """Listen on all addresses of a host."""


def listen(server: Listening, options: Namespace, sockets: list[socket.socket]) -> None:
    """Let a server listen on `sockets`, the result of `opened_sockets`; without any, where the options say."""
    for sock in sockets:
        server.adopt(sock)
    if options.uds is not None:
        server.listen_unix(options.uds)
    elif not sockets:
        server.listen(options.host, options.port)


def link(address: Address, *, secure: bool, scheme: str = "http") -> str:
    """Spell an address so that a terminal makes a link of it."""
    if isinstance(address, str):
        return f"the Unix socket {address}"
    return f"{scheme}{'s' if secure else ''}://{format_address(address)}/"
