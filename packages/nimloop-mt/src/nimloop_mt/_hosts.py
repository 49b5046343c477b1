"""Where a worker runs: in a new process, in a forked one, or in a thread. One interface over all three."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Protocol, final

from nimloop_mt._guard import Guard
from nimloop_mt._settings import Settings
from nimloop_mt._worker import run_worker
from nimloop_mt.errors import ModeError, WorkerStartError

_BOOT: Final = "import sys; sys.path[:] = {path!r}; from nimloop_mt._child import main; main()"

if sys.platform == "win32":
    _NO_HANG: Final = 0
    _KILL: Final = signal.SIGTERM

    def _fork() -> int:
        raise ModeError("Windows cannot copy a process")

else:
    _NO_HANG: Final = os.WNOHANG
    _KILL: Final = signal.SIGKILL

    def _fork() -> int:
        """Copy this process; the copy has none of our signal handlers, and has missed no signal of its own."""
        # One that came before that would be written into our wake-up descriptor, which both have.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                try:
                    signal.set_wakeup_fd(-1)
                    prepare_signals()
                except BaseException:
                    os._exit(1)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return pid


class Host(Protocol):
    """What the supervisor needs to know of a worker's process or thread."""

    @property
    def pid(self) -> int:
        """The process, or 0 for a thread of ours."""

    def ended(self) -> str | None:
        """Tell how it ended, None as long as it runs."""

    def interrupt(self) -> None:
        """End it at once if it has not begun to serve; else have it drain. A thread is left to its channel."""

    def kill(self) -> bool:
        """End it at once; False where that is not possible."""


@final
class Spawned:
    """A new process, which imports what it needs by itself."""

    def __init__(
        self, settings: bytes, sockets: Sequence[socket.socket], control: socket.socket, cpu: int | None
    ) -> None:
        fds = [control.fileno(), *(sock.fileno() for sock in sockets)]
        self._child: Final = subprocess.Popen(  # noqa: S603 - our own interpreter, with words of our own
            [sys.executable, "-c", _BOOT.format(path=sys.path), str(cpu), *map(str, fds)],
            stdin=subprocess.PIPE,
            pass_fds=fds,
            process_group=0,  # Ctrl+C is for the supervisor, which says once what is to be done
        )
        self.pid: Final = self._child.pid
        # A pipe takes 64 KiB (pipe(7)); the supervisor must not wait here, it ends who does not read the rest in time.
        threading.Thread(target=self._tell, args=(settings,), name="nimloop-mt-settings", daemon=True).start()

    def _tell(self, settings: bytes) -> None:
        assert self._child.stdin is not None
        with suppress(BrokenPipeError), self._child.stdin as pipe:  # it ended, which is noticed like any other end
            pipe.write(settings)

    def ended(self) -> str | None:
        code = self._child.poll()
        return None if code is None else describe_exit(code)

    def interrupt(self) -> None:
        self._child.terminate()

    def kill(self) -> bool:
        self._child.kill()
        return True


@final
class Forked:
    """A copy of this process. What other threads hold, locks for instance, stays held in it for ever."""

    def __init__(
        self,
        settings: Settings,
        sockets: Sequence[socket.socket],
        control: socket.socket,
        cpu: int | None,
        foreign: Sequence[int],
    ) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self._how: str | None = None
        self.pid: Final = _fork()
        if self.pid == 0:
            code = 1
            try:
                for fd in foreign:
                    os.close(fd)
                run_worker(settings, sockets, control, cpu, Guard(control))
                code = 0
            finally:
                os._exit(code)  # whatever was under way in the parent is not ours to finish

    def ended(self) -> str | None:
        if self._how is None:
            try:
                pid, status = os.waitpid(self.pid, _NO_HANG)
            except ChildProcessError:  # waitpid(2): where SIGCHLD is ignored, nobody keeps how it ended
                self._how = "in a way that the system does not tell"
            else:
                if pid == 0:
                    return None
                self._how = describe_exit(os.waitstatus_to_exitcode(status))
        return self._how

    def interrupt(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> bool:
        self._send(_KILL)
        return True

    def _send(self, number: int) -> None:
        if self.ended() is None:  # until then nobody else can have its number
            os.kill(self.pid, number)


@final
class Threaded:
    """A thread of this process. It cannot be killed: one that hangs is left alone, and ends with the process."""

    pid: Final = 0

    def __init__(
        self, settings: Settings, sockets: Sequence[socket.socket], control: socket.socket, cpu: int | None, name: str
    ) -> None:
        given = (settings, sockets, control, cpu)
        self._thread: Final = threading.Thread(target=run_worker, args=given, name=name, daemon=True)
        self._thread.start()

    def ended(self) -> str | None:
        return None if self._thread.is_alive() else "ended"

    def interrupt(self) -> None:
        pass

    def kill(self) -> bool:
        return False


def prepare_signals() -> None:
    """Leave Ctrl+C and SIGHUP to the supervisor."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def describe_exit(code: int) -> str:
    """Say how a process ended, from subprocess's number for it."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"  # a real-time one


def pack(settings: Settings) -> bytes:
    """Return what a new process has to be told. Raises `WorkerStartError` for settings that cannot be sent.

    What was defined in the main program is found there: the new process runs the program's file as ``__mp_main__``.
    """
    main = sys.modules.get("__main__")
    path: str | None = getattr(main, "__file__", None)
    if getattr(main, "__spec__", None) is not None:
        path = None  # started with -m: a module like others, which nobody has put a handler into
    try:
        packed = pickle.dumps(settings)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise WorkerStartError(
            f"a new process cannot be told of this ({error}): name it 'module:attr', or set start_method='fork'"
        ) from None
    return pickle.dumps(path if b"__main__" in packed else None) + packed
