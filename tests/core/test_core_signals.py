"""Signals as callbacks of the loop, and what they leave behind: nothing."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import cast

import pytest
from tests.core.portable import OTHER_SIGNAL, UNCATCHABLE, USER_SIGNAL, send

from nimloop_core import Loop, SignalHandler
from nimloop_core._watchers import READ

Errors = list[tuple[Exception, object]]


def ignore(_number: int = 0, _frame: object = None) -> None:
    """Do nothing."""


def wakeup_fd() -> int:
    """Return the process's wake-up descriptor, leaving it as it is."""
    found = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(found)
    return found


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Hold every test to its promise: handlers and wake-up descriptor are those from before."""
    numbers = (USER_SIGNAL, OTHER_SIGNAL, signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before
    assert wakeup_fd() == -1


def deliver(loop: Loop, *numbers: int) -> None:
    """Send signals to this process and let the loop hear of them."""
    for number in numbers:
        signal.raise_signal(number)
    loop.run_once(1)


@pytest.mark.parametrize("number", [USER_SIGNAL, OTHER_SIGNAL, signal.SIGINT, signal.SIGTERM])
def test_a_signal_calls_back_from_the_loop(number: signal.Signals, real: Loop) -> None:
    """Not from wherever the program was when it came, and as often as it came."""
    seen: list[bool] = []
    handler = real.add_signal_handler(number, lambda: seen.append(real.running))
    signal.raise_signal(number)
    assert seen == []
    real.run_once(1)
    deliver(real, number)
    assert seen == [True, True]
    assert handler.number == number


def test_a_signal_ends_a_wait_without_limit(real: Loop) -> None:
    """Sent by somebody else while the loop sleeps."""
    real.add_signal_handler(USER_SIGNAL, real.stop)
    sender = threading.Thread(target=send, args=(USER_SIGNAL,))
    real.call_soon(sender.start)
    real.run()
    sender.join()


def test_several_signals_in_one_batch_come_in_order(real: Loop) -> None:
    """Each to its own callback."""
    seen: list[str] = []
    real.add_signal_handler(USER_SIGNAL, lambda: seen.append("1"))
    real.add_signal_handler(OTHER_SIGNAL, lambda: seen.append("2"))
    deliver(real, OTHER_SIGNAL, USER_SIGNAL, OTHER_SIGNAL)
    assert seen == ["2", "1", "2"]


def test_a_later_handler_replaces_an_earlier_one(real: Loop) -> None:
    """The first one's cancel has no effect any more, the second one's restores what was there before both."""
    seen: list[str] = []
    before = signal.signal(USER_SIGNAL, ignore)
    try:
        first = real.add_signal_handler(USER_SIGNAL, lambda: seen.append("first"))
        second = real.add_signal_handler(USER_SIGNAL, lambda: seen.append("second"))
        deliver(real, USER_SIGNAL)
        first.cancel()
        deliver(real, USER_SIGNAL)
        assert seen == ["second", "second"]
        second.cancel()
        assert signal.getsignal(USER_SIGNAL) is ignore
    finally:
        signal.signal(USER_SIGNAL, before)


def test_a_handler_tells_whether_it_is_in_charge(loop: Loop) -> None:
    """Until it is replaced, cancelled, or its loop closed; after that nothing is said of a callback that is gone."""
    first = loop.add_signal_handler(USER_SIGNAL, ignore)
    assert repr(first) == f"<SignalHandler number={int(USER_SIGNAL)} active callback={ignore!r}>"
    second = loop.add_signal_handler(USER_SIGNAL, ignore)
    other = loop.add_signal_handler(OTHER_SIGNAL, ignore)
    assert [handler.active for handler in (first, second, other)] == [False, True, True]
    second.cancel()
    assert [handler.active for handler in (first, second, other)] == [False, False, True]
    loop.close()
    assert not other.active
    assert repr(first) == repr(second) == f"<SignalHandler number={int(USER_SIGNAL)} cancelled>"


@pytest.mark.parametrize("previous", [signal.SIG_IGN, signal.SIG_DFL, ignore])
def test_cancelling_restores_what_was_there(previous: signal._HANDLER, real: Loop) -> None:
    """A function, the default or being ignored; harmless when repeated."""
    before = signal.signal(USER_SIGNAL, previous)
    try:
        handler = real.add_signal_handler(USER_SIGNAL, real.stop)
        assert signal.getsignal(USER_SIGNAL) not in {previous, before}
        handler.cancel()
        handler.cancel()
        assert signal.getsignal(USER_SIGNAL) == previous
        assert wakeup_fd() == -1
    finally:
        signal.signal(USER_SIGNAL, before)


def test_closing_the_loop_restores_everything(native: str) -> None:
    """Handlers, wake-up descriptor, sockets: the fixtures around this test look after them."""
    with Loop(native) as loop:
        loop.add_signal_handler(signal.SIGINT, loop.stop)
        loop.add_signal_handler(signal.SIGTERM, loop.stop)
        assert wakeup_fd() >= 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_wake_up_descriptor_of_others_is_given_back(real: Loop) -> None:
    """Somebody else had one before: he has it again once the last handler is gone."""
    near, far = socket.socketpair()
    far.setblocking(False)
    signal.set_wakeup_fd(far.fileno())
    try:
        one = real.add_signal_handler(USER_SIGNAL, ignore)
        two = real.add_signal_handler(OTHER_SIGNAL, ignore)
        one.cancel()
        assert wakeup_fd() != far.fileno()
        two.cancel()
        assert wakeup_fd() == far.fileno()
    finally:
        signal.set_wakeup_fd(-1)
        near.close()
        far.close()


def test_a_wake_up_descriptor_that_was_closed_meanwhile_is_not_given_back(native: str) -> None:
    """Closing the loop works all the same."""
    near, far = socket.socketpair()
    far.setblocking(False)
    signal.set_wakeup_fd(far.fileno())
    with Loop(native) as loop:
        loop.add_signal_handler(USER_SIGNAL, ignore)
        near.close()
        far.close()
    assert wakeup_fd() == -1


def test_two_loops_with_signals_may_close_in_any_order(native: str) -> None:
    """The first loop is closed first: the second one goes on hearing its signal."""
    seen: list[str] = []
    first, second = Loop(native), Loop(native)
    first.add_signal_handler(USER_SIGNAL, ignore)
    second.add_signal_handler(OTHER_SIGNAL, lambda: seen.append("second"))
    first.close()
    deliver(second, OTHER_SIGNAL)
    second.close()
    assert seen == ["second"]


def test_a_handler_may_be_cancelled_and_added_from_callbacks(real: Loop) -> None:
    """Once is once; what the same batch holds for a cancelled handler is dropped, also when it was the last."""
    seen: list[str] = []

    def once() -> None:
        seen.append("once")
        handler.cancel()

    handler = real.add_signal_handler(USER_SIGNAL, once)
    deliver(real, USER_SIGNAL, USER_SIGNAL)
    assert seen == ["once"]

    def cancel_both() -> None:
        seen.append("both")
        for each in both:
            each.cancel()
        real.add_signal_handler(OTHER_SIGNAL, lambda: seen.append("new"))

    both: list[SignalHandler] = [
        real.add_signal_handler(USER_SIGNAL, cancel_both),
        real.add_signal_handler(OTHER_SIGNAL, lambda: seen.append("never")),
    ]
    deliver(real, USER_SIGNAL)
    deliver(real, OTHER_SIGNAL)
    assert seen == ["once", "both", "new"]


def test_an_exception_goes_to_the_handler(real: Loop) -> None:
    """With the signal handler as its owner; the other signal is still heard."""
    told: Errors = []
    seen: list[str] = []
    error = RuntimeError()

    def fail() -> None:
        raise error

    real.exception_handler = lambda error, owner: told.append((error, owner))
    failing = real.add_signal_handler(USER_SIGNAL, fail)
    real.add_signal_handler(OTHER_SIGNAL, lambda: seen.append("2"))
    deliver(real, USER_SIGNAL, OTHER_SIGNAL)
    assert told == [(error, failing)]
    assert seen == ["2"]


def test_more_signals_than_one_read_takes(real: Loop) -> None:
    """None of those that the kernel has room for is forgotten."""
    seen: list[None] = []
    real.add_signal_handler(USER_SIGNAL, lambda: seen.append(None))
    for _ in range(50):
        signal.raise_signal(USER_SIGNAL)
    while len(seen) < 50:
        real.run_once(1)
    assert len(seen) == 50


def test_a_spurious_event_is_harmless(real: Loop) -> None:
    """Any event may be: nothing to read, or a hub that has closed meanwhile."""
    handler = real.add_signal_handler(USER_SIGNAL, ignore)
    watcher = real._signals._watcher
    assert watcher is not None
    watcher.callback(READ)
    callback = watcher.callback
    handler.cancel()
    callback(READ)


@pytest.mark.parametrize("number", UNCATCHABLE)
def test_signals_that_cannot_be_caught_are_refused(number: signal.Signals, real: Loop) -> None:
    """The system's error arrives and nothing stays behind, with or without other handlers."""
    with pytest.raises(OSError):
        real.add_signal_handler(number, ignore)
    assert wakeup_fd() == -1
    real.add_signal_handler(USER_SIGNAL, ignore)
    with pytest.raises(OSError):
        real.add_signal_handler(number, ignore)
    assert wakeup_fd() >= 0


@pytest.mark.parametrize("number", [0, -1, 9_999])
def test_numbers_that_are_no_signals_are_refused(number: int, real: Loop) -> None:
    """As the signal module refuses them."""
    with pytest.raises(ValueError):
        real.add_signal_handler(number, ignore)
    assert wakeup_fd() == -1


def test_a_callback_that_cannot_be_called_is_refused(real: Loop) -> None:
    """Before anything is changed."""
    with pytest.raises(TypeError, match="callable"):
        real.add_signal_handler(USER_SIGNAL, cast("Callable[[], object]", "stop"))
    assert signal.getsignal(USER_SIGNAL) == signal.SIG_DFL
    assert wakeup_fd() == -1


def test_only_the_main_thread_can_handle_signals(real: Loop) -> None:
    """Elsewhere adding, cancelling and closing are ValueErrors that change nothing."""
    told: list[Exception] = []
    handler = real.add_signal_handler(USER_SIGNAL, ignore)

    def elsewhere() -> None:
        with Loop(real.backend) as other:
            for call in (
                lambda: other.add_signal_handler(OTHER_SIGNAL, ignore),
                handler.cancel,
                real.close,
            ):
                try:
                    call()
                except ValueError as error:
                    told.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert len(told) == 3
    assert "main thread" in str(told[0])
    assert not real.closed
    seen: list[str] = []
    handler.callback = lambda: seen.append("still heard")
    deliver(real, USER_SIGNAL)
    assert seen == ["still heard"]


def test_a_system_without_siginterrupt_will_do(real: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has none, and no interrupted system calls either."""
    monkeypatch.delattr(signal, "siginterrupt")
    seen: list[None] = []
    real.add_signal_handler(USER_SIGNAL, lambda: seen.append(None))
    deliver(real, USER_SIGNAL)
    assert len(seen) == 1


def test_a_handler_from_outside_python_gives_way_to_the_default(real: Loop) -> None:
    """It cannot be put back."""
    handler = real.add_signal_handler(USER_SIGNAL, ignore)
    handler.previous = None
    handler.cancel()
    assert signal.getsignal(USER_SIGNAL) == signal.SIG_DFL
