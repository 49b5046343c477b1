"""A folder as what all workers serve."""

from __future__ import annotations

from dataclasses import dataclass

from nimloop_http import HttpServer, OnRequest, StaticFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A factory that can be sent to other processes; the settings are those of `StaticFiles`."""

    path: str
    listing: bool
    dotfiles: bool

    def __call__(self, _server: HttpServer) -> OnRequest:
        """Return the handler of one worker."""
        return self.open().serve

    def open(self) -> StaticFiles:
        """Return the files. Raises OSError when the folder cannot be read."""
        return StaticFiles(self.path, listing=self.listing, dotfiles=self.dotfiles)
