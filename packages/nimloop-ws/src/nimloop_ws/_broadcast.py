"""One message to many WebSockets, encoded once."""

from __future__ import annotations

from collections.abc import Iterable

from nimloop_ws._codec import encode_frame
from nimloop_ws._frame_py import Buffer
from nimloop_ws._sending import send_encoded, send_frame
from nimloop_ws.deflate import Deflate, compress_once
from nimloop_ws.frames import BINARY, FIN, RSV1, TEXT
from nimloop_ws.websocket import WebSocket


def broadcast(
    websockets: Iterable[WebSocket],
    message: str | Buffer,
    *,
    compress: bool | None = None,
    skip_behind: bool = False,
) -> int:
    """Send a message to all that are open, and return to how many.

    It is encoded once for each compression setting among them, not once for each of them. `compress` is that of
    `WebSocket.send`. Closed ones, and those that are in the middle of a streamed message, are passed over; with
    `skip_behind` also those above their high-water mark, for messages that are out of date when the next one comes.
    """
    first = FIN | (TEXT if isinstance(message, str) else BINARY)
    data = message.encode() if isinstance(message, str) else bytes(memoryview(message))
    payloads: dict[tuple[Deflate, int], bytes] = {}
    frames: dict[tuple[Deflate, int] | None, bytes] = {}
    count = 0
    # A send may end a connection that holds too much, and its callbacks may change the collection that is given.
    for ws in list(websockets):
        if not ws.can_send or (skip_behind and ws.write_buffer_size > ws.connection.high_water):
            continue
        count += 1
        setting: tuple[Deflate, int] | None = None
        agreement = ws.agreement
        if agreement is not None and compress is not False:
            deflate = agreement.deflate
            if compress or len(data) >= deflate.threshold:
                setting = deflate, agreement.window_bits
                if setting not in payloads:
                    payloads[setting] = compress_once(deflate, agreement.window_bits, data)
        if ws.is_client:  # each frame is masked with a key of its own
            payload = data if setting is None else payloads[setting]
            send_frame(ws, first if setting is None else first | RSV1, payload)
        else:
            frame = frames.get(setting)
            if frame is None:
                payload = data if setting is None else payloads[setting]
                frame = frames[setting] = encode_frame(first if setting is None else first | RSV1, payload, None)
            send_encoded(ws, frame)
        if setting is not None:
            ws.forget_window()
    return count
