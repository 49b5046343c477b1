"""The README: its table of limits is that of the code, and its tree of exceptions, too."""

from __future__ import annotations

import inspect
import re
import socket
from pathlib import Path

import pytest

import nimloop_net
from nimloop_core import Loop
from nimloop_net import Connection, Resolver, TcpServer, connect, resolve

README = (Path(__file__).parents[2] / "packages" / "nimloop-net" / "README.md").read_text("utf-8")
LIMITS = README.partition("## Limits and time-outs\n")[2].partition("\n## ")[0]
ERRORS = README.partition("## Errors\n")[2].partition("\n## ")[0]
SIGNATURES = {
    "TcpServer": inspect.signature(TcpServer),
    "TcpServer.listen": inspect.signature(TcpServer.listen),
    "connect": inspect.signature(connect),
    "resolve": inspect.signature(resolve),
    "Resolver": inspect.signature(Resolver),
}


def limits() -> list[tuple[str, str]]:
    """Return the names and the defaults of the rows."""
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in LIMITS.splitlines() if line.startswith("| `")]
    return [(name.strip("`"), default) for name, default in rows]


def spelt(value: object) -> str:
    """Return a default as people read it."""
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:g} s"
    assert isinstance(value, int)
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if value >= 1 << 14 and value % unit == 0:
            return f"{value // unit} {name}"
    return str(value)


@pytest.mark.parametrize(("name", "default"), limits())
def test_a_limit_is_that_of_the_code(loop: Loop, name: str, default: str) -> None:
    """Of a connection that nobody has changed, or of the function that takes it."""
    if name.startswith("conn."):
        ours, theirs = socket.socketpair()
        with theirs:
            conn = Connection(loop, ours)
            assert spelt(getattr(conn, name.removeprefix("conn."))) == default
            conn.abort()
        return
    function, _, arguments = name.rstrip(")").partition("(")
    given = SIGNATURES[function].parameters
    assert ", ".join(spelt(given[each.strip(" =")].default) for each in arguments.split(",")) == default


def test_every_exception_is_in_the_tree() -> None:
    """And nothing else is."""
    named = set(re.findall(r"\b(?:\w+Error)\b", ERRORS.partition("```\n")[2].partition("```")[0]))
    ours = {name for name in nimloop_net.__all__ if name.endswith("Error") and not name.startswith("On")}
    assert ours <= named
    assert named - ours <= {"NimloopError", "OSError", "TimeoutError", "ConnectionError", "ConnectionRefusedError"}
