"""Runs every benchmark, one after the other, and leaves one page with all of their tables.

    python scripts/bench_all.py                       about an hour; the page is benchmarks/results/page.txt
    python scripts/bench_all.py --quick               a moment each, only to see that they work
    python scripts/bench_all.py --only http_hello,timers

Beside the page lies the JSON of each. What a benchmark says on its way goes to the terminal.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
RESULTS: Final = ROOT / "benchmarks" / "results"


@dataclass(frozen=True, slots=True)
class Run:
    """One benchmark with its options; the name is that of its results."""

    name: str
    script: str
    options: tuple[str, ...] = ()


RUNS: Final = (
    Run("http_hello", "http_hello.py"),
    Run("http_pipelined", "http_hello.py", ("--pipeline", "16")),
    Run("http_static", "http_static.py"),
    Run("parser", "parser.py"),
    Run("timers", "timers.py"),
    Run("wakeups", "wakeups.py"),
    Run("fds", "fds.py"),
    Run("tcp_echo", "tcp_echo.py"),
    Run("udp_echo", "udp_echo.py"),
    Run("sendfile", "sendfile.py"),
    Run("idle_memory", "idle_memory.py"),
    Run("ws_echo", "ws_echo.py"),
    Run("ws_broadcast", "ws_broadcast.py"),
)


def measure(run: Run, *, quick: bool) -> str:
    """Run one benchmark; return its page, or why there is none."""
    command = [sys.executable, str(ROOT / "benchmarks" / run.script), *run.options]
    command += ["--json", str(RESULTS / f"{run.name}.json"), *(["--quick"] if quick else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    (RESULTS / f"{run.name}.txt").write_text(done.stdout)
    return done.stdout if done.returncode == 0 else f"{done.stdout}\n{run.name} failed with status {done.returncode}"


def main() -> int:
    """Run what was asked for; the exit status is 1 when a benchmark failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a moment each: does it work at all?")
    parser.add_argument("--only", metavar="NAME,…", help=f"of {', '.join(run.name for run in RUNS)}")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else [run.name for run in RUNS]
    unknown = set(wanted) - {run.name for run in RUNS}
    if unknown:
        parser.error(f"no benchmark named {', '.join(sorted(unknown))}")
    RESULTS.mkdir(exist_ok=True)
    pages = []
    for run in RUNS:
        if run.name in wanted:
            pages.append(f"{f' {run.name} ':=^100}\n\n{measure(run, quick=options.quick)}")
            print(pages[-1], flush=True)
    (RESULTS / "page.txt").write_text("\n\n".join(pages))
    return int(any("failed with status" in page for page in pages))


if __name__ == "__main__":
    sys.exit(main())
