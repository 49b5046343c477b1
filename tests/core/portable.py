"""What POSIX has and Windows has not, for tests of things that both have.

On Windows a test that cannot do without is skipped. Signals it has, if few.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

import pytest

if sys.platform == "win32":
    USER_SIGNAL: Final = signal.SIGBREAK
    OTHER_SIGNAL: Final = signal.SIGABRT
    UNCATCHABLE: Final[tuple[signal.Signals, ...]] = ()

    def send(number: int) -> None:
        """Send a signal to this process; os.kill would end it."""
        signal.raise_signal(number)

    def send_to_thread(thread: int, number: int) -> None:
        """Skip the test: a signal is for the process."""
        pytest.skip("no signals for threads on Windows")

    def duplicate(fd: int, least: int) -> int:
        """Skip the test: nobody can choose the number."""
        pytest.skip("numbers of sockets are Windows' own choice")

    def descriptors_below(limit: int) -> AbstractContextManager[None]:
        """Skip the test: there is no such limit."""
        pytest.skip("no limit of descriptors on Windows")

    def unblock(fd: int) -> None:
        """Skip the test: a descriptor by its number does not do so."""
        pytest.skip("only sockets can be non-blocking on Windows")

else:
    import fcntl
    import os
    import resource

    USER_SIGNAL: Final = signal.SIGUSR1
    OTHER_SIGNAL: Final = signal.SIGUSR2
    UNCATCHABLE: Final = (signal.SIGKILL, signal.SIGSTOP)

    def send(number: int) -> None:
        """Send a signal to this process, whichever of its threads that finds."""
        os.kill(os.getpid(), number)

    def send_to_thread(thread: int, number: int) -> None:
        """Send a signal to one thread."""
        signal.pthread_kill(thread, number)

    def duplicate(fd: int, least: int) -> int:
        """Return a second number, `least` or above, for what is open under `fd`."""
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, least)

    @contextmanager
    def descriptors_below(limit: int) -> Iterator[None]:
        """Have numbers of descriptors end before `limit` meanwhile."""
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    def unblock(fd: int) -> None:
        """Make what is open under `fd` non-blocking."""
        os.set_blocking(fd, False)
