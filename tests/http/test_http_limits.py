"""Limits and time-outs: finite by default, and refused when they make no sense."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, fields

import pytest

from nimloop_http import Limits, Timeouts
from nimloop_http.limits import DEFAULT_LIMITS, DEFAULT_TIMEOUTS

SIZES = [field.name for field in fields(Limits)]
TIMES = [field.name for field in fields(Timeouts)]


def test_defaults_are_what_the_documentation_promises() -> None:
    """A change of one of these is a change that users must be told."""
    assert Limits() == DEFAULT_LIMITS
    assert {name: getattr(DEFAULT_LIMITS, name) for name in SIZES} == {
        "request_line": 8192,
        "header_bytes": 8192,
        "headers": 100,
        "body": 16 * 1024 * 1024,
        "body_rate": 8192,
        "chunk_line": 1024,
        "trailer_bytes": 8192,
        "pipeline": 32,
    }
    assert Timeouts() == DEFAULT_TIMEOUTS
    assert {name: getattr(DEFAULT_TIMEOUTS, name) for name in TIMES} == {
        "head": 10,
        "handshake": 10,
        "body": 60,
        "idle": 15,
        "answer": 300,
        "write": 30,
        "grace": 10,
    }


def test_the_request_line_is_as_long_as_the_rfc_recommends() -> None:
    """RFC 9112 §3: at least 8000 octets."""
    assert DEFAULT_LIMITS.request_line >= 8000


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("value", [1, 2, 1 << 62])
def test_a_limit_is_a_positive_whole_number(name: str, value: int) -> None:
    """However large."""
    assert getattr(Limits(**{name: value}), name) == value


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("value", [-1, 0, 1.5, 1e9, math.inf, "1", None])
def test_a_limit_that_makes_no_sense_is_refused_by_name(name: str, value: object) -> None:
    """Whoever wants no bodies may say so with a body of 0; nothing else may be 0."""
    if name == "body" and value == 0:
        assert Limits(body=0).body == 0
        return
    with pytest.raises(ValueError, match=f"Limits.{name} "):
        Limits(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("value", [0.001, 1, 86400 * 365])
def test_a_timeout_is_a_positive_number_of_seconds(name: str, value: float) -> None:
    """Up to a year."""
    assert getattr(Timeouts(**{name: value}), name) == value


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("value", [0, -1, math.inf, -math.inf, math.nan, 86400 * 365 + 1])
def test_a_timeout_that_makes_no_sense_is_refused_by_name(name: str, value: float) -> None:
    """There is no way to wait for ever."""
    with pytest.raises(ValueError, match=f"Timeouts.{name} "):
        Timeouts(**{name: value})


def test_neither_can_be_changed_later() -> None:
    """Servers share them."""
    with pytest.raises(FrozenInstanceError):
        DEFAULT_LIMITS.body = 1  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        DEFAULT_TIMEOUTS.head = 1  # type: ignore[misc]


def test_both_want_names_for_their_values() -> None:
    """Nobody knows the order of seven numbers."""
    with pytest.raises(TypeError):
        Limits(1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Timeouts(1)  # type: ignore[call-arg]
