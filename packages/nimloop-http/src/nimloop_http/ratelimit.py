"""So many requests per client in any window of time, and no more.

The limiter keeps the times of what it has admitted, as many per key as the largest budget. With them the question has
an exact answer: a request may pass when the one that came `max_requests` admissions before it is at least a window
old. Counting by the clock's minutes would let twice the budget through around the turn of one, and an average
would let a burst through that it had not seen coming.

Facts about addresses: who has IPv6 has at least 2⁶⁴ addresses (RFC 6177), so that each request can come from a new
one → the default key is the /64 network, and the table of keys has a bound. What is forgotten first when it is full
are the keys that were refused nothing: whoever wants to be forgotten would have to fill the table with keys that have
used up their budgets.
"""

from __future__ import annotations

import math
import socket
import threading
import time
from array import array
from collections.abc import Callable
from typing import Final, final

from nimloop_http.request import HttpRequest
from nimloop_http.response import HttpResponse

__all__ = ["RateLimiter", "network_of"]

_V4_IN_V6: Final = bytes(10) + b"\xff\xff"  # RFC 4291 §2.5.5.2


@final
class RateLimiter:
    """Admits at most `max_requests` per key in any `window` seconds; further windows are ``(max_requests, window)``.

    A request has to fit into every window, and one that does not is counted in none. 0 requests means that a window
    has no limit. ``key(req)`` tells whom a request counts for; by default the client's IPv4 address, or its IPv6
    network of `ipv6_prefix` bits. The empty key, such as a Unix socket's address, is never limited. May be used
    from several threads. Raises ValueError for numbers that make no sense.
    """

    __slots__ = (
        "_clock",
        "_ipv6_prefix",
        "_key",
        "_lock",
        "_logs",
        "_longest",
        "_most",
        "_refused",
        "_windows",
        "max_keys",
    )

    def __init__(
        self,
        max_requests: int,
        window: float,
        *further: tuple[int, float],
        key: Callable[[HttpRequest], str] | None = None,
        ipv6_prefix: int = 64,
        max_keys: int = 65_536,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        windows: list[tuple[int, int]] = []
        for count, seconds in ((max_requests, window), *further):
            if count < 0 or not 0 < seconds <= 366 * 86400:
                raise ValueError(f"a window needs a count and a length of up to a year, not {count} in {seconds} s")
            if count > 0:
                windows.append((count, round(seconds * 1e9)))
        if not 1 <= ipv6_prefix <= 128 or max_keys < 1:
            raise ValueError(f"ipv6_prefix is 1 to 128 and max_keys at least 1, not {ipv6_prefix} and {max_keys}")
        self.max_keys: Final[int] = max_keys
        """How many keys are remembered: some 200 bytes each, and 8 to 16 for each request admitted of late."""
        self._windows: Final = windows
        self._most: Final = max((count for count, _ in windows), default=0)
        self._longest: Final = max((length for _, length in windows), default=0)
        self._key: Final = key
        self._ipv6_prefix: Final = ipv6_prefix
        self._clock: Final = clock
        self._lock: Final = threading.Lock()
        # The times of admission by key, in the order of the last one; apart those whose last request was refused.
        self._logs: Final[dict[str, array[int]]] = {}
        self._refused: Final[dict[str, array[int]]] = {}

    def allow(self, key: str) -> bool:
        """Take one request from the budget of `key`; False when it would be too many, and then nothing is taken."""
        if not key or not self._windows:
            return True
        with self._lock:
            now = self._clock()
            self._expire(now)
            log = self._refused.pop(key, None)
            if log is None:
                log = self._logs.pop(key, None)
            if log is None:
                self._make_room()
                log = array("q")
            if self._wait(log, now) > 0:
                self._refused[key] = log
                return False
            if len(log) >= 2 * self._most:
                del log[: -self._most]
            log.append(now)
            self._logs[key] = log
            return True

    def retry_after(self, key: str) -> float:
        """Return in how many seconds a request with `key` can be admitted; 0.0 for now. Takes nothing."""
        with self._lock:
            log = self._refused.get(key) or self._logs.get(key)
            return 0.0 if log is None else self._wait(log, self._clock()) / 1e9

    def check(self, req: HttpRequest, res: HttpResponse) -> bool:
        """Tell whether the request is admitted; if it is not, it has been answered with 429 and Retry-After.

        The connection goes on: opening a new one would cost both sides more (RFC 6585 §4, RFC 9110 §10.2.3).
        """
        key = network_of(req.client_ip, self._ipv6_prefix) if self._key is None else self._key(req)
        if self.allow(key):
            return True
        seconds = max(1, math.ceil(self.retry_after(key)))
        res.header("Retry-After", str(seconds)).send_error(429, f"try again in {seconds} s")
        return False

    def forget(self, key: str) -> None:
        """Give a key its whole budget back, after a successful login for instance."""
        with self._lock:
            self._logs.pop(key, None)
            self._refused.pop(key, None)

    def __len__(self) -> int:
        """Return the number of keys that are remembered."""
        return len(self._logs) + len(self._refused)

    def _wait(self, log: array[int], now: int) -> int:
        """Return how many nanoseconds it takes until one more fits into every window."""
        longest = 0
        for count, length in self._windows:
            if len(log) >= count:
                longest = max(longest, log[-count] + length - now)
        return longest

    def _expire(self, now: int) -> None:
        """Drop what is too old to matter; two per request keep up with one new key per request."""
        for table in (self._logs, self._refused):
            for _ in range(2):
                key = next(iter(table), None)
                if key is None or now - table[key][-1] < self._longest:
                    break
                del table[key]

    def _make_room(self) -> None:
        if len(self._logs) + len(self._refused) >= self.max_keys:
            table = self._logs or self._refused
            del table[next(iter(table))]


def network_of(address: str, ipv6_prefix: int = 64) -> str:
    """Return an IPv4 address as it is, and an IPv6 address as its network of so many bits: ``2001:db8:1:2::/64``.

    IPv4 addresses in IPv6 form count as IPv4. What is no IPv6 address comes back unchanged.
    """
    if ":" not in address:
        return address
    try:
        octets = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    except OSError:
        return address
    if octets.startswith(_V4_IN_V6):
        return socket.inet_ntop(socket.AF_INET, octets[12:])
    rest = 128 - ipv6_prefix
    network = (int.from_bytes(octets, "big") >> rest << rest).to_bytes(16, "big")
    return f"{socket.inet_ntop(socket.AF_INET6, network)}/{ipv6_prefix}"
