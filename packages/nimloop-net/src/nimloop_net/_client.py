"""Clients: `connect` and `connect_unix` check what they are asked for and set a `Connector` to work."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from nimloop_core import Loop
from nimloop_net._attempt import UNIX
from nimloop_net._connection import OnClose, OnData, OnDrain, OnEof
from nimloop_net._connector import Connector, OnConnect, OnConnectError
from nimloop_net._happy_eyeballs import ATTEMPT_DELAY, FIRST_FAMILY_COUNT, MIN_ATTEMPT_DELAY
from nimloop_net._literals import check_name, parse_literal
from nimloop_net._resolve import SHARED, NameSource
from nimloop_net.errors import AddressError

if TYPE_CHECKING:
    from ssl import SSLContext

TIMEOUT: Final = 10.0


def connect(
    loop: Loop,
    host: str,
    port: int,
    *,
    on_connect: OnConnect,
    on_data: OnData | None = None,
    on_error: OnConnectError | None = None,
    on_close: OnClose | None = None,
    on_drain: OnDrain | None = None,
    on_eof: OnEof | None = None,
    tls: SSLContext | None = None,
    server_hostname: str | None = None,
    timeout: float = TIMEOUT,
    attempt_timeout: float | None = None,
    attempt_delay: float = ATTEMPT_DELAY,
    first_family_count: int = FIRST_FAMILY_COUNT,
    local_address: tuple[str, int] | None = None,
    resolver: NameSource | None = None,
) -> Connector:
    """Connect to a host, a name or a literal address; `Connector.cancel` gives up.

    One of ``on_connect(conn)`` and ``on_error(error)`` is called, once and never from inside this call. The connection
    has the other callbacks already and does as one of a server does; none of them is called before `on_connect`, and
    without `on_connect` none at all.

    All addresses of a name are tried, its families in turn, the next one when the last has failed or after
    `attempt_delay` seconds; the first that answers stays (RFC 8305, Happy Eyeballs; `first_family_count` addresses of
    the preferred family come before the first of the other). `timeout` seconds bound all of it, from the look-up to the
    TLS handshake, `attempt_timeout` each address; the system's own patience is two minutes on Linux. `local_address` is
    the literal address and port, 0 for any, to connect from.

    With `tls`, `on_connect` follows the handshake; `server_hostname` is the name that the certificate has to be for, by
    default the host.

    `on_error` gets `AddressError`, `ResolveError` and its kinds, `ConnectError` and its kinds, what TLS finds wrong
    (`ssl.SSLError`, `TruncatedError`), or what the kernel says of the connection meanwhile; all are OSErrors. Without
    `on_error`, the loop's exception handler gets it. Raises ValueError for settings that cannot work, whatever the
    network does: a server name without TLS, a delay under 10 ms (RFC 8305 §8), a local address that is none.
    """
    if not attempt_delay >= MIN_ATTEMPT_DELAY:
        raise ValueError(f"a delay between attempts is at least {MIN_ATTEMPT_DELAY} seconds, not {attempt_delay}")
    if first_family_count < 1:
        raise ValueError(f"at least one address of the first family comes first, not {first_family_count}")
    if tls is not None and server_hostname is None:
        server_hostname = _name_on_certificate(host)
    local = None
    if local_address is not None:
        parsed = parse_literal(*local_address)
        if parsed is None:
            raise AddressError(f"a local address is not a name: {local_address[0]!r}")
        local = parsed[1]
    connector = Connector(
        loop,
        f"{host} port {port}",
        on_connect=on_connect,
        on_error=on_error,
        slots=(on_data, on_close, on_drain, on_eof),
        tls=tls,
        server_hostname=server_hostname,
        timeout=timeout,
    )
    connector.local = local
    connector.attempt_delay = attempt_delay
    connector.attempt_timeout = attempt_timeout
    connector.first_count = first_family_count
    source = SHARED if resolver is None else resolver
    loop.call_soon(lambda: connector.find(host, port, source))
    return connector


def connect_unix(
    loop: Loop,
    path: str,
    *,
    on_connect: OnConnect,
    on_data: OnData | None = None,
    on_error: OnConnectError | None = None,
    on_close: OnClose | None = None,
    on_drain: OnDrain | None = None,
    on_eof: OnEof | None = None,
    tls: SSLContext | None = None,
    server_hostname: str | None = None,
    timeout: float = TIMEOUT,
) -> Connector:
    """Connect to a Unix socket's path, or to an abstract name, which begins with a NUL (unix(7)); see `connect`.

    While the server's queue is full, it is tried again until `timeout`. With `tls`, the name for the certificate has to
    be given.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise AddressError("this system has no Unix sockets")
    if not path or "\0" in path[1:]:
        raise AddressError(f"a Unix socket's path is not empty and holds no NUL: {path!r}")
    connector = Connector(
        loop,
        repr(path),
        on_connect=on_connect,
        on_error=on_error,
        slots=(on_data, on_close, on_drain, on_eof),
        tls=tls,
        server_hostname=server_hostname,
        timeout=timeout,
    )
    loop.call_soon(lambda: connector.try_each([(UNIX, path)]))
    return connector


def _name_on_certificate(host: str) -> str:
    """Return the host as certificates have it: in ASCII, without the zone of an address or the dot of the root."""
    try:
        return check_name(host).removesuffix(".") if ":" not in host else host.partition("%")[0]
    except AddressError:
        return host  # it will be refused as an address in a moment
