"""The bounds of a server, in sizes and in time. Every one is finite by default."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nimloop_http.forms import FormLimits

__all__ = ["DEFAULT_LIMITS", "DEFAULT_TIMEOUTS", "Limits", "Timeouts"]


def check_sizes(limits: Limits | FormLimits, *, may_be_zero: AbstractSet[str]) -> None:
    """Raise ValueError for a field that is not a whole number above 0, or 0 where that may be."""
    for field in fields(limits):
        value = getattr(limits, field.name)
        if not isinstance(value, int) or value < (0 if field.name in may_be_zero else 1):
            name = f"{type(limits).__name__}.{field.name}"
            raise ValueError(f"{name} must be a positive whole number, not {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How large a request may be; sizes are bytes. Exceeding one raises, and answers, its own error."""

    request_line: int = 8192
    """Method, target and version; RFC 9112 §3 recommends at least 8000. 414."""
    header_bytes: int = 8192
    """All header fields together. 431."""
    headers: int = 100
    """Number of header fields. 431."""
    body: int = 16 << 20
    """The body after chunked coding is undone. It is held in memory. 413."""
    body_rate: int = 8192
    """Bytes per second: the slowest that a body may come once ``Timeouts.body`` is over. 408."""
    chunk_line: int = 1024
    """A chunk's size with its extensions, which nobody uses for anything good. 400."""
    trailer_bytes: int = 8192
    """All trailer fields together. 431."""
    pipeline: int = 32
    """Requests of one connection that may wait for their answers; further ones wait to be read."""

    def __post_init__(self) -> None:
        check_sizes(self, may_be_zero={"body"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long a server waits, in seconds."""

    head: float = 10.0
    """From the first byte of a request (or from the connection's beginning) to the end of its head. 408."""
    handshake: float = 10.0
    """From the first byte of TLS until it is agreed on. The connection is closed."""
    body: float = 60.0
    """From the end of the head to that of the body, plus the time its bytes need at ``Limits.body_rate``. 408."""
    idle: float = 15.0
    """Between requests, until the connection is closed."""
    answer: float = 300.0
    """From the complete request until its answer begins, and for a body that nobody takes. 503."""
    write: float = 30.0
    """Without the client taking a single byte of an answer that waits to be sent."""
    grace: float = 10.0
    """From a request to stop until connections that are still busy are cut off."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value <= 86400 * 365:
                raise ValueError(f"Timeouts.{field.name} must be a positive number of seconds, not {value!r}")


DEFAULT_LIMITS = Limits()
DEFAULT_TIMEOUTS = Timeouts()
