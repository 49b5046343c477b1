"""The rate limiter: against counting every window by hand, and through a server."""

from __future__ import annotations

import ipaddress
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.http.serving import Site, request

from nimloop_core.testing import FakeClock
from nimloop_http import HttpRequest, HttpResponse, RateLimiter, network_of

pytest_plugins = ["tests.http.fixtures"]

WINDOWS = ((3, 1.0), (5, 4.0))
STEPS = st.floats(0, 2.5) | st.sampled_from([0.25, 0.5, 1.0, 4.0])


class Limited(RuleBasedStateMachine):
    """One key after another, against a list of all that was admitted."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.limiter = RateLimiter(*WINDOWS[0], WINDOWS[1], clock=self.clock)
        self.admitted: dict[str, list[int]] = {"a": [], "b": []}

    @rule(step=STEPS)
    def wait(self, step: float) -> None:
        """Let time pass."""
        self.clock.advance(step)

    @rule(key=st.sampled_from("ab"))
    def ask(self, key: str) -> None:
        """Admitted exactly when no window would hold too many."""
        now = self.clock()
        times = self.admitted[key]
        fits = all(sum(1 for time in times if now - time < round(window * 1e9)) < count for count, window in WINDOWS)
        wait = self.limiter.retry_after(key)
        assert (wait == 0) is fits
        assert self.limiter.allow(key) is fits
        if fits:
            times.append(now)

    @rule(key=st.sampled_from("ab"))
    def wait_as_told(self, key: str) -> None:
        """After `retry_after`, and not a nanosecond before, there is room."""
        wait = round(self.limiter.retry_after(key) * 1e9)
        if wait:
            self.clock.advance_ns(wait - 1)
            assert not self.limiter.allow(key)
            self.clock.advance_ns(1)
            self.ask(key)

    @invariant()
    def never_more_than_the_budget(self) -> None:
        """In the windows that begin with each admission, which are the fullest."""
        for times in self.admitted.values():
            for count, window in WINDOWS:
                for begin in times:
                    assert sum(1 for time in times if begin <= time < begin + round(window * 1e9)) <= count


TestLimited = Limited.TestCase
TestLimited.settings = settings(max_examples=60, stateful_step_count=40)


def test_no_burst_around_the_turn_of_a_window() -> None:
    """RL1: a fixed window would let ten through here."""
    clock = FakeClock()
    limiter = RateLimiter(5, 1.0, clock=clock)
    clock.advance(0.9)
    assert [limiter.allow("a") for _ in range(5)] == [True] * 5
    clock.advance(0.2)
    assert not limiter.allow("a")
    clock.advance(0.8)
    assert [limiter.allow("a") for _ in range(6)] == [True] * 5 + [False]


def test_what_is_refused_is_counted_in_no_window() -> None:
    """Several windows are one decision."""
    clock = FakeClock()
    limiter = RateLimiter(1, 1.0, (3, 100.0), clock=clock)
    for _ in range(3):
        assert limiter.allow("a")
        assert not any(limiter.allow("a") for _ in range(10))
        clock.advance(1.0)
    assert not limiter.allow("a")
    assert limiter.retry_after("a") == 97.0


def test_no_limit() -> None:
    """Zero switches a window off, and the empty key is nobody."""
    off = RateLimiter(0, 1.0)
    assert all(off.allow("a") for _ in range(100))
    partly = RateLimiter(0, 1.0, (2, 1.0))
    assert [partly.allow("a") for _ in range(3)] == [True, True, False]
    assert all(partly.allow("") for _ in range(100))
    assert off.retry_after("a") == 0.0


def test_a_budget_given_back() -> None:
    """Forgetting a key is a new beginning for it, and for no other."""
    limiter = RateLimiter(1, 60.0)
    for key in "ab":
        assert limiter.allow(key)
        assert not limiter.allow(key)
    limiter.forget("a")
    limiter.forget("unknown")
    assert limiter.allow("a")
    assert not limiter.allow("b")


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        ((-1, 1.0), {}),
        ((1, 0.0), {}),
        ((1, float("nan")), {}),
        ((1, float("inf")), {}),
        ((1, 1.0, (1, -1.0)), {}),
        ((1, 1.0), {"ipv6_prefix": 0}),
        ((1, 1.0), {"ipv6_prefix": 129}),
        ((1, 1.0), {"max_keys": 0}),
    ],
)
def test_settings_that_make_no_sense(arguments: tuple[int, float], settings: dict[str, int]) -> None:
    """They are refused when the limiter is made."""
    with pytest.raises(ValueError):
        RateLimiter(*arguments, **settings)  # type: ignore[arg-type]


# The table ------------------------------------------------------------------------------------------------------


def test_the_table_is_bounded_under_a_spray_of_addresses() -> None:
    """RL2: and who has used up a budget is not forgotten for those who have not."""
    limiter = RateLimiter(2, 60.0, max_keys=100)
    while limiter.allow("greedy"):
        pass
    for number in range(10_000):
        assert limiter.allow(f"2001:db8:0:{number:x}::/64")
        assert len(limiter) <= 100
    assert not limiter.allow("greedy")


def test_the_table_is_bounded_when_all_are_greedy() -> None:
    """Then the one that was refused longest ago is forgotten."""
    limiter = RateLimiter(1, 60.0, max_keys=10)
    for number in range(1000):
        assert limiter.allow(str(number))
        assert not limiter.allow(str(number))
        assert len(limiter) <= 10
    assert not limiter.allow("999")


def test_keys_are_forgotten_when_their_time_is_over() -> None:
    """Without a timer: others that come clear away the old."""
    clock = FakeClock()
    limiter = RateLimiter(1, 1.0, clock=clock)
    for number in range(500):
        limiter.allow(str(number))
        limiter.allow(str(number))
    assert len(limiter) == 500
    clock.advance(1.0)
    for number in range(250):
        limiter.allow(f"new {number}")
    assert len(limiter) == 250


def test_a_log_does_not_grow() -> None:
    """It holds no more than twice the largest budget."""
    clock = FakeClock()
    limiter = RateLimiter(10, 1.0, clock=clock)
    for _ in range(1000):
        assert limiter.allow("a")
        clock.advance(0.1)
    assert len(limiter._logs["a"]) <= 20


# Keys -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "prefix", "network"),
    [
        ("192.0.2.1", 64, "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", 64, "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", 64, "2001:db8:1:2::/64"),
        ("2001:db8:1:2ff::1", 56, "2001:db8:1:200::/56"),
        ("2001:db8::1", 128, "2001:db8::1/128"),
        ("::ffff:192.0.2.1", 64, "192.0.2.1"),
        ("fe80::1%eth0", 64, "fe80::/64"),
        ("", 64, ""),
        ("a:b", 64, "a:b"),
    ],
)
def test_networks(address: str, prefix: int, network: str) -> None:
    """Addresses of one customer are one key."""
    assert network_of(address, prefix) == network


@given(st.binary(min_size=8, max_size=8), st.binary(min_size=8, max_size=8), st.binary(min_size=8, max_size=8))
def test_addresses_of_one_network_are_one_key(network: bytes, one: bytes, other: bytes) -> None:
    """Whatever follows the first 64 bits."""
    first, second = (str(ipaddress.IPv6Address(network + host)) for host in (one, other))
    if network != bytes(8):  # where IPv4 in IPv6 form lives
        assert network_of(first) == network_of(second)


# Through a server -----------------------------------------------------------------------------------------------


def test_too_many_requests(timed_site: Site) -> None:
    """RL2: 429 with Retry-After, and the connection goes on."""
    limiter = RateLimiter(2, 10.0, clock=timed_site.loop.clock)

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        if limiter.check(req, res):
            res.send("welcome")

    timed_site.start(on_request)
    client = timed_site.dial()
    client.send(request() * 3)
    first, second, third = client.answers("GET", "GET", "GET")
    assert (first.status, second.status, third.status) == (200, 200, 429)
    assert third.get("retry-after") == "10"
    assert third.get("connection") is None
    client.received.clear()
    assert timed_site.clock is not None
    timed_site.clock.advance(9.5)
    client.send(request())
    assert client.answer().get("retry-after") == "1"
    timed_site.clock.advance(0.5)
    client.send(request())
    assert client.answer().status == 200


def test_a_key_function(site: Site) -> None:
    """It decides whom a request counts for."""
    limiter = RateLimiter(1, 60.0, key=lambda req: req.headers.get("x-user", ""))

    def on_request(req: HttpRequest, res: HttpResponse) -> None:
        if limiter.check(req, res):
            res.send("welcome")

    site.start(on_request)
    client = site.dial()
    seen = []
    for user in ("ann", "bob", "ann", "bob"):
        client.send(request("GET", "/", f"X-User: {user}"))
        seen.append(client.answer().status)
    for _ in range(3):
        client.send(request())
        seen.append(client.answer().status)
    assert seen == [200, 200, 429, 429, 200, 200, 200]


def test_threads_share_a_limiter() -> None:
    """What they take together is what there was."""
    limiter = RateLimiter(1000, 60.0)
    taken = []

    def take() -> None:
        taken.append(sum(limiter.allow("a") for _ in range(500)))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 1000
