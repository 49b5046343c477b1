"""The command line: it says where it serves, serves, stops cleanly, and fails with one clear line."""

from __future__ import annotations

import errno
import os
import re
import runpy
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Protocol, final

import pytest
from tests.net.certificates import certificate, client_context
from tests.support.privileges import unprivileged
from tests.support.turning import PATIENCE

from nimloop_core import Loop
from nimloop_http import HttpServer, OnRequest, Timeouts, TrustedProxies
from nimloop_http import __main__ as command

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX"),
]


def has_ipv6() -> bool:
    """Tell whether this machine has an IPv6 loopback address."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@final
class Program:
    """``python -m nimloop_http``, running."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nimloop_http", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | environment,
        )

    def line(self) -> str:
        """Return the start-up line."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode("utf-8", "surrogateescape")

    def end(self) -> tuple[int, str, str]:
        """Stop it by Ctrl+C; return its exit status and what it wrote since."""
        self.process.send_signal(signal.SIGINT)
        out, err = self.finish()
        return self.process.returncode, out, err

    def finish(self) -> tuple[str, str]:
        """Wait for its end; return what it wrote since."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return out.decode(), err.decode()

    def kill(self) -> None:
        """Leave nothing behind."""
        self.process.kill()
        self.process.communicate()


class Start(Protocol):
    """Starts the program with arguments and settings of the environment."""

    def __call__(self, *arguments: str, **environment: str) -> Program:
        """Start it; the names of settings are those of the environment."""


@pytest.fixture
def start() -> Iterator[Start]:
    """Start programs; those still running are killed after the test."""
    made: list[Program] = []

    def run(*arguments: str, **environment: str) -> Program:
        made.append(Program(*arguments, **environment))
        return made[-1]

    yield run
    for program in made:
        program.kill()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder to serve."""
    root = tmp_path / "site"
    root.mkdir()
    (root / "hello.txt").write_bytes(b"hello")
    return root


def fetch(connection: HTTPConnection, path: str) -> tuple[int, bytes]:
    """Ask for a path."""
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read()


# Running --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "link"),
    [
        ("127.0.0.1", r"http://127\.0\.0\.1:(\d+)/"),
        ("localhost", r"http://(?:127\.0\.0\.1|\[::1\]):(\d+)/"),
        pytest.param("::1", r"http://\[::1\]:(\d+)/", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_and_stops(host: str, link: str, number: int, folder: Path, start: Start) -> None:
    """The line holds a link that works, each request is logged, and a signal ends it with nothing more to say."""
    program = start(str(folder), "--host", host, "--port", "0")
    match = re.fullmatch(rf"Serving {re.escape(str(folder))} at {link} \(stop with Ctrl\+C\)\n", program.line())
    assert match is not None
    connection = HTTPConnection(host, int(match[1]), timeout=PATIENCE)
    assert fetch(connection, "/hello.txt") == (200, b"hello")
    assert fetch(connection, "/nothing?a=b")[0] == 404
    status, page = fetch(connection, "/")
    assert status == 200
    assert b"hello.txt" in page
    program.process.send_signal(number)  # with the connection still open
    assert connection.sock.recv(1) == b"", "the server ends it"
    connection.close()
    out, err = program.finish()
    assert program.process.returncode == 0
    assert out == ""
    lines = err.splitlines()
    stamp = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    client = r"(?:127\.0\.0\.1|::1)"
    assert re.fullmatch(rf'{stamp} {client} "GET /hello\.txt HTTP/1\.1" 200 5 \d+\.\dms', lines[0])
    assert re.fullmatch(rf'{stamp} {client} "GET /nothing\?a=b HTTP/1\.1" 404 \d+ \d+\.\dms', lines[1])
    assert len(lines) == 3


def test_the_folder_is_this_one(folder: Path, monkeypatch: pytest.MonkeyPatch, start: Start) -> None:
    """Without an argument the current folder is served; and without a log nothing is written."""
    monkeypatch.chdir(folder)
    program = start("--port", "0", "--no-access-log", "--no-listing")
    match = re.fullmatch(rf"Serving {re.escape(str(folder))} at http://127\.0\.0\.1:(\d+)/ .*\n", program.line())
    assert match is not None
    connection = HTTPConnection("127.0.0.1", int(match[1]), timeout=PATIENCE)
    assert fetch(connection, "/hello.txt") == (200, b"hello")
    assert fetch(connection, "/")[0] == 404
    connection.close()
    assert program.end() == (0, "", "")


def test_a_unix_socket(folder: Path, start: Start) -> None:
    """The line names its path, and the path is gone afterwards; dotted files are served when asked for."""
    (folder / ".hidden").write_bytes(b"hidden")
    with tempfile.TemporaryDirectory() as short:  # a path of a socket has little room
        path = f"{short}/socket"
        program = start(str(folder), "--uds", path, "--dotfiles", "--backend", "poll")
        assert program.line() == f"Serving {folder} at the Unix socket {path} (stop with Ctrl+C)\n"
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(path)
            sock.sendall(b"GET /.hidden HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: sock.recv(1000), b""))
        assert answer.endswith(b"\r\n\r\nhidden")
        status, out, err = program.end()
        assert (status, out) == (0, "")
        assert re.search(r' unix "GET /\.hidden HTTP/1\.1" 200 6 ', err)
        assert not Path(path).exists()


def test_ctrl_c_finishes_what_is_under_way(folder: Path, start: Start) -> None:
    """Who has begun to get a file gets it to its end, though nobody else is let in."""
    size = 64 << 20
    with (folder / "large").open("wb") as file:
        file.truncate(size)
    program = start(str(folder), "--port", "0")
    port = int(program.line().partition("127.0.0.1:")[2].partition("/")[0])
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
        sock.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        count = len(sock.recv(1))
        program.process.send_signal(signal.SIGINT)
        while True:  # until it has stopped listening
            try:
                socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
            except ConnectionError:
                break
        count += sum(map(len, iter(lambda: sock.recv(1 << 20), b"")))
    assert size < count < size + 1000
    assert program.process.wait(PATIENCE) == 0


def test_ctrl_c_twice_does_not_wait(folder: Path, start: Start) -> None:
    """The second one cuts off what the first one would wait for."""
    with (folder / "large").open("wb") as file:
        file.truncate(64 << 20)
    program = start(str(folder), "--port", "0")
    port = int(program.line().partition("127.0.0.1:")[2].partition("/")[0])
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
        sock.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sock.recv(1)
        program.process.send_signal(signal.SIGINT)
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
            except ConnectionError:
                break
        status, out, err = program.end()
    assert (status, out) == (0, "")
    assert "Traceback" not in err


@pytest.mark.parametrize("shut", [True, False])
def test_nobody_reads_what_it_says(folder: Path, *, shut: bool) -> None:
    """A broken pipe for the start-up line and the log is no reason to stop, or to complain at the end."""
    with tempfile.TemporaryDirectory() as short:
        path = f"{short}/socket"
        reader, writer = os.pipe()
        os.close(reader)
        program = [sys.executable, "-m", "nimloop_http", str(folder), "--uds", path]
        if shut:  # which only a shell can do
            program = ["/bin/sh", "-c", 'exec "$@" >&- 2>&-', "sh", *program]
        process = subprocess.Popen(program, stdout=writer, stderr=writer)
        os.close(writer)
        try:
            for _ in range(2):
                with connect_unix(path, process) as sock:
                    sock.sendall(b"GET /hello.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    assert b"".join(iter(lambda: sock.recv(1000), b"")).endswith(b"hello")
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
            process.wait()


def connect_unix(path: str, process: subprocess.Popen[bytes]) -> socket.socket:
    """Connect as soon as somebody listens."""
    while True:
        assert process.poll() is None, "it ended"
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(PATIENCE)
            sock.connect(path)
            return sock
        except (FileNotFoundError, ConnectionRefusedError):
            sock.close()


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
@pytest.mark.parametrize("name", [b"caf\xc3\xa9", b"caf\xe9", b"new\nline\x1b[31m"])
def test_a_folder_that_cannot_be_spelt(name: bytes, encoding: str, tmp_path: Path, start: Start) -> None:
    """The line is one line, whatever the folder is called and the terminal understands."""
    folder = os.fsencode(tmp_path) + b"/" + name
    try:
        os.mkdir(folder)  # noqa: PTH102 - a name that may be no text
    except OSError:
        pytest.skip("this file system does not have such names")
    program = start(os.fsdecode(folder), "--port", "0", PYTHONIOENCODING=encoding)
    line = program.line()
    assert re.fullmatch(r"Serving .* at http://127\.0\.0\.1:\d+/ \(stop with Ctrl\+C\)\n", line)
    assert line[:-1].isprintable()
    assert program.end() == (0, "", "")


# Failing --------------------------------------------------------------------------------------------------------


@pytest.fixture
def taken() -> Iterator[tuple[int, str]]:
    """Occupy a port and the path of a Unix socket."""
    with (
        tempfile.TemporaryDirectory() as short,
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        unix.bind(f"{short}/socket")
        unix.listen()
        yield int(tcp.getsockname()[1]), f"{short}/socket"


BAD = [
    (["{folder}/nothing"], "cannot serve '{folder}/nothing': No such file or directory"),
    (["{folder}/hello.txt"], "cannot serve '{folder}/hello.txt': Not a directory"),
    (["{folder}/loop"], "cannot serve '{folder}/loop': Too many levels of symbolic links"),
    ([""], "cannot serve '': "),
    (["{folder}", "--port", "{port}"], "cannot listen on 127.0.0.1 port {port}: Address already in use"),
    (["{folder}", "--host", "no such host"], "cannot listen on 'no such host': "),
    (["{folder}", "--host", "192.0.2.1"], "cannot listen on 192.0.2.1 port 8000: "),
    (["{folder}", "--host", "a" * 300], "'aaaaaaaa"),
    (["{folder}", "--backend", "magic"], "no backend 'magic' on this system; it has: "),
    (["nomodule:app"], "there is no module 'nomodule' here"),
    (["json:nothing"], "json has no nothing"),
    (["json:nothing.more"], "json has no nothing.more"),
    (["json:__doc__"], "json:__doc__ cannot be called: str"),
    (["json:"], "'json:' is neither a folder nor module:attr"),
    (["1x:y"], "'1x:y' is neither a folder nor module:attr"),
    (["{folder}", "--tls-key", "x"], "--tls-key needs --tls-cert"),
    (["{folder}", "--tls-cert", "{folder}/hello.txt"], "cannot load the certificate '{folder}/hello.txt': "),
    (["{folder}", "--tls-cert", "{folder}/nothing"], "cannot load the certificate '{folder}/nothing': No such file"),
    (["{folder}", "--proxy", "10.0.0.1/8"], "--proxy: 10.0.0.1/8 has host bits set"),
    (["{folder}", "--proxy-protocol"], "--proxy-protocol needs to know from whom: --proxy"),
    (["{folder}", "--fd", "999"], "descriptor 999 is no socket: Bad file descriptor"),
    (["{folder}", "--reload"], "--reload is for module:attr: a folder is always up to date"),
    (["{folder}", "--uds", "{uds}"], "a server is listening on '{uds}' already"),
    (["{folder}", "--uds", "{folder}/hello.txt"], "'{folder}/hello.txt' exists and is not a socket"),
    (["{folder}", "--uds", "{folder}"], "'{folder}' exists and is not a socket"),
    (["{folder}", "--uds", "/nothing/socket"], "cannot listen on '/nothing/socket': No such file or directory"),
    (["{folder}", "--uds", "/dev/null/socket"], "cannot listen on '/dev/null/socket': Not a directory"),
    (["{folder}", "--uds", "/tmp/" + "a" * 200], "a Unix socket's path has at most 107 bytes: "),
]


@pytest.mark.parametrize(("arguments", "expected"), BAD)
def test_what_cannot_begin(
    arguments: list[str], expected: str, folder: Path, taken: tuple[int, str], capfd: pytest.CaptureFixture[str]
) -> None:
    """One line says what is in the way; the status is 2."""
    (folder / "loop").symlink_to("loop")
    known = {"folder": str(folder), "port": taken[0], "uds": taken[1]}
    assert command.main([word.format(**known) for word in arguments]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("nimloop_http: " + expected.format(**known))
    assert err.count("\n") == 1
    assert err.endswith("\n")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["a", "b"], "unrecognized arguments: b"),
        (["--port", "many"], "a port is a number between 0 and 65535, not 'many'"),
        (["--port", "65536"], "a port is a number between 0 and 65535, not '65536'"),
        (["--port", "-1"], "a port is a number between 0 and 65535, not '-1'"),
        (["--port", ""], "a port is a number between 0 and 65535, not ''"),
        (["--port"], "expected one argument"),
        (["--host"], "expected one argument"),
        (["--grace", "soon"], "a time is a number of seconds, more than 0 and up to a day, not 'soon'"),
        (["--grace", "0"], "a time is a number of seconds, more than 0 and up to a day, not '0'"),
        (["--log-level", "loud"], "argument --log-level: invalid choice: 'loud'"),
        (["--fd", "x"], "argument --fd: invalid int value: 'x'"),
    ],
)
def test_what_is_not_understood(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Argparse says what, after how it should be; the status is 2."""
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: python -m nimloop_http ")
    assert expected in err.splitlines()[-1]


def test_the_exit_status_arrives(tmp_path: Path, start: Start) -> None:
    """What main returns is what the shell sees, without a traceback."""
    program = start(f"{tmp_path}/nothing")
    out, err = program.process.communicate(timeout=PATIENCE)
    assert (program.process.returncode, out) == (2, b"")
    assert err.decode() == f"nimloop_http: cannot serve '{tmp_path}/nothing': No such file or directory\n"


def test_without_permission(capfd: pytest.CaptureFixture[str]) -> None:
    """A folder that may not be read is refused at the beginning, and not with every request."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0)
        try:
            with unprivileged():
                assert command.main([folder]) == 2
        finally:
            Path(folder).chmod(0o755)
        assert capfd.readouterr().err == f"nimloop_http: cannot serve '{folder}': Permission denied\n"


# What it says ---------------------------------------------------------------------------------------------------


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The versions and builds of all three packages, and of Python, are what a bug report needs."""
    assert command.main(["--version"]) == 0
    number = r"\d+\.\d+\.\d+\S*"
    build = r"\((mypyc \+ )?(C|C \(\w+\)|Python|mypyc)\)"
    packages = ", ".join(rf"nimloop-{name} {number} {build}" for name in ("http", "net", "core"))
    assert re.fullmatch(rf"{packages}; \w+ {number}\n", capsys.readouterr().out)


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Every option is explained, with what it is by default."""
    with pytest.raises(SystemExit) as caught:
        command.main(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for option in ("--fd", "--tls-cert", "--tls-key", "--log-level", "--grace", "--reload", "module:attr"):
        assert option in out
    for option in ("DIR", "--host", "--port", "--uds", "--[no-]access-log", "--no-listing", "--dotfiles", "--backend"):
        assert option.replace("[no-]", "") in out
    for default in ("127.0.0.1", "8000"):
        assert f"(default: {default})" in out


def test_as_a_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """``python -m nimloop_http`` runs it."""
    monkeypatch.setattr(sys, "argv", ["nimloop_http", "--version"])
    monkeypatch.delitem(sys.modules, "nimloop_http.__main__")
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("nimloop_http", run_name="__main__")
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("nimloop-http ")


# Applications ---------------------------------------------------------------------------------------------------

APPLICATIONS = """
from wsgiref.validate import validator


def handler(req, res):
    res.send(f"handler {req.path} {req.scheme} {req.client_ip}")


class Handler:
    def __call__(self, req, res):
        res.send("object")


def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"wsgi " + environ["PATH_INFO"].encode()]


def wrap(call):
    def inner(*args, **fields):
        return call(*args, **fields) if fields is not inner else inner
    return inner


checked = validator(wrap(wrap(wsgi)))
timed = wrap(wrap(handler))


class Wsgi:
    def __call__(self, environ, start_response):
        return wsgi(environ, start_response)


def slow(req, res):
    res.connection.loop.call_later(60.0, res.send)


class inner:
    handler = Handler()
    wsgi = Wsgi()
"""


@pytest.fixture
def applications(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a module with applications in the current folder."""
    path = tmp_path / "apps.py"
    path.write_text(APPLICATIONS)
    monkeypatch.chdir(tmp_path)
    return path


def port_of(line: str) -> int:
    """Find the port in the start-up line."""
    found = re.search(r" at https?://127\.0\.0\.1:(\d+)/ ", line)
    assert found is not None, line
    return int(found[1])


def get(port: int, path: str = "/", context: ssl.SSLContext | None = None) -> bytes:
    """Ask once, over a new connection."""
    if context is None:
        connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    else:
        connection = HTTPSConnection("localhost", port, timeout=PATIENCE, context=context)
    try:
        return fetch(connection, path)[1]
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("attribute", "body"),
    [
        ("handler", b"handler /x http 127.0.0.1"),
        ("inner.handler", b"object"),
        ("wsgi", b"wsgi /x"),
        ("inner.wsgi", b"wsgi /x"),
        ("checked", b"wsgi /x"),  # `wsgiref.validate` passes on whatever it gets
        ("timed", b"handler /x http 127.0.0.1"),
    ],
)
def test_h13_handlers_and_wsgi_applications_are_told_apart(
    applications: Path, start: Start, attribute: str, body: bytes
) -> None:
    """Functions and objects alike, by the names of their parameters or of those of what they wrap."""
    program = start(f"{applications.stem}:{attribute}", "--port", "0", "--no-access-log")
    line = program.line()
    assert line.startswith(f"Serving apps:{attribute} at http://127.0.0.1:")
    assert get(port_of(line), "/x") == body
    assert program.end() == (0, "", "")


@pytest.mark.parametrize("more", [(), ("--reload",)])
def test_behind_a_proxy(applications: Path, start: Start, more: tuple[str, ...]) -> None:
    """What ``--proxy`` names is believed, with what it writes and how; so are the options in a child that reloads."""
    program = start(f"{applications.stem}:handler", "--port", "0", "--proxy", "127.0.0.0/8", *more)
    forwarded = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https", "Forwarded": "for=192.0.2.6"}
    connection = HTTPConnection("127.0.0.1", port_of(program.line()), timeout=PATIENCE)
    connection.request("GET", "/x", headers=forwarded)
    assert connection.getresponse().read() == b"handler /x https 192.0.2.7"
    connection.close()
    options = ("--proxy", "127.0.0.1", "--proxy-protocol", "--proxy-fields", "forwarded")
    program = start(f"{applications.stem}:handler", "--port", "0", *options, *more)
    port = port_of(program.line())
    for address, fields in (("192.0.2.8", ""), ("127.0.0.1", "Forwarded: for=192.0.2.8\r\n")):
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
            head = f"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n"
            sock.sendall(f"PROXY TCP4 {address} 127.0.0.1 1000 80\r\n{head}".encode())
            assert b"".join(iter(lambda: sock.recv(65536), b"")).endswith(b"handler /x http 192.0.2.8")


def test_h13_https(applications: Path, start: Start) -> None:
    """The link says so, and the handler knows."""
    pem = applications.with_name("cert.pem")
    leaf = certificate("localhost")
    leaf.private_key_and_cert_chain_pem.write_to_path(pem)
    program = start("apps:handler", "--port", "0", "--tls-cert", str(pem), "--no-access-log")
    line = program.line()
    assert " at https://127.0.0.1:" in line
    assert get(port_of(line), "/x", client_context()) == b"handler /x https 127.0.0.1"
    assert program.end()[0] == 0


# sd_listen_fds(3): the descriptors begin at 3, the variables name the process that they are for.
AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_h13_an_inherited_socket(applications: Path) -> None:
    """By its number, or as systemd passes it."""
    for systemd in (False, True):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            arguments = [sys.executable, "-m", "nimloop_http", "apps:handler", "--no-access-log"]
            if systemd:
                arguments = [sys.executable, "-c", AS_SYSTEMD, str(listener.fileno()), *arguments]
            else:
                arguments += ["--fd", str(listener.fileno())]
            process = subprocess.Popen(
                arguments, pass_fds=[listener.fileno()], stdout=subprocess.PIPE, cwd=applications.parent
            )
            try:
                assert process.stdout is not None
                assert f"http://127.0.0.1:{port}/" in process.stdout.readline().decode()
                assert get(port, "/x").startswith(b"handler /x")
                process.send_signal(signal.SIGTERM)
                assert process.wait(PATIENCE) == 0
            finally:
                process.kill()
                process.communicate()


def test_h13_grace(applications: Path, start: Start) -> None:
    """What takes longer is cut off, and that is a clean stop."""
    program = start(f"{applications.stem}:slow", "--port", "0", "--grace", "0.1")
    port = port_of(program.line())
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as other:
            other.sendall(b"\0")  # answered after the request before it was seen
            assert other.recv(100).startswith(b"HTTP/1.1 400")
        assert program.end()[0] == 0
        with pytest.raises(ConnectionResetError):
            sock.recv(100)


def test_h13_an_application_that_cannot_be_imported_is_status_1(tmp_path: Path, start: Start) -> None:
    """With the traceback, which says where."""
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")
    program = start("broken:app", PYTHONPATH=str(tmp_path))
    _, err = program.finish()
    assert program.process.returncode == 1
    assert "Traceback" in err
    assert "nothing_of_that_name" in err


def test_h13_reload(applications: Path, start: Start) -> None:
    """A change is served, a syntax error waited out, on one port that never refuses."""
    program = start("apps:handler", "--port", "0", "--reload", "--no-access-log", PYTHONDONTWRITEBYTECODE="1")
    line = program.line()
    assert "(reloading; stop with Ctrl+C)" in line
    port = port_of(line)
    assert get(port).startswith(b"handler /")

    def until_it_says(text: bytes) -> None:
        deadline = time.monotonic() + PATIENCE
        while not get(port).startswith(text):
            assert time.monotonic() < deadline

    applications.write_text(APPLICATIONS.replace("handler {req.path}", "changed {req.path}"))
    until_it_says(b"changed /")
    applications.write_text("def handler(:\n")
    assert program.process.stderr is not None
    while b"waiting for a change" not in (said := program.process.stderr.readline()):
        assert said
    applications.write_text(APPLICATIONS.replace("handler {req.path}", "mended {req.path}"))
    assert get(port).startswith(b"mended /")  # it waits until somebody serves again
    status, out, _ = program.end()
    assert (status, out) == (0, "")
    with pytest.raises(ConnectionRefusedError):
        get(port)


def test_h13_a_child_ends_with_its_parent(applications: Path, start: Start) -> None:
    """However the parent has ended: nobody is left behind on the port."""
    program = start(f"{applications.stem}:handler", "--port", "0", "--reload")
    port = port_of(program.line())
    assert get(port).startswith(b"handler /")
    program.process.kill()
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            get(port)
        except OSError:
            break
        assert time.monotonic() < deadline


# In this process, where a terminal can be made up ---------------------------------------------------------------


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the server as soon as it has announced itself."""

    def serve(
        on_request: OnRequest,
        host: str,
        port: int,
        *,
        uds: str | None,
        sockets: Sequence[socket.socket],
        tls: ssl.SSLContext | None,
        proxies: TrustedProxies | None,
        proxy_protocol: bool,
        timeouts: Timeouts,
        access_log: bool,
        backend: str | None,
        on_listening: Callable[[HttpServer], object],
    ) -> int:
        with (
            Loop(backend) as loop,
            HttpServer(loop, on_request, tls=tls, timeouts=timeouts, access_log=access_log) as server,
        ):
            assert (sockets, proxies, proxy_protocol) == ([], None, False)
            if uds is not None:
                server.listen_unix(uds)
            else:
                server.listen(host, port)
            on_listening(server)
        return 0

    monkeypatch.setattr(command, "serve", serve)


@pytest.mark.usefixtures("served")
def test_the_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is one line on standard output, written out at once."""
    assert command.main([str(folder), "--port", "0"]) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(rf"Serving {re.escape(str(folder))} at http://127\.0\.0\.1:\d+/ \(stop with Ctrl\+C\)\n", out)
    assert err == ""
    with tempfile.TemporaryDirectory() as short:
        assert command.main([str(folder), "--uds", f"{short}/socket"]) == 0
        assert capsys.readouterr().out == f"Serving {folder} at the Unix socket {short}/socket (stop with Ctrl+C)\n"
    if has_ipv6():
        assert command.main([str(folder), "--port", "0", "--host", "::1"]) == 0
        assert re.search(r" at http://\[::1\]:\d+/ ", capsys.readouterr().out)


@pytest.mark.usefixtures("served")
def test_the_line_where_characters_are_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the terminal has no character for is escaped."""
    (folder / "é").mkdir()
    reader, writer = os.pipe()
    with open(writer, "w", encoding="ascii") as terminal:  # noqa: PTH123 - a descriptor
        monkeypatch.setattr(sys, "stdout", terminal)
        assert command.main([f"{folder}/é", "--port", "0"]) == 0
    with open(reader, "rb") as file:  # noqa: PTH123 - a descriptor
        assert file.read().startswith(f"Serving {folder}/\\xe9 at http://".encode())


@pytest.mark.usefixtures("served")
def test_the_line_that_nobody_reads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is dropped, also when the program ends."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="ascii") as terminal:  # noqa: PTH123 - a descriptor
        monkeypatch.setattr(sys, "stdout", terminal)
        assert command.main([str(folder), "--port", "0"]) == 0
        terminal.flush()


def test_ctrl_c_before_it_serves(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a name is looked up, Ctrl+C is the usual 130 of a shell."""

    def interrupted(*_arguments: object, **_options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "serve", interrupted)
    assert command.main([str(folder)]) == 130


def test_an_error_without_words(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the system says when it fails is shown."""

    def fail(*_arguments: object, **_options: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(command, "serve", fail)
    assert command.main([str(folder)]) == 2
    assert capsys.readouterr().err == "nimloop_http: Too many open files\n"
