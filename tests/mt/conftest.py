"""What tests of workers may provoke."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest

from nimloop_mt._interpreter import has_gil

Provoked = Callable[[str], None]


@pytest.fixture(autouse=True)
def turns(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Leave out the one warning that depends on the interpreter: that threads take turns."""

    def other(record: logging.LogRecord) -> bool:
        return not (has_gil() and str(record.msg).startswith("workers are threads, but"))

    caplog.handler.addFilter(other)
    yield
    caplog.handler.removeFilter(other)


@pytest.fixture
def provoked(caplog: pytest.LogCaptureFixture) -> Iterator[Provoked]:
    """Tell what the test provokes: exactly one warning or error with that text for each call, and no other."""
    texts: list[str] = []
    yield texts.append
    records = caplog.get_records("call")
    said = [each.getMessage() for each in records if each.levelno >= logging.WARNING]
    records.clear()
    assert len(said) == len(texts), said
    assert all(sum(text in each for each in said) == texts.count(text) for text in texts), said
