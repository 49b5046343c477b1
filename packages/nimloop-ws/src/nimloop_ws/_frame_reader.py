"""Where one frame ends and the next begins: bytes are pushed, headers read, payloads taken. Messages are `parser`'s.

A frame that is not there as a whole is read in steps: `read_header` until the header is told, `enter` until its key has
come, then `take` or `keep`, as much of the payload as there is.
"""

from __future__ import annotations

from typing import Final, final

from nimloop_ws._codec import apply_mask, gather
from nimloop_ws._frame_py import Buffer
from nimloop_ws._header import check_first, check_second, read_length


@final
class FrameReader:
    """The bytes that came, how far they were used, and the frame that is being read of them."""

    __slots__ = (
        "_header",
        "_kept",
        "_kept_from",
        "_kept_size",
        "_key",
        "data",
        "first",
        "left",
        "masked",
        "position",
    )

    def __init__(self, *, masked: bool) -> None:
        self.masked: Final = masked
        self.data: bytes | bytearray = b""
        self.position = 0
        """Of the first byte that has not been used."""
        self.first = 0
        """The first byte of the frame: FIN, the reserved bits and the opcode."""
        self.left = 0
        """Bytes of its payload that are still to come."""
        self._header = 0  # bytes of the header, but for the key
        self._key = b""  # turned so that it fits the next byte; empty when the frame is not masked
        self._kept: list[Buffer] | None = None  # what was read of a large frame, as it came
        self._kept_from = 0  # where in the first of those its payload begins
        self._kept_size = 0

    def push(self, data: bytes) -> None:
        """Add bytes without looking at them."""
        position = self.position
        rest = self.data
        if position == len(rest):
            self.data = data
        else:
            if type(rest) is bytearray:
                del rest[:position]
            else:
                rest = bytearray(rest[position:])
                self.data = rest
            rest += data
        self.position = 0

    def drop(self) -> None:
        """Forget the bytes: an idle connection must not hold what it read last."""
        self.data = b""
        self.position = 0
        self._kept = None

    @property
    def there(self) -> int:
        """Bytes that have not been used."""
        return len(self.data) - self.position

    def read_header(self, *, in_message: bool, compression: bool) -> bool:
        """Read `first` and, into `left`, the length of the payload; False while they are not there.

        Complains about what is wrong as soon as it is there.
        """
        data = self.data
        at = self.position
        there = len(data) - at
        if there == 0:
            return False
        first = data[at]
        check_first(first, in_message=in_message, compression=compression)
        if there == 1:
            return False
        check_second(data[at + 1], first & 15, masked=self.masked)
        length, header = read_length(data, at)
        if length < 0:
            return False
        self.first = first
        self.left = length
        self._header = header
        return True

    def enter(self) -> bool:
        """Go on to the payload of the frame whose header was read; False while its key is not there."""
        at = self.position + self._header
        if self.masked:
            if len(self.data) - at < 4:
                return False
            self._key = bytes(self.data[at : at + 4])
            at += 4
        self.position = at
        return True

    def take(self, most: int) -> bytes:
        """Take up to so many bytes of the payload, unmasked."""
        start = self.position
        end = min(start + most, len(self.data))
        self.position = end
        size = end - start
        self.left -= size
        if not self.masked:
            return bytes(self.data[start:end])
        key = self._key
        self._turn_key(size)
        return apply_mask(self.data, key, start, end)

    def _turn_key(self, size: int) -> None:
        turn = size & 3
        if turn:
            self._key = self._key[turn:] + self._key[:turn]

    def keep(self) -> None:
        """Put aside all that is there, of a payload that is not: its parts are unmasked and joined in one go."""
        self._keep(self.there)

    def _keep(self, size: int) -> None:
        kept = self._kept
        if kept is None:
            kept = self._kept = []
            self._kept_from = self.position
            self._kept_size = 0
        kept.append(self.data)
        self._kept_size += size
        self.left -= size
        self.position += size

    def take_payload(self) -> bytes:
        """Take what is there of the payload, unmasked, behind what was put aside."""
        if self._kept is None:
            return self.take(self.left)
        self._keep(min(self.left, self.there))
        kept = self._kept
        self._kept = None
        key = self._key if self.masked else None
        self._turn_key(self._kept_size)
        return gather(kept, self._kept_from, self._kept_size, key)
