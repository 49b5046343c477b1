"""Runs every benchmark, one after the other, and leaves one page with all of their tables, and one table of figures.

    python scripts/bench_all.py                       about an hour
    python scripts/bench_all.py --quick               a moment each, only to see that they work
    python scripts/bench_all.py --only hello,timers   these; the figures of the others stay in the table

nimloop is measured twice, in the same runs: compiled (mypyc and C), and as ``nimloop-python``, nothing compiled. Both
builds are made first, in ``.cache/builds``; ``--reuse`` takes those that are there.

In ``benchmarks/results`` lie then ``page.txt``, the JSON of each benchmark, and ``results.json``, which the charts of
the documentation are drawn from:

    {"facts": {"date": …, "python": …, "kernel": …, "cpu": …},
     "rows": [{"benchmark": "hello",       the name of a run, see `RUNS`
               "case": "64 keep-alive connections",
               "server": "nimloop",        or "nimloop-python", "floor", "uvicorn" …
               "build": "mypyc + C",       or "C", "Python"; "" for who is not nimloop
               "measure": "CPU µs",        with the unit; of loops also "add ns", "bytes each" …
               "user_us": 2.7, "system_us": 6.1,      medians; null where the measure is not CPU time of a server
               "total_us": 8.8,            the median of the measure, whatever its unit
               "ratio_to_floor": 1.2,      median over the rounds; null for lack of what it is set against
               "low": 1.1, "high": 1.3,    the least and the greatest of these ratios
               "floor": "floor"}]}         what it is set against: "floor" in C, "nginx", "picows", "nimloop"
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
RESULTS: Final = ROOT / "benchmarks" / "results"
BUILDS: Final = ROOT / ".cache" / "builds"
# Names of builds, as `benchmarks/_builds.py` has them, and how they are made.
MODES: Final = {"compiled": "full", "python": "off"}
FACTS: Final = ("date", "python", "kernel", "cpu")


@dataclass(frozen=True, slots=True)
class Run:
    """One benchmark with its options. Where its JSON tells of no cases, it is one, and called so."""

    name: str
    script: str
    options: tuple[str, ...] = ()
    case: str = ""


RUNS: Final = (
    Run("hello", "http_hello.py", case="64 keep-alive connections"),
    Run("pipelined", "http_hello.py", ("--pipeline", "16"), "64 connections, 16 deep"),
    Run("close", "http_close.py", case="64 connections at a time, one request each"),
    Run("many_connections", "http_many_connections.py"),
    Run("static", "http_static.py", case="1 KiB"),
    Run("static_large", "http_static.py", ("--size", "10485760", "--connections", "8"), "10 MiB"),
    Run("upload", "http_upload.py", case="1 MiB"),
    Run("parser", "parser.py"),
    Run("timers", "timers.py"),
    Run("wakeups", "wakeups.py"),
    Run("fds", "fds.py"),
    Run("tcp_echo", "tcp_echo.py", case="64 B"),
    Run("tcp_echo_large", "tcp_echo.py", ("--size", "65536", "--connections", "16"), "64 KiB"),
    Run("udp_echo", "udp_echo.py", case="64 B"),
    Run("sendfile", "sendfile.py", case="4 KiB"),
    Run("idle_memory", "idle_memory.py"),
    Run("ws_echo", "ws_echo.py", case="256 B"),
    Run("ws_echo_large", "ws_echo.py", ("--size", "100000"), "100 KB"),
    Run("ws_echo_compressed", "ws_echo.py", ("--compress", "--size", "1024"), "1 KiB, compressed"),
    Run("masking", "masking.py"),
    Run("ws_broadcast", "ws_broadcast.py", case="256 B to 200"),
    Run("mt_scaling", "mt_scaling.py", case="200 µs of work"),
    Run("mt_scaling_hello", "mt_scaling.py", ("--work", "0"), "64 keep-alive connections"),
)


def make_builds() -> None:
    """Install both builds of all packages, each into a folder of its own."""
    shutil.rmtree(BUILDS, ignore_errors=True)
    for name, mode in MODES.items():
        wheels = BUILDS / f"{name}-wheels"
        subprocess.run(
            [sys.executable, str(ROOT / "scripts" / "wheels.py"), "--mode", mode, "--out", str(wheels)], check=True
        )
        command = ["uv", "pip", "install", "--quiet", "--no-deps", "--no-cache", "--python", sys.executable]
        subprocess.run([*command, "--target", str(BUILDS / name), *map(str, wheels.glob("*.whl"))], check=True)


def measure(run: Run, *, quick: bool) -> str:
    """Run one benchmark; return its page, or why there is none."""
    command = [sys.executable, str(ROOT / "benchmarks" / run.script), *run.options]
    command += ["--json", str(RESULTS / f"{run.name}.json"), *(["--quick"] if quick else [])]
    environment = os.environ | {"NIMLOOP_BUILDS": str(BUILDS)}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=environment)
    (RESULTS / f"{run.name}.txt").write_text(done.stdout)
    return done.stdout if done.returncode == 0 else f"{done.stdout}\n{run.name} failed with status {done.returncode}"


def write_table(measured: list[Run]) -> None:
    """Put the rows of what was measured in place of those that were there."""
    path = RESULTS / "results.json"
    table = json.loads(path.read_text()) if path.exists() else {"facts": {}, "rows": []}
    for run in measured:
        document = json.loads((RESULTS / f"{run.name}.json").read_text())
        table["facts"] = {name: document[name] for name in FACTS}
        others = [row for row in table["rows"] if row["benchmark"] != run.name]
        table["rows"] = others + [
            {"benchmark": run.name} | row | {"case": row["case"] or run.case} for row in document["rows"]
        ]
    path.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n")


def main() -> int:
    """Run what was asked for; the exit status is 1 when a benchmark failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a moment each: does it work at all?")
    parser.add_argument("--only", metavar="NAME,…", help=f"of {', '.join(run.name for run in RUNS)}")
    parser.add_argument("--reuse", action="store_true", help="measure the builds of the last time")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else [run.name for run in RUNS]
    unknown = set(wanted) - {run.name for run in RUNS}
    if unknown:
        parser.error(f"no benchmark named {', '.join(sorted(unknown))}")
    if not options.reuse or not BUILDS.exists():
        make_builds()
    RESULTS.mkdir(exist_ok=True)
    pages = []
    for run in RUNS:
        if run.name in wanted:
            (RESULTS / f"{run.name}.json").unlink(missing_ok=True)
            pages.append(f"{f' {run.name} ':=^100}\n\n{measure(run, quick=options.quick)}")
            print(pages[-1], flush=True)
    (RESULTS / "page.txt").write_text("\n\n".join(pages))
    write_table([run for run in RUNS if run.name in wanted and (RESULTS / f"{run.name}.json").exists()])
    return int(any("failed with status" in page for page in pages))


if __name__ == "__main__":
    sys.exit(main())
