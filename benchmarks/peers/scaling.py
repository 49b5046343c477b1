"""A server with several workers: nimloop's, in processes or threads, granian, uvicorn or gunicorn."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import _granian
from _peer import BODY, HOST, PATH, free_port, need, parser, say_build, say_compiled, say_port, skip
from _scaling import work

if TYPE_CHECKING:
    from nimloop_http import HttpRequest, HttpResponse


def on_request(req: "HttpRequest", res: "HttpResponse") -> None:
    """Work, then answer the one path there is."""
    work()
    if req.path == PATH:
        res.send(BODY)
    else:
        res.status(404).send("Not Found")


def nimloop(port: int, workers: int, mode: str) -> None:
    """Our own."""
    http, mt = need("nimloop_http"), need("nimloop_mt")
    if mode == "threads" and getattr(sys, "_is_gil_enabled", lambda: True)():
        skip("threads take turns here: this interpreter has a GIL")
    with mt.MultiThreadHttpServer("scaling:on_request", workers=workers, mode=mode) as server:
        ((_, port),) = server.listen(HOST, port)
        say_build(http, mt)
        say_compiled()
        server.run(lambda: say_port(port))


def granian(port: int, workers: int) -> None:
    """ASGI on uvloop, a process for each worker."""
    _granian.serve("_scaling:asgi", "asginl", port, workers)


def uvicorn(port: int, workers: int) -> None:
    """ASGI on uvloop and httptools; one worker runs in this process."""
    module = need("uvicorn")
    need("uvloop"), need("httptools")
    port = free_port(port)
    say_build(module)
    say_port(port)
    module.run(
        "_scaling:asgi",
        host=HOST,
        port=port,
        workers=workers,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="error",
    )


def gunicorn(port: int, workers: int) -> None:
    """WSGI, keep-alive by its workers with threads, which are as many as there are connections."""
    module = need("gunicorn")
    port = free_port(port)
    say_build(module)
    say_port(port)
    settings = ["--worker-class", "gthread", "--threads", "64", "--keep-alive", "60", "--log-level", "error"]
    command = [sys.executable, "-m", "gunicorn", "--bind", f"{HOST}:{port}", "--workers", str(workers), *settings]
    os.execv(sys.executable, [*command, "--chdir", str(Path(__file__).parent), "_scaling:wsgi"])


def main() -> None:
    """Serve until SIGTERM, on as many cores as there are workers."""
    arguments = parser()
    arguments.add_argument("server", choices=("nimloop-processes", "nimloop-threads", "granian", "uvicorn", "gunicorn"))
    arguments.add_argument("--workers", type=int, default=1)
    options = arguments.parse_args()
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.workers])
    name, _, mode = options.server.partition("-")
    if name == "nimloop":
        nimloop(options.port, options.workers, mode)
    else:
        {"granian": granian, "uvicorn": uvicorn, "gunicorn": gunicorn}[name](options.port, options.workers)


if __name__ == "__main__":
    main()
