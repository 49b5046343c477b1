"""Many HTTP connections: memory that a server keeps for each, and CPU time per request when there are few or many."""

import resource
import sys

from _loops import Case, Plan, main
from _report import Measure

# For the interpreter, its modules and the loop.
SPARE = 64
FEW = 64

MEASURES = (
    Measure("heap_bytes", "Python heap, bytes each"),
    Measure("resident_bytes", "resident memory, bytes each"),
    Measure("request_us", "CPU µs per request"),
)


def plan(quick: bool) -> Plan:  # noqa: FBT001 - the only parameter, and _loops calls it
    """As many as asked for, or as the hard limit of descriptors allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 500 if quick else 5000
    size = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard - SPARE)
    cases = [Case(f"{each} connections", ("--connections", str(each))) for each in (FEW, size)]
    return Plan(
        benchmark="http_many_connections",
        about="HTTP connections that have asked once and are idle, then ask in turn",
        program="http_idle.py",
        contenders=("floor", "nimloop", "nimloop-python", "uvicorn", "aiohttp", "tornado"),
        cases=cases,
        measures=MEASURES,
        growth=[(cases[1].title, cases[0].title)],
    )


if __name__ == "__main__":
    sys.exit(main(__doc__, plan))
