"""What the interpreter can do: whether threads run at the same time, if not why, and what workers are therefore."""

from __future__ import annotations

import importlib.machinery
import logging
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable
from typing import Final, Literal, get_args

from nimloop_mt.errors import ModeError

_log: Final = logging.getLogger("nimloop.mt")

Mode = Literal["auto", "threads", "processes"]
"""What workers are: ``"auto"`` for threads on an interpreter without a GIL, and processes on one with it."""

_INHERITS: Final = os.name != "nt"  # whether a new process can be given sockets by their numbers
_GUILTY: Final = 42  # an exit status that a failed import does not have
_PROBE: Final = (
    f"import sys, importlib; importlib.import_module(sys.argv[1]); sys.exit({_GUILTY} * sys._is_gil_enabled())"
)
_PATIENCE: Final = 20.0  # seconds for one module


def has_gil() -> bool:
    """Whether threads take turns. Before 3.13 they always do."""
    asked: Callable[[], bool] | None = getattr(sys, "_is_gil_enabled", None)
    return asked is None or asked()


def is_free_threaded() -> bool:
    """Whether the interpreter was built to do without the lock."""
    return bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def extensions() -> list[str]:
    """Return the names of the imported modules that are libraries and no part of Python."""
    suffixes = tuple(importlib.machinery.EXTENSION_SUFFIXES)
    found = [
        name for name, module in list(sys.modules.items()) if str(getattr(module, "__file__", "")).endswith(suffixes)
    ]
    return sorted(name for name in found if name.partition(".")[0] not in sys.stdlib_module_names)


def switches_gil_on(module: str) -> bool:
    """Import a module in a fresh interpreter, and see whether that brings the lock back."""
    command = [sys.executable, "-W", "ignore", "-c", _PROBE, module]
    try:
        return subprocess.run(command, capture_output=True, timeout=_PATIENCE, check=False).returncode == _GUILTY  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return False


def gil_culprits(names: Iterable[str], guilty: Callable[[str], bool] = switches_gil_on) -> list[str]:
    """Return those of the modules that have switched the lock on again.

    The interpreter does not remember, so each is tried.
    """
    return [name for name in names if guilty(name)]


def why_gil() -> str:
    """Say why threads take turns here, in a sentence for the log."""
    if not is_free_threaded():
        return "this interpreter has a GIL: threads take turns"
    culprits = gil_culprits(extensions())
    if culprits:
        return f"the GIL was switched on again by {', '.join(culprits)}, which cannot do without"
    return "the GIL was switched on by PYTHON_GIL=1 or -X gil=1"


def processor_numbers() -> list[int]:
    """Return the processors that this process may use: in a container for instance, not all there are."""
    if sys.platform != "linux":
        return list(range(os.cpu_count() or 1))
    else:  # noqa: RET505 - for mypy, which knows one of the two systems at a time
        return sorted(os.sched_getaffinity(0))


def choose_mode(asked: Mode) -> Literal["threads", "processes"]:
    """Return what workers are, and log why where that is not what one would expect. Raises `ModeError`."""
    if asked not in get_args(Mode):
        raise ValueError(f"a mode is one of {', '.join(get_args(Mode))}, not {asked!r}")
    if asked == "processes" and not _INHERITS:
        raise ModeError("processes need descriptors that are inherited, which this system does not have: use threads")
    if asked == "processes" or (asked == "auto" and has_gil() and _INHERITS):
        if asked == "auto" and is_free_threaded():
            _log.warning("workers are processes, for %s", why_gil())
        return "processes"
    if has_gil():
        _log.warning("workers are threads, but %s", why_gil())
    return "threads"
