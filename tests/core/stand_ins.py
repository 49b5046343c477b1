"""Every backend on every system that has epoll and poll: natively where it exists, else over a stand-in.

kqueue is the very code over `tests.core.kqueue_standin`, the completion port the very code over a model of the port,
`tests.core.iocp_model`. What is learnt is as good as they are; only a run on the system itself proves anything of it.
"""

from __future__ import annotations

import select
import sys
from collections.abc import Callable
from typing import Final

from nimloop_core import Backend, backends
from nimloop_core.backends.iocp import IocpBackend
from nimloop_core.backends.kqueue import KqueueBackend

# A backend joins the conformance suite by its name here.
NAMES = ("epoll", "kqueue", "iocp", "poll")

NATIVE = frozenset(backends.available())
"""Those that need no stand-in on this system."""

ONLY_SOCKETS = frozenset({"iocp"})
"""Backends whose system watches nothing but sockets."""

# Where there is what the stand-ins are made of.
_MAKERS: Final[dict[str, Callable[[list[str]], Backend]]] = {}
if sys.platform != "win32":
    from tests.core.iocp_model import ModelPort
    from tests.core.kqueue_standin import StandIn

    if hasattr(select, "epoll"):
        _MAKERS["kqueue"] = lambda _violations: KqueueBackend(StandIn())
    if hasattr(select, "POLLRDHUP"):
        _MAKERS["iocp"] = lambda violations: IocpBackend(ModelPort(violations))


def exists(name: str) -> bool:
    """Whether there is such a backend here, natively or over a stand-in."""
    return name in NATIVE or name in _MAKERS


def create(name: str, violations: list[str]) -> Backend:
    """Make a backend; where it stands on a model, what goes against the rules of that is added to `violations`."""
    return backends.create(name) if name in NATIVE else _MAKERS[name](violations)
