"""The beginning of a worker in a process of its own: what it needs comes on standard input."""

from __future__ import annotations

import logging
import os
import pickle
import runpy
import socket
import sys
import types

from nimloop_mt._guard import Guard
from nimloop_mt._hosts import prepare_signals
from nimloop_mt._worker import run_worker


def main() -> None:
    """Serve as the supervisor says; the arguments are the processor and the descriptors, control first."""
    cpu = None if sys.argv[1] == "None" else int(sys.argv[1])
    control, *sockets = (socket.socket(fileno=int(fd)) for fd in sys.argv[2:])
    for sock in (control, *sockets):
        sock.set_inheritable(False)  # a program that the handler starts would keep the port, after our end too
    guard = Guard(control)
    prepare_signals()
    try:
        path: str | None = pickle.load(sys.stdin.buffer)  # noqa: S301 - from our parent
        if path is not None:
            _become(path)
        settings = pickle.load(sys.stdin.buffer)  # noqa: S301
    except Exception as error:
        import json

        control.send(json.dumps({"is": "failed", "why": f"{type(error).__name__}: {error}"}).encode() + b"\n")
        sys.exit(1)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    if settings.log_level is not None:
        logging.basicConfig(
            level=settings.log_level.upper(), format="%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"
        )
    run_worker(settings, sockets, control, cpu, guard)


def _become(path: str) -> None:
    """Run the main program's file under another name, so that what it defines is found where it was."""
    program = types.ModuleType("__mp_main__")
    program.__dict__.update(runpy.run_path(path, run_name="__mp_main__"))
    sys.modules["__main__"] = sys.modules["__mp_main__"] = program
