"""From an HTTP request to a WebSocket, on a server."""

from __future__ import annotations

from nimloop_http import HttpRequest, HttpResponse
from nimloop_ws.deflate import Deflate
from nimloop_ws.errors import BadHandshakeError
from nimloop_ws.handshake import SAME_ORIGIN, ExtraHeaders, Origins, Subprotocols, check_request
from nimloop_ws.parser import SERVER
from nimloop_ws.settings import DEFAULT_LIMITS, DEFAULT_TIMEOUTS, WsLimits, WsTimeouts
from nimloop_ws.websocket import OnClose, OnError, OnFragment, OnMessage, OnPong, OnWebSocket, WebSocket

DEFAULT_COMPRESSION = Deflate()


def upgrade(
    req: HttpRequest,
    res: HttpResponse,
    *,
    on_open: OnWebSocket | None = None,
    on_message: OnMessage | None = None,
    on_fragment: OnFragment | None = None,
    on_pong: OnPong | None = None,
    on_drain: OnWebSocket | None = None,
    on_error: OnError | None = None,
    on_close: OnClose | None = None,
    origins: Origins = SAME_ORIGIN,
    subprotocols: Subprotocols = (),
    compression: Deflate | None = DEFAULT_COMPRESSION,
    headers: ExtraHeaders = (),
    limits: WsLimits = DEFAULT_LIMITS,
    timeouts: WsTimeouts = DEFAULT_TIMEOUTS,
) -> WebSocket | None:
    """Answer a request with 101 and return the WebSocket; or refuse it (see `check_request`) and return None.

    ``on_open(ws)`` is called before this returns, `on_message` only afterwards. To refuse for reasons of your own,
    answer otherwise instead of calling this. By default only pages of this server's own origin are let in. When the
    server is asked to stop, the WebSocket is closed with 1001. Raises like `HttpResponse.upgrade`.
    """
    try:
        if req.body:
            raise BadHandshakeError("a request that opens a WebSocket has no body")  # noqa: TRY301
        accepted = check_request(
            req.method,
            req.head.minor,
            req.headers,
            host=req.host,
            origins=origins,
            subprotocols=subprotocols,
            compression=compression,
        )
    except BadHandshakeError as error:
        for name, value in error.headers:
            res.header(name, value)
        res.send_error(error.status, str(error))
        return None

    connection, early = res.upgrade("websocket", headers=[*accepted.headers(), *headers])
    ws = WebSocket(
        connection,
        SERVER,
        agreement=accepted.agreement,
        subprotocol=accepted.subprotocol,
        limits=limits,
        timeouts=timeouts,
        request=req,
        on_message=on_message,
        on_fragment=on_fragment,
        on_pong=on_pong,
        on_drain=on_drain,
        on_error=on_error,
        on_close=on_close,
    )
    ws.start(early, on_open)
    return ws
