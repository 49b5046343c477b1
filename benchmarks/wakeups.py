"""Wake-ups: what call_soon_threadsafe costs on both sides, and how long a call takes to arrive."""

import sys

from _loops import Case, Plan, main
from _report import Measure

MEASURES = (
    Measure("cpu_us", "CPU µs/call"),
    Measure("loop_us", "loop's µs"),
    Measure("callers_us", "callers' µs"),
    Measure("p50_us", "latency µs p50"),
    Measure("p99_us", "p99"),
    Measure("p999_us", "p99.9"),
)
BURST = 256


def plan(_quick: bool) -> Plan:  # noqa: FBT001 - the only parameter, and _loops calls it
    """One caller and several, one call at a time and many at once."""
    cases = [
        Case(
            f"{threads} {'thread' if threads == 1 else 'threads'}, "
            f"{'one call at a time' if burst == 1 else f'bursts of {burst}'}",
            ("--threads", str(threads), "--burst", str(burst)),
        )
        for threads in (1, 4)
        for burst in (1, BURST)
    ]
    return Plan(
        benchmark="wakeups",
        about="call_soon_threadsafe, callers and loop on one core",
        program="loop_wakeups.py",
        contenders=("nimloop", "nimloop-python", "asyncio", "uvloop", "queue"),
        cases=cases,
        measures=MEASURES,
    )


if __name__ == "__main__":
    sys.exit(main(__doc__, plan))
