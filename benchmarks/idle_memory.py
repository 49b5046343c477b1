"""Idle connections: memory that a server spends on each, nimloop beside asyncio and uvloop."""

import resource
import sys

from _loops import Case, Plan, main
from _report import Measure

# For the interpreter, its modules and the loop.
SPARE = 64

MEASURES = (
    Measure("heap_bytes", "Python heap, bytes each"),
    Measure("resident_bytes", "resident memory, bytes each"),
    Measure("accept_us", "accept, CPU µs each"),
    Measure("close_us", "close, CPU µs each"),
)


def plan(quick: bool) -> Plan:  # noqa: FBT001 - the only parameter, and _loops calls it
    """As many as asked for, or as the hard limit of descriptors allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 500 if quick else 5000
    size = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard - SPARE)
    return Plan(
        benchmark="idle_memory",
        about="TCP connections that were accepted and say nothing",
        program="loop_idle.py",
        contenders=("nimloop", "nimloop-python", "asyncio", "uvloop"),
        cases=[Case(f"{size} connections", ("--connections", str(size)))],
        measures=MEASURES,
    )


if __name__ == "__main__":
    sys.exit(main(__doc__, plan))
