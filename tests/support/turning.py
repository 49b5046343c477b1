"""A loop that the test turns by hand: until something holds, until all is quiet, or by a clock of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self

from nimloop_core import Loop
from nimloop_core.testing import FakeClock

PATIENCE: Final = 20.0  # seconds before a test gives up; nothing ever waits for it


class TurnedLoop:
    """A loop in the test's own thread. With a `FakeClock`, time passes only in `pass_time`.

    At the end what `stack` holds is closed, and then the loop; what `errors` has collected and the test has not taken
    out fails it.
    """

    step: float = 0.001
    """Seconds in which the fake clock runs."""

    def __init__(self, backend: str | None = None, *, clock: FakeClock | None = None) -> None:
        self.clock = clock
        self.loop = Loop(backend, clock=clock if clock is not None else time.monotonic_ns)
        self.errors: list[Exception] = []
        self.loop.exception_handler = lambda error, _owner: self.errors.append(error)
        self.stack = ExitStack()

    def until(self, holds: Callable[[], object]) -> None:
        """Run the loop until something holds."""
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, "waited in vain"
            self.loop.run_once(0.001)  # no longer, because a socket outside the loop may be what is waited for

    def settle(self, iterations: int = 5) -> None:
        """Run the loop until everything that waits inside it, and in the kernel, has been seen."""
        for _ in range(iterations):
            self.loop.run_once(0)

    def pass_time(self, seconds: float, step: float | None = None) -> None:
        """Let the fake clock run."""
        assert self.clock is not None
        step = step or self.step
        for _ in range(round(seconds / step)):
            self.clock.advance(step)
            self.loop.run_once(0)
        self.settle()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stack.close()
        if not self.loop.closed:
            self.settle(3)
            self.loop.close()
        if kind is None:
            assert self.errors == []
