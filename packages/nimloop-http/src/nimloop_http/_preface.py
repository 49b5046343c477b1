"""What comes on a connection before the first request: what a proxy says about it, and the TLS handshake.

Both are told by their first bytes, so that plain HTTP on a port for HTTPS gets an answer that says so instead of a
connection that breaks. Everything has to come within one deadline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from nimloop_http._encode import STATUS_LINES
from nimloop_http._encoder import encode
from nimloop_http._proxyprotocol import ProxyHeader, read_proxy_header
from nimloop_http._session import HttpSession
from nimloop_http._source import Source
from nimloop_http.errors import ProxyProtocolError
from nimloop_net import Connection

if TYPE_CHECKING:
    from nimloop_http.server import HttpServer

_TLS_HANDSHAKE: Final = 0x16  # RFC 8446 §5.1: the type of the first record
_PLAIN: Final = b"400 Bad Request: this port speaks HTTPS; use https:// in the address\n"
_PLAIN_FIELDS: Final = "Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"


@final
class Preface:
    """Leads one connection to its `HttpSession`."""

    __slots__ = ("_connection", "_data", "_server", "_timer", "_told", "_wants_header")

    def __init__(self, server: HttpServer, connection: Connection) -> None:
        self._server: Final = server
        self._connection: Final = connection
        self._wants_header = server.proxy_protocol
        self._told: ProxyHeader | None = None
        self._data = b""
        proxies = server.proxies
        if self._wants_header and (proxies is None or not proxies.trusts(Source(connection).ip())):
            server.count_rejected()
            server.reject(connection, "it is none of the proxies that may speak the PROXY protocol")
            return
        self._timer: Final = connection.loop.call_later(server.timeouts.head, self._expired)
        connection.on_data = self._on_data
        connection.on_close = self._on_close
        connection.on_shutdown = Connection.close_after_drain

    def _on_data(self, connection: Connection, data: bytes) -> None:
        self._data += data
        if self._wants_header:
            try:
                told = read_proxy_header(self._data)
            except ProxyProtocolError as error:
                self._timer.cancel()
                self._server.reject(connection, str(error))
                return
            if told is None:
                return
            self._wants_header = False
            self._told = told
            self._data = self._data[told.size :]
        context = self._server.tls
        if context is None:
            self._begin()
        elif self._data:
            self._timer.cancel()
            connection.on_data = None
            if self._data[0] == _TLS_HANDSHAKE:
                data, self._data = self._data, b""
                timeout = self._server.timeouts.handshake
                connection.start_tls(
                    context, server_side=True, timeout=timeout, received=data, on_secure=self._on_secure
                )
            else:
                date = self._server.date.line(connection.loop.clock())
                connection.send(encode(STATUS_LINES[400], date, len(_PLAIN), _PLAIN_FIELDS, _PLAIN))
                connection.close_after_drain()

    def _on_secure(self, _connection: Connection) -> None:
        self._begin()

    def _begin(self) -> None:
        self._timer.cancel()
        server = self._server
        session = HttpSession(server, self._connection, Source(self._connection, server.proxies, self._told))
        if self._data:
            session.receive(self._connection, self._data)

    def _expired(self) -> None:
        self._server.reject(self._connection, "it did not say in time what it wants")

    def _on_close(self, connection: Connection, _error: Exception | None) -> None:
        self._timer.cancel()
        self._server.count_rejected()
        self._server.count_sent(connection)
