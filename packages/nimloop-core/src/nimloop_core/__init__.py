"""nimloop-core: a reactor event loop: timers, descriptors, signals, files; on epoll, kqueue, IOCP or poll."""

from __future__ import annotations

from nimloop_core._buffers import BufferPool as BufferPool
from nimloop_core._deadlines import Deadline as Deadline
from nimloop_core._idle import IdleHandler as IdleHandler
from nimloop_core._loop import Loop as Loop
from nimloop_core._report import log_exception as log_exception
from nimloop_core._signals import SignalHandler as SignalHandler
from nimloop_core._stats import LoopStats as LoopStats
from nimloop_core._timers import Timer as Timer
from nimloop_core._watchers import ERROR as ERROR
from nimloop_core._watchers import HUP as HUP
from nimloop_core._watchers import READ as READ
from nimloop_core._watchers import WRITE as WRITE
from nimloop_core._watchers import Backend as Backend
from nimloop_core._watchers import Watcher as Watcher
from nimloop_core._watchers import WatcherTable as WatcherTable
from nimloop_core.errors import AlreadyRegisteredError as AlreadyRegisteredError
from nimloop_core.errors import BackendUnavailableError as BackendUnavailableError
from nimloop_core.errors import DelayError as DelayError
from nimloop_core.errors import LoopClosedError as LoopClosedError
from nimloop_core.errors import LoopRunningError as LoopRunningError
from nimloop_core.errors import NimloopError as NimloopError
from nimloop_core.errors import NotRegisteredError as NotRegisteredError
from nimloop_core.errors import TimerCancelledError as TimerCancelledError
from nimloop_core.errors import WatcherError as WatcherError
from nimloop_core.errors import WrongThreadError as WrongThreadError
from nimloop_core.filewatch import FileEvent as FileEvent
from nimloop_core.filewatch import FileWatcher as FileWatcher

__all__ = [
    "ERROR",
    "HUP",
    "READ",
    "WRITE",
    "AlreadyRegisteredError",
    "Backend",
    "BackendUnavailableError",
    "BufferPool",
    "Deadline",
    "DelayError",
    "FileEvent",
    "FileWatcher",
    "IdleHandler",
    "Loop",
    "LoopClosedError",
    "LoopRunningError",
    "LoopStats",
    "NimloopError",
    "NotRegisteredError",
    "SignalHandler",
    "Timer",
    "TimerCancelledError",
    "Watcher",
    "WatcherError",
    "WatcherTable",
    "WrongThreadError",
    "log_exception",
]
