"""Every backend on every system that has epoll and poll: natively where it exists, else over a stand-in.

kqueue is the very code over `tests.core.kqueue_standin`, the completion port the very code over a model of the port,
`tests.core.iocp_model`. What is learnt is as good as they are; only a run on the system itself proves anything of it.
"""

from __future__ import annotations

import select
import sys

from tests.core.iocp_model import ModelPort

from nimloop_core import Backend, backends
from nimloop_core.backends.iocp import IocpBackend
from nimloop_core.backends.kqueue import KqueueBackend

if sys.platform != "win32":
    from tests.core.kqueue_standin import StandIn

# A backend joins the conformance suite by its name here.
NAMES = ("epoll", "kqueue", "iocp", "poll")

NATIVE = frozenset(backends.available())
"""Those that need no stand-in on this system."""

ONLY_SOCKETS = frozenset({"iocp"})
"""Backends whose system watches nothing but sockets."""


def exists(name: str) -> bool:
    """Whether there is such a backend here, natively or over a stand-in."""
    if name in NATIVE:
        return True
    # What the stand-ins are made of.
    return {"kqueue": hasattr(select, "epoll"), "iocp": hasattr(select, "POLLRDHUP")}.get(name, False)


def create(name: str, ports: list[ModelPort]) -> Backend:
    """Make a backend; a model of a port that it stands on is put to `ports`, to be asked for violations."""
    if name in NATIVE:
        return backends.create(name)
    if sys.platform != "win32" and name == "kqueue":
        return KqueueBackend(StandIn())
    ports.append(ModelPort())
    return IocpBackend(ports[-1])
