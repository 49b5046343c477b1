"""The files in ``deploy/``, with the programs that they are for, as far as these are installed."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.mt.serving import PATIENCE, until

pytest.importorskip("nimloop_ws")

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
WITHOUT_PROXY = "127.0.0.1, by http, to"

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="programs of Linux")


def needs(program: str) -> pytest.MarkDecorator:
    """Leave a test out where there is no such program."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago, for programs that cannot be given 0."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [sock.getsockname()[1] for sock in sockets]


def with_ports(name: str, folder: Path, ports: dict[int, int]) -> Path:
    """Copy a file of settings, with other ports."""
    text = (DEPLOY / name).read_text()
    for old, new in ports.items():
        assert str(old) in text
        text = re.sub(rf"\b{old}\b", str(new), text)
    copy = folder / name
    copy.write_text(text)
    return copy


@contextmanager
def running(*command: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program; it is asked to end, and has to."""
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, cwd=DEPLOY) as process:
        try:
            yield process
            process.terminate()
            process.wait(PATIENCE)
        finally:
            process.kill()


@contextmanager
def nodes(ports: Sequence[tuple[int, int]], *options: str) -> Iterator[None]:
    """Run the application on each port, with its health beside it."""
    with ExitStack() as stack:
        for port, health in ports:
            arguments = ("--port", port, "--health-port", health, "--workers", 2, "--proxy", "127.0.0.1", *options)
            stack.enter_context(running(sys.executable, "app.py", *arguments))
        for _, health in ports:
            until(lambda health=health: get(health, "/ready") == "ready\n")  # type: ignore[misc]
        yield


def get(port: int, path: str = "/", **headers: str) -> str:
    """Ask; return the text, or "" when nobody answers well."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            text: str = answer.read().decode()
            return text
    except OSError:  # refused, or the 503 of whoever is not ready
        return ""


def echo(port: int) -> None:
    """Have a WebSocket send something back."""
    client = pytest.importorskip("websockets.sync.client")
    with client.connect(f"ws://127.0.0.1:{port}/ws", open_timeout=PATIENCE, proxy=None) as ws:
        ws.send("through a proxy")
        assert ws.recv(PATIENCE) == "through a proxy"


@needs("nginx")
def test_nginx(tmp_path: Path) -> None:
    """The client's address is the one that nginx saw, not the one that the client made up; WebSockets pass."""
    front, port, health = free_ports(3)
    settings = with_ports("nginx.conf", tmp_path, {8080: front, 8000: port})
    with nodes([(port, health)]), running("nginx", "-p", tmp_path, "-c", settings, "-g", "daemon off;"):
        until(lambda: get(front))
        assert get(front, **{"X-Forwarded-For": "6.6.6.6"}) == f"hello {WITHOUT_PROXY} 127.0.0.1:{front}\n"
        assert get(port, **{"X-Forwarded-For": "192.0.2.7"}).startswith("hello 192.0.2.7,")
        echo(front)


@needs("haproxy")
def test_haproxy(tmp_path: Path) -> None:
    """The PROXY protocol brings the address; a node that stops is left out, and clients notice nothing."""
    front, *rest = free_ports(5)
    first, second = (rest[0], rest[1]), (rest[2], rest[3])
    ports = dict(zip((8080, 8000, 8001, 8010, 8011), (front, *first, *second), strict=True))
    settings = with_ports("haproxy.cfg", tmp_path, ports)
    with nodes([first], "--proxy-protocol"), running("haproxy", "-db", "-f", settings):
        with nodes([second], "--proxy-protocol"):
            until(lambda: get(front))
            assert get(front) == f"hello {WITHOUT_PROXY} 127.0.0.1:{front}\n"
            assert get(first[0]) == "", "without the PROXY protocol nobody gets in"
            echo(front)
        answers = [get(front) for _ in range(50)]  # the second node has just gone
        assert "" not in answers


@needs("systemd-socket-activate")
def test_socket_activation() -> None:
    """The socket is there before the service, and the first connection that waits in it is answered."""
    (port,) = free_ports(1)
    serve = (sys.executable, "-m", "nimloop_mt", "app:on_request", "--workers", "2", "--no-access-log")
    with running("systemd-socket-activate", "-l", f"127.0.0.1:{port}", *serve):
        until(lambda: get(port))
        assert get(port) == f"hello {WITHOUT_PROXY} 127.0.0.1:{port}\n"


@needs("systemd-analyze")
def test_units(tmp_path: Path) -> None:
    """Systemd finds nothing to say about them, once the program is one that exists."""
    for name in ("app.service", "app.socket"):
        text = (DEPLOY / "systemd" / name).read_text()
        (tmp_path / name).write_text(text.replace("/srv/app/venv/bin/python", sys.executable))
    command = ["systemd-analyze", "verify", str(tmp_path / "app.service"), str(tmp_path / "app.socket")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert [line for line in checked.stderr.splitlines() if "app." in line] == []


@needs("kubectl")
@pytest.mark.parametrize("kind", ["deployment", "service", "poddisruptionbudget"])
def test_kubernetes(kind: str) -> None:
    """Kubectl reads each object; whether a cluster would take it is not asked here."""
    command = ["kubectl", "label", "--local", "--filename", str(DEPLOY / "kubernetes.yaml"), "read=yes", "-o", "name"]
    read = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.search(rf"^{kind}\b.*/app$", read, re.MULTILINE)


def test_the_page_shows_the_files() -> None:
    """Each as it is, and all of them."""
    page = (ROOT / "docs" / "deployment.md").read_text()
    shown = dict(re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', page, re.MULTILINE | re.DOTALL))
    files = {
        str(path.relative_to(ROOT)): path.read_text()
        for path in DEPLOY.rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"}
    }
    assert shown == files
