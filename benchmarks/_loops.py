"""Loops measured from inside: every visit is a fresh interpreter that measures itself and tells its figures.

A fresh one, because what an earlier visit left in the allocator and in the adaptive interpreter would be measured too.
Contenders take turns within a round, so what slows the machine for a while slows all of them.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from _builds import COMPILED, PURE, interpreter
from _harness import HERE, common_arguments, end_on_signal, names, progress, refuse
from _process import Process, ServerFailed, Skipped
from _report import Comparison, Measure

# The slowest visit takes some twenty seconds on a machine that others use as well.
VISIT_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Case:
    """One table: its title, and what it means to the program."""

    title: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a benchmark of loops consists of."""

    benchmark: str
    about: str
    # In `peers/`; it takes `--loop NAME`, `--quick` and the arguments of a case.
    program: str
    # The first is the one that the others are divided by.
    contenders: tuple[str, ...]
    cases: Sequence[Case]
    measures: Sequence[Measure]
    growth: Sequence[tuple[str, str]] = ()


def main(description: str | None, plan: Callable[[bool], Plan]) -> int:
    """Parse the options, measure, report, and return the exit status, which means what `_harness.run`'s does."""
    given = common_arguments(description).parse_args()
    return run(plan(given.quick), given)


def run(plan: Plan, given: argparse.Namespace) -> int:
    """Measure what `common_arguments` asked for."""
    if sys.platform != "linux":
        return refuse("this needs Linux: cores are pinned and memory is read from /proc")
    only, require = names(given.only), names(given.require)
    unknown = {*only, *require} - set(plan.contenders)
    if unknown:
        return refuse(f"no such loop: {', '.join(sorted(unknown))}; there are {', '.join(plan.contenders)}")
    rounds: int = 1 if given.quick else given.rounds
    report = Comparison(
        plan.benchmark,
        about=f"{plan.about}; {rounds} rounds",
        core=min(os.sched_getaffinity(0)),
        measures=plan.measures,
        reference=plan.contenders[0],
        growth=plan.growth,
        results={case.title: {} for case in plan.cases},
    )
    active = [(case, name) for case in plan.cases for name in plan.contenders if not only or name in only]
    old = signal.signal(signal.SIGTERM, end_on_signal)
    try:
        for turn in range(rounds):
            for case, name in list(active):
                progress(f"round {turn + 1} of {rounds}: {case.title}, {name}")
                try:
                    figures = _visit(plan, case, name, report, quick=given.quick)
                except Skipped as why:
                    active = [each for each in active if each[1] != name]
                    report.skipped[name] = str(why)
                except ServerFailed as why:
                    active.remove((case, name))
                    report.failed[f"{name}, {case.title}"] = str(why)
                else:
                    report.results[case.title].setdefault(name, []).append(figures)
        progress("")
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, old)
    measured = {name for contenders in report.results.values() for name in contenders}
    for name in require:
        if name not in measured:
            report.failed.setdefault(name, "required, but not measured")
    print(report.text())
    json_path: Path | None = given.json
    if json_path is not None:
        json_path.write_text(report.as_json(), encoding="utf-8")
    return 1 if report.failed or not measured else 0


def _visit(plan: Plan, case: Case, name: str, report: Comparison, *, quick: bool) -> dict[str, float]:
    """One fresh process, from start to end; raises Skipped or ServerFailed."""
    loop, pure, _ = name.partition(f"-{PURE}")
    python = interpreter(PURE if pure else COMPILED)
    command = [*python, str(HERE / "peers" / plan.program), "--loop", loop, *case.arguments]
    process = Process([*command, "--quick"] if quick else command, report.core)
    try:
        text = process.wait_result(VISIT_SECONDS)
    finally:
        process.end()
    report.builds[name] = process.build
    figures: dict[str, float] = json.loads(text)
    return figures
