"""Writing down who was told what: the words that tests of backends share, beside the fixtures."""

from __future__ import annotations

import socket
from collections.abc import Callable

Pair = tuple[socket.socket, socket.socket]
Pipe = tuple[int, int]
Seen = list[tuple[str, int]]


def note(seen: Seen, name: str) -> Callable[[int], None]:
    """Make a callback that writes down its name and what it was told."""
    return lambda events: seen.append((name, events))
