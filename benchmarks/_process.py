"""What is measured, as child processes: started on a core of their own, accounted from /proc, always ended."""

import ctypes
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# From <sys/prctl.h>; the standard library has no name for it.
PR_SET_PDEATHSIG: Final = 1
# Python servers with many imports need a second or two on a busy machine.
START_SECONDS: Final = 20.0
# uvicorn and granian wait for their connections first when they are told to end.
END_SECONDS: Final = 3.0

_TICK: Final = 1.0 / os.sysconf("SC_CLK_TCK")
_libc: Final = ctypes.CDLL(None, use_errno=True)


class Skipped(Exception):
    """The server cannot take part here; the text says why."""


class ServerFailed(Exception):
    """The server did not start, or died, or had no result to tell."""


@dataclass(frozen=True, slots=True)
class Cpu:
    """Seconds of CPU time, as the kernel splits them."""

    user: float
    system: float

    def __sub__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.user - other.user, self.system - other.system)

    def __add__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.user + other.user, self.system + other.system)

    @property
    def total(self) -> float:
        """User and system together."""
        return self.user + self.system


def cpu_of(pids: Iterable[int]) -> dict[int, Cpu]:
    """CPU time of each process and all its descendants, living ones and those it has waited for (proc(5)).

    Counts in clock ticks, 10 ms on most kernels.
    """
    own: dict[int, Cpu] = {}
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        # The second field is the name, in brackets, and may itself hold blanks and brackets.
        fields = text[text.rindex(")") + 2 :].split()
        pid = int(stat.parent.name)
        user, system, waited_user, waited_system = (int(field) for field in fields[11:15])
        own[pid] = Cpu((user + waited_user) * _TICK, (system + waited_system) * _TICK)
        children.setdefault(int(fields[1]), []).append(pid)

    def with_descendants(pid: int) -> Cpu:
        return sum((with_descendants(child) for child in children.get(pid, [])), own.get(pid, Cpu(0.0, 0.0)))

    return {pid: with_descendants(pid) for pid in pids}


class Process:
    """A program from `peers/` that runs; `port` and `build` are what it said of itself when it started."""

    def __init__(self, command: Sequence[str], core: int) -> None:
        self.port = 0
        self.build: list[str] = []
        self._said = b""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - end() closes it

        def prepare() -> None:
            os.sched_setaffinity(0, {core})
            # Even if the benchmark is killed outright, the server must not stay.
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

        # In a session of its own, so that Ctrl+C reaches only the benchmark, which then ends them all.
        self._popen = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            preexec_fn=prepare,  # noqa: PLW1509 - there are no threads here
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The process started here; it may have children."""
        return self._popen.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._popen.poll() is None

    def wait_port(self) -> None:
        """Take in what the server says until it names its port; raises Skipped or ServerFailed."""
        self.port = int(self._until("port", START_SECONDS))

    def wait_result(self, seconds: float) -> str:
        """Take in what the program says until it tells its result, and return that; raises Skipped or ServerFailed."""
        return self._until("result", seconds)

    def _until(self, last: str, seconds: float) -> str:
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._line(deadline)
            except TimeoutError:
                raise ServerFailed(f"no {last} within {seconds:.0f} s{self.complaints()}") from None
            word, _, rest = line.partition(" ")
            if word == last:
                return rest
            if word == "build":
                self.build.append(rest)
            elif word == "skip":
                raise Skipped(rest)

    def _line(self, deadline: float) -> str:
        out = self._popen.stdout
        assert out is not None
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            while b"\n" not in self._said:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError
                # Not out.readline(): its buffer would hide from the selector what has already come.
                data = os.read(out.fileno(), 4096)
                if not data:
                    self._popen.wait(END_SECONDS)
                    raise ServerFailed(f"ended with {self._popen.returncode}{self.complaints()}")
                self._said += data
        line, _, self._said = self._said.partition(b"\n")
        return line.decode(errors="replace")

    def complaints(self) -> str:
        """The last of what the server wrote to standard error, ready to be put behind a message."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return "".join(f"\n    {line}" for line in lines[-8:])

    def ask_to_end(self) -> None:
        """Send SIGTERM."""
        if self.alive:
            self._popen.send_signal(signal.SIGTERM)

    def end(self) -> None:
        """Return when the server and its children are gone."""
        self.ask_to_end()
        try:
            self._popen.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        # The group is the session made above, so this can hit nothing else; its id stays taken for as long as
        # a child lives in it.
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._popen.wait()
        if self._popen.stdout is not None:
            self._popen.stdout.close()
        self._errors.close()
