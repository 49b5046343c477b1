"""One WebSocket, of a server or of a client: messages in, messages out, and an end that both sides know of.

What it does is told in modules of functions about it: `_reading` and `_flow`, `_sending`, `_ending`, `_liveness`; its
states in `_state`.

Nothing more is read while the program has paused it, and, on a server, while the peer does not take what it was sent
(`WsLimits.high_water`): a peer that never reads costs a bounded amount. A client goes on reading, or two of ours could
wait for each other. `on_close` comes once, from the loop, on every path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from nimloop_core import Deadline, Loop, Timer
from nimloop_http import HttpRequest
from nimloop_net import Address, Connection
from nimloop_ws import _state as st
from nimloop_ws._ending import begin_close, callback_failed, gone
from nimloop_ws._flow import begin_turn, end_turn, hold, release
from nimloop_ws._frame_py import Buffer
from nimloop_ws._liveness import look_for_life
from nimloop_ws._reading import advance, hand_out_rest, peer_caught_up
from nimloop_ws._sending import check_can_send, send_control, send_message
from nimloop_ws._stream import MessageStream
from nimloop_ws.deflate import Agreement, Deflater
from nimloop_ws.frames import (
    BINARY,
    PING,
    PONG,
    TEXT,
    CloseCode,
    MaskSource,
    encode_close,
)
from nimloop_ws.parser import WsParser
from nimloop_ws.settings import DEFAULT_LIMITS, DEFAULT_TIMEOUTS, WsLimits, WsTimeouts

__all__ = ["OnClose", "OnError", "OnFragment", "OnMessage", "OnPong", "OnWebSocket", "WebSocket"]


@final
class WebSocket:
    """An open WebSocket; made by `upgrade`, `WsServer` and `connect`, which take the same callbacks.

    All get the WebSocket first and may be replaced at any time. One that raises is reported to the loop's exception
    handler, and the WebSocket is closed with 1011.

    ``on_message(ws, message)``
        A message: str or bytes.
    ``on_fragment(ws, data, last)``
        A piece of a message, in place of `on_message`, if it was given from the beginning.
    ``on_pong(ws, payload)``
        A pong that answers `ping`, or that nobody asked for.
    ``on_drain(ws)``
        The unsent bytes fell to the low-water mark, after a `send` that returned False.
    ``on_error(ws, error)``
        It ends because of that; `on_close` follows.
    ``on_close(ws, code, reason)``
        It is gone; once, on every path. The code is the peer's (1005: none), or the one that the peer was failed
        with, or 1006 when the connection just ended.
    """

    __slots__ = (
        "_advancing",
        "_buffer_limit",
        "_close_called",
        "_close_code",
        "_close_reason",
        "_deflater",
        "_error",
        "_held",
        "_idle",
        "_idle_ns",
        "_masks",
        "_on_gone",
        "_parser",
        "_pong_owed",
        "_progress",
        "_sent_before",
        "_silence",
        "_state",
        "_stream",
        "_timer",
        "agreement",
        "connection",
        "context",
        "on_close",
        "on_drain",
        "on_error",
        "on_fragment",
        "on_message",
        "on_pong",
        "request",
        "subprotocol",
        "timeouts",
    )

    def __init__(
        self,
        connection: Connection,
        role: bool,  # noqa: FBT001 - SERVER or CLIENT
        *,
        agreement: Agreement | None = None,
        subprotocol: str | None = None,
        limits: WsLimits = DEFAULT_LIMITS,
        timeouts: WsTimeouts = DEFAULT_TIMEOUTS,
        request: HttpRequest | None = None,
        on_message: OnMessage | None = None,
        on_fragment: OnFragment | None = None,
        on_pong: OnPong | None = None,
        on_drain: OnWebSocket | None = None,
        on_error: OnError | None = None,
        on_close: OnClose | None = None,
    ) -> None:
        """Speak WebSocket on a connection whose handshake is done; nothing is read before `start`."""
        self.connection: Final[Connection] = connection
        """The connection that it speaks on."""
        self.agreement: Final[Agreement | None] = agreement
        """What was agreed on about compression, or None: no compression."""
        self.subprotocol: Final[str | None] = subprotocol
        """The subprotocol that was agreed on, or None."""
        self.timeouts: Final = timeouts
        self.request = request
        """On a server, until `on_open` has returned: the request that opens it. Keep of it what is needed later."""
        self.context: object = None
        """For the program."""
        self.on_message: OnMessage | None = on_message
        """Called with each whole message."""
        self.on_fragment: OnFragment | None = on_fragment
        """Called with pieces in place of whole messages, if it was given from the beginning."""
        self.on_pong: OnPong | None = on_pong
        """Called with the payload of each pong."""
        self.on_drain: OnWebSocket | None = on_drain
        """Called when the unsent bytes fall to the low mark, after a `send` that returned False."""
        self.on_error: OnError | None = on_error
        """Called before `on_close` when it did not end well."""
        self.on_close: OnClose | None = on_close
        """Called once when it is gone, on every path."""
        self._parser: Final = WsParser(role, limits, agreement=agreement, fragments=on_fragment is not None)
        self._masks: Final = None if role else MaskSource()
        self._deflater: Final = None if agreement is None else Deflater(agreement)
        self._state = st.OPEN
        self._advancing = False
        self._held = st.TURN_OVER  # why nothing is handed out, in bits; cleared by `start`
        self._on_gone: Callable[[WebSocket], object] | None = None  # for the server that keeps a list
        self._stream: MessageStream | None = None
        self._pong_owed: bytes | None = None
        self._close_called = False  # by the program, which then knows that nothing can be sent
        self._close_code = 0  # 0: not known yet
        self._close_reason = ""
        self._error: Exception | None = None
        self._silence = st.HEARD
        self._progress = 0  # bytes that came since the ping
        self._sent_before = 0
        self._timer: Timer | None = None
        self._idle: Deadline | None = None
        self._idle_ns = 0
        self._buffer_limit: Final = limits.buffer
        connection.high_water = limits.high_water
        connection.low_water = limits.low_water
        connection.max_buffer = limits.buffer
        connection.on_data = self._on_data
        connection.on_eof = None
        connection.on_drain = self._on_drain
        connection.on_close = self._on_close
        if role:
            connection.on_shutdown = self._on_shutdown

    def start(self, early: bytes = b"", on_open: OnWebSocket | None = None) -> None:
        """Begin: call `on_open`, then hand out what comes, `early` first, which came together with the handshake."""
        loop = self.connection.loop
        if self.timeouts.ping is not None:
            self._timer = loop.call_later(self.timeouts.ping, self._on_ping_timer)
        if self.timeouts.idle is not None:
            self._idle_ns = int(self.timeouts.idle * 1e9)
            self._idle = Deadline(loop, self._on_idle)
            self._idle.set_ns(self._idle_ns)
        self._parser.push(early)
        if on_open is not None:
            try:
                on_open(self)
            except Exception as error:
                callback_failed(self, error)
        self.request = None
        if early:
            end_turn(self)  # not from inside the call that has opened it; an end that has come too has to wait as well
        else:
            self._on_turn()

    # What it is -----------------------------------------------------------------------------------------------

    @property
    def loop(self) -> Loop:
        """The loop it lives on."""
        return self.connection.loop

    @property
    def state(self) -> str:
        """``"open"``, ``"closing"``, ``"ending"`` or ``"closed"``: see the table of `nimloop_ws._state`."""
        return st.NAMES[self._state]

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._state == st.OPEN

    @property
    def closed(self) -> bool:
        """Whether the connection is gone."""
        return self._state == st.CLOSED

    @property
    def can_send(self) -> bool:
        """Whether a message can be sent now: it is open, and none is being streamed."""
        return self._state == st.OPEN and self._stream is None

    @property
    def is_client(self) -> bool:
        """Whether this is the side that opened it."""
        return self._masks is not None

    @property
    def close_code(self) -> int | None:
        """The code that `on_close` gets, once it is known."""
        return self._close_code or None

    @property
    def close_reason(self) -> str:
        """The reason that came with the code."""
        return self._close_reason

    @property
    def write_buffer_size(self) -> int:
        """Bytes that were sent and are still waiting for the peer to take them."""
        return self.connection.write_buffer_size

    @property
    def peer(self) -> Address:
        """The address of the other end."""
        return self.connection.peer

    # Sending --------------------------------------------------------------------------------------------------

    def send(self, message: str | Buffer, *, compress: bool | None = None) -> bool:
        """Send a message: str as text, bytes as binary. Returns False above the high-water mark: wait for `on_drain`.

        With compression agreed on, messages from `Deflate.threshold` on are compressed; `compress` decides otherwise
        for this one. A message to a peer that is gone, or going, is lost, as those on their way are; `on_close`
        follows. Raises `WebSocketClosedError` after `close` and after `on_close`, and `FragmentError` while a message
        is being streamed. More than `WsLimits.buffer` unsent bytes end the connection.
        """
        return send_message(self, message, compress=compress)

    def send_text(self, text: str, *, compress: bool | None = None) -> bool:
        """Send a text message, like `send`; anything but str raises TypeError."""
        return send_message(self, str.__str__(text), compress=compress)

    def send_binary(self, data: Buffer, *, compress: bool | None = None) -> bool:
        """Send a binary message, like `send`; a str raises TypeError."""
        return send_message(self, data if type(data) is bytes else memoryview(data), compress=compress)

    def stream_text(self, *, compress: bool | None = None) -> MessageStream:
        """Begin a text message that is sent piece by piece, as fragments. Raises like `send`."""
        return self._begin_stream(TEXT, compress=compress)

    def stream_binary(self, *, compress: bool | None = None) -> MessageStream:
        """Begin a binary message that is sent piece by piece, as fragments. Raises like `send`."""
        return self._begin_stream(BINARY, compress=compress)

    def ping(self, payload: bytes = b"") -> bool:
        """Send a ping; `on_pong` gets the answer. Returns and raises like `send`; ValueError above 125 bytes."""
        return send_control(self, PING, payload)

    def pong(self, payload: bytes = b"") -> bool:
        """Send a pong that nobody asked for; pings are answered without that. Returns and raises like `ping`."""
        return send_control(self, PONG, payload)

    def _begin_stream(self, opcode: int, *, compress: bool | None) -> MessageStream:
        check_can_send(self)
        deflater = None if compress is False else self._deflater
        self._stream = stream = MessageStream(self, opcode, deflater)
        return stream

    def forget_window(self) -> None:
        """Take note that the peer got a compressed message that this WebSocket's compressor does not know."""
        if self._deflater is not None:
            self._deflater.forget()

    def stream_ended(self) -> None:
        """Take note that the message that was streamed is complete."""
        self._stream = None

    # Receiving ------------------------------------------------------------------------------------------------

    def pause_reading(self) -> None:
        """Hand out nothing more, and read nothing more, until `resume_reading`; the peer gets slowed down.

        Pings are not answered meanwhile, and the WebSocket's own pings are not expected to be.
        """
        hold(self, st.BY_PROGRAM)

    def resume_reading(self) -> None:
        """Hand out messages again, beginning with those that have arrived meanwhile."""
        if self._held & st.BY_PROGRAM:
            release(self, st.BY_PROGRAM)

    def _on_turn(self) -> None:
        if begin_turn(self):
            advance(self)

    def _on_data(self, _connection: Connection, data: bytes) -> None:
        if self._silence == st.PINGED:
            self._progress += len(data)
        self._parser.push(data)
        if not self._held:
            advance(self)

    def _on_drain(self, _connection: Connection) -> None:
        peer_caught_up(self)

    # Ending ---------------------------------------------------------------------------------------------------

    def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Begin the closing handshake, behind what was sent before. Nothing can be sent afterwards.

        What still comes is thrown away; without the peer's answer the connection is cut after `WsTimeouts.close`.
        Harmless when repeated. Raises `CloseCodeError` for a code that must not be sent (RFC 6455 §7.4), or a reason
        of more than 123 bytes of UTF-8.
        """
        payload = encode_close(code, reason)
        self._close_called = True
        begin_close(self, payload)

    def abort(self) -> None:
        """Cut the connection without saying goodbye; `on_close` gets 1006. Harmless when repeated."""
        self._close_called = True
        self.connection.abort()

    def _on_shutdown(self, _connection: Connection) -> None:
        begin_close(self, encode_close(CloseCode.GOING_AWAY, "the server is stopping"))

    def _on_idle(self) -> None:
        begin_close(self, encode_close(CloseCode.GOING_AWAY, "idle"))

    def _on_close(self, _connection: Connection, error: Exception | None) -> None:
        hand_out_rest(self)
        gone(self, error)

    def _on_ping_timer(self) -> None:
        look_for_life(self)

    def __repr__(self) -> str:
        return f"<WebSocket {self.state} peer={self.connection.peer!r} unsent={self.write_buffer_size}>"


OnWebSocket = Callable[[WebSocket], object]
"""Called with a WebSocket that is open, or that has room again."""

OnMessage = Callable[[WebSocket, str | bytes], object]
"""Called with each whole message: text is str."""

OnFragment = Callable[[WebSocket, str | bytes, bool], object]
"""Called with each piece of a message as it comes, and whether it is the last."""

OnPong = Callable[[WebSocket, bytes], object]
"""Called with the payload of each pong."""

OnError = Callable[[WebSocket, Exception], object]
"""Called before `on_close` when a WebSocket did not end well, with the reason."""

OnClose = Callable[[WebSocket, int, str], object]
"""Called once when a WebSocket is gone, with code and reason; 1006 when the connection just ended."""
