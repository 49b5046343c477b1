"""Servers measured side by side: all up in one run, visited in turn, CPU time per answer that the client counted.

A rate says little on a small or shared machine; the CPU time of the server's processes divided by the number of
answers hardly moves when a neighbour is busy. So that is the figure, and each one is set against a floor from the
same run.
"""

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn, Protocol

from _builds import PURE, interpreter
from _process import START_SECONDS, Process, ServerFailed, Skipped, cpu_of
from _report import FLOOR, Report, Result, Visit

HERE: Final = Path(__file__).parent
# Closing the client's connections is work too; after this it has fallen into the visit it belongs to.
SETTLE_SECONDS: Final = 0.05
# Enough for caches, allocators and adaptive interpreters to settle.
WARM_UP_SECONDS: Final = 1


class WrongAnswer(Exception):
    """The server said something else than it must."""


class LoadFailed(Exception):
    """The client could not do its work, or counted errors."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the client counted."""

    count: int
    seconds: float


class Workload(Protocol):
    """One kind of load, with its own idea of a right answer."""

    @property
    def unit(self) -> str:
        """What is counted: request, message, round trip."""

    def describe(self) -> str:
        """One line for the head of the report."""

    def missing(self) -> str | None:
        """What has to be installed before this can run."""

    def check(self, port: int, *, routes: bool) -> None:
        """Raises WrongAnswer, or OSError while the server does not listen yet."""

    def run(self, port: int, seconds: int) -> Load:
        """Load the server; raises LoadFailed."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A server that takes part. `command` may use the directory that it is given; it may raise Skipped."""

    name: str
    command: Callable[[Path], list[str]]
    # False for canned answers, which know no path and so no 404.
    routes: bool = True


def python_peer(program: str, *arguments: str) -> Callable[[Path], list[str]]:
    """The command of a program in `peers/`, under the interpreter that runs the benchmark."""
    return lambda _: [*interpreter(), str(HERE / "peers" / program), *arguments]


def pure_peer(program: str, *arguments: str) -> Callable[[Path], list[str]]:
    """The same with nothing of nimloop compiled."""
    return lambda _: [*interpreter(PURE), str(HERE / "peers" / program), *arguments]


def cannot(why: str) -> Callable[[Path], list[str]]:
    """The command of a server that is known to be unable to do this work."""

    def skip(_: Path) -> list[str]:
        raise Skipped(why)

    return skip


def compiler() -> list[str]:
    """The command of the C compiler; empty where there is none."""
    command = shlex.split(os.environ.get("CC", "cc"))
    return command if command and shutil.which(command[0]) else []


def c_program(source: str) -> Callable[[Path], list[str]]:
    """The command of a C program of one file, compiled when the benchmark starts."""

    def build(directory: Path) -> list[str]:
        program = directory / Path(source).stem
        if not compiler():
            raise Skipped("no C compiler")
        command = [*compiler(), "-O2", "-o", str(program), str(HERE / source)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            raise ServerFailed(f"does not compile: {made.stderr.strip()[-600:]}")
        return [str(program)]

    return build


@dataclass(frozen=True, slots=True)
class Options:
    """What every benchmark of servers can be told."""

    rounds: int
    seconds: int
    warm_up: int
    connections: int
    only: tuple[str, ...]
    require: tuple[str, ...]
    json: Path | None

    @classmethod
    def of(cls, given: argparse.Namespace) -> "Options":
        """From what `arguments()` parsed."""
        return cls(
            rounds=1 if given.quick else given.rounds,
            seconds=1 if given.quick else given.seconds,
            warm_up=0 if given.quick else WARM_UP_SECONDS,
            connections=given.connections,
            only=names(given.only),
            require=names(given.require),
            json=given.json,
        )


def names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def positive(text: str) -> int:
    """The number; for argparse."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return int(text)


def common_arguments(description: str | None) -> argparse.ArgumentParser:
    """The options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=positive, default=5, help="visits to each contender (default 5)")
    parser.add_argument("--only", default="", metavar="NAME,…", help="these contenders, not all")
    parser.add_argument("--require", default="", metavar="NAME,…", help="fail when one of these is not measured")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write everything measured there as well")
    parser.add_argument("--quick", action="store_true", help="one short visit: does it work at all?")
    return parser


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The options of all benchmarks of servers."""
    parser = common_arguments(description)
    parser.add_argument("--seconds", type=positive, default=3, help="length of a visit (default 3)")
    parser.add_argument("--connections", type=positive, default=64, help="kept open at once (default 64)")
    return parser


@dataclass(slots=True)
class _Running:
    """A contender whose server is up."""

    contender: Contender
    process: Process
    result: Result = field(default_factory=Result)

    def check(self, workload: Workload, *, patience: float = 0.0) -> None:
        """Raises WrongAnswer or ServerFailed; asks again, for so many seconds, while nobody listens."""
        deadline = time.monotonic() + patience
        while True:
            try:
                return workload.check(self.process.port, routes=self.contender.routes)
            except OSError as error:
                if not self.process.alive:
                    raise ServerFailed(f"died{self.process.complaints()}") from error
                if time.monotonic() >= deadline:
                    raise WrongAnswer(f"no answer: {error}{self.process.complaints()}") from error
                time.sleep(0.05)


def run(
    benchmark: str, contenders: Sequence[Contender], workload: Workload, options: Options, *, floor: str = FLOOR
) -> int:
    """Measure, report, and return the exit status: 0, or 1 when anything was wrong, or 2 for a wrong call.

    `floor` is the contender that the others are set against.
    """
    if sys.platform != "linux":
        return refuse("this needs Linux: CPU time is read from /proc and cores are pinned")
    unknown = {*options.only, *options.require} - {contender.name for contender in contenders}
    if unknown:
        known = ", ".join(contender.name for contender in contenders)
        return refuse(f"no such server: {', '.join(sorted(unknown))}; there are {known}")
    if (missing := workload.missing()) is not None:
        return refuse(missing)
    cores = sorted(os.sched_getaffinity(0))
    server_core, client_core = cores[0], cores[1 % len(cores)]
    if server_core == client_core:
        print("only one core: server and client share it, the figures mean little", file=sys.stderr)
    report = Report(
        benchmark,
        about=f"{workload.describe()}; {options.rounds} x {options.seconds} s each",
        unit=workload.unit,
        cores=(server_core, client_core),
        floor=floor,
    )
    try:
        # Children inherit this, so it is the client's core too; each server moves to its own.
        os.sched_setaffinity(0, {client_core})
        _measure(
            [each for each in contenders if not options.only or each.name in options.only], workload, options, report
        )
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    finally:
        os.sched_setaffinity(0, cores)
    for name in options.require:
        if name not in report.results:
            report.failed.setdefault(name, "required, but not measured")
    print(report.text())
    if options.json is not None:
        options.json.write_text(report.as_json(), encoding="utf-8")
    return 1 if report.failed or not report.results else 0


def _measure(contenders: Sequence[Contender], workload: Workload, options: Options, report: Report) -> None:
    """Fill the report; whatever happens, no server outlives this."""
    running: list[_Running] = []
    active: list[_Running] = []
    with ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, end_on_signal))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nimloop-bench-")))
        stack.callback(_end_all, running)
        for contender in contenders:
            try:
                each = _start(contender, directory, report.cores[0], running)
                each.check(workload, patience=START_SECONDS)
            except Skipped as why:
                report.skipped[contender.name] = str(why)
                print(f"skipped {contender.name}: {why}", file=sys.stderr)
            except (ServerFailed, WrongAnswer) as why:
                _fail(contender.name, why, report)
            else:
                active.append(each)
                report.builds[contender.name] = each.process.build
        if options.warm_up:
            progress("warm-up")
            _visit_all(active, workload, options.warm_up, report, keep=False)
        for turn in range(options.rounds):
            progress(f"round {turn + 1} of {options.rounds}")
            _visit_all(active, workload, options.seconds, report, keep=True)
        progress("")
    report.results = {each.contender.name: each.result for each in active}


def _start(contender: Contender, directory: Path, core: int, running: list[_Running]) -> _Running:
    """Listed as running before anything else can go wrong, so that whatever was started gets ended."""
    command = contender.command(directory)
    each = _Running(contender, Process([*command, "--port", "0"], core))
    running.append(each)
    each.process.wait_port()
    return each


def _visit_all(active: list[_Running], workload: Workload, seconds: int, report: Report, *, keep: bool) -> None:
    """Load each server in turn; those that fail take no further part."""
    for each in list(active):
        try:
            visit = _visit(each, active, workload, seconds)
            each.check(workload)
        except (LoadFailed, WrongAnswer, ServerFailed) as why:
            _fail(each.contender.name, why, report)
            active.remove(each)
        else:
            if keep:
                each.result.visits.append(visit)


def _visit(each: _Running, active: list[_Running], workload: Workload, seconds: int) -> Visit:
    pids = [other.process.pid for other in active]
    began = time.monotonic()
    before = cpu_of(pids)
    load = workload.run(each.process.port, seconds)
    time.sleep(SETTLE_SECONDS)
    after = cpu_of(pids)
    elapsed = time.monotonic() - began
    if not each.process.alive:
        raise ServerFailed(f"died under load{each.process.complaints()}")
    for other in active:
        if other is not each:
            pid = other.process.pid
            other.result.idle_cpu += (after[pid] - before[pid]).total
            other.result.idle_seconds += elapsed
    spent = after[each.process.pid] - before[each.process.pid]
    return Visit(load.count, load.seconds, spent.user, spent.system)


def _fail(name: str, why: Exception, report: Report) -> None:
    report.failed[name] = str(why)
    print(f"FAILED {name}: {why}", file=sys.stderr)


def refuse(why: str) -> int:
    """Say why not, and return the exit status for it."""
    print(why, file=sys.stderr)
    return 2


def progress(text: str) -> None:
    """One line that overwrites itself, for people only."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def end_on_signal(number: int, _: FrameType | None) -> NoReturn:
    """Let SIGTERM clean up like Ctrl+C."""
    # As an exception, so that the servers are ended on the way out.
    raise SystemExit(128 + number)


def _end_all(running: list[_Running]) -> None:
    # A second Ctrl+C must not leave half of them behind.
    old = [(number, signal.signal(number, signal.SIG_IGN)) for number in (signal.SIGINT, signal.SIGTERM)]
    for each in running:
        each.process.ask_to_end()
    for each in running:
        each.process.end()
    for number, handler in old:
        signal.signal(number, handler)
