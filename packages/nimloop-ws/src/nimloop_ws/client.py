"""The client: from a URL to a WebSocket."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from nimloop_core import Loop
from nimloop_net import Connection
from nimloop_net import connect as connect_tcp
from nimloop_ws._opening import OnFailure, Opening
from nimloop_ws._response import ResponseReader
from nimloop_ws._upgrade import DEFAULT_COMPRESSION
from nimloop_ws._url import parse_url
from nimloop_ws.deflate import Deflate
from nimloop_ws.handshake import Accepted, ExtraHeaders, build_handshake_request, new_key
from nimloop_ws.parser import CLIENT
from nimloop_ws.settings import DEFAULT_LIMITS, DEFAULT_TIMEOUTS, WsLimits, WsTimeouts
from nimloop_ws.websocket import OnClose, OnError, OnFragment, OnMessage, OnPong, OnWebSocket, WebSocket

__all__ = ["connect"]


def connect(
    loop: Loop,
    url: str,
    *,
    on_open: OnWebSocket | None = None,
    on_message: OnMessage | None = None,
    on_fragment: OnFragment | None = None,
    on_pong: OnPong | None = None,
    on_drain: OnWebSocket | None = None,
    on_error: OnError | None = None,
    on_close: OnClose | None = None,
    on_failure: OnFailure | None = None,
    subprotocols: Sequence[str] = (),
    compression: Deflate | None = DEFAULT_COMPRESSION,
    origin: str | None = None,
    headers: ExtraHeaders = (),
    limits: WsLimits = DEFAULT_LIMITS,
    timeouts: WsTimeouts = DEFAULT_TIMEOUTS,
    timeout: float = 10.0,
    tls: ssl.SSLContext | None = None,
    over: Connection | None = None,
) -> Opening:
    """Open a WebSocket; either ``on_open(ws)`` or ``on_failure(error)`` is called, from the loop, within `timeout`.

    The other callbacks are those of `WebSocket`. The error is a `HandshakeError` for what the server says, among them
    `HandshakeRefusedError` with its answer, or what connecting raises: OSError, ssl.SSLError. Redirects are not
    followed. `tls` is for ``wss``; by default the system's certificates are trusted and the name is checked. `over` is
    a connection to use instead of making one: to a Unix socket, or through a proxy.

    Raises `InvalidUrlError`, and ValueError for a field that cannot be sent.
    """
    where = parse_url(url)
    key = new_key()
    request = build_handshake_request(
        where, key, subprotocols=subprotocols, origin=origin, headers=headers, compression=compression
    )

    def accepted(connection: Connection, terms: Accepted, early: bytes) -> None:
        ws = WebSocket(
            connection,
            CLIENT,
            agreement=terms.agreement,
            subprotocol=terms.subprotocol,
            limits=limits,
            timeouts=timeouts,
            on_message=on_message,
            on_fragment=on_fragment,
            on_pong=on_pong,
            on_drain=on_drain,
            on_error=on_error,
            on_close=on_close,
        )
        ws.start(early, on_open)

    reader = ResponseReader(key, subprotocols=subprotocols, compression=compression)
    opening = Opening(loop, timeout, request=request, reader=reader, on_accepted=accepted, on_failure=on_failure)
    if over is not None:
        opening.connected(over)
        return opening
    if not where.secure:
        tls = None
    elif tls is None:
        tls = ssl.create_default_context()
    try:
        attempt = connect_tcp(
            loop,
            where.host,
            where.port,
            on_connect=opening.connected,
            on_error=opening.failed,
            tls=tls,
            timeout=timeout,
        )
    except BaseException:
        opening.cancel()
        raise
    opening.undial = attempt.cancel
    return opening
