"""Takes the pictures of pages that the documentation shows, into docs/assets: python scripts/pictures.py [CHROMIUM].

Each page is served by an example or by the command line, and driven over Chromium's debugging protocol.
With --site DIR, photographs the pages of a built site instead, for a desk and for a phone, into DIR-pictures.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, cast, final

from websockets.sync.client import ClientConnection, connect

ROOT: Final = Path(__file__).parent.parent
# Type into the only field of the chat, and send.
SAY: Final = "document.getElementById('text').value = {!r}; document.querySelector('form').requestSubmit()"
ASSETS: Final = ROOT / "docs" / "assets"
DESK: Final = 900
PHONE: Final = 390
PATIENCE: Final = 30.0


@final
class Tab:
    """A page in a browser."""

    def __init__(self, ws: ClientConnection) -> None:
        self._ws = ws
        self._number = 0

    def call(self, method: str, **parameters: object) -> dict[str, object]:
        """Call a method of the protocol and return its result."""
        self._number += 1
        self._ws.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._ws.recv(PATIENCE))
            if message.get("id") == self._number:
                return cast("dict[str, object]", message.get("result", {}))

    def show(self, url: str, width: int, height: int, *, dark: bool = False, sharpness: int = 2) -> None:
        """Load a page."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=sharpness,
            mobile=width < 500,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def until(self, condition: str) -> None:
        """Return when an expression of JavaScript is true. Raises TimeoutError when it never is."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            result = self.call("Runtime.evaluate", expression=condition, returnByValue=True)
            if cast("dict[str, object]", result.get("result", {})).get("value"):
                return
            time.sleep(0.1)
        raise TimeoutError(condition)

    def height(self) -> int:
        """Return how tall the page is."""
        result = self.call("Runtime.evaluate", expression="document.documentElement.scrollHeight", returnByValue=True)
        return int(cast("int", cast("dict[str, object]", result["result"])["value"]))

    def run(self, script: str) -> None:
        """Run JavaScript in the page."""
        self.call("Runtime.evaluate", expression=script, awaitPromise=True)

    def take(self, path: Path) -> None:
        """Write the picture of what is shown."""
        time.sleep(0.5)  # for transitions
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(str(self.call("Page.captureScreenshot", format="png")["data"])))
        print(path)


@contextmanager
def browser(program: str) -> Iterator[Tab]:
    """Start Chromium without a window; yield a tab."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        subprocess.Popen(
            [
                program,
                "--headless=new",
                "--no-sandbox",
                "--hide-scrollbars",
                "--disable-gpu",
                "--remote-debugging-port=0",
                f"--user-data-dir={profile}",
                "about:blank",
            ],
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        try:
            assert process.stderr is not None
            port = next(match[1] for line in process.stderr if (match := re.search(r"ws://127\.0\.0\.1:(\d+)/", line)))
            request = urllib.request.Request(f"http://127.0.0.1:{port}/json/new", method="PUT")
            with urllib.request.urlopen(request) as answer:
                address = json.load(answer)["webSocketDebuggerUrl"]
            with connect(address, max_size=None, compression=None) as ws:
                yield Tab(ws)
        finally:
            process.terminate()


@contextmanager
def program(*command: str) -> Iterator[str]:
    """Start a server that prints its address first; yield that."""
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            yield next(word for word in process.stdout.readline().split() if word.startswith("http://"))
        finally:
            process.terminate()


def a_folder(path: Path) -> Path:
    """Fill a folder with what a folder may hold."""
    sizes = {
        "annual-report.pdf": 2_340_112,
        "harbour.jpg": 812_001,
        "index.txt": 240,
        "notes.md": 5_120,
        "song.ogg": 4_810_233,
    }
    for name, size in sizes.items():
        (path / name).write_bytes(bytes(size))
    for name in ("archive", "drawings", "über uns"):
        (path / name).mkdir()
    return path


def listing(tab: Tab, folder: Path) -> None:
    """Photograph the listing of a folder, light, dark and on a phone."""
    with program("-m", "nimloop_http", str(a_folder(folder)), "--port", "0", "--no-access-log") as url:
        tab.show(url, DESK, 640)
        tab.take(ASSETS / "listing-light.png")
        tab.show(url, DESK, 640, dark=True)
        tab.take(ASSETS / "listing-dark.png")
        tab.show(url, PHONE, 700)
        tab.take(ASSETS / "listing-phone.png")


def upload(tab: Tab, folder: Path) -> None:
    """Photograph the page for uploads while two people send something."""
    with program("examples/http/upload.py", str(folder), "0") as url:
        port = int(url.rstrip("/").rpartition(":")[2])
        senders = []
        for name, part in (("harbour.jpg", 0.7), ("annual report.pdf", 0.35)):
            body = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
            size = 3_000_000
            sender = socket.create_connection(("127.0.0.1", port))
            head = "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            sender.sendall(f"{head}Content-Length: {size}\r\n\r\n".encode() + body + bytes(int(size * part)))
            senders.append(sender)
        tab.show(url, DESK, 480)
        tab.until("document.body.innerText.includes('harbour.jpg')")
        tab.take(ASSETS / "http-upload.png")
        for sender in senders:
            sender.close()


def chat(tab: Tab) -> None:
    """Photograph a conversation of three."""
    with program("examples/ws/chat.py", "0") as url:
        port = int(url.rstrip("/").rpartition(":")[2])
        tab.show(url, DESK, 620)
        tab.until("document.getElementById('people').innerText !== 'connecting'")
        tab.run(SAY.format("Ada"))
        with (
            connect(f"ws://127.0.0.1:{port}/rooms/lobby", origin=None) as grace,
            connect(f"ws://127.0.0.1:{port}/rooms/lobby", origin=None) as alan,
        ):
            grace.send(json.dumps({"type": "name", "text": "Grace"}))
            alan.send(json.dumps({"type": "name", "text": "Alan"}))
            grace.send(json.dumps({"type": "say", "text": "The new build is out. Has anybody tried it?"}))
            tab.until("document.body.innerText.includes('tried it')")
            alan.send(json.dumps({"type": "say", "text": "Running since this morning, no complaints so far."}))
            tab.until("document.body.innerText.includes('complaints')")
            tab.run(SAY.format("Same here. The notes are worth reading."))
            tab.until("document.body.innerText.includes('worth reading')")
            tab.take(ASSETS / "ws-chat.png")


def dashboard(tab: Tab) -> None:
    """Photograph the figures of this machine."""
    with program("examples/ws/dashboard.py", "0") as url:
        tab.show(url, DESK, 480)
        time.sleep(8)  # until there is something to see
        tab.take(ASSETS / "ws-dashboard.png")


def site(tab: Tab, folder: Path) -> None:
    """Photograph every page of a built site."""
    with program("-m", "nimloop_http", str(folder), "--port", "0", "--no-access-log") as url:
        for page in sorted(folder.rglob("index.html")):
            path = page.parent.relative_to(folder).as_posix().strip(".")
            for width, height in ((1280, 1000), (PHONE, 844)):
                address = f"{url}{path}/" if path else url
                tab.show(address, width, height)
                tab.show(address, width, min(6000, tab.height()), sharpness=1)
                tab.take(folder.parent / f"{folder.name}-pictures" / f"{path.replace('/', '-') or 'start'}-{width}.png")


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("chromium", nargs="?", default=shutil.which("chromium") or "chromium")
    parser.add_argument("--site", type=Path, help="a built site")
    options = parser.parse_args()
    with browser(options.chromium) as tab:
        if options.site is not None:
            site(tab, options.site.absolute())
            return
        for picture in (listing, upload):
            with tempfile.TemporaryDirectory() as folder:
                picture(tab, Path(folder))
        chat(tab)
        dashboard(tab)


if __name__ == "__main__":
    main()
