"""Header fields as a case-insensitive multimap."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Self, final

from nimloop_http._scanner import split_fields


@final
class Headers(Mapping[str, str]):
    """Header fields in the order they came; names compare without regard to case.

    ``headers[name]`` joins several fields of one name with ``", "``, as RFC 9110 §5.3 allows; `get_all` keeps them
    apart. Values are text in which each character stands for one byte (ISO 8859-1).
    """

    __slots__ = ("_fields", "_index")

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._fields: list[tuple[str, str]] = list(fields)
        self._index: dict[str, list[str]] | None = None

    @classmethod
    def from_head(cls, head: bytes | str) -> Self:
        """Take the fields behind the first line of a head that was checked before."""
        headers = cls()
        headers._fields = split_fields(head if isinstance(head, bytes) else head.encode("latin-1"))
        return headers

    def _by_name(self) -> dict[str, list[str]]:
        """Return the values by name in lower case; made when first asked for, which not everybody does."""
        index = self._index
        if index is None:
            index = {}
            for name, value in self._fields:
                index.setdefault(name.lower(), []).append(value)
            self._index = index
        return index

    def __getitem__(self, name: str) -> str:
        values = self._by_name()[name.lower()]
        return values[0] if len(values) == 1 else ", ".join(values)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._by_name()

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name())

    def __len__(self) -> int:
        return len(self._by_name())

    def get_all(self, name: str) -> list[str]:
        """Return the values of all fields with that name, in order; empty when there is none."""
        return list(self._by_name().get(name.lower(), ()))

    def fields(self) -> list[tuple[str, str]]:
        """Return every field as it was spelt, in order."""
        return list(self._fields)

    def __repr__(self) -> str:
        return f"Headers({self._fields!r})"
