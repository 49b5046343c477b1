"""What can go wrong, each with a class of its own."""

from __future__ import annotations

from nimloop_core import NimloopError


class WorkerStartError(NimloopError):
    """A worker could not begin: a handler that cannot be loaded, a certificate that cannot be read."""


class ModeError(NimloopError):
    """The settings ask for something that this system or this interpreter does not have."""
