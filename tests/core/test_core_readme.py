"""The README: every example in it runs as it stands, and every name in its table for people from powpow exists."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from operator import attrgetter
from pathlib import Path

import pytest

import nimloop_core
from nimloop_core import Loop

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


# What the original exports of what is nimloop-core's part here.
POWPOW = """
== Callback FdCallback TimerCallback EventType TimerId Platform PlatformEvent init add remove modify wake ensureCapacity
poll Loop newLoop run runOnce stop isRunning close addTimer addInterval cancelTimer deferCall addIdle removeIdle
FdWatcher register unregister unregisterFd MaxBufPoolSize FileSystemEvent FileWatcher FileWatcherCb newFileWatcher
"""


def powpow_table() -> list[tuple[list[str], list[str]]]:
    """Return what the rows name: of the original, and of this package."""
    section = README.read_text("utf-8").partition("## Coming from powpow")[2]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("|")][2:]
    return [(re.findall("`([^`]+)`", there), re.findall("`([^`]+)`", here)) for there, here in rows]


def test_every_symbol_of_powpow_has_a_row() -> None:
    """Each in one row only."""
    named = [name for there, _ in powpow_table() for name in there]
    assert len(named) == len(set(named))
    assert set(POWPOW.split()) <= set(named)


@pytest.mark.parametrize("name", sorted({name for _, here in powpow_table() for name in here}))
def test_what_stands_for_it_exists(name: str, loop: Loop) -> None:
    """As a name of the package, of one of its modules or classes, or of a loop."""
    for module in ("abc", "backends"):
        importlib.import_module(f"nimloop_core.{module}")
    owner, _, attribute = name.partition(".")
    if owner == "Loop" and attribute:
        attrgetter(attribute)(loop)  # some are attributes of the instance
    else:
        attrgetter(name)(nimloop_core)
