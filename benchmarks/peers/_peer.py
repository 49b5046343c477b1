"""What every peer program says to the harness: `skip WHY`, or `build WHAT` lines and then `port N` or `result …`."""

import argparse
import importlib
import importlib.machinery
import json
import os
import resource
import socket
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Final, NoReturn

HOST: Final = "127.0.0.1"
PATH: Final = "/hello"
BODY: Final = "Hello, World!"

# EX_UNAVAILABLE of sysexits.h: nothing broke, the server just is not installed.
SKIPPED: Final = 69
# A second of accepting nothing must not turn away a client that opens its connections all at once.
BACKLOG: Final = 1024


def skip(why: object) -> NoReturn:
    """Tell the harness that this server cannot take part, and end."""
    print(f"skip {why}", flush=True)
    raise SystemExit(SKIPPED)


def need(name: str) -> ModuleType:
    """The module, or the end of this program: peers are optional, and so are their type stubs."""
    try:
        return importlib.import_module(name)
    except ImportError as missing:
        skip(missing)


def say_build(*modules: ModuleType) -> None:
    """Print which files are about to be measured."""
    for module in modules:
        top = module.__name__.partition(".")[0]
        try:
            version = metadata.version(top.replace("_", "-"))
        except metadata.PackageNotFoundError:
            version = "(no version)"
        print(f"build {module.__name__} {version} {module.__file__}", flush=True)


def compiled() -> list[str]:
    """Names of the nimloop modules that are machine code in this process (mypyc or C)."""
    endings = tuple(importlib.machinery.EXTENSION_SUFFIXES)
    return sorted(
        name
        for name, module in sys.modules.items()
        if name.startswith("nimloop_") and (getattr(module, "__file__", None) or "").endswith(endings)
    )


def say_compiled() -> None:
    """Print what nimloop runs on, and which of its modules are compiled."""
    modules = compiled()
    if modules and os.environ.get("NIMLOOP_EXTENSION") == "off":
        skip("the installed nimloop is compiled by mypyc; scripts/bench_all.py makes a build that is not")
    print(f"build runs on: {need('nimloop_core.build').IMPLEMENTATION}")
    print(f"build compiled modules: {', '.join(modules) or 'none'}", flush=True)


def say_result(figures: Mapping[str, float]) -> None:
    """Print what was measured, of a program that measures itself."""
    print(f"result {json.dumps(dict(figures))}", flush=True)


def say_port(port: int) -> None:
    """Print the port; the harness then asks until the right answer comes."""
    print(f"port {port}", flush=True)


def parser() -> argparse.ArgumentParser:
    """The arguments that all peers share."""
    made = argparse.ArgumentParser()
    made.add_argument("--port", type=int, default=0, help="0: any free one")
    return made


def port_argument() -> int:
    """The port of a peer that has no other argument."""
    port: int = parser().parse_args().port
    return port


def many_connections() -> argparse.Namespace:
    """What a program is told that holds many connections and measures itself; it may open as many as it can get."""
    made = argparse.ArgumentParser()
    made.add_argument("--loop", required=True)
    made.add_argument("--connections", type=int, required=True)
    made.add_argument("--quick", action="store_true")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return made.parse_args()


def resident(process: int | str = "self") -> int:
    """Bytes of memory that a process has."""
    pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def listening(port: int) -> socket.socket:
    """A non-blocking listening socket, for servers that take one."""
    sock = socket.create_server((HOST, port), backlog=BACKLOG)
    sock.setblocking(False)
    return sock


def port_of(sock: socket.socket) -> int:
    """The port that a socket is bound to."""
    port: int = sock.getsockname()[1]
    return port


def free_port(port: int) -> int:
    """The port, or a free one in place of 0, for servers that only bind by themselves and do not tell."""
    if port:
        return port
    with socket.create_server((HOST, 0)) as sock:
        return port_of(sock)


if __name__ == "__main__":
    sys.exit("not a server: run one of the programs beside this one")
