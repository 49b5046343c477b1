"""WebSocket masking: what a payload costs to mask, in C and in Python, beside copying it."""

import sys

from _loops import Case, Plan, main
from _report import Measure

MEASURES = (Measure("payload_ns", "payload ns"), Measure("byte_ns", "byte ns"))
SIZES = {"125 B": 125, "4 KiB": 4096, "64 KiB": 65536, "1 MiB": 1 << 20}


def plan(quick: bool) -> Plan:  # noqa: FBT001 - the only parameter, and _loops calls it
    """From what a chat sends to what fits into no cache near the core; `--quick` shortens the visits."""
    return Plan(
        benchmark="masking",
        about="CPU time of masking a payload; memcpy copies it into new bytes and masks nothing",
        program="mask_payload.py",
        contenders=("memcpy", "nimloop", "nimloop-python"),
        cases=[Case(title, ("--size", str(size))) for title, size in SIZES.items()],
        measures=MEASURES,
    )


if __name__ == "__main__":
    sys.exit(main(__doc__, plan))
