"""A server that speaks nothing but WebSocket."""

from __future__ import annotations

import socket
from collections.abc import Callable
from ssl import SSLContext
from types import TracebackType
from typing import Final, Self, final

from nimloop_core import Loop
from nimloop_http import HttpRequest, HttpResponse, HttpServer, Limits, Timeouts
from nimloop_net import Address
from nimloop_ws._upgrade import DEFAULT_COMPRESSION, upgrade
from nimloop_ws.deflate import Deflate
from nimloop_ws.handshake import ExtraHeaders, Origins, Subprotocols
from nimloop_ws.settings import DEFAULT_LIMITS, DEFAULT_TIMEOUTS, WsLimits, WsTimeouts
from nimloop_ws.websocket import OnClose, OnError, OnFragment, OnMessage, OnPong, OnWebSocket, WebSocket

__all__ = ["OnHandshake", "WsServer"]

OnHandshake = Callable[[HttpRequest, HttpResponse], object]
"""Called with a request before it is upgraded; to refuse it, answer it."""

_HANDSHAKE: Final = 10.0  # seconds


@final
class WsServer:
    """Accepts WebSockets on any number of TCP addresses and Unix paths; other requests get 426.

    The callbacks are those of `WebSocket` and are given to every new one; ``on_open(ws)`` comes first. They may be
    replaced, for later WebSockets. ``on_handshake(req, res)`` sees each request before it is upgraded, and refuses it
    by answering it. A WebSocket may come from a page of any origin, because such a server has no pages of its own:
    restrict it with `origins`. The handshake has to be complete within `handshake_timeout` seconds. With `tls`, a
    server-side context, it serves ``wss``. Beyond `max_connections` new ones wait in the backlog.
    """

    def __init__(
        self,
        loop: Loop,
        *,
        on_open: OnWebSocket | None = None,
        on_message: OnMessage | None = None,
        on_fragment: OnFragment | None = None,
        on_pong: OnPong | None = None,
        on_drain: OnWebSocket | None = None,
        on_error: OnError | None = None,
        on_close: OnClose | None = None,
        on_handshake: OnHandshake | None = None,
        origins: Origins = None,
        subprotocols: Subprotocols = (),
        compression: Deflate | None = DEFAULT_COMPRESSION,
        headers: ExtraHeaders = (),
        limits: WsLimits = DEFAULT_LIMITS,
        timeouts: WsTimeouts = DEFAULT_TIMEOUTS,
        handshake_timeout: float = _HANDSHAKE,
        max_connections: int | None = None,
        tls: SSLContext | None = None,
    ) -> None:
        self.loop: Final[Loop] = loop
        """The loop that it belongs to."""
        self.on_open = on_open
        self.on_message = on_message
        self.on_fragment = on_fragment
        self.on_pong = on_pong
        self.on_drain = on_drain
        self.on_error = on_error
        self.on_close = on_close
        self.on_handshake = on_handshake
        self.origins: Final = origins
        self.subprotocols: Final = subprotocols
        self.compression: Final = compression
        self.headers: Final = tuple(headers)
        self.limits: Final = limits
        self.timeouts: Final = timeouts
        self._websockets: Final[dict[WebSocket, None]] = {}
        self._http: Final = HttpServer(
            loop,
            self._on_request,
            limits=Limits(body=0, pipeline=1),
            timeouts=Timeouts(head=handshake_timeout, body=handshake_timeout, idle=handshake_timeout),
            tls=tls,
            max_connections=max_connections,
        )

    @property
    def addresses(self) -> list[Address]:
        """Where it listens: ``(host, port)`` or a path each."""
        return self._http.addresses

    @property
    def websockets(self) -> list[WebSocket]:
        """Those that are open now."""
        return list(self._websockets)

    def listen(
        self, host: str | None = "127.0.0.1", port: int = 9001, *, backlog: int = 2048, reuse_port: bool = False
    ) -> list[tuple[str, int]]:
        """Listen on every address of `host` (None: all of this machine) and return them with their ports.

        Port 0 takes a free one. Raises OSError, for instance when the port is taken.
        """
        return self._http.listen(host, port, backlog=backlog, reuse_port=reuse_port)

    def listen_unix(self, path: str, mode: int = 0o660, *, backlog: int = 2048) -> None:
        """Listen on a Unix socket. Raises `AddressError` when the path is a living server's or not a socket."""
        self._http.listen_unix(path, mode, backlog=backlog)

    def adopt(self, sock: socket.socket | int) -> None:
        """Take over a socket, or its descriptor, that listens already, for instance one of `inherited_sockets`.

        Raises `AddressError` for any other, and leaves it open.
        """
        self._http.adopt(sock)

    def shutdown(self, grace: float | None = None, on_done: Callable[[int], object] | None = None) -> None:
        """Stop listening and close every WebSocket with 1001.

        What is still there after `grace` seconds (10 by default) is cut off. ``on_done(aborted)`` is called once all
        connections are gone, with the number of those that were cut off.
        """
        self._http.shutdown(grace, on_done)

    def close(self) -> None:
        """Stop listening and cut off every connection, now. Harmless when repeated."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._http).replace("HttpServer", "WsServer", 1)

    def _on_request(self, req: HttpRequest, res: HttpResponse) -> None:
        if self.on_handshake is not None:
            self.on_handshake(req, res)
            if res.done or res.closed:
                return
        upgrade(
            req,
            res,
            on_open=self._opened,
            on_message=self.on_message,
            on_fragment=self.on_fragment,
            on_pong=self.on_pong,
            on_drain=self.on_drain,
            on_error=self.on_error,
            on_close=self.on_close,
            origins=self.origins,
            subprotocols=self.subprotocols,
            compression=self.compression,
            headers=self.headers,
            limits=self.limits,
            timeouts=self.timeouts,
        )

    def _opened(self, ws: WebSocket) -> None:
        self._websockets[ws] = None
        ws._on_gone = self._websockets.pop
        if self.on_open is not None:
            self.on_open(ws)
