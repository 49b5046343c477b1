"""Servers as fixtures; apart from `serving`, because a plugin must not be imported before it is loaded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.http.serving import Site

from nimloop_core import backends
from nimloop_core.testing import FakeClock

NATIVE = ["epoll", "poll"]


@pytest.fixture(params=NATIVE)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """Serve on each backend; what a test does not take out of `errors` fails it."""
    name = str(request.param)
    if name not in backends.available():
        pytest.skip(f"no {name} on this system")
    with Site(name) as site:
        yield site


@pytest.fixture
def timed_site() -> Iterator[Site]:
    """Serve with a clock that the test moves."""
    with Site(clock=FakeClock(start=1000.0)) as site:
        yield site
