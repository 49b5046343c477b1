"""What a build says of itself."""

from __future__ import annotations

import os
import subprocess
import sys

from nimloop_ws import build


def test_a_build_says_what_it_is() -> None:
    """In the words of the packages below."""
    assert build.IMPLEMENTATION.removeprefix("mypyc").lstrip(" +").partition(" ")[0] in {"", "C", "Python"}


def test_a_build_without_c_says_so() -> None:
    """Where C is there and must not be used, it is not named."""
    code = "from nimloop_ws.build import IMPLEMENTATION; print(IMPLEMENTATION)"
    told = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"NIMLOOP_EXTENSION": "off"}, capture_output=True, check=True
    )
    assert told.stdout.strip() in {b"Python", b"mypyc"}
