"""The twins of the scanner, and how to let the parser use one of them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import NamedTuple, Protocol

import pytest

from nimloop_http import _bodies, _headers, _heads, _scan_py

Told = tuple[bytes, str, str, int, int]
Scan = tuple[bytes, str, str, int, int, bytes | None]


class Find(Protocol):
    """Finds a line end."""

    def __call__(self, data: bytes | bytearray | memoryview, start: int = 0, end: int | None = None, /) -> int:
        """Return the place or −1."""


class Twin(NamedTuple):
    """One implementation of the scanner."""

    scan_request: Callable[[bytes | bytearray, int, tuple[int, ...]], Scan | None]
    join_chunks: Callable[[bytes | bytearray, int, int, int, int], tuple[int, int, int, bytes]]
    split_fields: Callable[[bytes | bytearray, bytes | None, bool], list[tuple[str, str]]]
    find_value: Callable[[bytes | bytearray, bytes | None, str], str | None]
    find_crlf: Find
    find_double_crlf: Find


def _twin(module: ModuleType) -> Twin:
    return Twin(*(getattr(module, name) for name in Twin._fields))


def told(scan: Scan | None) -> Told | None:
    """Leave out the offsets, which only one of the twins remembers."""
    return None if scan is None else scan[:5]


def offsets_in(head: bytes, twin: Twin) -> list[tuple[int, ...]] | None:
    """Tell where a twin finds the fields of a head: beginning and end of each name, and of each value."""
    result = twin.scan_request(head, 0, (len(head), len(head), len(head)))
    offsets = None if result is None else result[5]
    return None if offsets is None else list(struct.iter_unpack("=IIII", offsets))


TWINS = {"Python": _twin(_scan_py)}
try:
    from nimloop_http import _scan
except ImportError:
    pass
else:
    TWINS["C"] = _twin(_scan)


@pytest.fixture(params=TWINS)
def twin(request: pytest.FixtureRequest) -> Twin:
    """Take each twin that is there."""
    return TWINS[request.param]


@contextmanager
def use(name: str) -> Iterator[None]:
    """Let the parser use one of them. When mypyc has compiled the parser, it keeps the one it was made with."""
    twin = TWINS[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_heads, "scan_request", twin.scan_request)
        patch.setattr(_bodies, "join_chunks", twin.join_chunks)
        patch.setattr(_bodies, "split_fields", twin.split_fields)
        patch.setattr(_headers, "split_fields", twin.split_fields)
        patch.setattr(_headers, "find_value", twin.find_value)
        yield
