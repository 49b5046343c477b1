"""Reads the body of a message, and how it ends: with a length, in chunks, or with the connection.

`HttpParser` is one of these that reads heads as well; see there.
"""

from __future__ import annotations

from typing import Final

from nimloop_http._diagnose import diagnose_fields
from nimloop_http._events import END, Body, Event, Trailers
from nimloop_http._framing import NOT_IN_TRAILERS
from nimloop_http._grammar import BARE_LINE_END, CHUNK_LINE
from nimloop_http._headers import Headers
from nimloop_http._parser_state import HEAD, MESSAGE_END, OVER, TRAILERS
from nimloop_http._scanner import join_chunks, split_fields
from nimloop_http.errors import BadRequestError, BodyTooLargeError, ChunkLineTooLongError, TrailersTooLargeError
from nimloop_http.limits import Limits


class BodyReader:
    """Holds the bytes and the state, and reads those states in which a head was read and its message is not over."""

    __slots__ = (
        "_data",
        "_left",
        "_most_body",
        "_most_chunk_line",
        "_position",
        "_searched",
        "_size",
        "_state",
        "limits",
    )

    def __init__(self, limits: Limits) -> None:
        self.limits: Final = limits
        self._most_body: Final = limits.body
        self._most_chunk_line: Final = limits.chunk_line
        self._data: bytes | bytearray = b""
        self._position = 0  # of the first byte that has not been used
        self._searched = 0  # bytes before this one hold no end of what is being read
        self._state = HEAD
        self._left = 0  # bytes to come of a body with a length, or as `join_chunks` counts them
        self._size = 0  # bytes of a body without a length so far

    def _read_fixed(self) -> Event | None:
        piece = self._take(self._left)
        if not piece:
            return None
        self._left -= len(piece)
        if self._left == 0:
            self._state = MESSAGE_END
        return Body(piece)

    def _read_chunks(self) -> Event | None:
        data = self._data
        start = self._position
        room = self._most_body - self._size
        position, self._left, size, body = join_chunks(data, start, self._left, room, self._most_chunk_line)
        if position > start:
            self._position = self._searched = position
            self._size += size
            if body:
                return Body(body)
        if position == len(data):
            return None
        if self._left < 0:
            return self._read_chunk_line(data, position)
        if data[position : position + 2] != b"\r":
            raise BadRequestError("a chunk is longer than its size: CRLF expected after it")
        return None

    def _read_chunk_line(self, data: bytes | bytearray, start: int) -> Event | None:
        """Read the line of the last chunk, one with an extension, or one that is incomplete or malformed."""
        if data.startswith(b"0\r\n\r\n", start):  # without trailers, as nearly every body ends
            self._position = start + 5
            self._state = HEAD
            return END
        most = self._most_chunk_line
        end = data.find(b"\r\n", max(start, self._searched - 1), start + most + 2)
        line_feed = data.find(b"\n", max(start, self._searched), start + most + 1 if end < 0 else end)
        if line_feed >= 0 and data[line_feed - 1 : line_feed] != b"\r":
            raise BadRequestError("the line with a chunk's size must end with CRLF")
        if end < 0:
            self._searched = len(data)
            if len(data) - start > most + 1:
                raise ChunkLineTooLongError(f"the line with a chunk's size has more than {most} bytes")
            return None
        match = CHUNK_LINE.fullmatch(bytes(data[start:end]))
        if match is None:
            raise BadRequestError(f"not a chunk's size: {bytes(data[start : min(end, start + 60)])!r}")
        self._position = self._searched = end + 2
        self._left = size = int(match.group(1), 16)
        self._size += size
        if self._size > self._most_body:
            raise BodyTooLargeError(f"the body has more than {self._most_body} bytes")
        if size:
            return self._read_chunks()
        self._state = TRAILERS
        return self._read_trailers()

    def _read_trailers(self) -> Event | None:
        data = self._data
        start = self._position
        limits = self.limits
        if data[start : start + 2] == b"\r\n":
            self._position = start + 2
            self._state = MESSAGE_END
            return self._read_message_end()
        end = data.find(b"\r\n\r\n", max(start, self._searched - 3))
        too_large = TrailersTooLargeError(f"the trailer fields have more than {limits.trailer_bytes} bytes")
        if end < 0:
            searched = max(start, self._searched - 1)
            self._searched = len(data)
            if len(data) - start > limits.trailer_bytes or BARE_LINE_END.search(data, searched):
                error = diagnose_fields(
                    bytes(data[start:]), 0, limits.trailer_bytes, limits.headers, too_large=too_large
                )
                if error is not None:
                    raise error
            return None
        raw = bytes(data[start : end + 4])
        error = diagnose_fields(raw, 0, limits.trailer_bytes, limits.headers, too_large=too_large)
        if error is not None:
            raise error
        self._position = self._searched = end + 4
        self._state = MESSAGE_END
        kept = [field for field in split_fields(b"\r\n" + raw, None, False) if field[0].lower() not in NOT_IN_TRAILERS]
        return Trailers(Headers(kept)) if kept else self._read_message_end()

    def _read_until_end(self) -> Event | None:
        piece = self._take(self._most_body - self._size)
        if piece:
            self._size += len(piece)
            return Body(piece)
        if self._position < len(self._data):
            raise BodyTooLargeError(f"the body has more than {self._most_body} bytes")
        return None

    def _read_message_end(self) -> Event | None:
        self._state = HEAD
        return END

    def _read_last_end(self) -> Event | None:
        self._state = OVER
        return END

    def _take(self, most: int) -> bytes:
        start = self._position
        piece = bytes(self._data[start : start + most])  # which copies nothing where it is all of what was pushed
        self._position = start + len(piece)
        return piece
