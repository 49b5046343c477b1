"""Calls into one loop from other threads, measured in this process."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from _peer import need, parser, say_build, say_compiled, say_result, skip

try:
    import nimloop_core
    from nimloop_core import Loop
except ImportError as missing:
    skip(missing)

Callback = Callable[[], object]

_CALLS: Final = 40_960
_QUICK_CALLS: Final = 2_048
# Until a caller that hears nothing gives up.
_PATIENCE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Subject:
    """A loop as its callers see it; `stop` is called on its own thread."""

    post: Callable[[Callback], object]
    run: Callback
    stop: Callback
    close: Callback


def of_nimloop() -> Subject:
    """A loop of nimloop."""
    loop = Loop()
    return Subject(loop.call_soon_threadsafe, loop.run, loop.stop, loop.close)


def of_asyncio(loop: asyncio.AbstractEventLoop) -> Subject:
    """A loop of asyncio or uvloop."""
    return Subject(loop.call_soon_threadsafe, loop.run_forever, loop.stop, loop.close)


def of_queue() -> Subject:
    """No loop at all, a thread that takes callables from a queue: what the hand-over alone costs."""
    calls: queue.SimpleQueue[Callback] = queue.SimpleQueue()
    running = True

    def run() -> None:
        while running:
            calls.get()()

    def stop() -> None:
        nonlocal running
        running = False

    return Subject(calls.put, run, stop, lambda: None)


@dataclass(slots=True)
class Caller:
    """A thread that posts bursts, each after the last call of the burst before has been made."""

    subject: Subject
    bursts: int
    burst: int
    latencies_ns: list[int] = field(default_factory=list)
    cpu_ns: int = 0
    wrong: str = ""
    _expected: int = 0
    _done: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> None:
        """Post, and measure what this thread spends on it."""
        began = time.thread_time_ns()
        self._done.acquire()
        number = 0
        for _ in range(self.bursts):
            for _ in range(self.burst):
                self.subject.post(self._call(number))
                number += 1
            if not self._done.acquire(timeout=_PATIENCE_SECONDS):
                self.wrong = f"{len(self.latencies_ns)} of {number} calls arrived"
                break
        self.cpu_ns = time.thread_time_ns() - began

    def _call(self, number: int) -> Callback:
        posted_ns = time.perf_counter_ns()

        def arrive() -> None:
            self.latencies_ns.append(time.perf_counter_ns() - posted_ns)
            if number != self._expected:
                self.wrong = f"call {number} came when it was {self._expected}'s turn"
            self._expected += 1
            if self._expected % self.burst == 0:
                self._done.release()

        return arrive


def measure(subject: Subject, threads: int, burst: int, *, calls: int) -> None:
    """Run the loop here and the callers in threads of their own."""
    callers = [Caller(subject, max(1, calls // threads // burst), burst) for _ in range(threads)]
    start = threading.Event()

    def work(caller: Caller) -> None:
        start.wait()
        caller.run()

    workers = [threading.Thread(target=work, args=(caller,)) for caller in callers]

    def finish() -> None:
        for worker in workers:
            worker.join()
        subject.post(subject.stop)

    for worker in (*workers, finisher := threading.Thread(target=finish)):
        worker.start()
    subject.post(start.set)
    before, loop_before = time.process_time_ns(), time.thread_time_ns()
    subject.run()
    spent, loop_spent = time.process_time_ns() - before, time.thread_time_ns() - loop_before
    finisher.join()
    subject.close()
    if wrong := [caller.wrong for caller in callers if caller.wrong]:
        raise SystemExit("; ".join(wrong))
    latencies = sorted(latency for caller in callers for latency in caller.latencies_ns)
    count = len(latencies)
    if count != sum(caller.bursts * burst for caller in callers):
        raise SystemExit(f"{count} calls arrived")
    say_result(
        {
            "cpu_us": spent / count / 1e3,
            "loop_us": loop_spent / count / 1e3,
            "callers_us": sum(caller.cpu_ns for caller in callers) / count / 1e3,
            "p50_us": latencies[count // 2] / 1e3,
            "p99_us": latencies[count * 99 // 100] / 1e3,
            "p999_us": latencies[count * 999 // 1000] / 1e3,
        }
    )


def main() -> None:
    """Measure the loop that is asked for."""
    arguments = parser()
    arguments.add_argument("--loop", required=True)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--burst", type=int, default=1)
    arguments.add_argument("--quick", action="store_true")
    given = arguments.parse_args()
    if given.loop == "nimloop":
        say_build(nimloop_core)
        say_compiled()
        subject = of_nimloop()
    elif given.loop == "queue":
        say_build(queue)
        subject = of_queue()
    else:
        library = asyncio if given.loop == "asyncio" else need(given.loop)
        say_build(library)
        subject = of_asyncio(library.new_event_loop())
    measure(subject, given.threads, given.burst, calls=_QUICK_CALLS if given.quick else _CALLS)


if __name__ == "__main__":
    main()
