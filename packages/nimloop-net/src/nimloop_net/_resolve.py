"""Name look-ups in a few threads, so that the loop never waits for one.

There is no cancelling a getaddrinfo that has begun, and it may take half a minute. So each look-up is the resolver's,
and those who wait for it only have a share in it: whoever asks for a name that is being looked up joins in, and whoever
gives up leaves. What nobody waits for any more is not begun. The threads are daemons and end when there is nothing
left to do: they hold up neither the end of the loop nor that of the program.

Nothing is cached: how long an answer holds is known to the system's resolver only.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol, final

from nimloop_core import Loop, LoopClosedError, Timer
from nimloop_net._literals import check_name, literal_of, parse_literal
from nimloop_net.errors import (
    AddressError,
    HostNotFoundError,
    LookupTimeoutError,
    NetError,
    ResolveError,
    ResolverBusyError,
)

THREADS: Final = 4  # as many dead name servers may be waited for before a healthy one has to wait for its turn
WAITING: Final = 1024  # names

Found = tuple[str, ...]
"""The addresses of a host as literals, the system's preference first (RFC 6724)."""

OnFound = Callable[[Found, NetError | None], object]
"""Called with the addresses, or with none and the reason."""

OnResolved = Callable[[list[str]], object]
"""Called with the addresses as literals, at least one."""

OnResolveError = Callable[[Exception], object]
"""Called with the reason why there are no addresses."""

# Not all systems have all of these.
_NO_SUCH_HOST: Final = frozenset(
    getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY") if hasattr(socket, name)
)


class GetAddrInfo(Protocol):
    """The part of `socket.getaddrinfo` that a resolver uses."""

    def __call__(
        self,
        host: str,
        port: None,
        *,
        type: int,  # noqa: A002 - its name there
    ) -> Sequence[tuple[int, int, int, str, tuple[object, ...]]]: ...


class Share(Protocol):
    """Somebody's part in a look-up."""

    def cancel(self) -> None:
        """Hear nothing of it any more. Harmless when repeated."""


class NameSource(Protocol):
    """Where `connect` and `resolve` get addresses from: `Resolver`, or something of the user's own."""

    def look_up(self, loop: Loop, host: str, on_found: OnFound) -> Share:
        """Call back once, on the loop and never from inside, with addresses or with what went wrong."""


@final
class Waiting:
    """A `Share` in one of the resolver's look-ups."""

    __slots__ = ("_host", "_on_found", "_resolver", "loop")

    def __init__(self, resolver: Resolver, loop: Loop, host: str, on_found: OnFound) -> None:
        self._resolver = resolver
        self._host = host
        self._on_found: OnFound | None = on_found
        self.loop: Final = loop

    def cancel(self) -> None:
        """Hear nothing of it any more. Harmless when repeated."""
        if self._on_found is not None:
            self._on_found = None
            self._resolver._leave(self._host, self)

    def post(self, found: Found, error: NetError | None) -> None:
        """Hand the result over to the loop; from any thread."""
        try:
            self.loop.call_soon_threadsafe(lambda: self._deliver(found, error))
        except LoopClosedError:
            pass  # nobody is left who could be told

    def _deliver(self, found: Found, error: NetError | None) -> None:
        on_found, self._on_found = self._on_found, None
        if on_found is not None:
            on_found(found, error)

    def __repr__(self) -> str:
        return f"<Waiting {'over' if self._on_found is None else 'resolving'} host={self._host!r}>"


@final
class Resolver:
    """Looks names up with the system's getaddrinfo in at most `threads` threads.

    Up to `waiting` names more have to wait; the next is refused with `ResolverBusyError`. One resolver serves any
    number of loops in any number of threads.
    """

    def __init__(
        self, *, threads: int = THREADS, waiting: int = WAITING, getaddrinfo: GetAddrInfo = socket.getaddrinfo
    ) -> None:
        if threads < 1 or waiting < 0:
            raise ValueError(f"a resolver needs a thread and no negative queue, not {threads} and {waiting}")
        self._max_threads: Final = threads
        self._limit: Final = threads + waiting
        self._getaddrinfo: Final = getaddrinfo
        self._forget_all()

    def _forget_all(self) -> None:
        """Begin anew: also in a forked child, which has none of its parent's threads."""
        self._lock = threading.Lock()
        self._shares: dict[str, dict[Waiting, None]] = {}  # of every name that is queued or being looked up
        self._queue: deque[str] = deque()
        self._threads = 0

    def look_up(self, loop: Loop, host: str, on_found: OnFound) -> Waiting:
        """Call ``on_found(addresses, error)`` once, on the loop and never from inside this; from any thread."""
        share = Waiting(self, loop, host, on_found)
        with self._lock:
            refusal = self._join(host, share)
        if refusal is not None:
            share.post((), refusal)
        return share

    def _join(self, host: str, share: Waiting) -> NetError | None:
        shares = self._shares.get(host)
        if shares is not None:
            shares[share] = None
            return None
        if len(self._shares) >= self._limit:
            return ResolverBusyError(f"{len(self._shares)} names are being looked up already: {host!r} is one too many")
        self._shares[host] = {share: None}
        self._queue.append(host)
        if self._threads < self._max_threads:
            try:
                threading.Thread(target=self._work, name="nimloop-resolver", daemon=True).start()
            except RuntimeError as error:  # no more threads for this process
                if self._threads == 0:
                    self._queue.pop()
                    del self._shares[host]
                    return ResolverBusyError(f"cannot look up {host!r}: {error}")
            else:
                self._threads += 1
        return None

    def _leave(self, host: str, share: Waiting) -> None:
        with self._lock:
            self._shares.get(host, {}).pop(share, None)

    def __repr__(self) -> str:
        return f"<Resolver names={len(self._shares)} threads={self._threads}>"

    # In a thread of its own -----------------------------------------------------------------------------------

    def _work(self) -> None:
        while (host := self._next()) is not None:
            self._answer(host)

    def _next(self) -> str | None:
        """Return the next name that somebody waits for; None ends this thread."""
        with self._lock:
            while self._queue:
                host = self._queue.popleft()
                if any(not share.loop.closed for share in self._shares[host]):
                    return host
                del self._shares[host]
            self._threads -= 1
            return None

    def _answer(self, host: str) -> None:
        found: Found = ()
        error: NetError | None = None
        try:
            found = literals(self._getaddrinfo(host, None, type=socket.SOCK_STREAM))
            if not found:
                error = HostNotFoundError(socket.EAI_NONAME, f"the host {host!r} has no address")
        except NetError as refusal:
            error = refusal
        except socket.gaierror as failure:
            error = _explain(host, failure)
        except Exception as failure:  # out of descriptors, or a getaddrinfo of the user's own
            error = ResolveError(
                getattr(failure, "errno", None) or socket.EAI_FAIL, f"cannot look up {host!r}: {failure}"
            )
        with self._lock:
            shares = self._shares.pop(host)
        for share in shares:
            share.post(found, error)


def literals(entries: Sequence[tuple[int, int, int, str, tuple[object, ...]]]) -> Found:
    """Return the addresses that getaddrinfo has found, each once."""
    found: dict[str, None] = {}  # two lines of /etc/hosts may give one address twice
    for family, _, _, _, address in entries:
        # Without IPv6, Python can be built to hand out addresses as bytes.
        if family in {socket.AF_INET, socket.AF_INET6} and isinstance(address[0], str):
            scope = address[3] if len(address) == 4 else 0
            found[f"{address[0]}%{scope}" if scope else address[0]] = None
    return tuple(found)


def _explain(host: str, failure: socket.gaierror) -> NetError:
    if failure.errno in _NO_SUCH_HOST:
        return HostNotFoundError(failure.errno, f"there is no host {host!r}, or it has no address ({failure.strerror})")
    return ResolveError(failure.errno, f"cannot look up {host!r}: {failure.strerror}")


SHARED: Final = Resolver()
"""The resolver of all who bring none of their own."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=SHARED._forget_all)


@final
class Resolution:
    """A look-up in progress. Made by `resolve`."""

    __slots__ = ("_host", "_loop", "_on_error", "_on_resolved", "_over", "_share", "_timer")

    def __init__(
        self, loop: Loop, host: str, on_resolved: OnResolved, on_error: OnResolveError | None, timeout: float
    ) -> None:
        self._loop = loop
        self._host = host
        self._on_resolved = on_resolved
        self._on_error = on_error
        self._over = False
        self._share: Share | None = None
        self._timer: Timer = loop.call_later(timeout, lambda: self._expired(timeout))

    def begin(self, source: NameSource) -> None:
        """Find the addresses, which takes no look-up for a literal."""
        try:
            literal = parse_literal(self._host, 0)
            if literal is None:
                self._share = source.look_up(self._loop, check_name(self._host), self._on_found)
                return
        except AddressError as error:
            refusal = error
            self._loop.call_soon(lambda: self._on_found((), refusal))
        else:
            self._loop.call_soon(lambda: self._on_found((literal_of(literal[1]),), None))

    def cancel(self) -> None:
        """Call nobody back any more. Harmless when repeated."""
        self._over = True
        self._timer.cancel()
        if self._share is not None:
            self._share.cancel()
            self._share = None

    def _on_found(self, found: Found, error: NetError | None) -> None:
        if self._over:
            return
        self.cancel()
        if error is None:
            self._on_resolved(list(found))
        elif self._on_error is not None:
            self._on_error(error)
        else:
            self._loop.exception_handler(error, self)

    def _expired(self, timeout: float) -> None:
        self._on_found((), LookupTimeoutError(f"looking up {self._host!r} took more than {timeout} seconds"))

    def __repr__(self) -> str:
        return f"<Resolution {'over' if self._over else 'resolving'} host={self._host!r}>"


def resolve(
    loop: Loop,
    host: str,
    on_resolved: OnResolved,
    *,
    on_error: OnResolveError | None = None,
    timeout: float = 10.0,
    resolver: NameSource | None = None,
) -> Resolution:
    """Look up the addresses of a host without keeping the loop waiting; `Resolution.cancel` gives up.

    One of ``on_resolved(addresses)`` and ``on_error(error)`` is called, once and never from inside this call. The
    addresses are literals, the system's preference first (RFC 6724); a literal is its own answer at once. The errors
    are `HostNotFoundError`, `LookupTimeoutError` after `timeout` seconds, `ResolverBusyError`, `AddressError` for what
    cannot be a host's name, and `ResolveError` for whatever else the system's resolver says; without `on_error` they go
    to the loop's exception handler.
    """
    resolution = Resolution(loop, host, on_resolved, on_error, timeout)
    resolution.begin(SHARED if resolver is None else resolver)
    return resolution
