"""What a type checker says to a user of nimloop-mt. Never run: `hatch run typing:check` reads it."""

from __future__ import annotations

from typing import assert_type

from nimloop_http import HttpRequest, HttpResponse, HttpServer, Limits, OnRequest, ServerStats
from nimloop_mt import MultiThreadHttpServer, Report


def on_request(req: HttpRequest, res: HttpResponse) -> None:
    """The handler of every worker."""
    res.send(req.path)


def make(server: HttpServer) -> OnRequest:
    """A handler made in each worker."""
    server.on_headers = None
    return on_request


def serving() -> None:
    """A handler, the name of one, or what makes one."""
    server = MultiThreadHttpServer(on_request, workers=4, mode="processes", limits=Limits(body=1 << 20))
    MultiThreadHttpServer("module:handler", workers=2, mode="threads")
    MultiThreadHttpServer(factory=make)
    server.listen("0.0.0.0", 8000)
    server.listen_unix("/run/x.sock")
    server.listen_health()
    server.start()
    assert_type(server.pids, list[int])
    assert_type(server.ready, bool)
    assert_type(server.stats, ServerStats)
    assert_type(server.stats_by_worker, list[ServerStats])
    server.roll()
    server.shutdown(5.0)
    assert_type(server.join(10.0), Report | None)
    assert_type(server.run(on_ready=lambda: None), Report)
    server.close()

    MultiThreadHttpServer(on_request, mode="fibres")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    MultiThreadHttpServer(1)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
