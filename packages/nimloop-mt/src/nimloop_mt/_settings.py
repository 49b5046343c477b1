"""What every worker is made from. It travels to new processes, so all of it can be pickled or is named."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from nimloop_core import Loop
from nimloop_http import HttpServer, Limits, OnHeaders, OnRequest, Timeouts, TrustedProxies
from nimloop_http.command import as_handler, load_application

Factory = Callable[[HttpServer], OnRequest]
"""Called once in each worker with its server, before it serves; returns the handler."""

MakeContext = Callable[[], ssl.SSLContext]
Tls = tuple[str, str | None] | MakeContext
"""The files of the certificate chain and of its key, or a function that makes the context in each worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of `HttpServer`, in a form that can be sent to another process."""

    on_request: str | OnRequest | None
    factory: str | Factory | None
    on_headers: str | OnHeaders | None
    limits: Limits
    timeouts: Timeouts
    methods: frozenset[str] | None
    tls: Tls | None
    proxies: TrustedProxies | None
    proxy_protocol: bool
    max_connections: int | None
    access_log: bool
    backend: str | None
    log_level: str | None

    def build(self, loop: Loop) -> HttpServer:
        """Return a server on `loop` that does not listen yet. Raises whatever loading the handler raises."""
        server = HttpServer(
            loop,
            _not_yet,
            on_headers=_find(self.on_headers) if isinstance(self.on_headers, str) else self.on_headers,
            limits=self.limits,
            timeouts=self.timeouts,
            methods=self.methods,
            tls=_context(self.tls),
            proxies=self.proxies,
            proxy_protocol=self.proxy_protocol,
            max_connections=self.max_connections,
            access_log=self.access_log,
        )
        server.on_request = self._handler(server)
        return server

    def _handler(self, server: HttpServer) -> OnRequest:
        if self.factory is not None:
            factory = load_application(self.factory) if isinstance(self.factory, str) else self.factory
            return cast("Factory", factory)(server)
        return _find(self.on_request) if isinstance(self.on_request, str) else cast("OnRequest", self.on_request)


def _find(name: str) -> OnRequest:
    return as_handler(load_application(name))


def _not_yet(_req: object, _res: object) -> None:
    raise AssertionError("a request before the handler was set")


def _context(tls: Tls | None) -> ssl.SSLContext | None:
    if tls is None or not isinstance(tls, tuple):
        return None if tls is None else tls()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*tls)
    return context
