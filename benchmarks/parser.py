"""The HTTP parser: what reading a request costs, beside httptools and h11, with the scanner in C and in Python."""

import sys

from _loops import Case, Plan, main
from _report import Measure

MEASURES = (
    Measure("message_ns", "message ns"),
    Measure("fields_ns", "with fields ns"),
    Measure("head_ns", "head alone ns"),
)
MESSAGES = ("small", "browser", "cookies", "length", "chunked")


def plan(quick: bool) -> Plan:  # noqa: FBT001 - the only parameter, and _loops calls it
    """Five kinds of request; `--quick` shortens the visits, not the messages."""
    return Plan(
        benchmark="parser",
        about="CPU time per request that is read",
        program="parse_requests.py",
        contenders=("nimloop", "nimloop-python", "httptools", "h11"),
        cases=[Case(message, ("--message", message)) for message in MESSAGES],
        measures=MEASURES,
    )


if __name__ == "__main__":
    sys.exit(main(__doc__, plan))
