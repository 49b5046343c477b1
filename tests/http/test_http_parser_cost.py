"""What each byte costs: the same however many came before it, counted in steps."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Self, SupportsIndex, TypeAlias, final

import pytest
from tests.http.parsing import bytewise, chunked, get, parsed, post
from tests.http.parsing import scanner as scanner

import nimloop_http._bodies as bodies_module
import nimloop_http._diagnose as diagnose_module
import nimloop_http._heads as heads_module
import nimloop_http.parser as parser_module
from nimloop_http import End, Head, HttpParser, Limits
from nimloop_http._grammar import BARE_LINE_END


@final
class Cost:
    """Counts the bytes that are looked at or copied."""

    steps = 0


Slice: TypeAlias = "slice[int | None, int | None, None]"


@final
class CountedBuffer(bytearray):
    """The parser's buffer, telling the cost of what is done with it."""

    def __init__(self, content: bytes = b"") -> None:
        super().__init__(content)
        Cost.steps += len(content)

    def __getitem__(self, key: SupportsIndex | Slice) -> int | bytearray:  # type: ignore[override]
        piece = super().__getitem__(key)
        Cost.steps += len(piece) if isinstance(piece, bytearray) else 1
        return piece

    def __iadd__(self, more: bytes) -> Self:  # type: ignore[override, misc]
        Cost.steps += len(more)
        return super().__iadd__(more)

    def find(self, what: bytes, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]
        """Count up to what is found, or to the end."""
        found = super().find(what, start, end)
        last = min(len(self), len(self) if end is None else end)
        Cost.steps += max(1, (last if found < 0 else found + len(what)) - start)
        return found


@final
class CountedPattern:
    """A pattern that looks at each byte once, telling how many those are."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self._pattern = pattern

    def search(self, data: bytes, start: int = 0, end: int | None = None) -> re.Match[bytes] | None:
        """Count up to what is found, or to the end."""
        end = len(data) if end is None else min(end, len(data))
        match = self._pattern.search(data, start, end)
        Cost.steps += max(1, (match.end() if match else end) - start)
        return match


@pytest.fixture
def cost_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes, Limits], int]:
    """Give the function that feeds byte by byte and counts."""
    monkeypatch.setattr(parser_module, "bytearray", CountedBuffer, raising=False)
    for module in (heads_module, bodies_module, diagnose_module):
        monkeypatch.setattr(module, "BARE_LINE_END", CountedPattern(BARE_LINE_END))

    def cost(data: bytes, limits: Limits) -> int:
        Cost.steps = 0
        found = parsed(bytewise(data), limits)
        assert not found[-1].startswith("error ")
        return Cost.steps

    return cost


HUGE = 1 << 30
ROOMY = Limits(request_line=HUGE, header_bytes=HUGE, headers=HUGE, body=HUGE, chunk_line=HUGE, trailer_bytes=HUGE)
LONG_MESSAGES: dict[str, Callable[[int], bytes]] = {
    "request line": lambda n: get(f"GET /{'a' * n} HTTP/1.1"),
    "field": lambda n: get(fields=f"Host: a\r\nX: {'a' * n}\r\n"),
    "fields": lambda n: get(fields="Host: a\r\n" + "X:\r\n" * (n // 4)),
    "line and fields": lambda n: get(f"GET /{'a' * n} HTTP/1.1", "Host: a\r\n" + "X: y\r\n" * (n // 6)),
    "list": lambda n: get(fields=f"Host: a\r\nConnection: {'a ,' * (n // 3)}a\r\n"),
    "body": lambda n: post(f"Content-Length: {n}\r\n", "a" * n),
    "chunk": lambda n: chunked(f"{n:x}\r\n{'a' * n}\r\n0\r\n\r\n"),
    "chunks": lambda n: chunked("1\r\na\r\n" * (n // 6) + "0\r\n\r\n"),
    "extension": lambda n: chunked(f"0;a={'a' * n}\r\n\r\n"),
    "trailer": lambda n: chunked(f"0\r\nX: {'a' * n}\r\n\r\n"),
    "trailers": lambda n: chunked("0\r\n" + "X:\r\n" * (n // 4) + "\r\n"),
    "pipeline": lambda n: get() * (n // 25),
}


@pytest.mark.interpreted
@pytest.mark.parametrize("shape", LONG_MESSAGES)
@pytest.mark.parametrize("tight", [False, True], ids=["roomy", "exact"])
def test_a_byte_costs_the_same_however_many_came_before(
    shape: str, cost_of: Callable[[bytes, Limits], int], *, tight: bool
) -> None:
    """Byte by byte, a message of four times the size takes four times the steps, near its limits, too."""

    def cost(size: int) -> int:
        data = LONG_MESSAGES[shape](size)
        if not tight:
            return cost_of(data, ROOMY)
        head, _, rest = data.partition(b"\r\n\r\n")
        line, _, fields = head.partition(b"\r\n")
        trailers = rest.removeprefix(b"0\r\n") if shape.startswith("trailer") else b"X:\r\n\r\n"
        limits = replace(ROOMY, request_line=len(line), header_bytes=len(fields) + 2, trailer_bytes=len(trailers) - 2)
        return cost_of(data, limits)

    small, large = cost(1500), cost(6000)
    assert large < 4.2 * small
    assert large < 20 * len(LONG_MESSAGES[shape](6000))


@pytest.mark.interpreted
@pytest.mark.parametrize(("line_limit", "field_limit"), [(HUGE, 1), (HUGE, 8192), (8192, HUGE)])
def test_a_limit_that_is_passed_elsewhere_costs_nothing(
    line_limit: int, field_limit: int, cost_of: Callable[[bytes, Limits], int]
) -> None:
    """A long request line does not suffer from a small limit of the fields, and not the other way round."""
    limits = replace(ROOMY, request_line=line_limit, header_bytes=field_limit)
    small, large = (
        cost_of(b"GET /" + b"a" * size if line_limit == HUGE else b"GET / HTTP/1.1\r\nX: " + b"a" * size, limits)
        for size in (10_000, 40_000)
    )
    assert large < 4.2 * small


def test_requests_that_wait_are_not_copied_again_and_again(cost_of: Callable[[bytes, Limits], int]) -> None:
    """With the reader a hundred requests behind, a byte costs what it costs otherwise."""
    parser = HttpParser()
    for _ in range(100):
        parser.push(get())
    Cost.steps = 0
    for _ in range(200):
        for piece in bytewise(get()):
            parser.push(piece)
        assert isinstance(parser.next_event(), Head)
        assert isinstance(parser.next_event(), End)
    assert Cost.steps < 10 * 200 * len(get())
