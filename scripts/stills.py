"""Runs the command lines and draws what they print, as in a terminal, into docs/assets: python scripts/stills.py."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.request
from html import escape
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
ASSETS: Final = ROOT / "docs" / "assets"
LINE: Final = 19
PATIENCE: Final = 30.0


def draw(lines: list[str]) -> str:
    """Return a terminal with these lines; what was typed begins with a dollar sign."""
    width = 32 + int(7.85 * max(map(len, lines)))
    height = 46 + LINE * len(lines)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"',
        'role="img" font-family="ui-monospace, DejaVu Sans Mono, monospace" font-size="13" fill="#d5dae1">',
        f'<rect width="{width}" height="{height}" rx="8" fill="#1e2129"/>',
        *(f'<circle cx="{18 + 16 * i}" cy="16" r="5" fill="#4a525c"/>' for i in range(3)),
    ]
    for place, line in enumerate(lines):
        colour = ' fill="#4db6ac"' if line.startswith("$ ") else ""
        parts.append(f'<text x="16" y="{46 + LINE * place}" xml:space="preserve"{colour}>{escape(line)}</text>')
    return "\n".join([*parts, "</svg>", ""])


class Shown:
    """A program whose standard output and standard error come out in one list of lines."""

    def __init__(self, *command: str, folder: Path) -> None:
        self.lines: list[str] = []
        self._heard = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._heard:
                self.lines.append(line.rstrip())
                self._heard.notify_all()

    def until(self, pattern: str, times: int = 1) -> re.Match[str]:
        """Return when that many lines match. Raises TimeoutError when they never come."""

        def found() -> list[re.Match[str]]:
            return [match for line in self.lines if (match := re.search(pattern, line))]

        with self._heard:
            if not self._heard.wait_for(lambda: len(found()) >= times, PATIENCE):
                self.process.kill()
                raise TimeoutError(f"{pattern!r} in {self.lines}")
            return found()[times - 1]

    def end(self) -> None:
        """Ask it to stop, and read what it says to that."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(PATIENCE)
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


def get(url: str) -> None:
    """Make a request, whatever the answer is."""
    try:
        with urllib.request.urlopen(url) as answer:
            answer.read()
    except OSError:
        pass


def folder_of_files(folder: Path) -> list[str]:
    """Serve a folder and ask for a few things."""
    (folder / "notes.md").write_text("# Notes\n")
    (folder / "harbour.jpg").write_bytes(bytes(812_001))
    shown = Shown("nimloop_http", "--port", "0", folder=folder)
    url = shown.until(r"http://\S+?:(\d+)/")
    address = f"http://127.0.0.1:{url[1]}"
    for number, path in enumerate(("/", "/notes.md", "/harbour.jpg", "/missing"), start=1):
        get(f"{address}{path}")
        shown.until(r'"GET ', number)
    shown.end()
    return tidy(["$ python -m nimloop_http", *shown.lines, "^C"], url[1], folder)


def workers(folder: Path) -> list[str]:
    """Serve with two workers, and stop."""
    (folder / "app.py").write_text("def on_request(req, res):\n    res.send('hello')\n")
    shown = Shown("nimloop_mt", "app:on_request", "--workers", "2", "--port", "0", folder=folder)
    url = shown.until(r"http://\S+?:(\d+)/")
    for number, path in enumerate(("/", "/again"), start=1):
        get(f"http://127.0.0.1:{url[1]}{path}")
        shown.until(r'"GET ', number)
    shown.end()
    return tidy(["$ python -m nimloop_mt app:on_request --workers 2", *shown.lines, "^C"], url[1], folder)


def tidy(lines: list[str], port: str, folder: Path) -> list[str]:
    """Return lines without what is different on every machine."""
    return [
        re.sub(
            r"(127\.0\.0\.1):\d{5}\b", r"\1", line.replace(f":{port}", ":8000").replace(str(folder), "/home/ada/site")
        )
        for line in lines
    ]


def main() -> None:
    """Draw them all."""
    for name, show in (("http", folder_of_files), ("mt", workers)):
        with tempfile.TemporaryDirectory() as folder:
            lines = show(Path(folder))
            print("\n".join(lines), end="\n\n")
            (ASSETS / f"terminal-{name}.svg").write_text(draw(lines), "utf-8")


if __name__ == "__main__":
    main()
