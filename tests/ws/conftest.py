"""Servers as fixtures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.ws.serving import Site

from nimloop_core.testing import FakeClock


@pytest.fixture
def site() -> Iterator[Site]:
    """Serve; what a test does not take out of `errors` fails it."""
    with Site() as site:
        yield site


@pytest.fixture
def timed() -> Iterator[Site]:
    """Serve with a clock that the test moves."""
    with Site(clock=FakeClock(start=1000.0)) as site:
        yield site
