"""``python -m nimloop_mt``, running."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self, final

from tests.mt.serving import PATIENCE


@final
class Program:
    """The command line on a free port; `wrap` is a program that starts it. Killed at the end of the block."""

    def __init__(
        self,
        *arguments: str,
        wrap: tuple[str, ...] = (),
        pass_fds: tuple[int, ...] = (),
        cwd: Path | None = None,
        port: bool = True,
    ) -> None:
        command = [*wrap, sys.executable, "-m", "nimloop_mt", *arguments, *(("--port", "0") if port else ())]
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=pass_fds,
            cwd=cwd,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        )
        self.pid = self._process.pid
        self._line: str | None = None

    @property
    def line(self) -> str:
        """What it says once it serves."""
        if self._line is None:
            assert self._process.stdout is not None
            self._line = self._process.stdout.readline()
        return self._line

    @property
    def port(self) -> int:
        """Where it serves."""
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", self.line)
        assert found is not None, self.line
        return int(found[1])

    def errors_until(self, text: str) -> None:
        """Read what it complains of, up to a line with that text."""
        assert self._process.stderr is not None
        while text not in (line := self._process.stderr.readline()):
            assert line, f"ended without a word of {text!r}"

    def send(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def finish(self) -> tuple[int, str, str]:
        """Wait for its end; return the exit status, and what it wrote since."""
        output, errors = self._process.communicate(timeout=PATIENCE)
        return self._process.returncode, output, errors

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
