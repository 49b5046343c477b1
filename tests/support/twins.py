"""What a module runs on in a program of its own, with what ``NIMLOOP_EXTENSION`` says there."""

from __future__ import annotations

import os
import subprocess
import sys


def implementation(module: str, wanted: str, before: str = "") -> str:
    """Return the ``IMPLEMENTATION`` of a module, imported in a new interpreter after the code in `before`."""
    code = f"{before}\nfrom {module} import IMPLEMENTATION; print(IMPLEMENTATION)"
    environment = os.environ | {"NIMLOOP_EXTENSION": wanted}
    told = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    return told.stdout.strip()
