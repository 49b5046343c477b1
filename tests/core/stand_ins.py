"""Every backend on every system that has epoll and poll: natively where it exists, else over a stand-in.

kqueue is the very code over `tests.core.kqueue_standin`, the completion port the very code over a model of the port,
`tests.core.iocp_model`. What is learnt is as good as they are; only a run on the system itself proves anything of it.
"""

from __future__ import annotations

import select

from nimloop_core import Backend, backends
from nimloop_core.backends.iocp import IocpBackend
from nimloop_core.backends.kqueue import KqueueBackend
from tests.core.iocp_model import ModelPort
from tests.core.kqueue_standin import AVAILABLE, StandIn

# A backend joins the conformance suite by its name here.
NAMES = ("epoll", "kqueue", "iocp", "poll")

ONLY_SOCKETS = frozenset({"iocp"})
"""Backends whose system watches nothing but sockets."""


def exists(name: str) -> bool:
    """Whether there is such a backend here, natively or over a stand-in."""
    if name in backends.available():
        return True
    return {"kqueue": AVAILABLE, "iocp": hasattr(select, "POLLRDHUP")}.get(name, False)


def create(name: str, ports: list[ModelPort]) -> Backend:
    """Make a backend; a model of a port that it stands on is put to `ports`, to be asked for violations."""
    if name in backends.available():
        return backends.create(name)
    if name == "kqueue":
        return KqueueBackend(StandIn())
    ports.append(ModelPort())
    return IocpBackend(ports[-1])
