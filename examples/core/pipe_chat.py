r"""A chat of two processes over pipes: descriptors, READ and WRITE, signals.

    python examples/core/pipe_chat.py                     # talk to the parrot; Ctrl+D or Ctrl+C says good-bye
    python examples/core/pipe_chat.py hello "who is there?"
    printf 'hello\nbye\n' | python examples/core/pipe_chat.py

Nothing here ever waits in a read or a write: both happen when the loop says that they can.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

from nimloop_core import READ, WRITE, Loop, Watcher

READ_BYTES = 4096


class Lines:
    """Calls back with each line that comes, and with None at the end."""

    def __init__(self, loop: Loop, fd: int, on_line: Callable[[str | None], object]) -> None:
        self._loop = loop
        self._fd = fd
        self._on_line = on_line
        self._rest = b""
        self._watcher: Watcher | None = None
        try:
            self._watcher = loop.register(fd, READ, self._on_event)
        except PermissionError:
            # Linux' word for what needs no waiting: a file, or /dev/null.
            loop.call_soon(self._read)

    def _on_event(self, _events: int) -> None:
        self._read()

    def _read(self) -> None:
        data = os.read(self._fd, READ_BYTES)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if not data:
            if self._watcher is not None:
                self._watcher.unregister()
            lines = [self._rest] if self._rest else []
        elif self._watcher is None:
            self._loop.call_soon(self._read)
        for line in lines:
            self._on_line(line.decode(errors="replace"))
        if not data:
            self._on_line(None)


class Sender:
    """Writes lines, and keeps what a full pipe does not take until it does."""

    def __init__(self, loop: Loop, fd: int, on_closed: Callable[[], object] | None = None) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._on_closed = on_closed
        self._waiting = b""
        self._closing = False
        # Interested in nothing for now: a pipe can nearly always be written to, and would call all the time.
        self._watcher = loop.register(fd, 0, self._on_event)

    def send(self, line: str) -> None:
        """Send a line, now or as soon as there is room."""
        self._waiting += line.encode() + b"\n"
        self._write()

    def close_after_drain(self) -> None:
        """Close once everything is written, which tells the other process that this was all."""
        self._closing = True
        self._write()

    def _on_event(self, _events: int) -> None:
        self._write()

    def _write(self) -> None:
        if not self._watcher.active:
            return  # closed before
        try:
            while self._waiting:
                self._waiting = self._waiting[os.write(self._fd, self._waiting) :]
        except BlockingIOError:
            self._watcher.modify(WRITE)
            return
        except BrokenPipeError:
            self._waiting = b""
            self._closing = True  # the other process has gone
        if self._closing:
            # First unregister, then close: the loop never closes a descriptor.
            self._watcher.unregister()
            os.close(self._fd)
            if self._on_closed is not None:
                self._on_closed()
        else:
            self._watcher.modify(0)


def parrot() -> None:
    """The other process: repeats what it hears, until there is no more to hear and all of it is repeated."""
    with Loop() as loop:
        sender = Sender(loop, sys.stdout.fileno(), on_closed=loop.stop)

        def on_line(line: str | None) -> None:
            if line is None:
                sender.close_after_drain()
            else:
                sender.send("bye, bye!" if line == "bye" else f"{line}, {line}!")

        Lines(loop, sys.stdin.fileno(), on_line)
        # Ctrl+C reaches both processes; this one goes on until the first has said good-bye.
        loop.add_signal_handler(signal.SIGINT, lambda: None)
        loop.run()


def chat(sayings: list[str]) -> None:
    """This process: says what it was given, or else what is typed, and prints the answers."""
    command = [sys.executable, __file__, "--parrot"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other, Loop() as loop:
        assert other.stdin is not None
        assert other.stdout is not None
        # The sender closes this end, so it gets one of its own.
        sender = Sender(loop, os.dup(other.stdin.fileno()))
        other.stdin.close()
        said_good_bye = False

        def say(line: str | None) -> None:
            nonlocal said_good_bye
            if said_good_bye:
                return
            if line is not None:
                sender.send(line)
            if line is None or line == "bye":
                said_good_bye = True
                sender.close_after_drain()

        def on_answer(line: str | None) -> None:
            if line is None:
                loop.stop()
            else:
                print(f"parrot: {line}", flush=True)

        Lines(loop, other.stdout.fileno(), on_answer)
        loop.add_signal_handler(signal.SIGINT, lambda: say("bye"))
        loop.add_signal_handler(signal.SIGTERM, lambda: say(None))
        if sayings:
            for saying in [*sayings, "bye"]:
                say(saying)
        else:
            # Not made non-blocking: that would last, and the shell reads from the same terminal.
            Lines(loop, sys.stdin.fileno(), say)
        loop.run()
    print(f"the parrot has left with {other.returncode}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--parrot"]:
        parrot()
    else:
        chat(sys.argv[1:])
