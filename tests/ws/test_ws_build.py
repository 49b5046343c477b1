"""What a build says of itself."""

from __future__ import annotations

from tests.support.twins import implementation

from nimloop_ws import build


def test_a_build_says_what_it_is() -> None:
    """In the words of the packages below."""
    assert build.IMPLEMENTATION.removeprefix("mypyc").lstrip(" +").partition(" ")[0] in {"", "C", "Python"}


def test_a_build_without_c_says_so() -> None:
    """Where C is there and must not be used, it is not named."""
    assert implementation("nimloop_ws.build", "off") in {"Python", "mypyc"}
