"""Header fields as a mapping: names without case, values in order."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimloop_http import Headers

FIELDS = [("Host", "a"), ("Accept", "x"), ("X-Empty", ""), ("ACCEPT", "y, z"), ("accept", "w")]


@pytest.fixture
def headers() -> Headers:
    """Give some fields, one of them three times."""
    return Headers(FIELDS)


def test_a_name_is_found_whatever_its_case(headers: Headers) -> None:
    """RFC 9110 §5.1."""
    assert headers["host"] == headers["HOST"] == headers["Host"] == "a"
    assert "hOST" in headers
    assert headers.get("X-EMPTY") == ""


def test_fields_of_one_name_are_joined_in_order(headers: Headers) -> None:
    """RFC 9110 §5.3: a comma and a space, as if it had been one field."""
    assert headers["Accept"] == "x, y, z, w"


def test_fields_of_one_name_can_be_had_apart(headers: Headers) -> None:
    """The list is the caller's own, and empty where there is nothing."""
    values = headers.get_all("accept")
    assert values == ["x", "y, z", "w"]
    values.clear()
    assert headers.get_all("ACCEPT") == ["x", "y, z", "w"]
    assert headers.get_all("missing") == []


def test_every_field_comes_back_as_it_was_spelt(headers: Headers) -> None:
    """In its place; this list is the caller's own, too."""
    assert headers.fields() == FIELDS
    headers.fields().clear()
    assert headers.fields() == FIELDS


def test_what_is_missing_is_missing(headers: Headers) -> None:
    """As in a dictionary."""
    assert "missing" not in headers
    assert headers.get("missing") is None
    assert headers.get("missing", "default") == "default"
    with pytest.raises(KeyError):
        headers["missing"]


def test_what_is_no_name_is_not_in_it(headers: Headers) -> None:
    """Asking is allowed."""
    others: list[object] = [b"host", None, 1, ("host",)]
    assert not any(other in headers for other in others)


def test_it_is_a_mapping_of_names_in_lower_case(headers: Headers) -> None:
    """Each once, in the order they first came; so it compares with other mappings."""
    assert isinstance(headers, Mapping)
    assert list(headers) == list(headers.keys()) == ["host", "accept", "x-empty"]
    assert len(headers) == 3
    assert dict(headers) == {"host": "a", "accept": "x, y, z, w", "x-empty": ""}
    assert headers == {"host": "a", "accept": "x, y, z, w", "x-empty": ""}
    assert headers == Headers(FIELDS)
    assert headers != Headers(FIELDS[:1])
    assert list(headers.values()) == ["a", "x, y, z, w", ""]


def test_no_field_at_all() -> None:
    """It is empty, and so false."""
    headers = Headers()
    assert not headers
    assert len(headers) == 0
    assert headers.fields() == []
    assert repr(headers) == "Headers([])"


def test_it_shows_its_fields(headers: Headers) -> None:
    """As they were spelt."""
    assert repr(headers) == f"Headers({FIELDS!r})"


def test_it_cannot_be_changed(headers: Headers) -> None:
    """What the peer has sent stays what it has sent."""
    with pytest.raises(TypeError):
        headers["host"] = "b"  # type: ignore[index]


def test_a_head_gives_its_fields_and_not_its_request_line() -> None:
    """White space around values is left out, inside it stays; a colon in a value is nothing special."""
    headers = Headers.from_head("GET /a:b HTTP/1.1\r\nHost:a\r\nX: \t b:c\t d \t\r\nY:\r\nZ: \t\r\n\xe9: \xff\r\n\r\n")
    assert headers.fields() == [("Host", "a"), ("X", "b:c\t d"), ("Y", ""), ("Z", ""), ("\xe9", "\xff")]


def test_a_head_may_have_none() -> None:
    """As HTTP/1.0 allows."""
    assert Headers.from_head("GET / HTTP/1.0\r\n\r\n").fields() == []


names = st.text("!#$%&'*+-.^_`|~09AZaz", min_size=1, max_size=10)
values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20)


@given(st.lists(st.tuples(names, values.map(lambda value: value.strip(" \t"))), max_size=10))
def test_it_agrees_with_a_list_of_pairs(pairs: list[tuple[str, str]]) -> None:
    """Built from pairs or read from a head, it is what a slow search in the list says."""
    head = "".join(f"{line}\r\n" for line in ["GET / HTTP/1.1", *(f"{name}: {value}" for name, value in pairs), ""])
    for headers in (Headers(pairs), Headers.from_head(head)):
        assert headers.fields() == pairs
        assert len(headers) == len({name.lower() for name, _ in pairs})
        for name, _ in pairs:
            same = [value for other, value in pairs if other.lower() == name.lower()]
            assert headers.get_all(name.swapcase()) == same
            assert headers[name] == ", ".join(same)
