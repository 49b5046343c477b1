r"""Windows' Ancillary Function Driver, which knows when a socket is ready: structures, numbers and calls.

What the kernel does
--------------------
* ``\Device\Afd`` is the driver under every Winsock socket. Opened by itself it is no socket, but takes the request
  ``IOCTL_AFD_POLL``: a list of sockets (of one, here) with the events of interest, answered in the same memory once
  any of them holds. It holds at once when it held before: a poll is a question about a level, and good for one answer.
* The request is overlapped: its memory, `PollRecord`, belongs to the kernel from the call until its completion comes
  out of the completion port, even when it was cancelled, and even when the socket was closed. A cancellation is a
  wish: the completion says ``STATUS_CANCELLED``, or what happened before that.
* A request that is refused in the call itself gets no completion; one that succeeds in the call gets one all the same
  (unless the handle was told otherwise, which this one is not).
* The driver wants the socket underneath any layered service provider: ``SIO_BASE_HANDLE`` gives it, and
  ``SIO_BSP_HANDLE_POLL`` goes one layer down where a layer refuses the first.
* ``GetQueuedCompletionStatusEx`` may leave a count of 1 when it timed out; only its result tells.

None of this is promised by Microsoft beyond the calls themselves, but libuv, wepoll, mio and trio have stood on it for
many years. The structures are told as tables of fields, from which tests build both word sizes anywhere. The calls are
those of kernel32 rather than the Nt calls below them: ``DeviceIoControl`` passes the OVERLAPPED on as the status block
and as the context, which is all that the Nt call would be wanted for, and kernel32 is documented.

`WindowsPort` takes its calls from a `System`, so that its handling of results can be tested anywhere. The real ones,
from `windows_system`, have not been run on Windows so far: their types and the layouts are checked, nothing else.
"""

from __future__ import annotations

import ctypes
import errno
import sys
from collections.abc import Callable
from typing import Final, NoReturn, Protocol, final

# AFD_POLL_*: one bit for each thing that can happen to a socket.
RECEIVE: Final = 0x001
RECEIVE_EXPEDITED: Final = 0x002
SEND: Final = 0x004
DISCONNECT: Final = 0x008
ABORT: Final = 0x010
LOCAL_CLOSE: Final = 0x020
CONNECT: Final = 0x040
ACCEPT: Final = 0x080
CONNECT_FAIL: Final = 0x100

# FILE_DEVICE_NETWORK << 12 | operation 9 << 2 | METHOD_BUFFERED
IOCTL_AFD_POLL: Final = 0x00012024

# ntstatus.h
STATUS_SUCCESS: Final = 0x00000000
STATUS_PENDING: Final = 0x00000103
STATUS_CANCELLED: Final = 0xC0000120

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

# A timeout of a poll is an absolute time when it is positive: this one never comes.
_NEVER: Final = (1 << 63) - 1

_ERRNO: Final = {
    ERROR_INVALID_HANDLE: errno.EBADF,
    WSAENOTSOCK: errno.ENOTSOCK,
    8: errno.ENOMEM,  # ERROR_NOT_ENOUGH_MEMORY
    1450: errno.ENOMEM,  # ERROR_NO_SYSTEM_RESOURCES
    5: errno.EACCES,  # ERROR_ACCESS_DENIED
}

# Structures ---------------------------------------------------------------------------------------------------

# Pointers, handles and ULONG_PTR are words: 8 bytes in a 64-bit process, 4 in a 32-bit one. The rest is fixed.
_WORD: Final = "word"
_ULONG: Final = "ulong"
_LARGE: Final = "large"

Fields = tuple[tuple[str, str], ...]

# minwinbase.h; the first two fields are where the kernel writes the status and the count.
OVERLAPPED: Final[Fields] = (
    ("internal", _WORD),
    ("internal_high", _WORD),
    ("offset", _ULONG),
    ("offset_high", _ULONG),
    ("event", _WORD),
)

# AFD_POLL_INFO with one AFD_POLL_HANDLE_INFO
AFD_POLL_INFO: Final[Fields] = (
    ("timeout", _LARGE),
    ("number_of_handles", _ULONG),
    ("exclusive", _ULONG),
    ("handle", _WORD),
    ("events", _ULONG),
    ("status", _ULONG),
)

# minwinbase.h
OVERLAPPED_ENTRY: Final[Fields] = (
    ("key", _WORD),
    ("overlapped", _WORD),
    ("internal", _WORD),
    ("transferred", _ULONG),
)


def layout(fields: Fields, word_bytes: int = ctypes.sizeof(ctypes.c_void_p)) -> type[ctypes.Structure]:
    """Build a structure for processes whose pointers have `word_bytes` bytes."""

    class Layout(ctypes.Structure):
        _fields_ = _typed(fields, word_bytes)  # type: ignore[mutable-override]  # a list is a Sequence

    return Layout


def _typed(
    fields: Fields, word_bytes: int
) -> list[tuple[str, type[ctypes.c_uint32 | ctypes.c_uint64 | ctypes.c_int64]]]:
    word = ctypes.c_uint64 if word_bytes == 8 else ctypes.c_uint32
    kinds = {_WORD: word, _ULONG: ctypes.c_uint32, _LARGE: ctypes.c_int64}
    return [(name, kinds[kind]) for name, kind in fields]


@final
class PollRecord(ctypes.Structure):
    """The memory of one poll: an OVERLAPPED, by whose address the kernel knows the poll, and its AFD_POLL_INFO.

    From `WindowsPort.submit` until its address comes out of the port, the kernel writes to it when it pleases: it must
    neither be let go nor filled again.
    """

    _fields_ = _typed(  # type: ignore[mutable-override]
        OVERLAPPED + AFD_POLL_INFO, ctypes.sizeof(ctypes.c_void_p)
    )

    internal: int
    timeout: int
    number_of_handles: int
    exclusive: int
    handle: int
    events: int
    status: int

    def __init__(self) -> None:
        super().__init__()
        self.address: Final = ctypes.addressof(self)
        # Whether the kernel was asked: what is left to know after Ctrl+C in the middle of asking.
        self.submitted: bool = False

    def prepare(self, handle: int, events: int) -> None:
        """Fill in the question; the kernel has overwritten the last one with its answer."""
        self.submitted = False
        self.internal = STATUS_PENDING
        self.timeout = _NEVER
        self.number_of_handles = 1
        self.exclusive = 0
        self.handle = handle
        self.events = events
        self.status = 0

    def answer(self) -> tuple[int, int]:
        """Return the status of the poll, ``STATUS_PENDING`` before its end, and the events that were found."""
        return self.internal & 0xFFFFFFFF, self.events if self.number_of_handles else 0


INFO_OFFSET: Final[int] = PollRecord.timeout.offset  # type: ignore[attr-defined]
INFO_BYTES: Final = ctypes.sizeof(layout(AFD_POLL_INFO))
_ENTRY_BYTES: Final = ctypes.sizeof(layout(OVERLAPPED_ENTRY))
_WORDS_PER_ENTRY: Final = _ENTRY_BYTES // ctypes.sizeof(ctypes.c_void_p)

# Calls --------------------------------------------------------------------------------------------------------


@final
class System:
    """The calls that are needed, with pointers and handles as numbers."""

    __slots__ = (
        "cancel",
        "close_handle",
        "control",
        "create_file",
        "create_port",
        "last_error",
        "post",
        "remove",
        "set_modes",
        "socket_control",
    )

    def __init__(
        self,
        *,
        create_port: Callable[[int, int, int, int], int],
        create_file: Callable[[str, int, int, int, int, int, int], int],
        set_modes: Callable[[int, int], int],
        control: Callable[[int, int, int, int, int, int, int, int], int],
        cancel: Callable[[int, int], int],
        remove: Callable[[int, int, int, int, int, int], int],
        post: Callable[[int, int, int, int], int],
        close_handle: Callable[[int], int],
        socket_control: Callable[[int, int, int, int, int, int, int, int, int], int],
        last_error: Callable[[], int],
    ) -> None:
        self.create_port: Final = create_port
        self.create_file: Final = create_file
        self.set_modes: Final = set_modes
        self.control: Final = control
        self.cancel: Final = cancel
        self.remove: Final = remove
        self.post: Final = post
        self.close_handle: Final = close_handle
        self.socket_control: Final = socket_control
        self.last_error: Final = last_error


if sys.platform == "win32":

    def windows_system() -> System:
        """Bind the calls of kernel32 and ws2_32. Every one of them lets other threads run meanwhile."""
        kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
        ws2_32 = ctypes.WinDLL("ws2_32", use_last_error=True)  # its last error is the thread's, like kernel32's
        word, dword, flag = ctypes.c_size_t, ctypes.c_uint32, ctypes.c_int32

        create_port = kernel32.CreateIoCompletionPort
        create_port.argtypes = (word, word, word, dword)
        create_port.restype = word
        create_file = kernel32.CreateFileW
        create_file.argtypes = (ctypes.c_wchar_p, dword, dword, word, dword, dword, word)
        create_file.restype = word
        set_modes = kernel32.SetFileCompletionNotificationModes
        set_modes.argtypes = (word, ctypes.c_uint8)
        set_modes.restype = flag
        control = kernel32.DeviceIoControl
        control.argtypes = (word, dword, word, dword, word, dword, word, word)
        control.restype = flag
        cancel = kernel32.CancelIoEx
        cancel.argtypes = (word, word)
        cancel.restype = flag
        remove = kernel32.GetQueuedCompletionStatusEx
        remove.argtypes = (word, word, dword, word, dword, flag)
        remove.restype = flag
        post = kernel32.PostQueuedCompletionStatus
        post.argtypes = (word, dword, word, word)
        post.restype = flag
        close_handle = kernel32.CloseHandle
        close_handle.argtypes = (word,)
        close_handle.restype = flag
        socket_control = ws2_32.WSAIoctl
        socket_control.argtypes = (word, dword, word, dword, word, dword, word, word, word)
        socket_control.restype = flag
        return System(
            create_port=create_port,
            create_file=create_file,
            set_modes=set_modes,
            control=control,
            cancel=cancel,
            remove=remove,
            post=post,
            close_handle=close_handle,
            socket_control=socket_control,
            last_error=ctypes.get_last_error,
        )

else:

    def windows_system() -> System:
        """Refuse: there is no such system here."""
        raise OSError(errno.ENOSYS, "completion ports are found on Windows only")


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
