"""The hierarchy of exceptions is what its module says it is."""

from __future__ import annotations

import re

import pytest

import nimloop_core
from nimloop_core import NimloopError, errors

DRAWN = re.compile(r"^[│├└─ ]*(\w+Error)(?: \((\w+)\))?", re.MULTILINE)
BUILT_IN: dict[str, type[BaseException]] = {"RuntimeError": RuntimeError, "ValueError": ValueError}


def drawing() -> str:
    """Return the docstring that draws the hierarchy."""
    assert errors.__doc__ is not None
    return errors.__doc__


def defined() -> dict[str, type[BaseException]]:
    """Return the exceptions of the module by name."""
    return {name: each for name, each in vars(errors).items() if isinstance(each, type)}


def test_the_drawing_shows_every_exception() -> None:
    """No exception without a line, no line without an exception."""
    names = [name for name, _ in DRAWN.findall(drawing().partition("``OSError``")[0])]
    assert sorted(names) == sorted(defined())


@pytest.mark.parametrize(("name", "built_in"), DRAWN.findall(drawing().partition("``OSError``")[0]))
def test_an_exception_is_what_the_drawing_says(name: str, built_in: str) -> None:
    """It has the one root, the built-in class in brackets, a docstring, and a place in the public face."""
    each = defined()[name]
    assert issubclass(each, NimloopError)
    if built_in:
        assert issubclass(each, BUILT_IN[built_in])
    assert each.__doc__
    assert getattr(nimloop_core, name) is each
    assert name in nimloop_core.__all__


def test_watcher_errors_have_a_branch_of_their_own() -> None:
    """Both kinds of misuse can be caught at once."""
    assert issubclass(errors.AlreadyRegisteredError, errors.WatcherError)
    assert issubclass(errors.NotRegisteredError, errors.WatcherError)


def test_the_public_face_is_sorted_and_complete() -> None:
    """Everything in `__all__` exists, and every public class of the face is in it."""
    public = {name for name, each in vars(nimloop_core).items() if isinstance(each, type) and not name.startswith("_")}
    assert public <= set(nimloop_core.__all__)
    assert all(hasattr(nimloop_core, name) for name in nimloop_core.__all__)
