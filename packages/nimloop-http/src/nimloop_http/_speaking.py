"""What command lines say: versions, lines of a log, where they serve, and why they cannot."""

from __future__ import annotations

import logging
import os
import platform
import socket
import sys
from argparse import Namespace
from importlib.metadata import version

from nimloop_core import build as core_build
from nimloop_http import build
from nimloop_net import build as net_build


def versions(package: str = "", on: str = "") -> str:
    """Return the versions of this package and those below it, each with what it runs on; first that of one above."""
    builds = {
        package: on,
        "nimloop-http": build.IMPLEMENTATION,
        "nimloop-net": net_build.IMPLEMENTATION,
        "nimloop-core": core_build.IMPLEMENTATION,
    }
    packages = [f"{name} {version(name)}" + (f" ({on})" if on else "") for name, on in builds.items() if name]
    return f"{', '.join(packages)}; {platform.python_implementation()} {platform.python_version()}"


def log_to_stderr(level: str) -> None:
    """Write a line for whatever is logged at `level` or above."""
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S")


def say(text: str) -> None:
    """Print a line. That nobody reads it, or that it cannot be spelt, is no reason not to serve."""
    try:
        print(text, flush=True)
    except UnicodeEncodeError:
        print(text.encode("ascii", "backslashreplace").decode("ascii"), flush=True)
    except OSError:
        # What is left in the buffer would fail once more at exit, with a complaint.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def printable(name: str) -> str:
    """Return a name as it fits into a line: in quotes when something in it cannot be printed."""
    return name if name.isprintable() else repr(name)


def fail(program: str, text: str) -> int:
    """Say on standard error why the program could not begin; return its exit status."""
    print(f"{program}: {text}", file=sys.stderr)
    return 2


def explain(error: OSError, options: Namespace) -> str:
    """Return why a server cannot listen where the options say."""
    text = error.strerror or str(error)
    if options.uds is not None:
        return f"cannot listen on {options.uds!r}: {text}"
    return f"cannot listen on {options.host!r}: {text}" if isinstance(error, socket.gaierror) else text
