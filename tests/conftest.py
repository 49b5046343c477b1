"""What all tests share: two watchful eyes, and how hypothesis searches."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from nimloop_core import _timers

# CI has to be quick and the same every time; `HYPOTHESIS_PROFILE=soak` looks for what nobody has thought of.
# Explaining a failure traces every line and can take longer than pytest.toml allows; shrinking is what helps.
QUICK = [phase for phase in Phase if phase is not Phase.explain]
settings.register_profile("nimloop", deadline=None, derandomize=True, phases=QUICK)
settings.register_profile("soak", deadline=None, max_examples=2_000, stateful_step_count=200)
settings.register_profile(
    "mutants", deadline=None, derandomize=True, database=None, max_examples=20, phases=[Phase.explicit, Phase.generate]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "nimloop"))


COMPILED = not str(_timers.__file__).endswith(".py")
"""Whether the tests run on modules that mypyc has compiled."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out what is about the interpreter."""
    if COMPILED and item.get_closest_marker("interpreted") is not None:
        pytest.skip("compiled")


@pytest.fixture(autouse=True)
def unexpected_logs(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test that has logged a warning or worse without taking it off `caplog`."""
    yield
    unexpected = [each for each in caplog.get_records("call") if each.levelno >= logging.WARNING]
    assert not unexpected, "unexpected logs"


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[Callable[[], set[str]]]:
    """Compare what is open before and after the test; gives the function that tells what is open now."""

    def opened() -> set[str]:
        found = set()
        for entry in Path("/proc/self/fd").iterdir():
            try:
                found.add(f"{entry.name} {entry.readlink()}")
            except FileNotFoundError:
                continue  # the directory itself, while it was listed
        return found

    if not sys.platform.startswith("linux"):
        yield set
        return
    before = opened()
    yield opened
    assert opened() == before
