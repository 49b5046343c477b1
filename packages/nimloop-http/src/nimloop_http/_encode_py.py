"""Put a response together: the readable form of `_encode_c`, and its twin."""

from __future__ import annotations


def encode(status_line: str, date: str, length: int, lines: str, body: bytes = b"", /) -> bytes:
    """Return a whole response, or the beginning of one.

    Every text consists of complete lines. `length` is that of the body, −1 for no Content-Length.
    """
    framing = f"Content-Length: {length}\r\n" if length >= 0 else ""
    return f"{status_line}{date}{framing}{lines}\r\n".encode("latin-1") + body
