"""Header fields as a case-insensitive multimap."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar, final, overload

from nimloop_http._scanner import find_value, split_fields

_Default = TypeVar("_Default")


@final
class Headers(Mapping[str, str]):
    """Header fields in the order they came; names compare without regard to case.

    ``headers[name]`` joins several fields of one name with ``", "``, as RFC 9110 §5.3 allows; `get_all` keeps them
    apart. Values are text in which each character stands for one byte (ISO 8859-1).
    """

    __slots__ = ("_fields", "_head", "_index", "_offsets")

    def __init__(self, fields: Iterable[tuple[str, str]] | None = None) -> None:
        self._fields: list[tuple[str, str]] | None = None if fields is None else list(fields)  # None: see the head
        self._index: dict[str, list[str]] | None = None
        self._head: bytes = b""
        self._offsets: bytes | None = None  # of the fields in the head, where the scanner knows them

    @classmethod
    def from_head(cls, head: bytes | str, offsets: bytes | None = None) -> Headers:
        """Read the fields behind the first line of a head that was checked before; `offsets` are from its scan."""
        headers = Headers()
        headers._head = head if isinstance(head, bytes) else head.encode("latin-1")
        headers._offsets = offsets
        return headers

    def _by_name(self) -> dict[str, list[str]]:
        """Return the values by name in lower case; made when first asked for, which not everybody does."""
        index = self._index
        if index is None:
            index = {}
            fields = self._fields
            if fields is None:
                fields = split_fields(self._head, self._offsets, True)
            else:
                fields = [(name.lower(), value) for name, value in fields]
            for name, value in fields:
                index.setdefault(name, []).append(value)
            self._index = index
        return index

    def _find(self, name: str) -> str | None:
        """Return the value of that name: out of the head, which takes no other field apart, or from the index."""
        if self._fields is None and self._index is None:
            return find_value(self._head, self._offsets, name)
        values = self._by_name().get(name.lower())
        if values is None:
            return None
        return values[0] if len(values) == 1 else ", ".join(values)

    def __getitem__(self, name: str) -> str:
        value = self._find(name)
        if value is None:
            raise KeyError(name)
        return value

    @overload
    def get(self, name: str, /) -> str | None: ...
    @overload
    def get(self, name: str, /, default: str) -> str: ...
    @overload
    def get(self, name: str, /, default: _Default) -> str | _Default: ...
    def get(self, name: str, /, default: object = None) -> object:
        """Return the value of that name, or `default` when there is none."""
        value = self._find(name)
        return default if value is None else value

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name())

    def __len__(self) -> int:
        return len(self._by_name())

    def get_all(self, name: str) -> list[str]:
        """Return the values of all fields with that name, in order; empty when there is none."""
        return list(self._by_name().get(name.lower(), ()))

    def fields(self) -> list[tuple[str, str]]:
        """Return every field as it was spelt, in order, in a list that is the caller's."""
        fields = self._fields
        return split_fields(self._head, self._offsets, False) if fields is None else list(fields)

    def __repr__(self) -> str:
        return f"Headers({self.fields()!r})"
