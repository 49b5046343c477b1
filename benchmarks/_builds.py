"""Which nimloop is measured: the one that is installed, or builds beside each other in a folder.

`scripts/bench_all.py` makes such a folder and names it in NIMLOOP_BUILDS: `compiled/` holds the packages compiled by
mypyc and from C, `python/` the same packages as they are written.
"""

import os
import sys
from pathlib import Path
from typing import Final

COMPILED: Final = "compiled"
PURE: Final = "python"


def interpreter(build: str = COMPILED) -> list[str]:
    """The command that runs Python with this build, where there are builds; peers have their packages in any case."""
    folder = os.environ.get("NIMLOOP_BUILDS")
    settings = [] if folder is None else [f"PYTHONPATH={Path(folder, build).resolve()}"]
    if build == PURE:
        settings.append("NIMLOOP_EXTENSION=off")
    return ["env", *settings, sys.executable] if settings else [sys.executable]
