"""FileWatcher without help from the kernel: look, wait, look again."""

from __future__ import annotations

from typing import Final, final

from nimloop_core._watch_events import Host
from nimloop_core._watch_snapshot import Steps, Tree


@final
class PollingWatch:
    """A timer and the tree as it was."""

    def __init__(self, host: Host, *, recursive: bool, interval: float) -> None:
        self._host: Final = host
        self._tree: Final = Tree(host, recursive=recursive)
        self._steps: Steps | None = None
        self._timer: Final = host.loop.call_every(interval, self._on_interval)

    def advance(self) -> int:
        """Look at one folder, or compare it."""
        if self._steps is None:
            return 0
        try:
            return next(self._steps)
        except StopIteration:
            pass
        except OSError as error:  # out of descriptors, an unreliable disk: the next look may succeed
            self._host.fail(error)
        self._steps = None
        return 0

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()
        self._steps = None

    def _on_interval(self) -> None:
        if self._steps is None and not self._tree.ended:  # else the last look is not over
            self._steps = self._tree.refresh()
            self._host.wake()
