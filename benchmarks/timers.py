"""Timers: what adding, cancelling, firing and re-arming one costs among few and among a million others."""

import sys

from _loops import Case, Plan, main
from _report import Measure

MEASURES = (
    Measure("fill_ns", "fill ns"),
    Measure("add_ns", "add ns"),
    Measure("cancel_ns", "cancel ns"),
    Measure("churn_ns", "add + cancel ns"),
    Measure("rearm_ns", "re-arm ns"),
    Measure("fire_ns", "fire ns"),
    Measure("memory_bytes", "bytes each"),
)


def plan(quick: bool) -> Plan:  # noqa: FBT001 - the only parameter, and _loops calls it
    """The sizes of the target in performance work; small ones when it is only to be seen that it works."""
    sizes = (1_000, 10_000) if quick else (10_000, 1_000_000)
    cases = [Case(f"{size:_} pending".replace("_", " "), ("--pending", str(size))) for size in sizes]
    return Plan(
        benchmark="timers",
        about="CPU time per operation while others are pending",
        program="loop_timers.py",
        contenders=("nimloop", "nimloop-python", "asyncio", "uvloop", "sched"),
        cases=cases,
        measures=MEASURES,
        growth=[(cases[1].title, cases[0].title)],
    )


if __name__ == "__main__":
    sys.exit(main(__doc__, plan))
