"""Living together with asyncio, in one thread, so that a program can move piece by piece.

* **nimloop inside asyncio**: `NimloopSelector` waits for both. asyncio stays in charge, and nimloop's callbacks run
  whenever asyncio would wait.
* **asyncio inside nimloop**: `AsyncioGuest` gives an asyncio loop a turn whenever it has something to do. nimloop
  stays in charge.

Both use nothing but asyncio's public interface: a selector may be given to `asyncio.SelectorEventLoop`, and ``stop()``
ends ``run_forever()`` after one turn. A loop of another kind (uvloop, a graphical toolkit) can drive nimloop by itself:
it watches `Loop.fileno`, keeps a timer for `Loop.next_deadline`, and calls ``run_once(0)`` when either tells it to.
"""

# The standard library's own types of selectors are full of Any.
# mypy: disable-error-code="explicit-any"

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar, final

from nimloop_core._loop import Loop
from nimloop_core._watchers import READ
from nimloop_core.abc import Callback

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

_T = TypeVar("_T")
_Ready = list[tuple[selectors.SelectorKey, int]]

_TURNS: Final = 64  # of the guest, before the host looks at its own descriptors again


class _InnerSelector(selectors.BaseSelector):
    """Watches for asyncio with one of the standard library's selectors, which is a descriptor itself."""

    def __init__(self) -> None:
        self._inner: Final = selectors.DefaultSelector()
        if not hasattr(self._inner, "fileno"):
            raise OSError("this system's selectors are no descriptors: it has neither epoll nor kqueue")

    def fileno(self) -> int:
        """Return the descriptor that stands for all that asyncio watches."""
        return int(self._inner.fileno())

    def register(self, fileobj: FileDescriptorLike, events: int, data: object = None) -> selectors.SelectorKey:
        """Watch a descriptor for asyncio."""
        return self._inner.register(fileobj, events, data)

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        """Stop watching it."""
        return self._inner.unregister(fileobj)

    def modify(self, fileobj: FileDescriptorLike, events: int, data: object = None) -> selectors.SelectorKey:
        """Watch it for something else."""
        return self._inner.modify(fileobj, events, data)

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        """Return what is watched for asyncio."""
        return self._inner.get_map()

    def select(self, timeout: float | None = None) -> _Ready:
        """Wait for what asyncio waits for, and nothing else."""
        return self._inner.select(timeout)

    def close(self) -> None:
        """Close the inner selector."""
        self._inner.close()


@final
class NimloopSelector(_InnerSelector):
    """A selector for `asyncio.SelectorEventLoop` that runs a nimloop `Loop` whenever asyncio waits.

    ::

        with Loop() as loop, asyncio.Runner(
            loop_factory=lambda: asyncio.SelectorEventLoop(NimloopSelector(loop))
        ) as runner:
            runner.run(main())

    Callbacks of either side may call the other side directly. Not for Windows' proactor loop, which has no selector.
    """

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self._loop: Final = loop
        self._watcher: Final = loop.register(self, READ, _nothing)

    def select(self, timeout: float | None = None) -> _Ready:
        """Run one iteration of the nimloop loop, waiting no longer than asyncio would; return what asyncio waits for.

        It comes back early, with nothing, when an event was nimloop's; asyncio then simply calls again.
        """
        self._loop.run_once(None if timeout is None else max(0.0, timeout))
        return super().select(0)

    def close(self) -> None:
        """Leave the nimloop loop, which stays open."""
        self._watcher.unregister()
        super().close()


@final
class AsyncioGuest:
    """An asyncio loop that lives on a nimloop `Loop`.

    ::

        with Loop() as loop, AsyncioGuest(loop) as guest:
            guest.create_task(fetch())
            loop.run()

    Coroutines call nimloop directly; nimloop's callbacks start coroutines with `create_task`.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop: Final = loop
        self._selector: Final = _TurnSelector()
        self.asyncio_loop: Final = asyncio.SelectorEventLoop(self._selector)
        """The loop that coroutines run on. From outside of it, use its ``call_soon_threadsafe``."""
        self._selector.stop = self.asyncio_loop.stop
        self._watcher: Final = loop.register(self._selector, READ, self._on_ready)
        self._timer: Final = loop.call_later(0.0, self._run)
        self._running = False

    def create_task(self, coroutine: Coroutine[object, object, _T]) -> asyncio.Task[_T]:
        """Start a coroutine; its first step is taken before the nimloop loop waits next."""
        task = self.asyncio_loop.create_task(coroutine)
        self._loop.call_soon(self._run)
        return task

    def close(self) -> None:
        """Cancel what still runs and let it finish, then close the asyncio loop; the nimloop loop stays open.

        Not from inside a coroutine of the guest. Harmless when repeated.
        """
        loop = self.asyncio_loop
        if loop.is_closed():
            return
        self._timer.cancel()
        self._watcher.unregister()
        self._selector.stop = None
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _on_ready(self, _events: int) -> None:
        self._run()

    def _run(self) -> None:
        """Give asyncio turns until it would wait, and see to it that it gets the next one in time."""
        if self._running or self.asyncio_loop.is_closed():
            return  # a coroutine runs the nimloop loop, or the guest has left
        selector = self._selector
        self._running = True
        try:
            for _ in range(_TURNS):
                self.asyncio_loop.run_forever()
                if selector.quiet:
                    break
            else:
                self._loop.call_soon(self._run)
                return
        finally:
            self._running = False
        if selector.timeout is not None:
            self._timer.reschedule(selector.timeout)


@final
class _TurnSelector(_InnerSelector):
    """Never waits; notes for how long asyncio would have waited, and ends its turn."""

    def __init__(self) -> None:
        super().__init__()
        self.stop: Callback | None = None
        self.timeout: float | None = None
        self.quiet = False

    def select(self, timeout: float | None = None) -> _Ready:
        """Look once, unless the guest is being closed."""
        if self.stop is None:
            return super().select(timeout)
        ready = super().select(0)
        self.timeout = timeout
        self.quiet = not ready and (timeout is None or timeout > 0)
        self.stop()
        return ready


def _nothing(_events: int) -> None:
    """Do nothing: the event has ended the wait, and that was its purpose."""
