"""Both ways to live with asyncio, and the third one by hand, on virtual time where nothing but time matters."""

from __future__ import annotations

import asyncio
import gc
import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Self, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core import stand_ins

from nimloop_core import (
    READ,
    WRITE,
    AlreadyRegisteredError,
    Loop,
    LoopClosedError,
    LoopRunningError,
    TimerCancelledError,
    WrongThreadError,
)
from nimloop_core.interop import AsyncioGuest, NimloopSelector
from nimloop_core.testing import DeadlockError, FakeBackend, FakeClock

T = TypeVar("T")
# A selector is not a socket.
HOSTS = [name for name in stand_ins.NAMES if stand_ins.exists(name) and name not in stand_ins.ONLY_SOCKETS]
Pair = tuple[socket.socket, socket.socket]
Errors = list[tuple[Exception, object]]
Run = Callable[[Coroutine[object, object, T]], T]


def ignore(_events: int = 0) -> None:
    """Do nothing."""


class Both:
    """A nimloop loop and an asyncio loop in one thread, whichever is in charge."""

    def __init__(self, loop: Loop, asyncio_loop: asyncio.AbstractEventLoop, guest: AsyncioGuest | None) -> None:
        self.loop = loop
        self.asyncio_loop = asyncio_loop
        self.guest = guest

    def run(self, main: Coroutine[object, object, T]) -> T:
        """Run both until a coroutine has ended."""
        if self.guest is None:
            return self.asyncio_loop.run_until_complete(main)
        task = self.guest.create_task(main)
        task.add_done_callback(lambda _: self.loop.stop())
        while not task.done():
            self.loop.run()
        return task.result()

    async def sleep(self, delay: float) -> None:
        """Sleep on a timer of nimloop."""
        future = self.asyncio_loop.create_future()
        timer = self.loop.call_later(delay, lambda: future.set_result(None))
        try:
            await future
        finally:
            timer.cancel()

    async def readable(self, fd: int) -> int:
        """Wait for a descriptor with a watcher of nimloop; return what came."""
        future: asyncio.Future[int] = self.asyncio_loop.create_future()

        def on_event(events: int) -> None:
            if not future.done():
                future.set_result(events)

        watcher = self.loop.register(fd, READ, on_event)
        try:
            return await future
        finally:
            watcher.unregister()


class SharedTime(asyncio.SelectorEventLoop):
    """Let asyncio run on the clock of a nimloop loop, so that it takes part in virtual time."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(NimloopSelector(loop))
        self._nimloop = loop

    def time(self) -> float:
        """Return nimloop's time."""
        return self._nimloop.time()


@contextmanager
def together(how: str, loop: Loop) -> Iterator[Both]:
    """Bring both together in one way."""
    if how == "guest":
        with AsyncioGuest(loop) as guest:
            yield Both(loop, guest.asyncio_loop, guest)
    else:
        asyncio_loop = SharedTime(loop)
        try:
            yield Both(loop, asyncio_loop, None)
        finally:
            asyncio_loop.run_until_complete(asyncio_loop.shutdown_asyncgens())
            asyncio_loop.run_until_complete(asyncio_loop.shutdown_default_executor())
            asyncio_loop.close()


def hosted(loop: Loop) -> asyncio.Runner:
    """Prepare asyncio's runner as the documentation of `NimloopSelector` says."""
    return asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(NimloopSelector(loop)))


WAYS = ["selector", "guest"]


@pytest.fixture(params=WAYS)
def how(request: pytest.FixtureRequest) -> str:
    """Name each way."""
    return str(request.param)


@pytest.fixture
def virtual(how: str, loop: Loop) -> Iterator[Both]:
    """Bring both together on virtual time, where descriptors are never ready."""
    with together(how, loop) as both:
        yield both


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest) -> Iterator[Loop]:
    """Run nimloop on each backend that can watch asyncio's selector, on real time."""
    with Loop(stand_ins.create(str(request.param), [])) as loop:
        yield loop


@pytest.fixture
def both(how: str, host: Loop) -> Iterator[Both]:
    """Bring both together on real time."""
    with together(how, host) as both:
        yield both


# Time ---------------------------------------------------------------------------------------------------------


def test_sleeps_of_both_kinds_take_as_long_as_they_say(virtual: Both) -> None:
    """One after another and side by side, on one clock."""

    async def main() -> list[float]:
        start = virtual.loop.time()
        times: list[float] = []
        for _ in range(3):
            await asyncio.sleep(1)
            times.append(virtual.loop.time() - start)
            await virtual.sleep(1)
            times.append(virtual.loop.time() - start)
        await asyncio.gather(asyncio.sleep(5), virtual.sleep(5), asyncio.sleep(2), virtual.sleep(2))
        times.append(virtual.loop.time() - start)
        return times

    assert virtual.run(main()) == [pytest.approx(each, abs=0.02) for each in (1, 2, 3, 4, 5, 6, 11)]


def test_what_is_to_come_soon_takes_no_time(virtual: Both, clock: FakeClock) -> None:
    """A long way from step to step, on both sides, without a tick of the clock."""

    async def main() -> float:
        start = virtual.loop.time()
        sleeper = asyncio.ensure_future(asyncio.sleep(1))
        for number in range(500):
            future: asyncio.Future[None] = virtual.asyncio_loop.create_future()
            if number % 3 == 0:
                virtual.loop.call_soon(partial(future.set_result, None))
            elif number % 3 == 1:
                virtual.asyncio_loop.call_soon(future.set_result, None)
            else:
                virtual.loop.call_soon_threadsafe(partial(future.set_result, None))
            await future
            await asyncio.sleep(0)
        took = virtual.loop.time() - start
        await sleeper
        return took

    clock.advance_ns(500_000)  # between two ticks
    assert virtual.run(main()) == 0


def test_a_day_is_no_limit(virtual: Both) -> None:
    """Both loops look up once a day."""

    async def main() -> float:
        start = virtual.loop.time()
        await asyncio.sleep(2.5 * 86_400)
        await virtual.sleep(1.5 * 86_400)
        return virtual.loop.time() - start

    assert virtual.run(main()) == pytest.approx(4 * 86_400, abs=0.1)


def test_ten_thousand_sleeps(virtual: Both) -> None:
    """They end in the order of their delays, whichever side keeps the time."""
    ended: list[tuple[float, float]] = []

    async def nap(number: int) -> None:
        delay = number * 7_919 % 10_000 / 1000
        await (asyncio.sleep(delay) if number % 2 else virtual.sleep(delay))
        ended.append((delay, virtual.loop.time() - start))

    async def main() -> None:
        await asyncio.gather(*(nap(number) for number in range(10_000)))

    start = virtual.loop.time()
    virtual.run(main())
    assert len(ended) == 10_000
    for delay, took in ended:
        assert delay <= took + 1e-6
        assert took <= delay + 0.01


def test_ten_thousand_sleeps_in_real_time(both: Both) -> None:
    """The same, with a kernel below."""

    async def main() -> None:
        await asyncio.gather(
            *(asyncio.sleep(number % 50 / 1000) for number in range(5_000)),
            *(both.sleep(number % 50 / 1000) for number in range(5_000)),
        )

    both.run(main())


Step = tuple[str, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["sleep", "nimloop sleep", "yield", "soon", "nimloop soon", "posted", "spawn", "work", "timeout", "cancel"]
        ),
        st.integers(0, 2_000),
    ),
    max_size=8,
)


class Program:
    """Tasks that do as their script says, and check that nothing is early, nothing late, and nothing forgotten."""

    def __init__(self, both: Both, clock: FakeClock, scripts: list[list[Step]]) -> None:
        self.both = both
        self.clock = clock
        self.scripts = scripts
        self.held_up = 0.0  # until when somebody has kept both loops from going on
        self.tasks: list[asyncio.Task[None]] = []

    async def main(self) -> None:
        """Start with the first script; those that it spawns follow."""
        while self.scripts:
            self.spawn()
            while not all(task.done() for task in self.tasks):
                await asyncio.wait(self.tasks)
        for task in self.tasks:
            task.result()

    def spawn(self) -> None:
        """Start a task for the next script."""
        if self.scripts:
            self.tasks.append(self.both.asyncio_loop.create_task(self.task(self.scripts.pop())))

    async def task(self, script: list[Step]) -> None:
        """Take the steps, and the time that each takes."""
        for name, amount in script:
            delay = amount / 1000
            start = self.both.loop.time()
            takes = await self.step(name, delay)
            now = self.both.loop.time()
            assert now >= start + takes - 1e-6, f"{name} {delay} was early"
            assert now <= max(start + takes, self.held_up) + 0.005, f"{name} {delay} was late"

    async def step(self, name: str, delay: float) -> float:
        """Take one step; return how long it should take."""
        both = self.both
        match name:
            case "sleep":
                await asyncio.sleep(delay)
                return delay
            case "nimloop sleep":
                await both.sleep(delay)
                return delay
            case "timeout":
                with suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await both.sleep(5)
                return delay
            case "cancel":
                task = both.asyncio_loop.create_task(asyncio.sleep(5))
                both.loop.call_later(delay, task.cancel)
                await asyncio.wait([task])
                return delay
            case "work":
                self.clock.advance(delay)
                self.held_up = both.loop.time()
                return delay
            case "spawn":
                both.loop.call_soon(self.spawn)
                return 0.0
            case "yield":
                await asyncio.sleep(0)
                return 0.0
        future: asyncio.Future[None] = both.asyncio_loop.create_future()
        if name == "soon":
            both.asyncio_loop.call_soon(future.set_result, None)
        elif name == "nimloop soon":
            both.loop.call_soon(lambda: future.set_result(None))
        else:
            both.loop.call_soon_threadsafe(lambda: future.set_result(None))
        await future
        return 0.0


@pytest.mark.parametrize("way", WAYS)
@given(scripts=st.lists(STEPS, max_size=8))
def test_nothing_is_forgotten(way: str, scripts: list[list[Step]]) -> None:
    """Whatever tasks, timers and callbacks of both sides do to each other, everything comes, and comes in time."""
    clock = FakeClock(1234.567_890_123)
    with Loop(FakeBackend(clock), clock=clock, debug=True, slow_callback=1e6) as loop, together(way, loop) as both:
        program = Program(both, clock, list(scripts))
        both.run(program.main())
        if way == "guest":
            # With everybody asleep for good the host waits for ever: no turn is taken for nothing.
            loop.run_once(0)
            loop.run_once(10)
            with pytest.raises(DeadlockError):
                loop.run()


@pytest.mark.parametrize("adds", [False, True])
def test_time_that_passes_within_a_turn_is_noticed(
    adds: bool,  # noqa: FBT001
    loop: Loop,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The process is stopped for ten seconds after asyncio has decided how long to wait, and before it looks again."""
    with AsyncioGuest(loop) as guest:
        inner = guest._selector._inner
        select = inner.select
        stops = iter([10.0])

        def stopped(timeout: float | None = None) -> object:
            clock.advance(next(stops, 0))
            return select(timeout)

        seen: list[tuple[str, float]] = []
        start = loop.time()

        def note(name: str) -> None:
            seen.append((name, loop.time() - start))

        def first() -> None:
            note("first")
            if adds:
                guest.asyncio_loop.call_soon(note, "soon after")

        guest.asyncio_loop.call_later(5, first)
        guest.asyncio_loop.call_later(6, note, "second")
        guest.asyncio_loop.call_later(11, note, "third")
        monkeypatch.setattr(inner, "select", stopped)
        while not seen or seen[-1][0] != "third":
            loop.run_once(20)
    assert [name for name, _ in seen] == ["first", "second", *(["soon after"] if adds else []), "third"]
    *early, last = [when for _, when in seen]
    assert early == [pytest.approx(10, abs=5e-3)] * len(early)
    assert last == pytest.approx(11, abs=5e-3)


def test_what_a_turn_reads_away_is_not_forgotten(both: Both) -> None:
    """A call from the loop's own thread writes to asyncio's socket, which the same turn then empties."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        for _ in range(100):
            done.clear()
            loop.call_soon_threadsafe(loop.call_soon_threadsafe, done.set)
            await done.wait()

    both.run(main())


# What either side asks of the other ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["soon", "posted", "timer", "event", "idle"])
def test_a_nimloop_callback_ends_what_a_coroutine_waits_for(kind: str, virtual: Both, fake: FakeBackend) -> None:
    """From whichever step of the iteration it comes, asyncio goes on before anybody waits."""
    loop = virtual.loop

    async def main() -> str:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def done(_events: int = 0) -> None:
            if not future.done():
                future.set_result(kind)

        watcher = loop.register(7, READ, done)
        idle = loop.add_idle(ignore)
        match kind:
            case "soon":
                loop.call_soon(done)
            case "posted":
                loop.call_soon_threadsafe(done)
            case "timer":
                loop.call_later(0, done)
            case "event":
                fake.put(7, READ)
            case _:
                idle = loop.add_idle(done)
                loop.call_later(1, ignore)
        result = await future
        watcher.unregister()
        idle.cancel()
        return result

    start = loop.time()
    assert virtual.run(main()) == kind
    assert loop.time() - start < 1.01


def test_a_nimloop_callback_starts_asyncio_timers(virtual: Both) -> None:
    """`call_later` of asyncio between two turns is heard of, also when it is earlier than all others."""

    async def main() -> float:
        loop, future = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()
        start = virtual.loop.time()
        virtual.loop.call_later(1, lambda: loop.call_later(1, future.set_result, None))
        sleeper = asyncio.ensure_future(asyncio.sleep(100))
        await future
        sleeper.cancel()
        return virtual.loop.time() - start

    assert virtual.run(main()) == pytest.approx(2, abs=0.01)


def test_tasks_are_started_by_nimloop_callbacks(virtual: Both, fake: FakeBackend) -> None:
    """By a watcher, a timer, a queued and a posted callback, and by tasks."""
    ended: list[str] = []

    async def work(name: str) -> None:
        await asyncio.sleep(0.01)
        ended.append(name)

    tasks: list[asyncio.Task[None]] = []

    def start(name: str) -> Callable[[], None]:
        create = virtual.guest.create_task if virtual.guest else virtual.asyncio_loop.create_task
        return lambda: tasks.append(create(work(name)))

    async def main() -> None:
        watcher = virtual.loop.register(7, READ, lambda _: start("event")())
        virtual.loop.call_later(0.5, start("timer"))
        virtual.loop.call_soon(start("soon"))
        virtual.loop.call_soon_threadsafe(start("posted"))
        fake.put(7, READ)
        await asyncio.sleep(1)
        watcher.unregister()
        start("task")()
        await asyncio.wait(tasks)

    virtual.run(main())
    assert sorted(ended[:3]) == ["event", "posted", "soon"]
    assert ended[3:] == ["timer", "task"]


def test_first_steps_are_taken_before_nimloop_waits(loop: Loop, fake: FakeBackend) -> None:
    """A task made outside of everything runs in the next iteration."""
    stepped: list[bool] = []

    async def main() -> None:
        stepped.append(True)

    with AsyncioGuest(loop) as guest:
        guest.create_task(main())
        loop.run_once(5)
        assert stepped == [True]
        # It was seen before the wait that nothing is left to do but to wait.
        assert fake.waits[0] == 5_000_000_000


def test_other_threads_start_tasks(both: Both) -> None:
    """`run_coroutine_threadsafe` and `call_soon_threadsafe` of asyncio, and nimloop's own, while both wait."""

    async def add(left: int, right: int) -> int:
        await asyncio.sleep(0.001)
        await both.sleep(0.001)
        return left + right

    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        results: list[int] = []
        done, posted = asyncio.Event(), asyncio.Event()

        def work() -> None:
            results.extend(asyncio.run_coroutine_threadsafe(add(number, 1), loop).result(30) for number in range(20))
            both.loop.call_soon_threadsafe(posted.set)
            loop.call_soon_threadsafe(done.set)

        thread = threading.Thread(target=work)
        thread.start()
        await done.wait()
        await posted.wait()
        thread.join()
        return results

    assert both.run(main()) == list(range(1, 21))


def test_work_in_threads(both: Both) -> None:
    """`to_thread` wakes both up."""

    async def main() -> list[int]:
        return await asyncio.gather(*(asyncio.to_thread(abs, -number) for number in range(10)))

    assert both.run(main()) == list(range(10))


def test_sockets_of_both_sides(both: Both) -> None:
    """An asyncio server with a client whose readiness nimloop tells, and timers of nimloop in between."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            await both.sleep(0.001)
            writer.write(line)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def client(number: int, port: int) -> bytes:
        with socket.socket() as sock:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
            answers = b""
            for word in (b"one\n", b"two\n", b"three\n"):
                sock.send(b"%d " % number + word)
                await both.readable(sock.fileno())
                answers += sock.recv(1000)
            return answers

    async def main() -> list[bytes]:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await asyncio.gather(*(client(number, port) for number in range(20)))

    answers = both.run(main())
    assert answers == [b"%d one\n%d two\n%d three\n" % (number, number, number) for number in range(20)]


def test_a_nimloop_server_with_asyncio_streams(both: Both, make_pair: Callable[[], Pair]) -> None:
    """Megabytes go through a watcher that echoes, from and to a stream of asyncio."""
    ours, theirs = make_pair()
    pending = bytearray()

    def on_event(events: int) -> None:
        if events & READ:
            data = ours.recv(65536)
            if not data:
                watcher.unregister()
                return
            pending.extend(data)
        with suppress(BlockingIOError):
            del pending[: ours.send(pending)]
        watcher.modify(READ | WRITE if pending else READ)

    watcher = both.loop.register(ours, READ, on_event)
    data = os.urandom(1 << 20) * 3

    async def main() -> bytes:
        reader, writer = await asyncio.open_connection(sock=theirs)
        writer.write(data)
        answer = await reader.readexactly(len(data))
        writer.close()
        await writer.wait_closed()
        return answer

    assert both.run(main()) == data
    watcher.unregister()


def test_sub_processes(both: Both) -> None:
    """The end of a child is told to asyncio, and so is what it has written."""

    async def main() -> bytes:
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(6 * 7)", stdout=-1)
        output, _ = await child.communicate()
        assert child.returncode == 0
        return output

    if both.guest is None:
        asyncio.set_event_loop(both.asyncio_loop)
    try:
        assert both.run(main()).strip() == b"42"
    finally:
        asyncio.set_event_loop(None)


# What goes wrong ----------------------------------------------------------------------------------------------


def test_exceptions_stay_on_their_side(virtual: Both, errors: Errors) -> None:
    """A failed callback goes to nimloop's handler, a failed coroutine to whoever awaits it, and both go on."""

    def fail() -> None:
        raise RuntimeError("callback")

    async def failing() -> None:
        await virtual.sleep(0.1)
        raise ValueError("coroutine")

    async def main() -> str:
        virtual.loop.call_soon(fail)
        virtual.loop.call_later(0.05, fail)
        with pytest.raises(ValueError, match="coroutine"):
            await asyncio.ensure_future(failing())
        await asyncio.sleep(0.1)
        return "went on"

    assert virtual.run(main()) == "went on"
    assert [str(error) for error, _ in errors] == ["callback", "callback"]


def test_cancelling(virtual: Both) -> None:
    """A task is cancelled by nimloop, by a time-out, and by another task; its clean-up takes its time on both sides."""
    cleaned: list[float] = []
    start = virtual.loop.time()

    async def work() -> None:
        try:
            await virtual.sleep(1000)
        finally:
            await asyncio.sleep(1)
            await virtual.sleep(1)
            cleaned.append(virtual.loop.time() - start)

    async def main() -> None:
        tasks = [asyncio.ensure_future(work()) for _ in range(2)]
        virtual.loop.call_later(10, tasks[0].cancel)
        await asyncio.sleep(20)
        tasks[1].cancel()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await work()
        assert all(task.cancelled() for task in tasks)

    virtual.run(main())
    assert cleaned == [pytest.approx(each, abs=0.02) for each in (12, 22, 32)]


def test_ctrl_c_of_asyncio_runner(host: Loop) -> None:
    """The main task is cancelled and may clean up, then `KeyboardInterrupt` comes out, as without nimloop."""
    cleaned: list[bool] = []

    async def main() -> None:
        host.call_later(0.01, lambda: os.kill(os.getpid(), signal.SIGINT))
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0.001)
            cleaned.append(True)

    with hosted(host) as runner, pytest.raises(KeyboardInterrupt):
        runner.run(main())
    assert cleaned == [True]
    assert not host.closed


def test_ctrl_c_while_both_wait(host: Loop) -> None:
    """A signal that comes from elsewhere, at any moment."""
    # Python itself sleeps through a signal that comes between its last look and the system call.
    host.call_every(0.05, ignore)

    async def main() -> None:
        waiting.set()
        await asyncio.sleep(1000)

    waiting = threading.Event()

    def interrupt() -> None:
        waiting.wait()
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with hosted(host) as runner, pytest.raises(KeyboardInterrupt):
        runner.run(main())
    thread.join()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_turn_is_made_up_for(kind: type[BaseException], loop: Loop) -> None:
    """What a coroutine raises to end the program leaves `run`; what was ready behind it runs when the loop goes on."""
    ran: list[int] = []

    def interrupt() -> None:
        raise kind

    with AsyncioGuest(loop) as guest:
        for number in range(3):
            guest.asyncio_loop.call_soon(ran.append, number)
            if number == 0:
                guest.asyncio_loop.call_soon(interrupt)
        with pytest.raises(kind):
            loop.run_once(0)
        assert ran == [0]
        loop.run_once(0)
        assert ran == [0, 1, 2]


@pytest.mark.parametrize("kind", ["soon", "posted", "timer"])
def test_what_an_interrupted_wait_has_left_over_is_made_up_for(kind: str, loop: Loop, fake: FakeBackend) -> None:
    """A nimloop callback ends the program from within asyncio's wait; the one behind it is what asyncio waits for."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    with together("selector", loop) as both:
        future: asyncio.Future[str] = both.asyncio_loop.create_future()
        for callback in (interrupt, lambda: future.set_result("done")):
            match kind:
                case "soon":
                    loop.call_soon(callback)
                case "posted":
                    loop.call_soon_threadsafe(callback)
                case _:
                    loop.call_later(0, callback)
        fake.poll(0, loop._watchers)  # as if the wait before had been woken up for the calls
        with pytest.raises(KeyboardInterrupt):
            both.asyncio_loop.run_until_complete(future)
        assert both.asyncio_loop.run_until_complete(future) == "done"


@pytest.mark.parametrize("side", ["nimloop", "asyncio"])
def test_signal_handlers_of_one_side(side: str, both: Both) -> None:
    """Either side can have them."""

    async def main() -> None:
        done = asyncio.Event()
        if side == "asyncio":
            both.asyncio_loop.add_signal_handler(signal.SIGTERM, done.set)
        else:
            handler = both.loop.add_signal_handler(signal.SIGTERM, done.set)
        both.loop.call_later(0.001, lambda: os.kill(os.getpid(), signal.SIGTERM))
        await done.wait()
        if side == "asyncio":
            both.asyncio_loop.remove_signal_handler(signal.SIGTERM)
        else:
            handler.cancel()

    both.run(main())


# Fairness -----------------------------------------------------------------------------------------------------


def test_a_busy_asyncio_does_not_starve_nimloop(both: Both, make_pair: Callable[[], Pair]) -> None:
    """Timers, events and queued callbacks of nimloop have their turn while tasks never wait."""
    ours, theirs = make_pair()
    seen: set[str] = set()

    def on_event(_events: int) -> None:
        seen.add("event")
        ours.recv(1)

    async def spin() -> None:
        while seen != {"event", "timer", "soon"}:  # noqa: ASYNC110 - to be busy is the point
            await asyncio.sleep(0)

    async def main() -> None:
        watcher = both.loop.register(ours, READ, on_event)
        both.loop.call_later(0.005, lambda: seen.add("timer"))
        both.loop.call_soon(lambda: seen.add("soon"))
        theirs.send(b"x")
        await asyncio.gather(*(spin() for _ in range(10)))
        watcher.unregister()

    both.run(main())


def test_a_busy_nimloop_does_not_starve_asyncio(both: Both, make_pair: Callable[[], Pair]) -> None:
    """Timers, events and tasks of asyncio have their turn while callbacks queue themselves for ever."""
    ours, theirs = make_pair()
    busy = True

    def spin() -> None:
        if busy:
            both.loop.call_soon(spin)

    async def main() -> None:
        nonlocal busy
        for _ in range(10):
            spin()
        theirs.send(b"x")
        await asyncio.sleep(0.005)
        assert await asyncio.get_running_loop().sock_recv(ours, 1) == b"x"
        assert await asyncio.to_thread(lambda: 5) == 5
        busy = False

    both.run(main())


def test_a_guest_without_end_gives_the_host_its_turn(loop: Loop) -> None:
    """After a number of turns in a row, nimloop's iteration goes on."""
    turns = 0
    busy = True

    async def spin() -> None:
        nonlocal turns
        while busy:
            turns += 1
            await asyncio.sleep(0)

    with AsyncioGuest(loop) as guest:
        guest.create_task(spin())
        for iteration in range(1, 4):
            loop.run_once()
            assert turns <= 64 * iteration
        assert loop.stats.iterations == 3
        busy = False
        loop.run_once(0)


# Starting and stopping ----------------------------------------------------------------------------------------


def test_a_coroutine_stops_the_host(both: Both) -> None:
    """In the guest, `Loop.stop` ends `run`; under asyncio it has no say."""

    async def main() -> str:
        both.loop.stop()
        await asyncio.sleep(0.001)
        return "done"

    if both.guest is None:
        assert both.run(main()) == "done"
        return
    task = both.guest.create_task(main())
    both.loop.run()
    assert not task.done()
    task.add_done_callback(lambda _: both.loop.stop())
    both.loop.run()
    assert task.result() == "done"


def test_stopping_the_guest_alone_changes_nothing(loop: Loop) -> None:
    """The `stop` of asyncio itself ends a turn, and every turn ends anyway."""
    ran: list[int] = []

    async def main() -> None:
        for number in range(3):
            guest.asyncio_loop.stop()
            await asyncio.sleep(number)
            ran.append(number)
        loop.stop()

    with AsyncioGuest(loop) as guest:
        guest.asyncio_loop.stop()
        guest.create_task(main())
        loop.run()
    assert ran == [0, 1, 2]


def test_a_task_outlives_the_run(loop: Loop) -> None:
    """What is not done when `run` returns goes on with the next one."""
    with AsyncioGuest(loop) as guest:
        task = guest.create_task(asyncio.sleep(10, "slept"))
        loop.call_later(1, loop.stop)
        loop.run()
        assert not task.done()
        task.add_done_callback(lambda _: loop.stop())
        loop.run()
        assert task.result() == "slept"


def test_the_guest_in_charge(both: Both) -> None:
    """`run_until_complete` runs both, and what is left over afterwards is taken care of by the host again."""

    async def main() -> str:
        await asyncio.sleep(0.001)
        await both.sleep(0.001)
        return "done"

    for _ in range(2):
        rest = both.asyncio_loop.create_task(main())
        assert both.asyncio_loop.run_until_complete(asyncio.sleep(0, "at once")) == "at once"
        assert not rest.done()
        if both.guest is None:
            assert both.asyncio_loop.run_until_complete(rest) == "done"
        else:
            rest.add_done_callback(lambda _: both.loop.stop())
            both.loop.run()
            assert rest.result() == "done"


def test_the_host_cannot_be_run_by_its_guest(virtual: Both) -> None:
    """Nor by a coroutine that nimloop runs by way of a callback; without harm to either."""

    async def main() -> str:
        if virtual.guest is not None:
            with pytest.raises(LoopRunningError):
                virtual.loop.run_once(0)
            with pytest.raises(LoopRunningError):
                virtual.guest.close()
            with pytest.raises(LoopRunningError):
                virtual.loop.close()
        else:
            virtual.loop.run_once(0)  # asyncio is in charge, and anybody may give nimloop a turn
        await asyncio.sleep(1)
        return "done"

    assert virtual.run(main()) == "done"


def test_a_guest_cannot_take_charge_inside_a_run(loop: Loop, errors: Errors) -> None:
    """A nimloop callback that runs asyncio until something is complete is told so."""
    with AsyncioGuest(loop) as guest:
        sleep = asyncio.sleep(1)

        def nested() -> None:
            task = guest.create_task(sleep)
            try:
                guest.asyncio_loop.run_until_complete(task)
            finally:
                task.cancel()

        loop.call_soon(nested)
        loop.run_once(0)
        loop.run_once(0)
    assert [type(error) for error, _ in errors] == [LoopRunningError]


def test_the_same_loop_has_several_guests(loop: Loop) -> None:
    """Each has its own tasks, and they can wait for each other through nimloop."""
    log: list[str] = []
    with AsyncioGuest(loop) as first, AsyncioGuest(loop) as second:
        future: asyncio.Future[str] = first.asyncio_loop.create_future()

        async def waiting() -> None:
            log.append(await future)
            loop.stop()

        async def telling() -> None:
            await asyncio.sleep(3)
            loop.call_soon(lambda: future.set_result("told"))

        first.create_task(waiting())
        second.create_task(telling())
        loop.run()
    assert log == ["told"]


# Closing ------------------------------------------------------------------------------------------------------


async def forever(log: list[str], both: Both, *, clean_up: bool) -> None:
    """Wait for ever; with `clean_up`, take leave on the clocks of both."""
    try:
        await asyncio.Event().wait()
    finally:
        if clean_up:
            await asyncio.sleep(0.001)
            await both.sleep(0.001)
        log.append("cancelled")


def test_closing_the_guest_cancels_its_tasks(loop: Loop) -> None:
    """Their clean-up gets the time and the nimloop that it needs; the host stays open."""
    log: list[str] = []
    with AsyncioGuest(loop) as guest:
        both = Both(loop, guest.asyncio_loop, guest)
        # Kept, because asyncio does not, and the garbage collector would end them.
        tasks = [guest.create_task(forever(log, both, clean_up=True)) for _ in range(3)]
        loop.run_once(0)
    assert all(task.cancelled() for task in tasks)
    assert log == ["cancelled"] * 3
    assert guest.asyncio_loop.is_closed()
    assert not loop.closed
    stats = loop.stats
    assert (stats.watchers, stats.timers) == (0, 0)
    loop.run_once(0)
    guest.close()


def test_closing_the_host_first(how: str) -> None:
    """The guest finishes without it."""
    log: list[str] = []
    loop = Loop()
    with together(how, loop) as both:
        task = both.asyncio_loop.create_task(forever(log, both, clean_up=False))
        both.run(asyncio.sleep(0.001))
        loop.close()
        if both.guest is None:
            task.cancel()
            both.asyncio_loop.run_until_complete(asyncio.wait([task]))
            both.asyncio_loop.run_until_complete(asyncio.sleep(0.001))
    assert log == ["cancelled"]


def test_closing_the_asyncio_loop_itself(loop: Loop) -> None:
    """Whoever does that has to see to its tasks; the host loses a guest and goes on."""
    with AsyncioGuest(loop) as guest:
        guest.asyncio_loop.call_later(1, ignore)
        loop.run_once(0)
        guest.asyncio_loop.call_soon(ignore)
        guest.asyncio_loop.close()
        loop.run_once(5)
        with pytest.raises(RuntimeError):
            guest.asyncio_loop.call_soon(ignore)
    assert loop.stats.watchers == 0


def test_closing_ends_generators_and_threads(loop: Loop) -> None:
    """Asynchronous generators get to their `finally`, and the executor's threads are gone."""
    log: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            log.append("generator ended")

    async def main() -> None:
        generator = numbers()
        keep.append(generator)
        async for number in generator:
            log.append(await asyncio.to_thread(str, number))
            break

    keep: list[AsyncIterator[int]] = []
    before = threading.active_count()
    with Loop() as real, AsyncioGuest(real) as guest:
        guest.create_task(main()).add_done_callback(lambda _: real.stop())
        real.run()
        assert threading.active_count() > before
    assert log == ["1", "generator ended"]
    assert threading.active_count() == before


def test_closing_waits_for_threads(host: Loop) -> None:
    """A thread that a cancelled task has started comes to its end first."""
    log: list[str] = []
    release = threading.Event()

    def work() -> None:
        release.wait()
        for _ in range(1_000):
            time.sleep(0)
        log.append("thread ended")

    async def main() -> None:
        try:
            await asyncio.to_thread(work)
        finally:
            release.set()

    with AsyncioGuest(host) as guest:
        guest.create_task(main())
        host.run_once(0)
    assert log == ["thread ended"]


def test_a_task_that_fails_while_it_is_cancelled_is_reported(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    """By asyncio's exception handler, like every exception that nobody asks for; the others finish."""
    log: list[str] = []

    async def clumsy() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("clumsy")

    async def defiant() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        log.append("went on")

    with AsyncioGuest(loop) as guest:
        both = Both(loop, guest.asyncio_loop, guest)
        tasks = [guest.create_task(each) for each in (clumsy(), defiant(), forever(log, both, clean_up=True))]
        loop.run_once(0)
    assert all(task.done() for task in tasks)
    assert log == ["went on", "cancelled"]
    assert [each.name for each in caplog.records] == ["asyncio"]
    assert "clumsy" in caplog.text
    caplog.clear()


def test_closing_is_done_though_it_is_interrupted(loop: Loop) -> None:
    """Ctrl+C during the clean-up leaves nothing open."""

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise KeyboardInterrupt

    guest = AsyncioGuest(loop)
    task = guest.create_task(stubborn())
    loop.run_once(0)
    with pytest.raises(KeyboardInterrupt):
        guest.close()
    assert guest.asyncio_loop.is_closed()
    assert task.done()
    with pytest.raises(KeyboardInterrupt):
        task.result()
    assert loop.stats.watchers == 0


def test_nothing_is_left_of_a_guest(host: Loop) -> None:
    """Hundreds come and go; the descriptors are compared after the test."""
    for _ in range(100):
        with AsyncioGuest(host) as guest:
            guest.create_task(asyncio.sleep(0))
            host.run_once(0)
    host.run_once(0)
    stats = host.stats
    assert (stats.watchers, stats.timers, stats.ready) == (0, 0, 0)


@pytest.mark.parametrize("make", [NimloopSelector, AsyncioGuest])
def test_a_closed_loop_takes_no_part(make: Callable[[Loop], object]) -> None:
    """And nothing stays open after the refusal."""
    loop = Loop()
    loop.close()
    with pytest.raises(LoopClosedError):
        make(loop)


@pytest.mark.parametrize("make", [NimloopSelector, AsyncioGuest])
def test_a_system_whose_selectors_are_no_descriptors(
    make: Callable[[Loop], object], loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing that nimloop could watch for asyncio."""
    monkeypatch.setattr(selectors, "DefaultSelector", selectors.SelectSelector)
    with pytest.raises(OSError, match="no descriptors"):
        make(loop)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_guest_that_could_not_be_made_leaves_nothing(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptors left for asyncio's own sockets; what asyncio has to say about that is its own affair."""

    def exhausted(*_arguments: object) -> Pair:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socketpair", exhausted)
    with pytest.raises(OSError, match="Too many"):
        AsyncioGuest(loop)
    gc.collect()
    assert loop.stats.watchers == 0


def test_threads_are_compared_in_development_mode(fake: FakeBackend, clock: FakeClock) -> None:
    """A task made by the wrong thread is refused before the asyncio loop has taken any of it."""
    ran: list[str] = []
    raised: list[BaseException] = []

    async def wrong() -> None:
        ran.append("wrong")

    with Loop(fake, clock=clock, debug=True, slow_callback=1e6) as loop, AsyncioGuest(loop) as guest:
        coroutine = wrong()

        def create() -> None:
            try:
                guest.create_task(coroutine)
            except WrongThreadError as error:
                raised.append(error)

        def look() -> None:
            thread = threading.Thread(target=create)
            thread.start()
            thread.join()

        loop.call_soon(look)
        loop.run_once(0)
        loop.run_once(0)
        coroutine.close()
    assert len(raised) == 1
    assert ran == []


# The selector as a selector -----------------------------------------------------------------------------------


def test_the_selector_does_what_selectors_do(host: Loop, make_pair: Callable[[], Pair]) -> None:
    """Register, modify, look up, unregister, wait; and nimloop runs meanwhile."""
    ours, theirs = make_pair()
    ran: list[bool] = []
    with NimloopSelector(host) as selector:
        key = selector.register(ours, selectors.EVENT_READ, "data")
        assert selector.get_key(ours) == key
        assert len(selector.get_map()) == 1
        host.call_soon(lambda: ran.append(True))
        assert selector.select() == []  # nimloop had something to do, which may have changed what asyncio wants
        assert ran == [True]
        assert selector.select(-1) == []
        start = time.monotonic()
        assert selector.select(0.01) == []
        assert time.monotonic() - start >= 0.01
        theirs.send(b"x")
        assert selector.select() == [(key, selectors.EVENT_READ)]
        key = selector.modify(ours, selectors.EVENT_WRITE)
        assert selector.select() == [(key, selectors.EVENT_WRITE)]
        selector.unregister(ours)
        assert len(selector.get_map()) == 0
        host.call_later(0.001, lambda: ran.append(True))
        assert selector.select() == []
        assert ran == [True, True]
    assert host.stats.watchers == 0


def test_a_selector_is_watched_once(host: Loop) -> None:
    """Two asyncio loops on one nimloop loop have a selector each."""
    with NimloopSelector(host) as first, NimloopSelector(host) as second:
        assert hasattr(first._inner, "fileno")  # else there would be no such selector
        with pytest.raises(AlreadyRegisteredError):
            host.register(first._inner, READ, ignore)
        assert second.select(0) == []
    assert host.stats.watchers == 0


def test_a_guest_tells_how_it_is(loop: Loop) -> None:
    """And on which loop it lives."""
    shown: list[str] = []
    with AsyncioGuest(loop) as guest:
        shown.append(repr(guest))
        guest.asyncio_loop.call_soon(lambda: shown.append(repr(guest)))
        loop.run_once(0)
    shown.append(repr(guest))
    assert [text.partition(" loop=<Loop ")[0] for text in shown] == [
        "<AsyncioGuest waiting",
        "<AsyncioGuest running",
        "<AsyncioGuest closed",
    ]


def test_a_deadline_of_the_guest_is_gone_with_it(loop: Loop) -> None:
    """No timer calls a guest that has left."""
    guest = AsyncioGuest(loop)
    guest.asyncio_loop.call_later(5, ignore)
    loop.run_once(0)
    assert loop.stats.timers == 1
    guest.close()
    assert loop.stats.timers == 0
    with pytest.raises(TimerCancelledError):
        guest._deadline.set(1)


# By hand ------------------------------------------------------------------------------------------------------


class Driver:
    """What the documentation tells users of other loops to do, in asyncio's words."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.asyncio_loop = asyncio.get_running_loop()
        self.timer: asyncio.TimerHandle | None = None
        self.turns = 0

    def turn(self) -> None:
        """Give nimloop its turn, and see to the next one."""
        self.turns += 1
        self.loop.run_once(0)
        if self.timer is not None:
            self.timer.cancel()
        left = self.loop.next_deadline()
        self.timer = None if left is None else self.asyncio_loop.call_later(left, self.turn)

    def __enter__(self) -> Self:
        self.asyncio_loop.add_reader(self.loop.fileno(), self.turn)
        self.turn()
        return self

    def __exit__(self, *_: object) -> None:
        self.asyncio_loop.remove_reader(self.loop.fileno())
        if self.timer is not None:
            self.timer.cancel()


@pytest.fixture
def driven(host: Loop) -> Loop:
    """Take only backends that have a descriptor."""
    if host.backend == "poll":
        pytest.skip("poll has no descriptor to wait for")
    return host


def test_another_loop_drives_nimloop(driven: Loop, make_pair: Callable[[], Pair]) -> None:
    """Timers, events, queued and posted callbacks all come, without turns for nothing."""
    seen: list[str] = []

    async def main() -> None:
        ours, theirs = make_pair()
        got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        tick: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        posted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        start = driven.time()
        with Driver(driven) as driver:
            watcher = driven.register(ours, READ, lambda _: got.set_result(ours.recv(10)))
            driven.call_later(0.02, lambda: tick.set_result(driven.time() - start))
            driven.call_soon(lambda: driven.call_soon(lambda: seen.append("soon")))
            driver.turn()
            theirs.send(b"x")
            assert await got == b"x"
            watcher.unregister()
            assert 0.02 <= await tick < 1
            assert seen == ["soon"]
            before = driver.turns
            thread = threading.Thread(
                target=driven.call_soon_threadsafe,
                args=[lambda: driven.call_later(0.001, lambda: posted.set_result(None))],
            )
            thread.start()
            await posted
            thread.join()
            # One for the posted callback, one for the timer, a few for roundings of the clocks.
            assert driver.turns - before < 10

    asyncio.run(main())


def test_thousands_of_timers_by_hand(driven: Loop) -> None:
    """Each comes, and none early."""
    early: list[float] = []

    async def main() -> None:
        done = asyncio.Event()
        left = 2_000

        def fire(due: float) -> None:
            nonlocal left
            left -= 1
            if driven.time() < due:
                early.append(due)
            if not left:
                done.set()

        with Driver(driven) as driver:
            for number in range(left):
                due = driven.time() + number % 97 / 2000
                driven.call_at(due, partial(fire, due))
            driver.turn()
            await done.wait()

    asyncio.run(main())
    assert early == []


def test_poll_cannot_be_driven_by_its_descriptor() -> None:
    """It has none, and says so; `NimloopSelector` and `AsyncioGuest` work with it, as the tests above show."""
    with Loop("poll") as loop, pytest.raises(ValueError):
        loop.fileno()
