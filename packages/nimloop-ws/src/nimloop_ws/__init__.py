"""nimloop-ws: RFC 6455 WebSocket servers and clients with permessage-deflate, on nimloop-http."""

from __future__ import annotations

from nimloop_ws._broadcast import broadcast as broadcast
from nimloop_ws._events import Close as Close
from nimloop_ws._events import Event as Event
from nimloop_ws._events import Fragment as Fragment
from nimloop_ws._events import Ping as Ping
from nimloop_ws._events import Pong as Pong
from nimloop_ws._frame_py import Buffer as Buffer
from nimloop_ws._opening import OnFailure as OnFailure
from nimloop_ws._opening import Opening as Opening
from nimloop_ws._stream import MessageStream as MessageStream
from nimloop_ws._upgrade import upgrade as upgrade
from nimloop_ws._url import WsUrl as WsUrl
from nimloop_ws._url import parse_url as parse_url
from nimloop_ws.client import connect as connect
from nimloop_ws.deflate import Agreement as Agreement
from nimloop_ws.deflate import Deflate as Deflate
from nimloop_ws.errors import BadHandshakeError as BadHandshakeError
from nimloop_ws.errors import BadResponseError as BadResponseError
from nimloop_ws.errors import CloseCodeError as CloseCodeError
from nimloop_ws.errors import ConnectionLostError as ConnectionLostError
from nimloop_ws.errors import FragmentError as FragmentError
from nimloop_ws.errors import FrameError as FrameError
from nimloop_ws.errors import FrameTooBigError as FrameTooBigError
from nimloop_ws.errors import HandshakeError as HandshakeError
from nimloop_ws.errors import HandshakeRefusedError as HandshakeRefusedError
from nimloop_ws.errors import HandshakeTimeoutError as HandshakeTimeoutError
from nimloop_ws.errors import InvalidDataError as InvalidDataError
from nimloop_ws.errors import InvalidTextError as InvalidTextError
from nimloop_ws.errors import InvalidUrlError as InvalidUrlError
from nimloop_ws.errors import LimitError as LimitError
from nimloop_ws.errors import MessageTooBigError as MessageTooBigError
from nimloop_ws.errors import MisuseError as MisuseError
from nimloop_ws.errors import ParserStateError as ParserStateError
from nimloop_ws.errors import PongTimeoutError as PongTimeoutError
from nimloop_ws.errors import ProtocolError as ProtocolError
from nimloop_ws.errors import WebSocketClosedError as WebSocketClosedError
from nimloop_ws.errors import WsError as WsError
from nimloop_ws.frames import CloseCode as CloseCode
from nimloop_ws.frames import WsFrameKind as WsFrameKind
from nimloop_ws.frames import encode_frame as encode_frame
from nimloop_ws.handshake import SAME_ORIGIN as SAME_ORIGIN
from nimloop_ws.handshake import Accepted as Accepted
from nimloop_ws.handshake import Origins as Origins
from nimloop_ws.handshake import Subprotocols as Subprotocols
from nimloop_ws.handshake import build_handshake_request as build_handshake_request
from nimloop_ws.handshake import build_handshake_response as build_handshake_response
from nimloop_ws.handshake import check_request as check_request
from nimloop_ws.handshake import compute_accept_key as compute_accept_key
from nimloop_ws.parser import CLIENT as CLIENT
from nimloop_ws.parser import SERVER as SERVER
from nimloop_ws.parser import WsParser as WsParser
from nimloop_ws.server import OnHandshake as OnHandshake
from nimloop_ws.server import WsServer as WsServer
from nimloop_ws.settings import DEFAULT_MAX_FRAME_SIZE as DEFAULT_MAX_FRAME_SIZE
from nimloop_ws.settings import WsLimits as WsLimits
from nimloop_ws.settings import WsTimeouts as WsTimeouts
from nimloop_ws.websocket import OnClose as OnClose
from nimloop_ws.websocket import OnError as OnError
from nimloop_ws.websocket import OnFragment as OnFragment
from nimloop_ws.websocket import OnMessage as OnMessage
from nimloop_ws.websocket import OnPong as OnPong
from nimloop_ws.websocket import OnWebSocket as OnWebSocket
from nimloop_ws.websocket import WebSocket as WebSocket

__all__ = [
    "CLIENT",
    "DEFAULT_MAX_FRAME_SIZE",
    "SAME_ORIGIN",
    "SERVER",
    "Accepted",
    "Agreement",
    "BadHandshakeError",
    "BadResponseError",
    "Buffer",
    "Close",
    "CloseCode",
    "CloseCodeError",
    "ConnectionLostError",
    "Deflate",
    "Event",
    "Fragment",
    "FragmentError",
    "FrameError",
    "FrameTooBigError",
    "HandshakeError",
    "HandshakeRefusedError",
    "HandshakeTimeoutError",
    "InvalidDataError",
    "InvalidTextError",
    "InvalidUrlError",
    "LimitError",
    "MessageStream",
    "MessageTooBigError",
    "MisuseError",
    "OnClose",
    "OnError",
    "OnFailure",
    "OnFragment",
    "OnHandshake",
    "OnMessage",
    "OnPong",
    "OnWebSocket",
    "Opening",
    "Origins",
    "ParserStateError",
    "Ping",
    "Pong",
    "PongTimeoutError",
    "ProtocolError",
    "Subprotocols",
    "WebSocket",
    "WebSocketClosedError",
    "WsError",
    "WsFrameKind",
    "WsLimits",
    "WsParser",
    "WsServer",
    "WsTimeouts",
    "WsUrl",
    "broadcast",
    "build_handshake_request",
    "build_handshake_response",
    "check_request",
    "compute_accept_key",
    "connect",
    "encode_frame",
    "parse_url",
    "upgrade",
]
