"""The order in which the addresses of a host are tried: Happy Eyeballs version 2 (RFC 8305). No input or output here.

The system's resolver has sorted them already (RFC 8305 §4 asks for RFC 6724). What is left is to mix the families, so
that a family whose packets go nowhere costs one delay and not the whole time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

ATTEMPT_DELAY: Final = 0.25  # seconds; RFC 8305 §8: "250 milliseconds" recommended, ...
MIN_ATTEMPT_DELAY: Final = 0.01  # ... and never less than 10, which would flood the network
FIRST_FAMILY_COUNT: Final = 1  # RFC 8305 §8: 1, or 2 to favour the first family aggressively

_Address = TypeVar("_Address")


def interleave(addresses: Iterable[tuple[int, _Address]], first_count: int) -> list[tuple[int, _Address]]:
    """Return addresses, each behind its family, with the families in turn, `first_count` of the first one first.

    The order within a family, and which family comes first, stays as it was (RFC 8305 §4).
    """
    by_family: dict[int, list[tuple[int, _Address]]] = {}
    for each in addresses:
        by_family.setdefault(each[0], []).append(each)
    queues = list(by_family.values())
    ordered: list[tuple[int, _Address]] = []
    if queues:
        ordered += queues[0][: first_count - 1]
        queues[0] = queues[0][first_count - 1 :]
    for turn in range(max(map(len, queues), default=0)):
        ordered += [queue[turn] for queue in queues if turn < len(queue)]
    return ordered
