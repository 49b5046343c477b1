"""How many events a backend fetches at once: as many as there use to be, within bounds."""

from __future__ import annotations

from typing import Final

LEAST: Final = 64
MOST: Final = 4096


def adapted(capacity: int, count: int) -> int:
    """Return the capacity for the next batch, when this one had `count` events."""
    if count == capacity:
        return min(capacity * 2, MOST)
    if count * 8 < capacity and capacity > LEAST:
        return capacity // 2
    return capacity
