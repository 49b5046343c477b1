"""What the public modules of nimloop-core offer, and what a user sees of it."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import nimloop_core

PUBLIC = [
    module.name
    for module in pkgutil.walk_packages(nimloop_core.__path__, "nimloop_core.")
    if not any(part.startswith("_") for part in module.name.split("."))
]


def test_there_are_public_modules() -> None:
    """The tests below have something to look at."""
    assert {"nimloop_core.abc", "nimloop_core.backends.epoll", "nimloop_core.testing"} <= set(PUBLIC)


@pytest.mark.parametrize("name", ["nimloop_core", *PUBLIC])
def test_a_public_module_lists_what_it_offers(name: str) -> None:
    """In ``__all__``: nothing private, nothing twice, nothing that is not there."""
    module = importlib.import_module(name)
    offered: list[str] = module.__all__
    assert len(set(offered)) == len(offered)
    for each in offered:
        assert not each.startswith("_")
        assert hasattr(module, each)


@pytest.mark.parametrize(
    "name",
    [
        "BufferPool",
        "Deadline",
        "FileEvent",
        "FileWatcher",
        "IdleHandler",
        "Loop",
        "LoopStats",
        "SignalHandler",
        "Timer",
        "Watcher",
    ],
)
def test_what_users_hold_can_be_printed(name: str) -> None:
    """As more than an address."""
    offered: type = getattr(nimloop_core, name)
    assert "__repr__" in vars(offered)
