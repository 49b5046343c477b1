"""Windows' I/O completion port: what is asked of the socket driver comes back through it.

What the kernel does
--------------------
* A request that is refused in the call itself gets no completion; one that succeeds in the call gets one all the same
  (unless the handle was told otherwise, which this one is not).
* The driver wants the socket underneath any layered service provider: ``SIO_BASE_HANDLE`` gives it, and
  ``SIO_BSP_HANDLE_POLL`` goes one layer down where a layer refuses the first.
* ``GetQueuedCompletionStatusEx`` may leave a count of 1 when it timed out; only its result tells.

`WindowsPort` takes its calls from a `System`, so that its handling of results can be tested anywhere.
"""

from __future__ import annotations

import ctypes
import errno
from typing import Final, NoReturn, Protocol, final

from nimloop_core.backends._afd import INFO_BYTES, INFO_OFFSET, IOCTL_AFD_POLL, OVERLAPPED_ENTRY, PollRecord, layout
from nimloop_core.backends._kernel32 import System, windows_system

# winerror.h
ERROR_INVALID_HANDLE: Final = 6
WAIT_TIMEOUT: Final = 258
ERROR_IO_PENDING: Final = 997
ERROR_NOT_FOUND: Final = 1168
WSAENOTSOCK: Final = 10038

# mswsock.h: IOC_OUT | IOC_WS2 | 34, and 29
SIO_BASE_HANDLE: Final = 0x48000022
SIO_BSP_HANDLE_POLL: Final = 0x4800001D

# What follows \Device\Afd\ is free: it only keeps the driver from making a socket of it. GLOBALROOT is the way from
# the names of Win32 to those of NT.
_DEVICE: Final = r"\\.\GLOBALROOT\Device\Afd\nimloop"
_SYNCHRONIZE: Final = 0x00100000
_FILE_SHARE_READ_WRITE: Final = 0x3
_OPEN_EXISTING: Final = 3
_FILE_FLAG_OVERLAPPED: Final = 0x40000000
# Nobody waits for the handle itself.
_FILE_SKIP_SET_EVENT_ON_HANDLE: Final = 0x2

_INVALID_HANDLE: Final[int] = ctypes.c_size_t(-1).value

_ERRNO: Final = {
    ERROR_INVALID_HANDLE: errno.EBADF,
    WSAENOTSOCK: errno.ENOTSOCK,
    8: errno.ENOMEM,  # ERROR_NOT_ENOUGH_MEMORY
    1450: errno.ENOMEM,  # ERROR_NO_SYSTEM_RESOURCES
    5: errno.EACCES,  # ERROR_ACCESS_DENIED
}

_ENTRY_BYTES: Final = ctypes.sizeof(layout(OVERLAPPED_ENTRY))
_WORDS_PER_ENTRY: Final = _ENTRY_BYTES // ctypes.sizeof(ctypes.c_void_p)


class Port(Protocol):
    """What the logic needs of a completion port and of the driver; `WindowsPort` has it, or a test's model."""

    def open_device(self) -> int: ...
    def close_device(self, device: int) -> None: ...
    def base_handle(self, fd: int) -> int: ...
    def submit(self, device: int, record: PollRecord) -> None: ...
    def cancel(self, device: int, record: PollRecord) -> None: ...
    def wait(self, capacity: int, timeout_ms: int) -> int: ...
    def completed(self, index: int) -> int: ...
    def release(self) -> None: ...
    def post(self) -> None: ...
    def close(self) -> None: ...


@final
class WindowsPort:
    """A completion port, and the polls that complete through it."""

    def __init__(self, system: System | None = None) -> None:
        self._system: Final = windows_system() if system is None else system
        self._capacity = 0
        # An array of OVERLAPPED_ENTRY, seen as words: the one read of it is then an index, not an object.
        self._entries: ctypes.Array[ctypes.c_size_t] = (ctypes.c_size_t * 0)()
        self._count: Final = ctypes.c_uint32(0)
        self._count_address: Final = ctypes.addressof(self._count)
        self._devices: Final[set[int]] = set()
        # One thread at a time takes from it, as loops do.
        self._port = self._system.create_port(_INVALID_HANDLE, 0, 0, 1)
        if not self._port:
            self._fail("CreateIoCompletionPort")

    def open_device(self) -> int:
        """Open the driver once more, for polls that complete through this port."""
        system = self._system
        device = system.create_file(
            _DEVICE, _SYNCHRONIZE, _FILE_SHARE_READ_WRITE, 0, _OPEN_EXISTING, _FILE_FLAG_OVERLAPPED, 0
        )
        if device == _INVALID_HANDLE:
            self._fail("CreateFile of the socket driver")
        self._devices.add(device)
        try:
            if not system.create_port(device, self._port, 0, 0):
                self._fail("CreateIoCompletionPort for the socket driver")
            if not system.set_modes(device, _FILE_SKIP_SET_EVENT_ON_HANDLE):
                self._fail("SetFileCompletionNotificationModes")
        except OSError:
            self.close_device(device)
            raise
        return device

    def close_device(self, device: int) -> None:
        """Close a handle of the driver."""
        self._devices.discard(device)
        self._system.close_handle(device)

    def base_handle(self, fd: int) -> int:
        """Return what the driver calls this socket. Raises OSError for what is no socket."""
        handle = fd
        while True:
            base, code = self._ask(handle, SIO_BASE_HANDLE)
            if not code:
                return base
            if code in {WSAENOTSOCK, ERROR_INVALID_HANDLE}:
                break
            base, code = self._ask(handle, SIO_BSP_HANDLE_POLL)
            if code:
                break
            if base == handle:
                raise OSError(errno.ENOTSUP, f"a layered service provider keeps socket {fd} from being watched")
            handle = base
        if code in {WSAENOTSOCK, ERROR_INVALID_HANDLE}:
            raise OSError(errno.ENOTSOCK, f"only sockets can be watched on this system, and {fd} is none")
        raise _error(code, f"WSAIoctl for socket {fd}")

    def submit(self, device: int, record: PollRecord) -> None:
        """Put the question: the record is the kernel's from now on, unless OSError is raised."""
        control = self._system.control
        address = record.address
        info = address + INFO_OFFSET
        # CPython looks for signals after a call and at the beginning of a function: not between these two lines. After
        # Ctrl+C the mark therefore tells whether the kernel has the record.
        record.submitted = True
        done = control(device, IOCTL_AFD_POLL, info, INFO_BYTES, info, INFO_BYTES, 0, address)
        if not done:
            code = self._system.last_error()
            if code != ERROR_IO_PENDING:
                record.submitted = False
                raise _error(code, "the poll of a socket")

    def cancel(self, device: int, record: PollRecord) -> None:
        """Ask for the end of a poll. It completes through the port in any case, perhaps for another reason."""
        if not self._system.cancel(device, record.address):
            code = self._system.last_error()
            if code != ERROR_NOT_FOUND:  # which says that it is on its way already
                raise _error(code, "CancelIoEx")

    def wait(self, capacity: int, timeout_ms: int) -> int:
        """Wait for completions and hold them until `release`; return how many are held.

        What is held from before is returned at once: an exception has come between, and nobody has seen it.
        """
        count = self._count
        if count.value:
            return count.value
        if capacity > self._capacity:
            self._entries = (ctypes.c_size_t * (_WORDS_PER_ENTRY * capacity))()
            self._capacity = capacity
        entries = ctypes.addressof(self._entries)
        if self._system.remove(self._port, entries, capacity, self._count_address, timeout_ms, 0):
            return count.value
        count.value = 0
        code = self._system.last_error()
        if code != WAIT_TIMEOUT:
            raise _error(code, "GetQueuedCompletionStatusEx")
        return 0

    def completed(self, index: int) -> int:
        """Return the address of the record that the held completion belongs to; 0 for what was posted."""
        return self._entries[index * _WORDS_PER_ENTRY + 1]

    def release(self) -> None:
        """Forget the held completions."""
        # Cleared, because the count may come back as 1 for nothing: that must not look like a completion.
        ctypes.memset(self._entries, 0, self._count.value * _ENTRY_BYTES)
        self._count.value = 0

    def post(self) -> None:
        """Make the port complete something that is no poll. From any thread."""
        if not self._system.post(self._port, 0, 0, 0):
            self._fail("PostQueuedCompletionStatus")

    def close(self) -> None:
        """Close the port and all handles of the driver."""
        for device in list(self._devices):
            self.close_device(device)
        if self._port:
            self._system.close_handle(self._port)
            self._port = 0

    def _ask(self, handle: int, question: int) -> tuple[int, int]:
        base = ctypes.c_size_t(0)
        returned = ctypes.c_uint32(0)
        if self._system.socket_control(
            handle,
            question,
            0,
            0,
            ctypes.addressof(base),
            ctypes.sizeof(base),
            ctypes.addressof(returned),
            0,
            0,
        ):
            return 0, self._system.last_error()
        return base.value, 0

    def _fail(self, call: str) -> NoReturn:
        raise _error(self._system.last_error(), call)


def _error(code: int, what: str) -> OSError:
    return OSError(_ERRNO.get(code, errno.EIO), f"{what} failed: Windows error {code}")
