"""The twins of the scanner, and how to let the parser use one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import NamedTuple, Protocol

import pytest

from nimloop_http import _bodies, _headers, _scan_py
from nimloop_http import parser as parser_module

Scan = tuple[int, bytes, str, str, int, int]


class Find(Protocol):
    """Finds a line end."""

    def __call__(self, data: bytes | bytearray | memoryview, start: int = 0, end: int | None = None, /) -> int:
        """Return the place or −1."""


class Twin(NamedTuple):
    """One implementation of the scanner."""

    scan_request: Callable[[bytes | bytearray, int, tuple[int, ...]], Scan | None]
    join_chunks: Callable[[bytes | bytearray, int, int, int, int], tuple[int, int, int, bytes]]
    split_fields: Callable[[bytes | bytearray], list[tuple[str, str]]]
    find_crlf: Find
    find_double_crlf: Find


def _twin(module: ModuleType) -> Twin:
    return Twin(*(getattr(module, name) for name in Twin._fields))


TWINS = {"Python": _twin(_scan_py)}
try:
    from nimloop_http import _scan
except ImportError:
    pass
else:
    TWINS["C"] = _twin(_scan)


@contextmanager
def use(name: str) -> Iterator[None]:
    """Let the parser use one of them. When mypyc has compiled the parser, it keeps the one it was made with."""
    twin = TWINS[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parser_module, "scan_request", twin.scan_request)
        patch.setattr(_bodies, "join_chunks", twin.join_chunks)
        patch.setattr(_bodies, "split_fields", twin.split_fields)
        patch.setattr(_headers, "split_fields", twin.split_fields)
        yield
