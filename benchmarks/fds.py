"""Descriptors: what an event costs while many are watched and few or many are ready."""

import resource
import sys

from _loops import Case, Plan, main
from _report import Measure

ACTIVE = (1, 64, 1024)
# For the interpreter, its modules and the loop.
SPARE = 64

MEASURES = (
    Measure("register_us", "register µs"),
    *(Measure(f"active_{count}_us", f"{count} ready, µs/event") for count in ACTIVE),
    Measure("unregister_us", "unregister µs"),
)


def plan(quick: bool) -> Plan:  # noqa: FBT001 - the only parameter, and _loops calls it
    """As many as asked for, or as the hard limit of descriptors allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = (1024, 2048) if quick else (1024, 4096, 20_000)
    sizes = sorted({size if hard == resource.RLIM_INFINITY else min(size, hard - SPARE) for size in wanted})
    cases = [Case(f"{size:_} watched".replace("_", " "), ("--watched", str(size))) for size in sizes]
    return Plan(
        benchmark="fds",
        about=f"CPU time per event, level-triggered; {', '.join(map(str, ACTIVE))} ready per iteration",
        program="loop_fds.py",
        contenders=("nimloop", "nimloop-python", "nimloop-poll", "asyncio", "uvloop"),
        cases=cases,
        measures=MEASURES,
        growth=[(cases[-1].title, cases[0].title)] if len(cases) > 1 else [],
    )


if __name__ == "__main__":
    sys.exit(main(__doc__, plan))
