"""What a package says that it runs on."""

from __future__ import annotations

import pytest
from tests.support.twins import implementation

from nimloop_core.build import describe


@pytest.mark.parametrize(
    ("file", "leaf", "expected"),
    [
        ("a/_loop.py", "Python", "Python"),
        ("a/_loop.py", "C (SSE2)", "C (SSE2)"),
        ("a/_loop.so", "C", "mypyc + C"),
        ("a/_loop.pyd", "Python", "mypyc"),
        (None, "C", "C"),
    ],
)
def test_it_is_said_in_a_word_or_two(file: str | None, leaf: str, expected: str) -> None:
    """By the file that a hot module came from, and by the C part."""
    assert describe(file, leaf) == expected


def test_without_extensions_there_is_no_c() -> None:
    """The variable that forbids them is believed."""
    assert "C" not in implementation("nimloop_core.build", "off")
