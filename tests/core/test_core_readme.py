"""The README: every example in it runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "packages" / "nimloop-core" / "README.md"
EXAMPLES = [
    block
    for block in re.findall(r"^```python\n(.*?)^```", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    if "import" in block
]
EXPECTED = [
    "started\ntick\ntick\ntick\n",
    "silent since two seconds, at 5.0\n",
    "created news.txt\n",
    "a timer of nimloop\ndone\n",
    "",
]


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example(number: int) -> None:
    """It prints what it says, and nothing else, also with every warning on."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", EXAMPLES[number]], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    printed = "".join(line for line in done.stdout.splitlines(keepends=True))
    assert sorted(printed.splitlines()) == sorted(EXPECTED[number].splitlines())


def test_every_example_has_an_expectation() -> None:
    """None is forgotten."""
    assert len(EXAMPLES) == len(EXPECTED)
