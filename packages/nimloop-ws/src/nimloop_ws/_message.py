"""A message on its way in: its pieces, checked as they come and put together at the end."""

from __future__ import annotations

import codecs
import io
from typing import Final, final

from nimloop_ws.errors import InvalidTextError

SMALL: Final = 4096  # pieces below this are joined at once: kept apart, each would cost more than it holds
_JOINED: Final = 65536

_utf8: Final = codecs.getincrementaldecoder("utf-8")


@final
class TextPieces:
    """Text, decoded piece by piece: what can no longer become UTF-8 is noticed with its first wrong byte."""

    __slots__ = ("_decoder", "_text")

    def __init__(self) -> None:
        self._decoder = _utf8()
        self._text = io.StringIO()

    def add(self, piece: bytes) -> None:
        """Take the next piece; raises `InvalidTextError`."""
        self._text.write(self.decode(piece))

    def decode(self, piece: bytes, *, final: bool = False) -> str:
        """Return a piece as text without keeping it; raises `InvalidTextError`."""
        try:
            return self._decoder.decode(piece, final)
        except UnicodeDecodeError:
            raise InvalidTextError("a text message is not UTF-8") from None

    def join(self) -> str:
        """Return the whole; raises `InvalidTextError` when it ends within a character."""
        self.decode(b"", final=True)
        return self._text.getvalue()


@final
class BinaryPieces:
    """Bytes, kept in as few objects as their sizes suggest."""

    __slots__ = ("_pieces", "_small")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._small = bytearray()

    def add(self, piece: bytes) -> None:
        """Take the next piece."""
        if len(piece) < SMALL:
            self._small += piece
            if len(self._small) >= _JOINED:
                self._flush()
        else:
            if self._small:
                self._flush()
            self._pieces.append(piece)

    def join(self) -> bytes:
        """Return the whole."""
        if self._small:
            self._flush()
        return b"".join(self._pieces)

    def _flush(self) -> None:
        self._pieces.append(bytes(self._small))
        self._small = bytearray()
