"""The bounds of a WebSocket, in sizes and in time."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

__all__ = ["DEFAULT_LIMITS", "DEFAULT_MAX_FRAME_SIZE", "DEFAULT_TIMEOUTS", "WsLimits", "WsTimeouts"]

DEFAULT_MAX_FRAME_SIZE: Final = 10 << 20
"""Bytes of a frame, and of a message, unless told otherwise."""

_LONGEST: Final = 86400 * 365  # seconds; more than that is a mistake


@dataclass(frozen=True, slots=True, kw_only=True)
class WsLimits:
    """How much a peer may send, and how much may wait to be sent to it; in bytes."""

    frame: int = DEFAULT_MAX_FRAME_SIZE
    """The payload of one frame, as it is sent. 1009."""
    message: int = DEFAULT_MAX_FRAME_SIZE
    """A whole message: its fragments together, and inflated if it was compressed. 1009."""
    high_water: int = 256 << 10
    """Unsent bytes above which `send` returns False. A server then reads nothing more until `on_drain`."""
    low_water: int = 64 << 10
    """Unsent bytes at which `on_drain` is called."""
    buffer: int = 16 << 20
    """Unsent bytes, besides those of one message, at which the peer is given up: the program did not heed `send`."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"WsLimits.{field.name} must be a positive whole number, not {value!r}")
        if self.low_water > self.high_water:
            raise ValueError(f"WsLimits.low_water {self.low_water} is above high_water {self.high_water}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WsTimeouts:
    """How long a WebSocket waits, in seconds. None, where it is allowed, waits for ever."""

    ping: float | None = 20.0
    """Without a sign of life from the peer, until it is asked for one. None: never."""
    pong: float = 20.0
    """From that ping until the peer is given up."""
    idle: float | None = None
    """Without a message in either direction, until the WebSocket is closed with 1001; pings and pongs do not count."""
    close: float = 10.0
    """From our close frame until the connection is cut, if the peer does not answer and end it."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.name in {"ping", "idle"}:
                continue
            if value is None or not 0 < value <= _LONGEST:
                raise ValueError(f"WsTimeouts.{field.name} must be a positive number of seconds, not {value!r}")


DEFAULT_LIMITS: Final = WsLimits()
DEFAULT_TIMEOUTS: Final = WsTimeouts()
