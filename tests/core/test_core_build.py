"""What a package says that it runs on."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

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
    script = "from nimloop_core.build import IMPLEMENTATION; print(IMPLEMENTATION)"
    environment = os.environ | {"NIMLOOP_EXTENSION": "off"}
    output = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True)
    assert "C" not in output.stdout
