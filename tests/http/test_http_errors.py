"""The exceptions: the tree that the documentation draws is the tree there is."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest

from nimloop_core import NimloopError
from nimloop_http import errors


class Drawn(NamedTuple):
    """A line of the drawing."""

    name: str
    parent: str
    other_base: str
    status: int | None


def drawn() -> list[Drawn]:
    """Read the drawing in the module's documentation."""
    assert errors.__doc__ is not None
    found: list[Drawn] = []
    above: list[str] = []
    pattern = re.compile(r"^([│├└─ ]*)(\w+Error)(?: \((\w+)\))?(?: +(\d{3})\b)?", re.MULTILINE)
    for branch, name, other_base, status in pattern.findall(errors.__doc__):
        depth = len(branch) // 4
        del above[depth:]
        found.append(Drawn(name, above[-1] if above else "", other_base, int(status) if status else None))
        above.append(name)
    return found


DRAWN = drawn()


def test_everything_is_drawn() -> None:
    """An exception that is not in the drawing is not documented."""
    there = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert {line.name for line in DRAWN} == there
    assert DRAWN[0].name == "NimloopError"


@pytest.mark.parametrize("line", DRAWN[1:], ids=lambda line: line.name)
def test_the_drawing_is_true(line: Drawn) -> None:
    """Parents, further bases and statuses are as drawn, and each exception says what it means."""
    error = getattr(errors, line.name)
    assert issubclass(error, NimloopError)
    assert [base.__name__ for base in error.__bases__] == [line.parent, *([line.other_base] if line.other_base else [])]
    assert error.__doc__
    if issubclass(error, errors.ProtocolError):
        drawn_status = line.status or 400
        assert error.status == drawn_status
        assert error("message").status == drawn_status
        assert str(error("message")) == "message"


def test_every_status_of_a_protocol_error_is_one_that_blames_or_declines() -> None:
    """4xx for the client's fault, 501 and 505 for what is not implemented; a LimitError is always the former."""
    for line in DRAWN:
        error = getattr(errors, line.name)
        if issubclass(error, errors.ProtocolError):
            assert 400 <= error.status < 500 or error.status in {501, 505}
        if issubclass(error, errors.LimitError):
            assert error.status < 500


def test_a_range_that_cannot_be_satisfied_tells_the_size() -> None:
    """Content-Range of the answer needs it."""
    error = errors.RangeNotSatisfiableError("too far", 10)
    assert (str(error), error.size) == ("too far", 10)


def test_misuse_can_be_caught_as_what_python_calls_it() -> None:
    """Using a thing wrongly is a RuntimeError, a field that cannot be sent a ValueError as well."""
    with pytest.raises(RuntimeError):
        raise errors.ParserStateError("fed after an error")
    with pytest.raises(ValueError):
        raise errors.InvalidHeaderError("X\r\n")
