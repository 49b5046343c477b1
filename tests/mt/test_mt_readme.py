"""The README: its example serves, and every name in its table for people from powpow exists."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from operator import attrgetter
from pathlib import Path

import pytest
from tests.mt.serving import PATIENCE, until

import nimloop_http
import nimloop_mt

README = (Path(__file__).parents[2] / "packages" / "nimloop-mt" / "README.md").read_text("utf-8")
HANDLER = "def on_request(req, res):\n    res.send('from the README')\n"


def powpow_table() -> list[tuple[list[str], list[str]]]:
    """The names on both sides of each row."""
    section = README.partition("## Coming from powpow")[2]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("|")][2:]
    return [(re.findall("`([^`]+)`", there), re.findall("`([^`]+)`", here)) for there, here in rows]


def test_every_symbol_of_powpow_has_a_row() -> None:
    """All that its module for several threads exports."""
    named = [name for there, _ in powpow_table() for name in there]
    assert {"MultiThreadHttpServer", "newMultiThreadHttpServer", "start", "close"} <= set(named)


@pytest.mark.parametrize("name", sorted({name for _, here in powpow_table() for name in here if name[0].isupper()}))
def test_what_stands_for_it_exists(name: str) -> None:
    """As a name of this package or of nimloop-http, or of a class there."""
    attrgetter(name)(nimloop_mt if hasattr(nimloop_mt, name.partition(".")[0]) else nimloop_http)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_the_example_serves(tmp_path: Path) -> None:
    """As it stands, but for the port."""
    example = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)[0]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "app.py").write_text(HANDLER)
    (tmp_path / "serve.py").write_text(example.replace("8000", str(port)))

    def answered() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE) as answer:
                return bool(answer.read() == b"from the README")
        except OSError:
            return False

    with subprocess.Popen([sys.executable, "serve.py"], cwd=tmp_path) as process:
        try:
            until(answered)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
