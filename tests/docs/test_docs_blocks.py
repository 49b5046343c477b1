"""Every block of code in the documentation and in the READMEs is run, or at least looked at: see `blocks`."""

from __future__ import annotations

import ast
import configparser
import inspect
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import trustme
from tests.docs.blocks import BLOCKS, PAGES, ROOT, Block
from tests.docs.clients import PATIENCE, Target

import nimloop_core
import nimloop_http
import nimloop_mt
import nimloop_net
import nimloop_ws

PYTHON = [block for block in BLOCKS if block.language == "python"]
RUN = [block for block in PYTHON if block.complete]
SERVED = [block for block in RUN if block.checks]
# Parts that other blocks import, tests that pytest runs, and what needs a network or wants to go on for ever.
SHELL = [block for block in BLOCKS if block.language in {"sh", "console", "ini", "yaml", "text"}]


def named(blocks: list[Block]) -> list[object]:
    """Return parameters with names for people."""
    return [pytest.param(block, id=block.name) for block in blocks]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a certificate, and with the program that READMEs call app."""
    (tmp_path / "app.py").write_text(APP)
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(tmp_path / "fullchain.pem", append=True)
    return tmp_path


def lay_out(page: Path, folder: Path) -> None:
    """Write the files of a page."""
    for block in BLOCKS:
        if block.page == page and block.title:
            path = folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.code)


APP = """
def on_request(req, res):
    res.send("hello")

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]
"""


def with_earlier_parts(block: Block) -> str:
    """Return a program with what it takes from the blocks above it: a README defines `on_request` once."""
    if block.title or "def on_request" in block.code:
        return block.code
    return f"from app import app, on_request\n\n{block.code}"


@pytest.mark.parametrize("block", named(SERVED))
def test_a_program_that_serves(block: Block, folder: Path) -> None:
    """It answers what stands below it, says nothing on standard error that is a fault, and ends when told to."""
    lay_out(block.page, folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = re.sub(r"\b(8000|8443|9001|7000)\b", str(port), with_earlier_parts(block))
    path = folder / "app.sock"
    program = folder / (block.title or "program.py")
    program.write_text(code.replace("/run/app.sock", str(path)))
    target = Target(port, path)
    with subprocess.Popen(
        [sys.executable, "-W", "error", program.name], cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        try:
            target.wait(unix=block.checks[0].startswith("unix "))
            for check in block.checks:
                target.try_out(check)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                _, errors = process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    assert "Traceback" not in errors.decode(), errors.decode()
    # A loop without a handler for the signal just ends.
    assert process.returncode in {0, -signal.SIGTERM}


def outcomes() -> Iterator[object]:
    """Programs that end by themselves."""
    for block in RUN:
        runs_on = re.search(r"\bserve\(|\.run\(\)|\.listen\(|__mp_main__", block.code)
        if not block.checks and (not runs_on or "FakeBackend" in block.code or "inherited_sockets" in block.code):
            yield pytest.param(block, id=block.name)


@pytest.mark.parametrize("block", list(outcomes()))
def test_a_program_that_ends(block: Block, folder: Path) -> None:
    """It ends without a fault, also with every warning on; tests pass."""
    lay_out(block.page, folder)
    program = folder / (block.title or "program.py")
    program.write_text(block.code)
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider"] if block.title.startswith("test_") else ["-W", "error"]
    done = subprocess.run(
        [sys.executable, *command, program.name], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


PUBLIC = {
    name: getattr(package, name)
    for package in (nimloop_core, nimloop_net, nimloop_http, nimloop_ws, nimloop_mt)
    for name in package.__all__
}


@pytest.mark.parametrize("block", named(PYTHON))
def test_names_and_arguments_exist(block: Block) -> None:
    """What a block imports from the packages exists, and their functions take what they are given."""
    tree = ast.parse(block.code)
    ours = dict(PUBLIC)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nimloop"):
            module = __import__(node.module or "", fromlist=["x"])
            ours |= {alias.name: getattr(module, alias.name) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ours:
            function = ours[node.func.id]
            if node.func.id == "connect":
                continue  # one of two packages
            parameters = inspect.signature(function).parameters
            given = {keyword.arg for keyword in node.keywords if keyword.arg}
            if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
                assert given <= set(parameters), (node.func.id, given - set(parameters))


@cache
def options_of(module: str) -> set[str]:
    """Return the options of a command line, from its help."""
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True)
    return set(re.findall(r"--[a-z][a-z-]*|(?<![\w-])-[a-zA-Z]\b", done.stdout))


@pytest.mark.parametrize("block", named([block for block in SHELL if "nimloop_" in block.code]))
def test_commands_and_their_options_exist(block: Block) -> None:
    """Each option that a command is given is in its help."""
    # Kubernetes has a command as a list.
    code = block.code.replace("\\\n", " ").replace(", ", " ").replace('"', "")
    for module, arguments in re.findall(r"-m,? (nimloop_\w+)([^\n#|]*)", code):
        given = set(re.findall(r"(?<=\s)--[a-z][a-z-]*", arguments))
        assert given <= options_of(module), (module, given - options_of(module))


def test_options_named_in_running_text_exist() -> None:
    """In the pages about one package, what looks like one of its options is one."""
    for package in ("http", "ws", "mt"):
        text = (ROOT / "packages" / f"nimloop-{package}" / "README.md").read_text("utf-8")
        named = set(re.findall(r"`(--[a-z][a-z-]*)", text))
        known = options_of(f"nimloop_{package}") | options_of("nimloop_http")
        assert named <= known, (package, named - known)


def test_scripts_of_hatch_exist() -> None:
    """What is run with hatch is in hatch.toml."""
    with (ROOT / "hatch.toml").open("rb") as file:
        environments = tomllib.load(file)["envs"]
    for page in PAGES:
        for environment, script in re.findall(r"hatch run (?:([\w.-]+):)?([\w-]+)", page.read_text("utf-8")):
            name = (environment or "default").split(".")[0]
            assert name in environments, (page, environment)
            # Scripts are inherited from the environment that is the template, default unless it says otherwise.
            known = environments[name].get("scripts", {}) | (
                {} if environments[name].get("template", "default") == name else environments["default"]["scripts"]
            )
            assert script in known or shutil.which(script), (page, environment, script)


@pytest.mark.parametrize("block", named([block for block in BLOCKS if block.language == "ini" and block.title]))
def test_units_of_systemd(block: Block, tmp_path: Path) -> None:
    """They can be read, and where systemd is at hand, it finds nothing wrong but that the program is not there."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.read_string(block.code)
    assert parser.sections()
    if shutil.which("systemd-analyze") is None:
        return
    lay_out(block.page, tmp_path)
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / block.title)], capture_output=True, text=True, check=False
    )
    faults = [line for line in done.stderr.splitlines() if "nknown" in line or "nvalid" in line]
    assert not faults


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
@pytest.mark.parametrize("block", named([block for block in BLOCKS if block.language == "nginx"]))
def test_configurations_of_nginx(block: Block, tmp_path: Path) -> None:
    """Nginx finds nothing wrong with them."""
    port = "listen 127.0.0.1:0" if os.geteuid() else "listen 80"
    whole = block.code
    if "events" not in whole:
        whole = f"events {{}}\nhttp {{\naccess_log off;\n{whole}\n}}\n"
    whole = re.sub(r"^pid [^;]*;", "", whole, flags=re.MULTILINE).replace("listen 80", port)
    whole = f"pid {tmp_path}/pid;\n{whole}"
    (tmp_path / "nginx.conf").write_text(whole)
    done = subprocess.run(
        ["nginx", "-t", "-q", "-p", str(tmp_path), "-e", "stderr", "-c", str(tmp_path / "nginx.conf")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_behind_nginx(folder: Path) -> None:
    """The program of the guide hears from its nginx who asks, in every location, on connections that stay."""
    page = ROOT / "docs" / "guide" / "nginx.md"
    lay_out(page, folder)
    program = folder / "behind.py"
    path = folder / "app.sock"
    told = program.read_text().replace("/run/app.sock", str(path)).replace("{req.host}", "{req.host}, {req.keep_alive}")
    program.write_text(told)
    (block,) = (block for block in BLOCKS if block.page == page and block.language == "nginx")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    http = block.code.replace("/run/app.sock", str(path)).replace("listen 80", f"listen 127.0.0.1:{port}")
    kept = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "" if os.geteuid() else "user root;\n"
    settings = folder / "nginx.conf"
    settings.write_text(f"{user}pid {folder}/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{kept}\n{http}}}\n")
    command = ["nginx", "-p", str(folder), "-e", "stderr", "-c", str(settings), "-g", "daemon off;"]
    application = subprocess.Popen([sys.executable, "-W", "error", program.name], cwd=folder)
    proxy = subprocess.Popen(command)
    try:
        target = Target(port, path)
        target.wait(unix=True)
        target.wait(unix=False)
        for where in ("/", "/uploads"):
            target.try_out(f"GET {where} -> 200 127.0.0.1 asks by http for 127.0.0.1:{port}, True")
    finally:
        for process in (proxy, application):
            process.terminate()
            assert process.wait(PATIENCE) == 0


def test_no_program_is_forgotten() -> None:
    """Whatever goes on for ever has a check below it; only what needs a network of its own has none."""
    ends = {str(getattr(parameter, "id", "")) for parameter in outcomes()}
    forgotten = [block.name for block in RUN if not block.checks and block.name not in ends]
    assert forgotten == FORGOTTEN


FORGOTTEN = ["packages/nimloop-ws/README.md:4"]
"""The client, which talks to a server of somebody else: see its tests."""
