"""The calls of Windows that a completion port needs, as functions of numbers.

They are those of kernel32 rather than the Nt calls below them: ``DeviceIoControl`` passes the OVERLAPPED on as the
status block and as the context, which is all that the Nt call would be wanted for, and kernel32 is documented.

They have not been run on Windows so far: their types are checked, nothing else.
"""

from __future__ import annotations

import ctypes
import errno
import sys
from collections.abc import Callable
from typing import Final, final


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
