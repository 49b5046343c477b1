"""Living together with asyncio, in one thread, so that a program can move piece by piece.

* **nimloop inside asyncio**: `NimloopSelector` waits for both. asyncio stays in charge, and nimloop's callbacks run
  whenever asyncio would wait.
* **asyncio inside nimloop**: `AsyncioGuest` gives an asyncio loop a turn whenever it has something to do. nimloop
  stays in charge.

Either way, callbacks and coroutines of one side call the other side directly: a nimloop callback sets the result of a
future, a coroutine starts a nimloop timer. Signals go to whichever side has asked last (`signal.set_wakeup_fd` knows
one descriptor), so let one side handle them all.

Both use nothing but asyncio's public interface: a selector may be given to `asyncio.SelectorEventLoop`, ``stop()``
ends ``run_forever()`` after one turn, and all that makes a loop busy passes through ``call_soon``, ``call_at`` or a
descriptor. A loop of another kind (uvloop, a graphical toolkit) can drive nimloop by itself: it watches `Loop.fileno`,
keeps a timer for `Loop.next_deadline`, and calls ``run_once(0)`` when either tells it to. In asyncio's words:

    timer = None

    def turn():
        global timer
        loop.run_once(0)
        if timer is not None:
            timer.cancel()
        left = loop.next_deadline()
        timer = None if left is None else host.call_later(left, turn)

    host.add_reader(loop.fileno(), turn)
    turn()

What is asked of nimloop outside of its own callbacks then has to be followed by a ``turn()``, or be handed over with
`Loop.call_soon_threadsafe`, which makes the descriptor readable.
"""

# The standard library's own types of selectors are full of Any.
# mypy: disable-error-code="explicit-any"

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context
from types import TracebackType
from typing import Final, Self, TypeVar, TypeVarTuple, final

from nimloop_core._deadlines import Deadline
from nimloop_core._loop import Loop
from nimloop_core._watchers import READ
from nimloop_core.abc import EventCallback, HasFileno
from nimloop_core.errors import LoopRunningError

__all__ = ["AsyncioGuest", "NimloopSelector"]

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")
_Source = int | HasFileno
_Ready = list[tuple[selectors.SelectorKey, int]]

_TURNS: Final = 64  # of the guest, before the host looks at its own descriptors again


class _Selector(selectors.BaseSelector):
    """Watches for asyncio with one of the standard library's selectors, whose descriptor is watched by nimloop."""

    def __init__(self, loop: Loop, on_ready: EventCallback) -> None:
        self._loop: Final = loop
        self._inner: Final = selectors.DefaultSelector()
        if not hasattr(self._inner, "fileno"):
            self._inner.close()
            raise OSError("this system's selectors are no descriptors: it has neither epoll nor kqueue")
        try:
            self._watcher: Final = loop.register(self._inner, READ, on_ready)
        except BaseException:
            self._inner.close()
            raise

    def register(self, fileobj: _Source, events: int, data: object = None) -> selectors.SelectorKey:
        """Watch a descriptor for asyncio."""
        return self._inner.register(fileobj, events, data)

    def unregister(self, fileobj: _Source) -> selectors.SelectorKey:
        """Stop watching it."""
        return self._inner.unregister(fileobj)

    def modify(self, fileobj: _Source, events: int, data: object = None) -> selectors.SelectorKey:
        """Watch it for something else."""
        return self._inner.modify(fileobj, events, data)

    def get_map(self) -> Mapping[_Source, selectors.SelectorKey]:
        """Return what is watched for asyncio."""
        return self._inner.get_map()

    def select(self, timeout: float | None = None) -> _Ready:
        """Run one iteration of the nimloop loop, waiting no longer than asyncio would; return what asyncio waits for.

        It comes back early, with nothing, when something was nimloop's; asyncio then simply calls again.
        """
        if self._loop.closed:
            return self._inner.select(timeout)
        self._loop._run_hosted(timeout)
        return self._inner.select(0)

    def close(self) -> None:
        """Leave the nimloop loop, which stays open."""
        self._watcher.unregister()
        self._inner.close()


@final
class NimloopSelector(_Selector):
    """A selector for `asyncio.SelectorEventLoop` that runs a nimloop `Loop` whenever asyncio waits.

        with Loop() as loop, asyncio.Runner(
            loop_factory=lambda: asyncio.SelectorEventLoop(NimloopSelector(loop))
        ) as runner:
            runner.run(main())

    asyncio alone decides how long the program runs: `Loop.stop` has no effect here. When the nimloop loop is closed,
    asyncio goes on without it. Not for Windows' proactor loop, which has no selector.
    """

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop, _nothing)


@final
class AsyncioGuest:
    """An asyncio loop that lives on a nimloop `Loop`, and on its clock.

        with Loop() as loop, AsyncioGuest(loop) as guest:
            guest.create_task(fetch())
            loop.run()

    Coroutines call nimloop directly; nimloop's callbacks start coroutines with `create_task`.
    """

    # Why nothing is forgotten. A turn is: decide how long to wait, look at the descriptors, take the timers that are
    # due, run what is ready. After a turn with an event, or one that would not have waited, there is another one. So
    # the last of a row had nothing to run, except for timers that came due while it looked.
    #
    # * If there was such a timer, it may have made something ready, and others may be due. But then the point in time
    #   until which asyncio would have waited has passed, and the next turn is due at the next tick.
    # * Else nothing has changed since asyncio decided, and that point is when the next turn is due.
    # * What comes between turns: call_soon() and call_at() tell the host; for all that comes from descriptors, from
    #   other threads and from signals (these write to a socket of asyncio's own) asyncio's selector is watched.

    def __init__(self, loop: Loop) -> None:
        self._loop: Final = loop
        self._selector: Final = _GuestSelector(loop, self._on_ready)
        try:
            self._guest: Final = _GuestLoop(self._selector, loop, self._on_told)
        except BaseException:
            self._selector.close()
            raise
        self._deadline: Final = Deadline(loop, self._run)
        self._asked = False  # the host to call _run()

    @property
    def asyncio_loop(self) -> asyncio.SelectorEventLoop:
        """The loop that coroutines run on; other threads use its ``call_soon_threadsafe``.

        While the nimloop loop does not run, ``run_until_complete`` runs both.
        """
        return self._guest

    def create_task(self, coroutine: Coroutine[object, object, _T]) -> asyncio.Task[_T]:
        """Start a coroutine; its first step is taken before the nimloop loop waits next."""
        self._loop._check()
        return self._guest.create_task(coroutine)

    def close(self) -> None:
        """Cancel what still runs and let it finish, then close the asyncio loop; the nimloop loop stays open.

        Meanwhile the nimloop loop goes on, unless it is closed: to finish may need it. Harmless when repeated. Raises
        `LoopRunningError` from inside a callback or coroutine.
        """
        guest = self._guest
        if guest.is_closed():
            return
        if self._loop.running or guest.is_running():
            raise LoopRunningError("the guest of a running loop cannot be closed: call stop() and close it after run()")
        try:
            tasks = asyncio.all_tasks(guest)
            for task in tasks:
                task.cancel()
            if tasks:
                guest.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            for task in tasks:
                if not task.cancelled() and (error := task.exception()) is not None:
                    message = "a task failed while it was cancelled because of close()"
                    guest.call_exception_handler({"message": message, "exception": error, "task": task})
            guest.run_until_complete(guest.shutdown_asyncgens())
            guest.run_until_complete(guest.shutdown_default_executor())
        finally:
            self._deadline.cancel()
            guest.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._guest.is_closed() else "running" if self._guest.is_running() else "waiting"
        return f"<AsyncioGuest {state} loop={self._loop!r}>"

    def _on_told(self) -> None:
        """Hear from the asyncio loop, outside of its turns, that it has got something to do."""
        if not self._asked and not self._loop.closed:
            self._loop.call_soon(self._on_asked)
            self._asked = True

    def _on_asked(self) -> None:
        self._asked = False
        self._run()

    def _on_ready(self, _events: int) -> None:
        self._run()

    def _run(self) -> None:
        """Give asyncio turns until it would wait, and see to it that it gets the next one in time."""
        guest, selector = self._guest, self._selector
        if guest.is_running() or guest.is_closed():
            return  # it is in charge itself, or has left
        selector.in_turn = True
        try:
            for _ in range(_TURNS):
                guest.run_forever()
                if selector.quiet:
                    break
            else:
                self._on_told()
                return
        except (KeyboardInterrupt, SystemExit):
            self._on_told()  # what the turn has not run yet is run when the host goes on
            raise
        finally:
            selector.in_turn = False
        if selector.until is not None:
            self._deadline.set(max(0.0, selector.until - guest.time()))


@final
class _GuestLoop(asyncio.SelectorEventLoop):
    """Tells when it is given something to do."""

    def __init__(self, selector: _GuestSelector, host: Loop, on_told: Callable[[], None]) -> None:
        self._host: Final = host
        self._on_told: Final = on_told
        self._turns: Final = selector  # under a name that asyncio does not use
        super().__init__(selector)
        selector.guest = self

    def time(self) -> float:
        """Return the time on the nimloop loop's clock."""
        return self._host.time()

    def run_forever(self) -> None:
        """Run for a turn, or in charge of both loops; what is left after that is the host's affair again."""
        try:
            super().run_forever()
        finally:
            if not self._turns.in_turn:
                self._on_told()

    def call_soon(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Call back soon, and see to it that there is a turn."""
        if not self.is_running():
            self._on_told()
        return super().call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call back at a time, and see to it that the turn comes in time."""
        if not self.is_running():
            self._on_told()
        return super().call_at(when, callback, *args, context=context)


@final
class _GuestSelector(_Selector):
    """In a turn of the guest: never waits, notes until when asyncio would have waited, and ends the turn."""

    guest: _GuestLoop
    in_turn = False
    until: float | None = None
    quiet = False

    def select(self, timeout: float | None = None) -> _Ready:
        """Look once; outside of a turn, asyncio is in charge."""
        if not self.in_turn:
            return super().select(timeout)
        self.until = None if timeout is None else self.guest.time() + timeout
        self.guest.stop()
        ready = self._inner.select(0)
        self.quiet = timeout != 0 and not ready
        return ready


def _nothing(_events: int) -> None:
    """Do nothing: the event has ended the wait, and that was its purpose."""
