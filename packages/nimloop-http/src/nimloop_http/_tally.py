"""How many answers had which status."""

from __future__ import annotations

from typing import final


@final
class Tally:
    """Counts statuses. Most answers have that of the one before, and cost no look-up."""

    __slots__ = ("_counts", "_run", "_status")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._status = 0
        self._run = 0  # answers in a row that had this status, and are not in the counts yet

    def add(self, status: int) -> None:
        """Count one."""
        if status != self._status:
            self.counts()
            self._status = status
        self._run += 1

    def counts(self) -> dict[int, int]:
        """Return the numbers by status, in ascending order."""
        if self._run:
            self._counts[self._status] = self._counts.get(self._status, 0) + self._run
            self._run = 0
        return dict(sorted(self._counts.items()))
