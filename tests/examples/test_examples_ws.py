"""The examples of nimloop-ws, driven by websockets and by a browser."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.ws.serving import in_thread
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from nimloop_ws import CloseCode, WebSocket, WsServer

EXAMPLES = Path(__file__).parents[2] / "examples" / "ws"
PATIENCE = 30.0


@contextmanager
def running(name: str, *arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run an example until it is told to stop, which it has to do well; gives what it prints first."""
    process = subprocess.Popen(
        [sys.executable, "-X", "dev", str(EXAMPLES / name), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0
    assert not errors


def open_ws(url: str, path: str, **headers: str) -> ClientConnection:
    """Open a WebSocket beside a page."""
    return connect(url.replace("http", "ws", 1) + path, proxy=None, additional_headers=headers)


def heard(ws: ClientConnection) -> dict[str, object]:
    """Return the next message."""
    found = json.loads(ws.recv(PATIENCE))
    assert isinstance(found, dict)
    return found


def test_chat() -> None:
    """Two people meet, talk, and part; a third gets what was said."""
    with running("chat.py", "0") as (url, _):
        with urllib.request.urlopen(url, timeout=PATIENCE) as page:
            assert b"<title>Chat</title>" in page.read()
        with open_ws(url, "rooms/a") as ann, open_ws(url, "rooms/a") as bob:
            ann.send(json.dumps({"type": "name", "text": "Ann"}))
            assert heard(ann) == {"type": "welcome", "name": "Ann", "said": []}
            assert heard(ann)["came"] == "Ann"
            bob.send(json.dumps({"type": "name", "text": "Ann"}))
            assert heard(bob)["type"] == "refused"
            bob.send(json.dumps({"type": "name", "text": "Bob"}))
            assert heard(bob)["type"] == "welcome"
            assert heard(ann)["names"] == heard(bob)["names"] == ["Ann", "Bob"]
            bob.send(json.dumps({"type": "say", "text": "hi"}))
            said = {"type": "say", "name": "Bob", "text": "hi"}
            assert heard(ann) == heard(bob) == said
            bob.close()
            assert heard(ann)["left"] == "Bob"
            with open_ws(url, "rooms/a") as cem:
                cem.send(json.dumps({"type": "name", "text": "Cem"}))
                assert heard(cem)["said"] == [said]
                cem.send("rubbish")
                assert [heard(cem)["type"]] == ["people"]
                with pytest.raises(ConnectionClosed, match="1003"):
                    cem.recv(PATIENCE)


def test_beside_http() -> None:
    """Routes and WebSockets of one server; strangers are refused."""
    with running("beside_http.py", "0") as (url, _):
        with pytest.raises(InvalidStatus, match="401"):
            open_ws(url, "jobs/live")
        with open_ws(url, "jobs/live", Authorization="Bearer let-me-in") as ws:
            with urllib.request.urlopen(url + "jobs", data=b"sweep", timeout=PATIENCE) as answer:
                assert answer.status == 201
            assert heard(ws) == {"id": 1, "name": "sweep"}
        with urllib.request.urlopen(url + "jobs", timeout=PATIENCE) as answer:
            assert json.load(answer) == [{"id": 1, "name": "sweep"}]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_dashboard() -> None:
    """Two watch and hear the same."""
    with running("dashboard.py", "0") as (url, _), open_ws(url, "figures") as one, open_ws(url, "figures") as two:
        first = heard(one)
        assert first == heard(two)
        assert first["watchers"] == 2
        assert set(first) == {"cpu", "load", "memory", "network", "watchers"}


def test_client() -> None:
    """It hears, is sent away, and comes back."""
    visits = 0

    def greet(ws: WebSocket) -> None:
        nonlocal visits
        visits += 1
        ws.send(f"visit {visits}")
        if visits == 1:
            ws.close(CloseCode.SERVICE_RESTART, "back soon")

    with (
        in_thread(lambda loop: WsServer(loop, on_open=greet)) as (host, port),
        running("client.py", f"ws://{host}:{port}/") as (first, process),
    ):
        assert process.stdout is not None
        lines = [first, *(process.stdout.readline().strip() for _ in range(4))]
        # The code is that of its own answer, which echoes it.
        assert lines == ["connected", "visit 1", "closed: 1012 back soon", "connected", "visit 2"]


@contextmanager
def tab(url: str, profile: Path) -> Iterator[ClientConnection]:
    """Open a page in a browser without a window; gives the WebSocket that it is steered by."""
    browser = next((found for name in ("chromium", "google-chrome") if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--no-proxy-server"]
    command += ["--remote-debugging-port=0", f"--user-data-dir={profile}", url]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = next(line for line in process.stderr if line.startswith("DevTools listening on "))
            where = line.split("/")[2]
            with urllib.request.urlopen(f"http://{where}/json/list", timeout=PATIENCE) as listing:
                page = next(each for each in json.load(listing) if each["type"] == "page")
            with connect(page["webSocketDebuggerUrl"], proxy=None, max_size=None) as ws:
                yield ws
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE)


def wait_for(ws: ClientConnection, text: str) -> None:
    """Ask until the page shows a text; a promise that waits for it would be lost while the page is being loaded."""
    deadline = time.monotonic() + PATIENCE
    while evaluate(ws, f"document.body?.innerText.includes({json.dumps(text)})") is not True:
        assert time.monotonic() < deadline, f"the page does not show {text!r}"


def evaluate(ws: ClientConnection, script: str) -> object:
    """Return what a script has to say, if anything."""
    ws.send(json.dumps({"id": 1, "method": "Runtime.evaluate", "params": {"expression": script}}))
    while "id" not in (said := json.loads(ws.recv(PATIENCE))):
        pass
    found: object = said.get("result", {}).get("result", {}).get("value")
    return found


def test_the_chat_in_a_browser(tmp_path: Path) -> None:
    """Somebody joins and talks through the page; what others say appears, as text."""
    with running("chat.py", "0") as (url, _), tab(url, tmp_path) as page, open_ws(url, "rooms/lobby") as bob:
        wait_for(page, "connected")
        enter = "text.value = {}; document.querySelector('form').requestSubmit()"
        evaluate(page, enter.format("'Ann'"))
        wait_for(page, "Here: Ann")
        evaluate(page, enter.format("'hello'"))
        bob.send(json.dumps({"type": "name", "text": "Bob"}))
        while heard(bob)["type"] != "welcome":
            pass
        bob.send(json.dumps({"type": "say", "text": "<b>hi</b>"}))
        wait_for(page, "<b>hi</b>")
        assert evaluate(page, "document.querySelector('.mine').innerText") == "Annhello"


def test_the_dashboard_in_a_browser(tmp_path: Path) -> None:
    """The figures appear."""
    with running("dashboard.py", "0") as (url, _), tab(url, tmp_path) as page:
        wait_for(page, "live")
        wait_for(page, "MB/s")
