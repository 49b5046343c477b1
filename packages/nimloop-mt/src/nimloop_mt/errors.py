"""Every exception that nimloop-mt raises on its own account.

NimloopError
└── MtError
    ├── WorkerStartError               a worker could not begin
    ├── ModeError                      the settings ask for what this system or this interpreter does not have
    └── MisuseError (RuntimeError)     this program used the library wrongly
        └── ServerStartedError         a server is started once
"""

from __future__ import annotations

from nimloop_core import NimloopError

__all__ = ["MisuseError", "ModeError", "MtError", "ServerStartedError", "WorkerStartError"]


class MtError(NimloopError):
    """The root of nimloop-mt's exceptions."""


class WorkerStartError(MtError):
    """A worker could not begin: a handler that cannot be loaded, a certificate that cannot be read."""


class ModeError(MtError):
    """The settings ask for something that this system or this interpreter does not have."""


class MisuseError(MtError, RuntimeError):
    """This program used the library wrongly; the message says how it is meant."""


class ServerStartedError(MisuseError):
    """The server was started before. Make a new one."""
