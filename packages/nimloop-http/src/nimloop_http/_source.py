"""Where the requests of one connection come from: the connection, and what proxies in front of it may say."""

from __future__ import annotations

from typing import Final, final

from nimloop_http._framing import Head
from nimloop_http._proxyprotocol import ProxyHeader
from nimloop_http.proxy import Client, TrustedProxies
from nimloop_net import Connection


@final
class Source:
    """One connection as the origin of requests."""

    __slots__ = ("connection", "proxies", "told")

    def __init__(
        self, connection: Connection, proxies: TrustedProxies | None = None, told: ProxyHeader | None = None
    ) -> None:
        self.connection: Final = connection
        self.proxies: Final = proxies
        self.told: Final = told
        """What the PROXY protocol said at its beginning."""

    def may_be_secure(self) -> bool:
        """Tell whether the client's connection may be secured: here, or by a proxy before it."""
        return self.proxies is not None or self.connection.tls is not None

    def ip(self) -> str:
        """Return the address at the other end, as far as the connection can tell; ``""`` for a Unix socket."""
        told = self.told
        if told is not None and told.source is not None:
            return told.source[0]
        peer = self.connection.peer
        return peer[0] if isinstance(peer, tuple) else ""

    def client(self, head: Head) -> Client:
        """Return who the client of a request is."""
        secure = self.connection.tls is not None or (self.told is not None and self.told.secure)
        scheme = "https" if secure else "http"
        if self.proxies is None:
            return Client(self.ip(), scheme, head.host)
        return self.proxies.client(head.headers, self.ip(), scheme, head.host)
