from nimloop_core._watchers import WatcherTable
from nimloop_core.backends._epoll_py import Pollable

def wait(
    epoll: Pollable, epoll_fd: int, capacity: int, timeout_ns: int, table: WatcherTable, lost: list[int], /
) -> tuple[int, int]: ...
