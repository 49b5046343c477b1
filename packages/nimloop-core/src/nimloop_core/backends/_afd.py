r"""Windows' Ancillary Function Driver, which knows when a socket is ready: numbers and structures.

What the driver does
--------------------
* ``\Device\Afd`` is the driver under every Winsock socket. Opened by itself it is no socket, but takes the request
  ``IOCTL_AFD_POLL``: a list of sockets (of one, here) with the events of interest, answered in the same memory once
  any of them holds. It holds at once when it held before: a poll is a question about a level, and good for one answer.
* The request is overlapped: its memory, `PollRecord`, belongs to the kernel from the call until its completion comes
  out of the completion port, even when it was cancelled, and even when the socket was closed. A cancellation is a
  wish: the completion says ``STATUS_CANCELLED``, or what happened before that.

None of this is promised by Microsoft, but libuv, wepoll, mio and trio have stood on it for many years. The structures
are told as tables of fields, from which tests build both word sizes anywhere. `nimloop_core.backends._port` makes the
calls.
"""

from __future__ import annotations

import ctypes
from typing import Final, final

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

# A timeout of a poll is an absolute time when it is positive: this one never comes.
_NEVER: Final = (1 << 63) - 1

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
