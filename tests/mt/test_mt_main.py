"""M-4: the command line says where it serves, rolls, drains, and fails with one clear line."""

from __future__ import annotations

import argparse
import signal
import socket
import sys
import urllib.error
import urllib.request
from importlib.metadata import version
from pathlib import Path

import pytest
from tests.mt.running import Program
from tests.mt.serving import PATIENCE, read_all, until

from nimloop_http._arguments import parser as parser_of_http
from nimloop_mt import MultiThreadHttpServer
from nimloop_mt.__main__ import _parser, main

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

# sd_listen_fds(3): the descriptors begin at 3, the variables name the process that they are for.
AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""
SOURCE = """
def handler(req, res):
    res.send("first")
"""


def get(port: int, path: str = "/") -> bytes:
    """Ask for a page."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
        body: bytes = answer.read()
        return body


def test_it_has_every_option_of_http() -> None:
    """With the same values, default and help."""

    def options(parser: argparse.ArgumentParser) -> dict[str, tuple[object, ...]]:
        return {
            "/".join(each.option_strings) or each.dest: (each.dest, each.default, each.choices, each.nargs, each.help)
            for each in parser._actions
        }

    theirs, ours = options(parser_of_http()), options(_parser())
    assert theirs.items() <= ours.items()
    assert ours.keys() - theirs.keys() == {
        "--workers",
        "--mode",
        "--fork",
        "--max-requests",
        "--max-memory",
        "--watchdog",
        "--pin-cpus",
        "--health-port",
    }


@pytest.mark.parametrize("mode", [("threads",), ("processes",), ("processes", "--fork")], ids=" ".join)
@pytest.mark.parametrize(
    ("what", "text"), [("tests.mt.handlers:answer", b"answer to /"), ("tests.mt.handlers:application", b"from WSGI")]
)
def test_serves_rolls_and_stops(what: str, text: bytes, mode: tuple[str, ...]) -> None:
    """A handler or a WSGI application; SIGHUP keeps it serving, SIGTERM ends it with status 0."""
    quiet = ("--no-access-log", "--log-level", "error")
    with Program(what, "--workers", "2", "--grace", "2", *quiet, "--mode", *mode) as program:
        assert f"with 2 {mode[0]}" in program.line
        for number in (None, signal.SIGHUP):
            if number is not None:
                program.send(number)
            assert get(program.port) == text
        program.send(signal.SIGTERM)
        assert program.finish() == (0, "", "")


@pytest.mark.parametrize("abstract", [False, True])
def test_a_service_manager_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, abstract: bool) -> None:
    """sd_notify(3): once when all workers are ready, once when it begins to stop; never when a worker is replaced."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        name = f"@nimloop-{tmp_path}" if abstract else str(tmp_path / "notify")
        manager.bind(name.replace("@", "\0"))
        manager.settimeout(PATIENCE)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        with Program("tests.mt.handlers:answer", "--workers", "2", "--grace", "2") as program:
            assert manager.recv(100) == b"READY=1"
            assert get(program.port) == b"answer to /"
            program.send(signal.SIGHUP)
            program.send(signal.SIGTERM)
            assert manager.recv(100) == b"STOPPING=1"
            assert program.finish()[0] == 0


def test_a_service_manager_that_is_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is said that it cannot be told, and served all the same."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    with Program("tests.mt.handlers:answer", "--workers", "1") as program:
        assert get(program.port) == b"answer to /"
        program.errors_until("cannot say READY=1")
        program.send(signal.SIGTERM)
        status, _, errors = program.finish()
    assert status == 0
    assert "cannot say STOPPING=1" in errors


def test_behind_a_proxy() -> None:
    """All workers believe the proxies that were named; with the PROXY protocol, nobody else gets in."""
    with Program("tests.mt.handlers:answer", "--proxy", "127.0.0.1", "--proxy-fields", "forwarded") as program:
        ask = urllib.request.Request(f"http://127.0.0.1:{program.port}/client", headers={"Forwarded": "for=192.0.2.7"})
        with urllib.request.urlopen(ask, timeout=PATIENCE) as answer:
            assert answer.read() == b"192.0.2.7"
    options = ("--workers", "1", "--proxy", "127.0.0.0/8", "--proxy-protocol")
    with Program("tests.mt.handlers:answer", *options) as program:
        port = program.port
        question = b"GET /client HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
            client.sendall(b"PROXY TCP4 192.0.2.8 127.0.0.1 1000 80\r\n" + question)
            assert read_all(client).endswith(b"192.0.2.8")
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
            client.sendall(question)
            try:
                assert read_all(client) == b""
            except ConnectionResetError:
                pass  # with the question unread, a connection that is closed is reset


@pytest.mark.parametrize("systemd", [False, True])
def test_a_socket_that_was_inherited(*, systemd: bool) -> None:
    """By its number, or as systemd passes it; all workers accept from it, and it outlives them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd = listener.fileno()
        wrap = (sys.executable, "-c", AS_SYSTEMD, str(fd)) if systemd else ()
        arguments = ["tests.mt.handlers:answer", "--workers", "2", *([] if systemd else ["--fd", str(fd)])]
        for _ in range(2):
            with Program(*arguments, wrap=wrap, pass_fds=(fd,), port=False) as program:
                assert program.port == listener.getsockname()[1]
                assert get(program.port) == b"answer to /"
                program.send(signal.SIGTERM)
                assert program.finish()[0] == 0


def test_a_unix_socket(tmp_path: Path) -> None:
    """Its path goes with the server."""
    path = tmp_path / "s"
    with Program("tests.mt.handlers:answer", "--workers", "2", "--uds", str(path)) as program:
        assert f"the Unix socket {path}" in program.line
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(str(path))
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert b"answer to /" in b"".join(iter(lambda: client.recv(65536), b""))
        program.send(signal.SIGINT)
        assert program.finish()[0] == 0
    assert not path.exists()


def test_a_folder(tmp_path: Path) -> None:
    """With the options that are about it."""
    (tmp_path / "page.txt").write_text("a page")
    (tmp_path / ".hidden").write_text("hidden")
    never = ("--max-requests", "0", "--max-memory", "0")
    with Program(f"{tmp_path}/.", "--workers", "2", "--dotfiles", "--no-listing", *never) as program:
        assert program.line.startswith(f"Serving {tmp_path} at http://127.0.0.1:"), "as the single server calls it"
        assert get(program.port, "/page.txt") == b"a page"
        assert get(program.port, "/.hidden") == b"hidden"
        with pytest.raises(urllib.error.HTTPError, match="404") as caught:
            get(program.port)
        caught.value.close()


def test_reload(tmp_path: Path) -> None:
    """A change is served; while the source is broken, those that had read it serve on."""
    source = tmp_path / "served.py"
    source.write_text(SOURCE)
    with Program("served:handler", "--reload", "--workers", "2", cwd=tmp_path) as program:
        port = program.port
        assert get(port) == b"first"
        source.write_text(SOURCE.replace("first", "second"))
        until(lambda: all(get(port) == b"second" for _ in range(20)))  # both workers
        source.write_text("def handler(:\n")
        program.errors_until("SyntaxError")
        assert get(port) == b"second"
        source.write_text(SOURCE.replace("first", "third"))
        until(lambda: get(port) == b"third")
        program.send(signal.SIGTERM)
        assert program.finish()[0] == 0


def test_a_health_port() -> None:
    """It answers beside what is served."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        health = free.getsockname()[1]
    with Program("tests.mt.handlers:answer", "--workers", "1", "--health-port", str(health)) as program:
        assert get(program.port) == b"answer to /"
        assert get(health, "/ready") == b"ready\n"
        program.send(signal.SIGTERM)
        assert program.finish()[0] == 0


def test_what_is_cut_off_is_told() -> None:
    """The grace is over, and a request is still under way; the exit status is that of a stop all the same."""
    with Program("tests.mt.handlers:answer", "--mode", "threads", "--workers", "1", "--grace", "0.1") as program:
        with socket.create_connection(("127.0.0.1", program.port), timeout=PATIENCE) as client:
            client.sendall(b"GET /begin HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
            program.send(signal.SIGTERM)
            status, _, errors = program.finish()
        assert status == 0
        assert "cut off at the end: 1 connections; killed: 0 workers" in errors


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["nowhere:x"], "there is no module 'nowhere' here"),
        (["tests.mt.handlers:missing"], "tests.mt.handlers has no missing"),
        (["tests.mt.handlers:answer", "--tls-cert", "/nowhere"], "cannot load the certificate"),
        (["tests.mt.handlers:answer", "--workers", "many"], "expected a whole number"),
        (["tests.mt.handlers:answer", "--watchdog", "-1"], "a time is a number of seconds"),
        (["tests.mt.handlers:answer", "--watchdog", "soon"], "a time is a number of seconds"),
        (["tests.mt.handlers:answer", "--watchdog", "nan"], "a time is a number of seconds"),
        ([""], "cannot serve ''"),
        (["/nowhere/at/all"], "cannot serve '/nowhere/at/all': No such file"),
        (["tests", "--proxy", "nobody"], "--proxy: 'nobody' does not appear to be"),
        (["tests", "--proxy-protocol"], "--proxy-protocol needs to know from whom"),
        (["tests", "--reload"], "a folder is always up to date"),
        (["tests.mt.handlers:answer", "--reload", "--fork"], "begin anew"),
        (["tests.mt.handlers:answer", "--reload", "--mode", "threads"], "begin anew"),
    ],
)
def test_a_wrong_call_has_status_2_and_one_reason(arguments: list[str], why: str) -> None:
    """The reason is on standard error, with no traceback."""
    with Program(*arguments, "--log-level", "error") as program:
        status, output, errors = program.finish()
    assert (status, output) == (2, "")
    assert why in errors
    assert "Traceback" not in errors


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    """The reason is the system's, and the status that of what could not begin."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["tests.mt.handlers:answer", "--workers", "1", "--port", str(port)]) == 2
    assert capsys.readouterr().err == f"nimloop_mt: cannot listen on 127.0.0.1 port {port}: Address already in use\n"


def test_ctrl_c_before_it_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a name is looked up, for instance: the shell's number for it, and no traceback."""

    def interrupt(*_arguments: object, **_settings: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(MultiThreadHttpServer, "listen", interrupt)
    assert main(["tests.mt.handlers:answer", "--workers", "1"]) == 130


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The versions of all packages that are in it, and what those below run on."""
    assert main(["--version"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"nimloop-mt {version('nimloop-mt')}, nimloop-http {version('nimloop-http')} (")
    assert "nimloop-core" in said
