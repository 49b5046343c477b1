"""The header of a frame (RFC 6455 §5.2), byte by byte: wrong is noticed with the first byte that is.

For frames that are not read in one step. How the header is laid out is told in `_frame_py`.
"""

from __future__ import annotations

from nimloop_ws._frame_py import Buffer
from nimloop_ws.errors import FrameError
from nimloop_ws.frames import BINARY, CLOSE, CONTINUATION, FIN, MAX_CONTROL_PAYLOAD, PING, PONG, RSV1, TEXT


def check_first(first: int, *, in_message: bool, compression: bool) -> None:
    """Check the first byte: within a fragmented message, or not; with compression agreed on, or not."""
    opcode = first & 15
    if opcode not in {CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG}:
        raise FrameError(f"the opcode {opcode} is reserved")
    if first & 0x30 or (first & RSV1 and (not compression or opcode == CONTINUATION or opcode >= CLOSE)):
        raise FrameError("a reserved bit is set that was not agreed on, or not for such a frame")
    if opcode >= CLOSE:
        if not first & FIN:
            raise FrameError("a control frame must not be fragmented")
    elif opcode == CONTINUATION:
        if not in_message:
            raise FrameError("there is no message to continue")
    elif in_message:
        raise FrameError("a new message begins before the last one has ended")


def check_second(second: int, opcode: int, *, masked: bool) -> None:
    """Check the second byte, of a frame that has to be masked, or must not be."""
    if (second >= 128) is not masked:
        raise FrameError("a client must mask its frames" if masked else "a server must not mask its frames")
    if opcode >= CLOSE and second & 127 > MAX_CONTROL_PAYLOAD:
        raise FrameError(f"a control frame has at most {MAX_CONTROL_PAYLOAD} bytes")


def read_length(data: Buffer, at: int) -> tuple[int, int]:
    """Return the length that the frame at `at` tells, and where behind `at` that ends; -1 while it is not there."""
    length = data[at + 1] & 127
    if length < 126:
        return length, 2
    end = 4 if length == 126 else 10
    if len(data) - at < end:
        return -1, end
    length = int.from_bytes(data[at + 2 : at + end], "big")
    if length < (126 if end == 4 else 65536):
        raise FrameError("the length of a frame is not told in as few bytes as possible")
    if length >> 63:
        raise FrameError("the length of a frame has its first bit set")
    return length, end
