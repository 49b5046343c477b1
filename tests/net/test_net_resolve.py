"""Look-ups: in threads, shared, bounded, given up, and never in the way of a loop that ends."""

from __future__ import annotations

import functools
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import final

import pytest

from nimloop_core import Loop
from nimloop_net import (
    AddressError,
    HostNotFoundError,
    LookupTimeoutError,
    NetError,
    ResolveError,
    Resolver,
    ResolverBusyError,
    _resolve,
    resolve,
)

Until = Callable[[Callable[[], object]], None]
Entry = tuple[int, int, int, str, tuple[object, ...]]
PATIENCE = 20.0


@final
class Book:
    """Stands in for getaddrinfo; names in `held` are answered when the test lets them."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, list[str] | Exception] = {}
        self.gate = threading.Event()
        self.held: set[str] = set()
        self.entered = threading.Semaphore(0)

    def __call__(self, host: str, port: None, *, type: int) -> list[Entry]:  # noqa: A002 - its name there
        """Answer, when it may."""
        self.asked.append(host)
        self.entered.release()
        if host in self.held:
            assert self.gate.wait(PATIENCE)
        answer = self.answers.get(host, ["192.0.2.1"])
        if isinstance(answer, Exception):
            raise answer
        return [
            (socket.AF_INET6, type, 6, "", (each, 0, 0, 3 if each.startswith("fe80") else 0))
            if ":" in each
            else (socket.AF_INET, type, 6, "", (each, 0))
            for each in answer
        ]

    def wait_until_asked(self, times: int = 1) -> None:
        """Return when that many look-ups have begun."""
        for _ in range(times):
            assert self.entered.acquire(timeout=PATIENCE)


@pytest.fixture
def book() -> Iterator[Book]:
    """Answer look-ups; nothing is held when the test is over."""
    book = Book()
    yield book
    book.gate.set()
    for thread in resolver_threads():
        thread.join(PATIENCE)
    assert resolver_threads() == []


def resolver_threads() -> list[threading.Thread]:
    """Return the threads that look names up."""
    return [each for each in threading.enumerate() if each.name == "nimloop-resolver"]


@final
class Told:
    """What `resolve` has told."""

    def __init__(self) -> None:
        self.found: list[list[str]] = []
        self.errors: list[Exception] = []

    def ask(self, loop: Loop, host: str, resolver: Resolver | None, timeout: float = 10.0) -> _resolve.Resolution:
        """Look a name up."""
        return resolve(loop, host, self.found.append, on_error=self.errors.append, timeout=timeout, resolver=resolver)

    @property
    def outcomes(self) -> int:
        """How often it has told anything."""
        return len(self.found) + len(self.errors)


def test_found(loop: Loop, until: Until, book: Book) -> None:
    """All addresses come, each once, in the system's order, with their zones."""
    book.answers["example.org"] = ["fe80::1", "192.0.2.7", "2001:db8::1", "192.0.2.7"]
    told = Told()
    told.ask(loop, "example.org", Resolver(getaddrinfo=book))
    assert told.outcomes == 0
    until(lambda: told.outcomes)
    assert told.found == [["fe80::1%3", "192.0.2.7", "2001:db8::1"]]


def test_in_earnest(loop: Loop, until: Until) -> None:
    """The system's own resolver knows this machine."""
    told = Told()
    told.ask(loop, "localhost", None)
    until(lambda: told.outcomes)
    assert set(told.found[0]) <= {"127.0.0.1", "::1"}
    told.ask(loop, "no-such-host.invalid", None)
    until(lambda: told.outcomes == 2)
    assert isinstance(told.errors[0], ResolveError)


@pytest.mark.parametrize("literal", ["127.0.0.1", "2001:db8::1", "fe80::1%1"])
def test_literals(loop: Loop, until: Until, book: Book, literal: str) -> None:
    """A literal is its own answer, which takes no thread, and does not come from inside the call."""
    told = Told()
    told.ask(loop, literal, Resolver(getaddrinfo=book))
    assert told.outcomes == 0
    until(lambda: told.outcomes)
    assert told.found == [[literal]]
    assert book.asked == []


@pytest.mark.parametrize("host", ["", "a..b", "[::1]", "::1%nowhere", "x" * 300])
def test_what_is_no_host(loop: Loop, until: Until, book: Book, host: str) -> None:
    """Nothing is asked for what can have no answer."""
    told = Told()
    told.ask(loop, host, Resolver(getaddrinfo=book))
    assert told.outcomes == 0
    until(lambda: told.outcomes)
    assert isinstance(told.errors[0], AddressError)
    assert book.asked == []


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), HostNotFoundError),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), ResolveError),
        (socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure"), ResolveError),
        (OSError(24, "Too many open files"), ResolveError),
        (UnicodeError("label too long"), ResolveError),
        (MemoryError(), ResolveError),
        ([], HostNotFoundError),
    ],
)
def test_failures(
    loop: Loop, until: Until, book: Book, answer: list[str] | Exception, kind: type[ResolveError]
) -> None:
    """Whatever a look-up fails with, it is one error of the family, with the name in it."""
    book.answers["x.example"] = answer
    told = Told()
    told.ask(loop, "x.example", Resolver(getaddrinfo=book))
    until(lambda: told.outcomes)
    (error,) = told.errors
    assert type(error) is kind
    assert isinstance(error, NetError)
    assert isinstance(error, socket.gaierror)
    assert "x.example" in str(error)


def test_without_on_error(loop: Loop, until: Until, book: Book, errors: list[Exception]) -> None:
    """A failure that nobody asked for goes to the loop's exception handler."""
    book.answers["x.example"] = []
    resolve(loop, "x.example", print, resolver=Resolver(getaddrinfo=book))
    until(lambda: errors)
    assert isinstance(errors.pop(), HostNotFoundError)


def test_shared(loop: Loop, until: Until, book: Book) -> None:
    """Who asks for a name that is being looked up gets the same answer; who asks later has it looked up anew."""
    resolver = Resolver(getaddrinfo=book)
    book.held.add("slow.example")
    tolds = [Told() for _ in range(10)]
    for told in tolds:
        told.ask(loop, "slow.example", resolver)
    book.wait_until_asked()
    book.gate.set()
    until(lambda: all(told.outcomes for told in tolds))
    assert book.asked == ["slow.example"]
    tolds[0].ask(loop, "slow.example", resolver)
    until(lambda: tolds[0].outcomes == 2)
    assert book.asked == ["slow.example"] * 2


def test_threads_are_bounded(loop: Loop, until: Until, book: Book) -> None:
    """No more threads than allowed; the rest waits for its turn, up to a limit, and is refused beyond."""
    resolver = Resolver(threads=2, waiting=3, getaddrinfo=book)
    book.held.update(f"{number}.example" for number in range(10))
    told = Told()
    for number in range(6):
        told.ask(loop, f"{number}.example", resolver)
    book.wait_until_asked(2)
    assert len(resolver_threads()) == 2
    until(lambda: told.errors)
    assert isinstance(told.errors[0], ResolverBusyError)
    assert "5.example" in str(told.errors[0])
    told.ask(loop, "0.example", resolver)  # joins one that is under way
    book.gate.set()
    until(lambda: told.outcomes == 7)
    assert len(told.errors) == 1
    assert sorted(book.asked) == [f"{number}.example" for number in range(5)]


def test_no_more_threads(loop: Loop, until: Until, book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that can start no thread gets a clear refusal, and can try again."""

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    resolver = Resolver(getaddrinfo=book)
    told = Told()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        told.ask(loop, "a.example", resolver)
    until(lambda: told.outcomes)
    assert isinstance(told.errors[0], ResolverBusyError)
    told.ask(loop, "a.example", resolver)
    until(lambda: told.found)


def test_no_second_thread(loop: Loop, until: Until, book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is a thread already, a name waits for that one, and is not refused."""

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    book.held.add("slow.example")
    resolver = Resolver(getaddrinfo=book)
    told = Told()
    told.ask(loop, "slow.example", resolver)
    book.wait_until_asked()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        told.ask(loop, "quick.example", resolver)
    loop.run_once(0)
    assert told.outcomes == 0
    book.gate.set()
    until(lambda: told.outcomes == 2)
    assert told.errors == []


def test_time_out(loop: Loop, until: Until, book: Book) -> None:
    """The wait has an end, and an answer that comes later is nobody's."""
    book.held.add("slow.example")
    told = Told()
    resolution = told.ask(loop, "slow.example", Resolver(getaddrinfo=book), timeout=0.01)
    until(lambda: told.outcomes)
    (error,) = told.errors
    assert isinstance(error, LookupTimeoutError)
    assert isinstance(error, TimeoutError)
    assert repr(resolution) == "<Resolution over host='slow.example'>"
    book.gate.set()
    for thread in resolver_threads():
        thread.join(PATIENCE)
    loop.run_once(0)
    assert told.outcomes == 1


def test_cancel(loop: Loop, book: Book) -> None:
    """Who gives up hears nothing; what nobody waits for is not begun."""
    resolver = Resolver(threads=1, getaddrinfo=book)
    book.held.add("0.example")
    told = Told()
    resolutions = [told.ask(loop, f"{number}.example", resolver) for number in range(4)]
    book.wait_until_asked()
    for resolution in resolutions:
        resolution.cancel()
        resolution.cancel()
    book.gate.set()
    for thread in resolver_threads():
        thread.join(PATIENCE)
    loop.run_once(0)
    assert told.outcomes == 0
    assert book.asked == ["0.example"]
    assert resolver._shares == {}


def test_cancel_one_of_two(loop: Loop, until: Until, book: Book) -> None:
    """The other one's look-up goes on."""
    resolver = Resolver(getaddrinfo=book)
    book.held.add("slow.example")
    first, second = Told(), Told()
    first.ask(loop, "slow.example", resolver).cancel()
    second.ask(loop, "slow.example", resolver)
    book.gate.set()
    until(lambda: second.outcomes)
    assert first.outcomes == 0


def test_cancel_with_the_answer_on_its_way(loop: Loop, book: Book) -> None:
    """Even then nobody is called."""
    told = Told()
    resolution = told.ask(loop, "a.example", Resolver(getaddrinfo=book))
    for thread in resolver_threads():
        thread.join(PATIENCE)
    resolution.cancel()
    loop.run_once(0)
    assert told.outcomes == 0


def test_loop_closes(book: Book) -> None:
    """A loop may close with look-ups under way and waiting: they bother nobody, and nothing stays behind."""
    resolver = Resolver(threads=1, getaddrinfo=book)
    book.held.add("0.example")
    told = Told()
    with Loop() as loop:
        for number in range(3):
            told.ask(loop, f"{number}.example", resolver)
        book.wait_until_asked()
    book.gate.set()
    for thread in resolver_threads():
        thread.join(PATIENCE)
    assert resolver_threads() == []
    assert told.outcomes == 0
    assert book.asked == ["0.example"]
    assert resolver._shares == {}


def test_several_loops(book: Book) -> None:
    """One resolver serves loops in several threads."""
    resolver = Resolver(threads=2, getaddrinfo=book)
    counts: list[int] = []

    def work() -> None:
        with Loop() as loop:
            left = set(range(50))

            def done(number: int, _found: list[str]) -> None:
                left.discard(number)
                if not left:
                    loop.stop()

            for number in range(50):
                resolve(loop, f"{number}.example", functools.partial(done, number), resolver=resolver)
            loop.run()
            counts.append(len(left))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert counts == [0] * 4


def test_settings() -> None:
    """A resolver without threads would answer nobody."""
    with pytest.raises(ValueError, match="0"):
        Resolver(threads=0)
    with pytest.raises(ValueError, match="-1"):
        Resolver(waiting=-1)


def test_repr(loop: Loop, book: Book, until: Until) -> None:
    """All three show how far they are: the resolver, a share in a look-up, and a look-up that was asked for."""
    book.held.add("slow.example")
    resolver = Resolver(getaddrinfo=book)
    told = Told()
    resolution = told.ask(loop, "slow.example", resolver)
    found: list[object] = []
    share = resolver.look_up(loop, "slow.example", lambda *answer: found.append(answer))
    assert repr(resolver) == "<Resolver names=1 threads=1>"
    assert repr(share) == "<Waiting resolving host='slow.example'>"
    assert repr(resolution) == "<Resolution resolving host='slow.example'>"
    book.gate.set()
    until(lambda: told.outcomes and found)
    assert repr(share) == "<Waiting over host='slow.example'>"
    assert repr(resolution) == "<Resolution over host='slow.example'>"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_fork() -> None:
    """A child does not wait for the threads of its parent."""
    program = """
import os, threading, socket
from nimloop_core import Loop
from nimloop_net import _resolve, resolve
gate = threading.Event()
slow = lambda *a, **k: gate.wait(20) and []
_resolve.SHARED._getaddrinfo = slow
with Loop() as loop:
    for number in range(10):
        resolve(loop, f"{number}.example", print, on_error=lambda error: None)
pid = os.fork()
if pid == 0:
    _resolve.SHARED._getaddrinfo = socket.getaddrinfo
    with Loop() as loop:
        resolve(loop, "localhost", lambda found: (print(len(found) > 0, flush=True), loop.stop()))
        loop.run()
    os._exit(0)
os.waitpid(pid, 0)
gate.set()
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("True\n", "", 0)


def test_end_of_the_program() -> None:
    """A look-up that hangs does not hold up the end of the program."""
    program = """
import threading
from nimloop_core import Loop
from nimloop_net import Resolver, resolve
with Loop() as loop:
    slow = Resolver(getaddrinfo=lambda *a, **k: threading.Event().wait())
    resolve(loop, "slow.example", print, resolver=slow)
    loop.run_once(0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
