"""M-4: the command line says where it serves, rolls, drains, and fails with one clear line."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request

import pytest

PATIENCE = 40.0

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


def start(*arguments: str) -> subprocess.Popen[str]:
    """Run the command line."""
    return subprocess.Popen(
        [sys.executable, "-m", "nimloop_mt", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    ("what", "text"), [("tests.mt.handlers:answer", b"answer to /"), ("tests.mt.handlers:application", b"from WSGI")]
)
def test_serves_rolls_and_stops(what: str, text: bytes) -> None:
    """A handler or a WSGI application; SIGHUP keeps it serving, SIGTERM ends it with status 0."""
    with start(what, "--port", "0", "--workers", "2", "--no-access-log", "--grace", "2") as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert "with 2 " in line
            address = next(word for word in line.split() if word.startswith("http://"))
            for number in (None, signal.SIGHUP):
                if number is not None:
                    process.send_signal(number)
                with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
                    assert answer.read() == text
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["nowhere:x"], "there is no module 'nowhere' here"),
        (["tests.mt.handlers:missing"], "tests.mt.handlers has no missing"),
        (["tests.mt.handlers:answer", "--tls-cert", "/nowhere"], "cannot load the certificate"),
        (["tests.mt.handlers:answer", "--workers", "many"], "expected a whole number"),
    ],
)
def test_a_wrong_call_has_status_2_and_one_reason(arguments: list[str], why: str) -> None:
    """The reason is on standard error, with no traceback."""
    with start(*arguments, "--port", "0") as process:
        output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert output == ""
    assert why in errors
    assert "Traceback" not in errors
