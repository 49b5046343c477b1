"""nimloop-mt: HTTP on all cores: supervised workers on one port, in processes or in threads."""

from __future__ import annotations

from nimloop_mt._interpreter import Mode as Mode
from nimloop_mt._settings import Factory as Factory
from nimloop_mt._settings import Tls as Tls
from nimloop_mt._supervisor import Report as Report
from nimloop_mt.errors import MisuseError as MisuseError
from nimloop_mt.errors import ModeError as ModeError
from nimloop_mt.errors import MtError as MtError
from nimloop_mt.errors import ServerStartedError as ServerStartedError
from nimloop_mt.errors import WorkerStartError as WorkerStartError
from nimloop_mt.server import MultiThreadHttpServer as MultiThreadHttpServer

__all__ = [
    "Factory",
    "MisuseError",
    "Mode",
    "ModeError",
    "MtError",
    "MultiThreadHttpServer",
    "Report",
    "ServerStartedError",
    "Tls",
    "WorkerStartError",
]
