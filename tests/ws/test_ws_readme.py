"""The README: its examples run as they stand, but for addresses, and every name for people from powpow exists."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.support.settings import table
from tests.support.turning import PATIENCE
from tests.ws.serving import in_thread
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as connect_websockets

import nimloop_ws
from nimloop_core import Loop
from nimloop_ws import WebSocket, WsLimits, WsServer, WsTimeouts

README = Path(__file__).parents[2] / "packages" / "nimloop-ws" / "README.md"
ECHO, ROUTES, CLIENT, PROTOCOL = re.findall(
    r"^```python\n(.*?)^```", README.read_text("utf-8"), re.MULTILINE | re.DOTALL
)

# What the original exports of what is nimloop-ws' part here.
POWPOW = """
WsFrameKind WsConnection newWsConnection WsOpenCb WsMessageCb WsCloseCb WsErrorCb WsServer newWsServer onOpen onMessage
onClose onError websocketUpgrade computeAcceptKey buildHandshakeResponse sendHandshake writeFrame writeFrameMasked
parseWsFrames sendText sendBinary sendPing sendPong closeWs DefaultMaxFrameSize listen start close reset
"""


@pytest.mark.parametrize("settings", [WsLimits, WsTimeouts])
def test_the_table_of_settings_is_that_of_the_code(settings: type) -> None:
    """Paste what the message shows."""
    assert table(settings) in README.read_text("utf-8"), table(settings)


def free_port() -> int:
    """Return a port that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Tell whether anybody accepts connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE).close()
    except ConnectionRefusedError:
        return False
    return True


@contextmanager
def running(code: str, port: int) -> Iterator[None]:
    """Run an example until the test is over, once it listens."""
    with subprocess.Popen([sys.executable, "-W", "error", "-c", code], stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + PATIENCE
            while not listens(port):
                assert time.monotonic() < deadline, "it does not listen"
                with suppress(subprocess.TimeoutExpired):
                    pytest.fail(f"it has ended: {process.wait(0.02)}")
            yield
        finally:
            process.kill()


def test_the_echo_server() -> None:
    """The first one."""
    port = free_port()
    with (
        running(ECHO.replace("9001", str(port)), port),
        connect_websockets(f"ws://127.0.0.1:{port}/", proxy=None) as ws,
    ):
        ws.send("hello")
        assert ws.recv(PATIENCE) == "hello"


def test_beside_routes() -> None:
    """A page, a refusal, and a room."""
    port = free_port()
    url = f"ws://127.0.0.1:{port}/ws"
    with running(ROUTES.replace("8000", str(port)), port):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE) as answer:
            assert answer.read() == b"a page"
        with pytest.raises(InvalidStatus, match="401"), connect_websockets(url, proxy=None):
            pass
        headers = {"Authorization": "Bearer let-me-in"}
        with (
            connect_websockets(url, proxy=None, additional_headers=headers) as one,
            connect_websockets(url, proxy=None, additional_headers=headers) as other,
        ):
            one.send("to all")
            assert (one.recv(PATIENCE), other.recv(PATIENCE)) == ("to all", "to all")


def test_the_client() -> None:
    """It prints what it hears, and ends when the server closes."""

    def answer(ws: WebSocket, message: str | bytes) -> None:
        ws.send(f"you said {message!r}")
        ws.close()

    with in_thread(lambda loop: WsServer(loop, on_message=answer)) as (host, port):
        code = CLIENT.replace("wss://example.org", f"ws://{host}:{port}")
        ran = subprocess.run(
            [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True
        )
    assert ran.stdout == "you said 'subscribe'\n"


def test_the_protocol_without_the_loop() -> None:
    """It finds the message that stands there."""
    code = PROTOCOL + "\nprint(reply)"
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert ran.stdout == repr(nimloop_ws.encode_frame(1, "got it")) + "\n"


def powpow_table() -> list[tuple[list[str], list[str]]]:
    """Return what the rows name: of the original, and of this package."""
    section = README.read_text("utf-8").partition("## Coming from powpow")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("|")][2:]
    return [(re.findall("`([^`]+)`", there), re.findall("`([A-Za-z_.]+)`", here)) for there, here in rows]


def test_every_symbol_of_powpow_has_a_row() -> None:
    """Each in one row only."""
    named = [name for there, _ in powpow_table() for name in there]
    assert len(named) == len(set(named))
    assert set(POWPOW.split()) <= set(named)


@pytest.mark.parametrize("name", sorted({name for _, here in powpow_table() for name in here}))
def test_what_stands_for_it_exists(name: str) -> None:
    """As a name of the package, an attribute of one of its classes, or an argument of `connect` and `encode_frame`."""
    owner, _, attribute = name.partition(".")
    if owner == "WsServer" and attribute:
        with Loop() as loop, WsServer(loop) as server:
            assert hasattr(server, attribute)
    elif attribute:
        assert hasattr(getattr(nimloop_ws, owner), attribute)
    else:
        assert name in nimloop_ws.__all__ or name in {"mask", "over", "send"}
