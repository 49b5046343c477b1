"""Buffers that are lent out and come back: each has one owner at a time.

A pool keeps at most `limit` buffers that nobody uses; more are given back to the system. A buffer that comes back
twice, or from elsewhere, or while somebody still looks at it, would end up with two owners who see each other's bytes,
so it is refused. The pool holds on to what it has lent: an id alone would pass to a stranger once the buffer is freed.
"""

from __future__ import annotations

from typing import Final, final


@final
class BufferPool:
    """Writable buffers of one size, for reading into."""

    __slots__ = ("_free", "_keep", "_lent", "limit", "size")

    def __init__(self, size: int = 65536, limit: int = 64) -> None:
        if size <= 0 or limit < 0:
            raise ValueError(f"a pool needs a positive size and no negative limit, not {size} and {limit}")
        self.size: Final[int] = size
        """Bytes of each buffer."""
        self.limit: Final[int] = limit
        """How many unused ones are kept."""
        self._keep = limit  # none once the pool is closed
        self._free: list[bytearray] = []
        self._lent: dict[int, bytearray] = {}

    def acquire(self) -> bytearray:
        """Return a buffer that is the caller's until `release`; its content is whatever was in it."""
        buffer = self._free.pop() if self._free else bytearray(self.size)
        self._lent[id(buffer)] = buffer
        return buffer

    def release(self, buffer: bytearray) -> None:
        """Give a buffer back.

        Raises ValueError for one that is not lent out, for one whose size was changed, and (CPython only) for one that
        a memoryview still shows; the latter two stay lent.
        """
        if id(buffer) not in self._lent:
            raise ValueError("the buffer was not lent by this pool, or was given back before")
        if len(buffer) != self.size:
            raise ValueError(f"the buffer has {len(buffer)} bytes now instead of {self.size}")
        try:
            buffer.append(buffer.pop())  # changes nothing, and cannot be done as long as there is a view
        except BufferError:
            raise ValueError("a memoryview of the buffer is still open: release that first") from None
        del self._lent[id(buffer)]
        if len(self._free) < self._keep:
            self._free.append(buffer)

    def close(self) -> None:
        """Give the unused ones back to the system, and keep none from now on; those that are out may still return."""
        self._keep = 0
        self._free.clear()

    @property
    def lent(self) -> int:
        """How many buffers are out."""
        return len(self._lent)

    @property
    def free(self) -> int:
        """How many buffers wait to be used again."""
        return len(self._free)

    def __repr__(self) -> str:
        return f"<BufferPool size={self.size} lent={self.lent} free={self.free}>"
