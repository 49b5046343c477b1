"""The steps that touch every byte of a frame, in Python: the reference for `_frame_c`, and what runs without it.

RFC 6455 §5.2, the header of a frame::

    byte 0      FIN, RSV1, RSV2, RSV3, opcode (4 bits)
    byte 1      MASK, length (7 bits): up to 125, or 126: the next 2 bytes have it, or 127: the next 8
    then        the masking key (4 bytes), where MASK is set
"""

from __future__ import annotations

from typing import Final

Buffer = bytes | bytearray | memoryview
"""What can be sent as a binary message."""

Frame = tuple[int, bytes | str, int]

_WHOLE_TEXT: Final = 0x81


def apply_mask(data: Buffer, key: bytes, start: int, end: int, /) -> bytes:
    """Return ``data[start:end]`` masked, or unmasked, which is the same (RFC 6455 §5.3).

    The key counts from `start`. Raises ValueError for a key that has not 4 bytes, or a part that is not there.
    """
    if len(key) != 4:
        raise ValueError(f"a masking key has 4 bytes, not {len(key)}")
    if not 0 <= start <= end <= len(data):
        raise ValueError(f"not a part of {len(data)} bytes: {start} to {end}")
    # One number as long as the data: the interpreter's long integers go through it a word at a time.
    size = end - start
    keys = (key * ((size + 3) // 4))[:size]
    masked = int.from_bytes(data[start:end], "little") ^ int.from_bytes(keys, "little")
    return masked.to_bytes(size, "little")


def gather(pieces: list[Buffer], start: int, size: int, key: bytes | None, /) -> bytes:
    """Return `size` bytes of the pieces, as if they were one, from `start` on; unmasked when there is a `key`.

    The key counts from `start`. Raises ValueError when there are not so many.
    """
    if start < 0 or size < 0:
        raise ValueError("start or size is negative")
    part = b"".join(pieces)[start : start + size]
    if len(part) < size:
        raise ValueError(f"{size - len(part)} bytes are not there")
    return part if key is None else apply_mask(part, key, 0, size)


def read_frame(data: Buffer, start: int, masked: bool, limit: int, /) -> Frame | None:  # noqa: FBT001
    """Return the first byte of the frame at `start`, its payload unmasked, and where the next one begins.

    The payload of an unfragmented text message without RSV bits is text. None when the frame is not complete, longer
    than `limit`, not `masked` as it has to be, not UTF-8, or says its length in more bytes than it takes: whoever wants
    to know which looks closely.
    """
    if not 0 <= start <= len(data) or limit < 0:
        raise ValueError("start or limit is out of bounds")
    if len(data) - start < 2:
        return None
    first = data[start]
    length = data[start + 1]
    if (length >= 128) is not masked:
        return None
    length &= 127
    at = start + 2
    if length >= 126:
        size = 2 if length == 126 else 8
        length = int.from_bytes(data[at : at + size], "big")
        if len(data) - at < size or length < (126 if size == 2 else 65536):
            return None
        at += size
    body = at + 4 if masked else at
    end = body + length
    if length > limit or end > len(data):
        return None
    payload = apply_mask(data, bytes(data[at:body]), body, end) if masked else bytes(data[body:end])
    if first != _WHOLE_TEXT:
        return first, payload, end
    try:
        return first, payload.decode(), end
    except UnicodeDecodeError:
        return None


def encode_frame(first: int, payload: Buffer | str, key: bytes | None, /) -> bytes:
    """Return a frame that begins with the byte `first`; text as UTF-8, masked when there is a `key`.

    Raises UnicodeEncodeError for text with surrogates, which UTF-8 cannot say.
    """
    if isinstance(payload, str):
        payload = payload.encode()
    length = len(payload)
    mask_bit = 0 if key is None else 0x80
    if length < 126:
        header = bytes((first, mask_bit | length))
    elif length < 65536:
        header = bytes((first, mask_bit | 126, length >> 8, length & 255))
    else:
        header = bytes((first, mask_bit | 127)) + length.to_bytes(8, "big")
    if key is None:
        return header + payload
    return header + key + apply_mask(payload, key, 0, length)
