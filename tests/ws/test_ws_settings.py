"""Sizes and times that make no sense are refused where they are given."""

from __future__ import annotations

import pytest

from nimloop_ws import WsLimits, WsTimeouts


@pytest.mark.parametrize("name", ["frame", "message", "high_water", "low_water", "buffer"])
@pytest.mark.parametrize("value", [0, -1, 1.5, None, "many"])
def test_sizes(name: str, value: object) -> None:
    """They are positive whole numbers."""
    with pytest.raises(ValueError, match=f"WsLimits.{name} must be a positive whole number"):
        WsLimits(**{name: value})  # type: ignore[arg-type]


def test_water_marks_have_an_order() -> None:
    """The low one is not above the high one."""
    with pytest.raises(ValueError, match="low_water 101 is above high_water 100"):
        WsLimits(low_water=101, high_water=100)
    assert WsLimits(low_water=100, high_water=100).low_water == 100


@pytest.mark.parametrize("name", ["ping", "pong", "idle", "close"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), 86400.0 * 366])
def test_times(name: str, value: float) -> None:
    """They are positive numbers of seconds, of a year at most."""
    with pytest.raises(ValueError, match=f"WsTimeouts.{name} must be a positive number of seconds"):
        WsTimeouts(**{name: value})


def test_times_that_may_be_left_out() -> None:
    """A ping and an idle time-out; the others have to end some time."""
    assert WsTimeouts(ping=None, idle=None).ping is None
    for name in ("pong", "close"):
        with pytest.raises(ValueError, match=name):
            WsTimeouts(**{name: None})  # type: ignore[arg-type]
