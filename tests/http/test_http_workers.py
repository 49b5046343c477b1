"""The pool of threads: bounded in both directions, and harmless when a job is not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import cast

import pytest
from tests.support.turning import PATIENCE

from nimloop_core import Loop
from nimloop_http._workers import WorkerPool, call_soon


def ended(name: str) -> bool:
    """Wait for the threads of a pool to end."""
    for thread in threading.enumerate():
        if thread.name.startswith(name):
            thread.join(PATIENCE)
    return not any(thread.name.startswith(name) for thread in threading.enumerate())


def test_no_more_threads_than_there_is_work() -> None:
    """One after the other needs one; nothing needs none."""
    pool = WorkerPool("one-by-one", 8, 8)
    for _ in range(5):
        done = threading.Event()
        assert pool.submit(done.set)
        assert done.wait(PATIENCE)
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("one-by-one")]
    assert 1 <= len(threads) <= 2  # one may be on its way to wait when the next job comes
    pool.close()
    assert ended("one-by-one")


def test_no_more_jobs_than_may_wait() -> None:
    """So many run, so many wait, and the next one is refused, until one is done."""
    let_go = threading.Event()
    running = threading.Semaphore(0)
    finished = threading.Semaphore(0)

    def job() -> None:
        running.release()
        assert let_go.wait(PATIENCE)
        finished.release()

    pool = WorkerPool("bounded", 2, 3)
    for _ in range(2):
        assert pool.submit(job)
    for _ in range(2):
        assert running.acquire(timeout=PATIENCE)
    assert [pool.submit(job) for _ in range(5)] == [True, True, True, False, False]
    let_go.set()
    for _ in range(5):
        assert finished.acquire(timeout=PATIENCE)
    done = threading.Event()
    assert pool.submit(done.set)
    assert done.wait(PATIENCE)
    pool.close()
    assert ended("bounded")


@pytest.mark.parametrize("error", [ZeroDivisionError(), SystemExit(1)])
def test_a_job_that_fails(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the thread goes on."""

    def fail() -> None:
        raise error

    pool = WorkerPool("failing", 1, 1)
    done = threading.Event()
    assert pool.submit(fail)
    assert pool.submit(done.set)
    assert done.wait(PATIENCE)
    pool.close()
    assert ended("failing")
    assert [record.getMessage() for record in caplog.records] == ["a job of failing failed"]
    caplog.clear()


def test_a_closed_pool() -> None:
    """What was taken is done, nothing more is taken."""
    done = []
    pool = WorkerPool("closed", 1, 10)
    let_go = threading.Event()
    assert pool.submit(lambda: let_go.wait(PATIENCE))
    assert all(pool.submit(lambda: done.append(1)) for _ in range(5))
    states = [pool.closed]
    pool.close()
    pool.close()
    assert [*states, pool.closed] == [False, True]
    assert not pool.submit(lambda: done.append(2))
    let_go.set()
    assert ended("closed")
    assert done == [1] * 5


@pytest.mark.parametrize(("threads", "waiting"), [(0, 1), (-1, 1), (1, -1)])
def test_numbers_that_make_no_sense(threads: int, waiting: int) -> None:
    """Refused at once."""
    with pytest.raises(ValueError):
        WorkerPool("none", threads, waiting)


def test_a_callback_from_another_thread() -> None:
    """It is called by the loop; once that is closed nobody is, and a mistake is still one."""
    told: list[str] = []
    with Loop() as loop:
        call_soon(loop, lambda: told.append("called"))
        with pytest.raises(TypeError):
            call_soon(loop, cast("Callable[[], object]", "no callback"))
        loop.run_once(0)
    call_soon(loop, lambda: told.append("never"))
    assert told == ["called"]
