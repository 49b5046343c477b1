"""The examples about files, forms, limits and WSGI: started as their first lines say, and asked over a socket."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import httpx
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "http"
PATIENCE = 30.0

pytestmark = [pytest.mark.skipif(sys.platform == "win32", reason="they are stopped by a signal")]


class Start(Protocol):
    """How a test starts an example."""

    def __call__(self, name: str, *arguments: str) -> httpx.Client:
        """Start it, and return a client."""


@pytest.fixture
def start() -> Iterator[Start]:
    """Start an example in development mode; it has to end well, and without a complaint."""
    started: list[tuple[subprocess.Popen[str], httpx.Client]] = []

    def begin(name: str, *arguments: str) -> httpx.Client:
        process = subprocess.Popen(
            [sys.executable, "-X", "dev", str(EXAMPLES / name), *arguments, "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        client = httpx.Client(base_url=process.stdout.readline().strip(), timeout=PATIENCE)
        started.append((process, client))
        return client

    yield begin
    for process, client in started:
        client.close()
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=PATIENCE) == ("", "")
        assert process.returncode == 0


def test_static_site(start: Start) -> None:
    """The folder, the notes, who may write them, and how often."""
    client = start("static_site.py")
    page = client.get("/")
    assert "<h1>Notes</h1>" in page.text
    assert page.headers["cache-control"] == "max-age=60"
    assert client.get("/app.js").headers["content-type"] == "text/javascript; charset=utf-8"
    assert client.get("/../static_site.py").status_code == 404
    assert (
        client.get("/api/notes", headers={"Origin": "https://other.example"}).headers["access-control-allow-origin"]
        == "*"
    )
    assert client.post("/api/notes", json="a note").status_code == 201
    assert client.get("/api/notes").json()[-1] == "a note"
    assert client.post("/api/notes", content="a note").status_code == 415
    assert client.post("/api/notes", json={}).status_code == 422
    assert client.post("/api/notes", content="{", headers={"Content-Type": "application/json"}).status_code == 400
    assert client.delete("/api/notes").status_code == 405
    statuses = [client.post("/api/notes", json="again").status_code for _ in range(10)]
    assert statuses == [201] * 9 + [429]


def test_video(start: Start, tmp_path: Path) -> None:
    """The page, and pieces of the film."""
    content = os.urandom(3 << 20)
    (tmp_path / "a & b.mp4").write_bytes(content)
    client = start("video.py", str(tmp_path / "a & b.mp4"))
    assert "<title>a &amp; b.mp4</title>" in client.get("/").text
    piece = client.get("/film", headers={"Range": "bytes=1000-"})
    assert piece.status_code == 206
    assert piece.content == content[1000 : 1000 + (1 << 20)]
    assert piece.headers["content-range"] == f"bytes 1000-{999 + (1 << 20)}/{len(content)}"
    assert piece.headers["content-type"] == "video/mp4"
    assert client.get("/film").content == content
    assert client.get("/other").status_code == 404


def test_rate_limit(start: Start) -> None:
    """So many for each, and then a while nothing."""
    client = start("rate_limit.py")
    answers = [client.get("/") for _ in range(40)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers} == {200, 429}
    assert len(answers) - len(refused) <= 20
    assert 1 <= int(refused[-1].headers["retry-after"]) <= 60
    assert client.get("/", headers={"X-API-Key": "key-of-ann"}).json() == {"hello": "user ann"}


def test_wsgi_app(start: Start) -> None:
    """While the application waits, the server does not."""
    client = start("wsgi_app.py")
    assert client.get("/?name=%3Cyou%3E&seconds=0").text.startswith("<p>Hello, &lt;you&gt;, from wsgi-")
    answers: list[str] = []
    with httpx.Client(base_url=client.base_url, timeout=PATIENCE) as slow:
        thread = threading.Thread(target=lambda: answers.append(slow.get("/?seconds=0.5").text))
        thread.start()
        assert client.get("/health").text == "well\n"
        thread.join(PATIENCE)
    assert len(answers) == 1


def test_upload(start: Start, tmp_path: Path) -> None:
    """The page, some files of one name, what is told meanwhile, and the folder afterwards."""
    pytest.importorskip("multipart")
    client = start("upload.py", str(tmp_path))
    assert "<h1>Upload</h1>" in client.get("/").text
    content = os.urandom(3 << 20)
    files = [("file", ("../a b.bin", content)), ("file", ("a b.bin", b"second")), ("file", (".hidden", b"third"))]
    assert client.post("/upload", files=files).json() == ["a b.bin", "a b 2.bin", "hidden"]
    assert (tmp_path / "a b.bin").read_bytes() == content
    assert (tmp_path / "a b 2.bin").read_bytes() == b"second"
    assert client.get("/files/a%20b.bin").content == content
    assert client.post("/upload", json={}).status_code == 415
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a b 2.bin", "a b.bin", "hidden"]
    with client.stream("GET", "/events") as events:
        assert next(events.iter_lines()).startswith("data: [")


def test_the_site_of_the_static_example_is_well_formed() -> None:
    """What it refers to is there, and nothing is loaded from elsewhere."""
    site = EXAMPLES / "site"
    text = "".join(path.read_text() for path in site.iterdir())
    assert "://" not in text
    assert sorted(path.name for path in site.iterdir()) == ["app.js", "index.html", "style.css"]
    assert json.dumps("style.css") in text
    assert json.dumps("app.js") in text
