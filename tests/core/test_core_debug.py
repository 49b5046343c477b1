"""Development mode: calls from the wrong thread, and loops that nobody closed."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Protocol

import pytest

from nimloop_core import READ, WRITE, Deadline, Loop, LoopRunningError, WrongThreadError
from nimloop_core.testing import FakeBackend, FakeClock


def ignore(_events: int = 0) -> None:
    """Do nothing."""


def through(how: Callable[[Callable[[], None]], object], action: Callable[[], object]) -> None:
    """Have a call made in some way, and raise here what it raised there."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as error:
            raised.append(error)

    how(run)
    if raised:
        raise raised[0]


def elsewhere(action: Callable[[], object]) -> None:
    """Do something in another thread."""

    def in_thread(run: Callable[[], None]) -> None:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()

    through(in_thread, action)


def unwanted(_events: int = 0) -> None:
    """Fail where nothing should have been called."""
    raise AssertionError("called")


class AnyCallback(Protocol):
    """A callback of any kind."""

    def __call__(self, events: int = 0, /) -> object:
        """Take the events, if it is told of any."""


# What only the thread of a running loop may do to it.
CALLS: dict[str, Callable[[Loop, AnyCallback], object]] = {
    "call_soon": lambda loop, callback: loop.call_soon(callback),
    "call_later": lambda loop, callback: loop.call_later(0, callback),
    "call_at": lambda loop, callback: loop.call_at(0, callback),
    "call_every": lambda loop, callback: loop.call_every(1, callback),
    "add_idle": lambda loop, callback: loop.add_idle(callback),
    "add_signal_handler": lambda loop, callback: loop.add_signal_handler(signal.SIGTERM, callback),
    "register": lambda loop, callback: loop.register(7, READ, callback),
}
calls = pytest.mark.parametrize("name", CALLS)


def inside(loop: Loop, action: Callable[[], object]) -> None:
    """Do something while the loop runs."""

    def in_loop(run: Callable[[], None]) -> None:
        loop.call_soon(run)
        loop.run_once(0)

    through(in_loop, action)


@pytest.fixture
def careful(fake: FakeBackend, clock: FakeClock) -> Iterator[Loop]:
    """Run on virtual time, in development mode."""
    with Loop(fake, clock=clock, debug=True) as loop:
        yield loop


# The wrong thread ---------------------------------------------------------------------------------------------


@calls
def test_a_call_from_another_thread_is_refused_while_the_loop_runs(name: str, careful: Loop, fake: FakeBackend) -> None:
    """And nothing has happened to the loop, nor to the process."""
    before = signal.getsignal(signal.SIGTERM)

    def look() -> None:
        stats, idle = careful.stats, len(careful._idle)
        with pytest.raises(WrongThreadError):
            elsewhere(lambda: CALLS[name](careful, unwanted))
        assert careful.stats == stats
        assert len(careful._idle) == idle

    inside(careful, look)
    fake.put(7, READ)
    careful.run_once(5)
    assert not fake.interest
    assert signal.getsignal(signal.SIGTERM) is before


@calls
def test_the_thread_that_runs_the_loop_may_call(name: str, careful: Loop) -> None:
    """That is what callbacks do."""
    inside(careful, lambda: CALLS[name](careful, ignore))


@pytest.mark.parametrize("name", [name for name in CALLS if name != "add_signal_handler"])
def test_a_loop_that_does_not_run_may_be_prepared_by_any_thread(name: str, careful: Loop) -> None:
    """Nobody is in its way; only signals belong to the main thread."""
    elsewhere(lambda: CALLS[name](careful, ignore))


def handles(loop: Loop) -> dict[str, Callable[[], object]]:
    """Everything that can be done with what a loop gives out."""
    timer, paused = loop.call_later(1, ignore), loop.call_later(1, ignore)
    paused.pause()
    watcher = loop.register(7, READ, ignore)
    idle = loop.add_idle(ignore)
    deadline = Deadline(loop, ignore)
    return {
        "reschedule": lambda: timer.reschedule(2),
        "pause": timer.pause,
        "resume": paused.resume,
        "cancel": timer.cancel,
        "modify": lambda: watcher.modify(READ | WRITE),
        "unregister": watcher.unregister,
        "idle": idle.cancel,
        "set": lambda: deadline.set(1),
        "clear": deadline.clear,
        "end": deadline.cancel,
    }


def test_a_handle_is_refused_to_another_thread_while_the_loop_runs(careful: Loop, fake: FakeBackend) -> None:
    """What a loop gives out belongs to its thread, as the loop does."""
    actions = handles(careful)

    def look() -> None:
        before = careful.stats, dict(fake.interest)
        for action in actions.values():
            with pytest.raises(WrongThreadError):
                elsewhere(action)
        assert (careful.stats, dict(fake.interest)) == before

    inside(careful, look)
    for action in actions.values():
        action()
    assert careful.stats.watchers == 0


def test_a_handle_of_a_loop_that_does_not_run_is_anybodys(careful: Loop) -> None:
    """As the loop is then."""
    careful.run_once(0)
    for action in handles(careful).values():
        elsewhere(action)


def test_the_thread_is_the_one_that_runs_the_loop_now(careful: Loop) -> None:
    """Neither the one that made it nor the one that ran it before."""
    seen: list[str] = []

    def in_thread(name: str) -> None:
        careful.call_soon(lambda: careful.call_soon(lambda: seen.append(name)))
        careful.run_once(0)
        careful.run_once(0)

    elsewhere(lambda: in_thread("other"))
    in_thread("main")
    elsewhere(lambda: in_thread("third"))
    assert seen == ["other", "main", "third"]


def test_other_threads_may_post_and_stop(careful: Loop) -> None:
    """The two methods that are meant for them."""
    ran: list[str] = []

    def look() -> None:
        elsewhere(lambda: careful.call_soon_threadsafe(lambda: ran.append("posted")))
        elsewhere(careful.stop)

    careful.call_soon(look)
    careful.run()
    careful.run_once(0)
    assert ran == ["posted"]


@pytest.mark.parametrize("debug", [False, True])
def test_a_running_loop_is_not_run_or_closed_by_another_thread(
    debug: bool,  # noqa: FBT001
    fake: FakeBackend,
    clock: FakeClock,
) -> None:
    """In any mode: that is no matter of threads."""
    with Loop(fake, clock=clock, debug=debug) as loop:

        def look() -> None:
            for action in (loop.run, loop.run_once, loop.close):
                with pytest.raises(LoopRunningError):
                    elsewhere(action)
            assert loop.running
            assert not loop.closed

        inside(loop, look)


def test_without_development_mode_threads_are_not_compared(fake: FakeBackend, clock: FakeClock) -> None:
    """Not even when callbacks are measured, for which every call takes the slow way in."""
    with Loop(fake, clock=clock, debug=False, slow_callback=1) as loop:
        inside(loop, lambda: elsewhere(lambda: loop.call_later(1, ignore)))
        assert loop.stats.timers == 1


def test_development_mode_measures_callbacks(fake: FakeBackend, clock: FakeClock) -> None:
    """With asyncio's threshold, unless another one is given."""
    for threshold, longest in ((None, 0), (5.0, 0)):
        with Loop(fake, clock=clock, debug=True, slow_callback=threshold) as loop:
            assert loop.debug
            assert loop.stats.longest_callback == longest
            assert loop._monitor is not None
            assert loop._monitor._threshold_ns == (100_000_000 if threshold is None else 5_000_000_000)


# Nobody closed it ---------------------------------------------------------------------------------------------


def test_an_unclosed_loop_warns_with_its_origin(native: str) -> None:
    """In development mode the warning shows the line that made it; the descriptors are compared after the test."""
    with pytest.warns(ResourceWarning, match=r"unclosed <Loop idle backend=\w+ timers=0>") as caught:
        Loop(native, debug=True)
    text = str(caught[0].message)
    assert "made by" in text
    assert __file__ in text
    assert "Loop(native, debug=True)" in text
    assert "_loop.py" not in text
    assert caught[0].source is not None


def test_an_unclosed_loop_warns_without_origin_otherwise(native: str) -> None:
    """Keeping a traceback for each loop is for development."""
    with pytest.warns(ResourceWarning, match="unclosed") as caught:
        Loop(native, debug=False)
    assert "made by" not in str(caught[0].message)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_unclosed_loop_closes_its_descriptors_where_warnings_are_errors(native: str) -> None:
    """The warning becomes an exception that nobody can catch, and the descriptors are closed all the same."""
    caught: list[object] = []
    before, sys.unraisablehook = sys.unraisablehook, lambda args: caught.append(args.exc_type)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            Loop(native)
            gc.collect()
    finally:
        sys.unraisablehook = before
    assert caught == [ResourceWarning]


def test_an_unclosed_loop_puts_signals_back() -> None:
    """Or the next signal would be written to a descriptor that belongs to somebody else by then."""
    before = signal.getsignal(signal.SIGTERM)
    loop = Loop()
    loop.add_signal_handler(signal.SIGTERM, ignore)
    with pytest.warns(ResourceWarning, match="unclosed <Loop"):
        del loop
    assert signal.getsignal(signal.SIGTERM) is before
    wakeup = signal.set_wakeup_fd(-1)
    assert wakeup == -1


def test_a_closed_loop_is_silent(native: str) -> None:
    """However it was closed."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Loop(native, debug=True):
            pass
        loop = Loop(native, debug=True)
        loop.close()
        del loop
        gc.collect()


def test_a_loop_that_could_not_be_made_is_silent() -> None:
    """There is nothing to close."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError):
            Loop("no such backend", debug=True)
        gc.collect()


def test_last_words_may_close_the_loop(fake: FakeBackend, clock: FakeClock) -> None:
    """A callback that runs because the loop is being closed may close it, which is harmless as ever."""
    said: list[int] = []
    loop = Loop(fake, clock=clock)

    def say_and_close() -> None:
        said.append(len(said))
        loop.close()

    for _ in range(3):
        loop.call_soon(say_and_close)
    loop.close()
    assert said == [0, 1, 2]
    assert loop.closed


# How it is switched on ----------------------------------------------------------------------------------------

PROGRAM = """
from nimloop_core import Loop
def made_here():
    return Loop()
loop = made_here()
print(loop.debug, loop.stats.longest_callback)
"""


def program(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program that forgets its loop, in a process of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NIMLOOP_", "PYTHONDEV"))}
    return subprocess.run(
        [sys.executable, *arguments, "-c", PROGRAM + "del loop\n"],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )


@pytest.mark.parametrize("value", ["1", "yes"])
def test_the_environment_switches_it_on(value: str) -> None:
    """Warnings are not its affair: they are shown if Python shows them."""
    run = program("-W", "default", NIMLOOP_DEBUG=value)
    assert run.stdout == "True 0.0\n"
    assert "ResourceWarning: unclosed <Loop" in run.stderr
    assert "made_here" in run.stderr


@pytest.mark.parametrize("value", ["0", "", None])
def test_the_environment_leaves_it_off(value: str | None) -> None:
    """Nothing and 0 mean no."""
    run = program("-W", "default", **({} if value is None else {"NIMLOOP_DEBUG": value}))
    assert run.stdout == "False None\n"
    assert "ResourceWarning: unclosed <Loop" in run.stderr
    assert "made_here" not in run.stderr


@pytest.mark.parametrize("how", ["option", "variable"])
def test_development_mode_of_python_switches_it_on(how: str) -> None:
    """And shows the warning, which ordinary Python does not."""
    run = program("-X", "dev") if how == "option" else program(PYTHONDEVMODE="1")
    assert run.stdout == "True 0.0\n"
    assert "ResourceWarning: unclosed <Loop" in run.stderr
    assert "made_here" in run.stderr


def test_ordinary_python_says_nothing() -> None:
    """A forgotten loop is nothing to bother users with."""
    run = program()
    assert run.stdout == "False None\n"
    assert run.stderr == ""


def test_the_argument_has_the_last_word(monkeypatch: pytest.MonkeyPatch, fake: FakeBackend, clock: FakeClock) -> None:
    """It overrides the environment."""
    monkeypatch.setenv("NIMLOOP_DEBUG", "1")
    with Loop(fake, clock=clock, debug=False) as loop:
        assert not loop.debug
    with Loop(fake, clock=clock) as loop:
        assert loop.debug
