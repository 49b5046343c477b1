"""An HTTP server for all cores: one `HttpServer` on a loop of its own in each worker, and a supervisor over them."""

from __future__ import annotations

import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Literal, Self, final

from nimloop_core import Loop
from nimloop_http import (
    STANDARD_METHODS,
    HttpServer,
    Limits,
    OnHeaders,
    OnRequest,
    ServerStats,
    Timeouts,
    TrustedProxies,
)
from nimloop_http.command import SourceWatcher
from nimloop_mt._handover import Handover
from nimloop_mt._health import health_handler
from nimloop_mt._hosts import Forked, Host, Spawned, Threaded, pack
from nimloop_mt._interpreter import Mode, choose_mode, processor_numbers
from nimloop_mt._member import Member, read_stats
from nimloop_mt._notify import notify
from nimloop_mt._settings import Factory, Settings, Tls
from nimloop_mt._sockets import BALANCES, HANDS_OVER, Sockets
from nimloop_mt._supervisor import Care, Report, Supervisor
from nimloop_mt.errors import ModeError, ServerStartedError, WorkerStartError
from nimloop_net import Address, format_address

__all__ = ["MultiThreadHttpServer"]

_log: Final = logging.getLogger("nimloop.mt")

_BACKLOG: Final = 2048


@final
class MultiThreadHttpServer:
    """Serves HTTP with `workers` servers that share nothing but the port; 0: one for each processor there is.

    Workers are threads on an interpreter without a GIL, processes on one that has it; `mode` insists on one of them.
    A process is a new interpreter (`start_method` "spawn"), which is told the handler by name, as ``"module:attr"``, or
    as a function of a module; with "fork" it is a copy of this one. Instead of `on_request` there may be a `factory`:
    called in each worker with its `HttpServer`, it returns the handler. WSGI applications are given by name.

    `tls` names the files of certificate and key, or is a function that makes the context; each new worker reads them
    again. `max_connections` is for each worker. The other settings down to `access_log` are those of `HttpServer`.

    A worker is replaced once it has answered `max_requests`, or its process uses `max_memory` bytes; both are looked at
    twice a second. One that does not answer the supervisor for `watchdog` seconds is killed and replaced (None: never);
    a thread cannot be killed, it is given up. A new worker has `start_timeout` seconds to be ready. `pin_cpus`
    ties each worker to one processor. With `handover` the supervisor accepts, and hands connections to the workers in
    turn; the default is to do so where the kernel does not spread them (where it cannot, as on Windows, the workers
    accept from one socket). With `reload`, a folder, the workers are
    replaced when a Python file in it changes, unless the new ones cannot begin.
    """

    def __init__(
        self,
        on_request: str | OnRequest | None = None,
        *,
        factory: str | Factory | None = None,
        workers: int = 0,
        mode: Mode = "auto",
        start_method: Literal["spawn", "fork"] = "spawn",
        on_headers: str | OnHeaders | None = None,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        methods: frozenset[str] | None = STANDARD_METHODS - {"CONNECT"},
        tls: Tls | None = None,
        proxies: TrustedProxies | None = None,
        proxy_protocol: bool = False,
        max_connections: int | None = None,
        access_log: bool = False,
        max_requests: int | None = None,
        max_memory: int | None = None,
        watchdog: float | None = 30.0,
        start_timeout: float = 60.0,
        pin_cpus: bool = False,
        handover: bool | None = None,
        reload: str | None = None,
        backend: str | None = None,
        log_level: str | None = None,
    ) -> None:
        if (on_request is None) == (factory is None):
            raise ValueError("give either on_request or factory")
        if workers < 0:
            raise ValueError(f"a number of workers is positive, or 0 for one per processor, not {workers}")
        if start_method not in {"spawn", "fork"}:
            raise ValueError(f"a start_method is one of spawn, fork, not {start_method!r}")
        if proxy_protocol and proxies is None:
            raise ValueError("proxy_protocol needs to know from whom: give proxies")
        self.mode: Final = choose_mode(mode)
        """``"threads"`` or ``"processes"``."""
        if max_memory is not None and self.mode == "threads":
            raise ModeError("max_memory is about a process, and threads share one")
        if pin_cpus and sys.platform != "linux":
            raise ModeError("pin_cpus needs sched_setaffinity, which this system does not have")
        if reload is not None and (self.mode == "threads" or start_method == "fork"):
            raise ModeError("reload needs processes that begin anew: threads and copies have read the source already")
        self.workers: Final = workers or len(processor_numbers())
        """How many there are."""
        timeouts = Timeouts() if timeouts is None else timeouts
        self._settings: Final = Settings(
            on_request=on_request,
            factory=factory,
            on_headers=on_headers,
            limits=Limits() if limits is None else limits,
            timeouts=timeouts,
            methods=methods,
            tls=tls,
            proxies=proxies,
            proxy_protocol=proxy_protocol,
            max_connections=max_connections,
            access_log=access_log,
            backend=backend,
            log_level=log_level,
        )
        self._care: Final = Care(
            grace=timeouts.grace,
            watchdog=watchdog,
            start_timeout=start_timeout,
            max_requests=max_requests,
            max_memory=max_memory,
        )
        self._start_method: Final = start_method
        self._reload: Final = reload
        self._packed: Final = pack(self._settings) if self.mode == "processes" and start_method == "spawn" else b""
        self._cpus: Final = processor_numbers() if pin_cpus else []
        if handover and not HANDS_OVER:
            raise ModeError("handover needs SCM_RIGHTS, which this system does not have")
        self._handover: Final = HANDS_OVER and not BALANCES if handover is None else handover
        if handover is None and not BALANCES:
            instead = "one place accepts, and hands them over" if HANDS_OVER else "all workers accept from one"
            _log.info("this system does not spread connections over sockets that share a port: %s", instead)
        self._sockets: Final = Sockets(self.workers, balances=BALANCES and not self._handover)
        self._health: Final[list[socket.socket]] = []
        self._loop: Loop | None = None
        self._supervisor: Supervisor | None = None
        self._thread: threading.Thread | None = None
        self._why: str | None = None
        self._started: Final = threading.Event()
        self._ended: Final = threading.Event()
        self._report: Report | None = None

    @property
    def addresses(self) -> list[Address]:
        """Where it listens: ``(host, port)`` or a path each."""
        return self._sockets.addresses.copy()

    def listen(
        self, host: str | None = "127.0.0.1", port: int = 8000, *, backlog: int = _BACKLOG
    ) -> list[tuple[str, int]]:
        """Listen on every address of `host` (None: all of this machine) and return them with their ports.

        Port 0 takes a free one, the same for all workers. Before `start` only. Raises OSError, for instance when the
        port is taken.
        """
        self._check_new()
        return self._sockets.listen(host, port, backlog=backlog)

    def listen_unix(self, path: str, mode: int = 0o660, *, backlog: int = _BACKLOG) -> None:
        """Listen on a Unix socket, from which all workers accept. Raises `AddressError` as `HttpServer` does."""
        self._check_new()
        self._sockets.listen_unix(path, mode, backlog=backlog)

    def adopt(self, sock: socket.socket) -> None:
        """Take over a socket that listens already, from which all workers accept."""
        self._check_new()
        self._sockets.adopt(sock)

    def listen_health(self, host: str | None = "127.0.0.1", port: int = 8001) -> list[tuple[str, int]]:
        """Answer ``/live``, ``/ready`` and ``/metrics`` there, from the supervisor, and return the addresses.

        ``/ready`` is 200 while each place has a worker that serves, 503 otherwise. Tells everybody who asks.
        """
        self._check_new()
        alone = Sockets(1, balances=False)
        names = alone.listen(host, port, backlog=_BACKLOG)
        self._health.extend(alone.shared)
        return names

    def start(self) -> None:
        """Serve in the background; returns when all workers are ready.

        Raises `WorkerStartError` when one cannot begin, with its reason; nothing runs then, and the server is closed.
        """
        self._check_new()
        self._thread = threading.Thread(target=self._serve, name="nimloop-mt", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._why is not None:
            self.join()
            raise WorkerStartError(self._why)

    def run(self, on_ready: Callable[[], object] | None = None) -> Report:
        """Serve until SIGINT or SIGTERM, drain, and return how it ended; a second signal ends at once. SIGHUP rolls.

        ``on_ready()`` is called when all workers are ready. A service manager that has given us ``NOTIFY_SOCKET``
        (sd_notify(3)) is told of that, and of the stop. Raises `WorkerStartError` when one cannot begin. Main
        thread only.
        """
        self._check_new()
        self._serve(signals=True, on_ready=on_ready)
        if self._why is not None:
            raise WorkerStartError(self._why)
        assert self._report is not None
        return self._report

    def roll(self) -> None:
        """Replace all workers, one after the other, with no request lost. What SIGHUP does. Any thread."""
        self._tell(lambda supervisor: supervisor.roll())

    def shutdown(self, grace: float | None = None) -> None:
        """Drain all workers and end, within `grace` seconds (by default ``timeouts.grace``). Any thread."""
        self._tell(lambda supervisor: supervisor.stop(grace))

    def join(self, timeout: float | None = None) -> Report | None:
        """Wait until it has ended, and return how; None when that takes longer than `timeout` seconds."""
        if self._thread is not None and self._ended.wait(timeout):
            self._thread.join()
        return self._report

    def close(self) -> None:
        """End at once, and close all sockets. Harmless when repeated."""
        if self._thread is not None and not self._ended.is_set():
            self.shutdown(0)
            self.shutdown()
            self.join()
        self._sockets.close()
        for sock in self._health:
            sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def ready(self) -> bool:
        """Whether each place has a worker that serves."""
        return self._supervisor is not None and self._supervisor.ready

    @property
    def pids(self) -> list[int]:
        """The processes of the workers, those that drain included; empty with threads."""
        return [] if self._supervisor is None else [each.pid for each in self._supervisor.members.copy() if each.pid]

    @property
    def stats(self) -> ServerStats:
        """The sum over all workers, ended ones included; half a second old at most, as long as they answer."""
        return read_stats({}) if self._supervisor is None else self._supervisor.stats

    @property
    def stats_by_worker(self) -> list[ServerStats]:
        """The same for each worker there is, in the order of their places."""
        members = [] if self._supervisor is None else self._supervisor.members.copy()
        return [member.total() for member in sorted(members, key=lambda member: member.place)]

    def __repr__(self) -> str:
        where = ", ".join([format_address(address) for address in self.addresses])
        if where:
            state = f"listening on {where}"
        elif self._ended.is_set():
            state = "closed"
        else:
            state = "not listening" if self._loop is None else "stopping"
        return f"<MultiThreadHttpServer {state} {self.mode}={self.workers}>"

    # Inside ---------------------------------------------------------------------------------------------------

    def _check_new(self) -> None:
        if self._loop is not None or self._ended.is_set():
            raise ServerStartedError("the server was started before; make a new one")

    def _tell(self, what: Callable[[Supervisor], object]) -> None:
        loop, supervisor = self._loop, self._supervisor
        if loop is not None and supervisor is not None and not loop.closed:
            loop.call_soon_threadsafe(lambda: what(supervisor))

    def _serve(self, *, signals: bool = False, on_ready: Callable[[], object] | None = None) -> None:
        def started(why: str | None) -> None:
            self._why = why
            if why is None:
                self._started.set()
                if signals:
                    notify("READY=1")
                if on_ready is not None:
                    on_ready()

        def stopping() -> None:
            self._sockets.close()
            if signals:
                notify("STOPPING=1")

        def ended(report: Report) -> None:
            self._report = report
            loop.stop()

        try:
            with Loop(self._settings.backend) as loop:
                self._loop = loop
                sockets = self._sockets
                handover = Handover(loop, sockets.shared, lambda: supervisor.members) if self._handover else None
                supervisor = Supervisor(
                    loop,
                    self.workers,
                    launch=self._launch,
                    care=self._care,
                    handover=handover,
                    relieve=lambda place: Handover(loop, sockets.of(place), lambda: supervisor.members),
                    on_started=started,
                    on_stopping=stopping,
                    on_end=ended,
                )
                self._supervisor = supervisor
                if signals:
                    for number in (signal.SIGINT, signal.SIGTERM):
                        loop.add_signal_handler(number, supervisor.stop)
                    if sys.platform != "win32":
                        loop.add_signal_handler(signal.SIGHUP, supervisor.roll)
                source = None if self._reload is None else SourceWatcher(loop, supervisor.roll, self._reload)
                with HttpServer(loop, health_handler(supervisor)) as health:
                    for sock in self._health:
                        health.adopt(sock)
                    supervisor.start()
                    loop.run()
                if source is not None:
                    source.close()
        except BaseException as error:
            self._why = self._why or f"{type(error).__name__}: {error}"
            raise
        finally:
            self._sockets.close()
            self._ended.set()
            self._started.set()

    def _launch(self, member: Member, control: socket.socket) -> Host:
        place = member.place
        mine = [] if self._handover else [*self._sockets.of(place), *self._sockets.shared]
        cpu = self._cpus[place % len(self._cpus)] if self._cpus else None
        if self.mode == "threads":
            return Threaded(self._settings, [sock.dup() for sock in mine], control.dup(), cpu, f"nimloop-mt-{place}")
        if self._start_method == "fork":
            return Forked(self._settings, mine, control, cpu, self._foreign(mine))
        return Spawned(self._packed, mine, control, cpu)

    def _foreign(self, mine: Sequence[socket.socket]) -> list[int]:
        """Return the descriptors that a copy of this process must not keep: other places' sockets, other channels."""
        assert self._supervisor is not None
        kept = {sock.fileno() for sock in mine}
        everything = [*self._sockets.everything(), *self._health]
        channels = [member.channel.fileno() for member in self._supervisor.members]
        return [fd for fd in [*(sock.fileno() for sock in everything), *channels] if fd >= 0 and fd not in kept]
