"""HTTP without keep-alive: CPU time per connection with one request, nimloop beside its peers and a floor in C."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from _harness import Options, arguments, c_program, cannot, run
from _wrk import HttpWorkload
from http_hello import CONTENDERS

_floor: Final = c_program("floor/floor.c")


def floor(directory: Path) -> list[str]:
    """The floor that closes after each answer."""
    return [*_floor(directory), "--close"]


def main() -> int:
    """Parse, measure, report."""
    options = Options.of(arguments(__doc__).parse_args())
    ignorant = cannot("it does not look at Connection")
    others = {"floor": floor, "uvloop-httptools": ignorant, "socketify": ignorant}
    contenders = [replace(each, command=others.get(each.name, each.command)) for each in CONTENDERS]
    return run("http_close", contenders, HttpWorkload(connections=options.connections, close=True), options)


if __name__ == "__main__":
    sys.exit(main())
