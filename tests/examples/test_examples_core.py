"""The core's examples, run the way their first lines say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "core"
PATIENCE = 30.0


def run(name: str, *arguments: str, said: str = "") -> list[str]:
    """Run an example in development mode; return the lines it printed, and fail when it complained about anything."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", str(EXAMPLES / name), *arguments],
        input=said,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_timer_tour_tells_everything_in_order() -> None:
    """Whatever else the machine does, these follow from each other."""
    lines = run("timer_tour.py", "0.1")
    said = [line.strip().partition("  ")[2] for line in lines]  # the time comes first
    assert said[0] == "cancelled timer: active=False"
    assert said[-1] == "deadline: nothing has happened for 0.4"
    assert [each for each in said if each.startswith("beat")] == ["beat 1", "beat 2", "beat 3"]
    assert "one shot" in said
    assert any(each.startswith("resumed timer") for each in said)
    assert [each for each in said if each.startswith("rescheduled")] == [
        "rescheduled timer, call 1",
        "rescheduled timer, call 2",
    ]
    assert not any("never" in each for each in said)


def test_timer_tour_is_never_early() -> None:
    """The times that are printed are the ones that were asked for, or later."""
    times: dict[str, float] = {}
    for line in run("timer_tour.py", "0.1"):
        time, _, text = line.strip().partition("  ")
        times[text] = float(time)
    assert times["one shot"] >= 0.1
    assert times["beat 3"] >= 0.6
    assert times["rescheduled timer, call 1"] >= 1.2


def test_asyncio_guest_talks_both_ways() -> None:
    """Each way round, the coroutine gets its answers."""
    assert run("asyncio_guest.py", "1") == [
        "asyncio inside nimloop",
        "  coroutine got answer 1",
        "  the coroutine has returned",
        "nimloop inside asyncio",
        "  coroutine got answer 1",
        "  the coroutine has returned",
    ]


def test_pipe_chat_says_what_it_is_given() -> None:
    """Arguments are said one after the other, then good-bye."""
    assert run("pipe_chat.py", "hello", "who is there?") == [
        "parrot: hello, hello!",
        "parrot: who is there?, who is there?!",
        "parrot: bye, bye!",
        "the parrot has left with 0",
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="pipes cannot be waited for there")
def test_pipe_chat_says_what_it_reads() -> None:
    """Also a last line without an end, and more than a pipe holds at a time."""
    count = 20_000
    lines = run("pipe_chat.py", said="polly\n" * count + "last")
    assert len(lines) == count + 2
    assert set(lines[:count]) == {"parrot: polly, polly!"}
    assert lines[count:] == ["parrot: last, last!", "the parrot has left with 0"]


def test_pipe_chat_with_nothing_to_say() -> None:
    """An empty file, such as /dev/null, ends it at once."""
    with Path(os.devnull).open() as nothing:
        done = subprocess.run(
            [sys.executable, "-X", "dev", str(EXAMPLES / "pipe_chat.py")],
            stdin=nothing,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert (done.stdout, done.stderr) == ("the parrot has left with 0\n", "")


def test_pipe_chat_says_good_bye_on_ctrl_c() -> None:
    """The signal ends neither process before the good-bye was answered."""
    with subprocess.Popen(
        [sys.executable, "-X", "dev", str(EXAMPLES / "pipe_chat.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as chat:
        assert chat.stdin is not None
        assert chat.stdout is not None
        chat.stdin.write("hello\n")
        chat.stdin.flush()
        assert chat.stdout.readline() == "parrot: hello, hello!\n"  # by now the handler is in place
        chat.send_signal(signal.SIGINT)
        assert chat.stdout.read() == "parrot: bye, bye!\nthe parrot has left with 0\n"
    assert chat.returncode == 0


def test_watch_folder_tells_what_happens(tmp_path: Path) -> None:
    """A file that comes, also in a folder that has just come; Ctrl+C ends it."""
    with subprocess.Popen(
        [sys.executable, "-X", "dev", str(EXAMPLES / "watch_folder.py"), str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(f"watching {tmp_path} with ")
            (tmp_path / "news.txt").touch()
            assert process.stdout.readline() == f"created    {tmp_path}/news.txt\n"
            (tmp_path / "news.txt").rename(tmp_path / "old.txt")
            while not (line := process.stdout.readline()).startswith("renamed"):
                assert line, "it ended"
            assert line.split()[1:] == [f"{tmp_path}/news.txt", "->", f"{tmp_path}/old.txt"]
        finally:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")
