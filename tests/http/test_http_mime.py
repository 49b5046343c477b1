"""Media types: the same on every machine, text always with its character set."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimloop_http import get_file_ext
from nimloop_http._mime import DEFAULT, TYPES, is_compressed, media_type

UTF_8 = "; charset=utf-8"


@pytest.mark.parametrize(
    ("name", "extension", "expected"),
    [
        ("index.html", "html", "text/html" + UTF_8),
        ("INDEX.HTML", "html", "text/html" + UTF_8),
        ("notes.Txt", "txt", "text/plain" + UTF_8),
        ("app.mjs", "mjs", "text/javascript" + UTF_8),
        ("data.json", "json", "application/json"),
        ("picture.svg", "svg", "image/svg+xml"),
        ("all.tar.gz", "gz", "application/gzip"),
        ("/srv/www.example/picture.PNG", "png", "image/png"),
        ("module.wasm", "wasm", "application/wasm"),
        ("what.is-this", "is-this", DEFAULT),
        ("Makefile", "", DEFAULT),
        ("folder.html/Makefile", "", DEFAULT),
        (".html", "", DEFAULT),
        ("folder/.html", "", DEFAULT),
        (".profile.txt", "txt", "text/plain" + UTF_8),
        ("dot.", "", DEFAULT),
        ("...", "", DEFAULT),
        (".", "", DEFAULT),
        ("", "", DEFAULT),
        ("folder/", "", DEFAULT),
        ("caf\udce9.txt", "txt", "text/plain" + UTF_8),
    ],
)
def test_a_name_tells_its_type(name: str, extension: str, expected: str) -> None:
    """A type follows from what comes after the last dot, in any case of letters, if a name comes before it."""
    assert get_file_ext(name) == extension
    assert media_type(name) == expected


def test_the_table_is_in_order() -> None:
    """Extensions are in lower case, types well-formed; all text, and nothing else, says that it is UTF-8."""
    for extension, kind in TYPES.items():
        assert extension == extension.lower()
        assert re.fullmatch(r"[a-z]+/[a-z0-9.+-]+(; charset=utf-8)?", kind), extension
        assert kind.startswith("text/") == kind.endswith(UTF_8), extension


@pytest.mark.parametrize(
    ("name", "compressed"),
    [
        ("a.png", True),
        ("a.JPG", True),
        ("a.zip", True),
        ("a.woff2", True),
        ("a.js", False),
        ("a.svg", False),
        ("a", False),
    ],
)
def test_what_is_compressed_already(name: str, *, compressed: bool) -> None:
    """Nobody keeps compressed copies of it."""
    assert is_compressed(name) is compressed


@given(st.text())
def test_every_name_has_a_type(name: str) -> None:
    """Whatever the name, there is a type that fits into a header field."""
    assert re.fullmatch(r"[\x20-\x7e]+", media_type(name))
    assert "." not in get_file_ext(name)
    assert "/" not in get_file_ext(name)
