"""The examples of nimloop-mt, driven as programs of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "mt"
PATIENCE = 30.0

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


def test_hello() -> None:
    """It answers, with a handler that only the program's own file has, and ends well."""
    with subprocess.Popen(
        [sys.executable, str(EXAMPLES / "hello.py"), "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().partition(" ")[0]
            with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
                assert answer.read().startswith(b"Hello from process ")
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, "")
