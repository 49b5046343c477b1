"""Changes the code in small ways and sees whether the tests notice: `hatch run mutants:timers --sample 50`.

    python scripts/mutants.py timers | parser | frames [--sample N] [--seed N] [--timeout SECONDS]

cosmic-ray makes all mutants of a module; a sample of them is run, in a copy of the tree, on Python alone. What survives
is printed: a missing test, code that need not be there, or a change that means the same.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Target:
    """Modules, and the tests that have to notice."""

    modules: tuple[str, ...]
    tests: str


TARGETS = {
    "timers": Target(("nimloop-core/src/nimloop_core/_timers.py",), "tests/core/test_core_timers.py"),
    "parser": Target(
        tuple(f"nimloop-http/src/nimloop_http/{name}.py" for name in ("_framing", "_scan_py", "parser")),
        "tests/http/test_http_parser_rows.py tests/http/test_http_framing.py tests/http/test_http_parser.py "
        "tests/http/test_http_scan.py",
    ),
    "frames": Target(
        tuple(f"nimloop-ws/src/nimloop_ws/{name}.py" for name in ("_frame_py", "parser")),
        "tests/ws/test_ws_parser.py tests/ws/test_ws_frame_c.py",
    ),
}
CONFIG = """
[cosmic-ray]
module-path = {modules}
timeout = {timeout}
excluded-modules = []
test-command = "{command}"

[cosmic-ray.distributor]
name = "local"
"""
DULL = " OR ".join(f"operator_name LIKE '%{name}%'" for name in ("AddNot", "Decorator", "BinaryOperator_BitOr_"))
"""An added ``not`` is found by every test that gets there; a decorator and ``|`` are mostly `@final` and types."""


def copy(folder: Path) -> Path:
    """Copy what is needed, without libraries that were built."""
    ignored = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__", ".hypothesis")
    for name in ("packages", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    return folder


def thin_out(session: Path, sample: int, seed: int) -> int:
    """Leave a sample of the mutants; return how many there were."""
    with sqlite3.connect(session) as database:
        database.execute(f"DELETE FROM mutation_specs WHERE {DULL}")
        jobs = [row[0] for row in database.execute("SELECT job_id FROM mutation_specs ORDER BY job_id")]
        order = "module_path, start_pos_row, start_pos_col, operator_name, occurrence"
        places = database.execute(f"SELECT job_id FROM mutation_specs ORDER BY {order}")
        kept = set(random.Random(seed).sample([row[0] for row in places], min(sample, len(jobs))))
        dropped = [(job,) for job in jobs if job not in kept]
        database.executemany("DELETE FROM mutation_specs WHERE job_id = ?", dropped)
        database.execute("DELETE FROM work_items WHERE job_id NOT IN (SELECT job_id FROM mutation_specs)")
    return len(jobs)


def main() -> None:
    """Run one target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--sample", type=int, default=50, help="how many mutants to run (default: 50)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--timeout", type=float, default=120.0, help="seconds for the tests of one mutant (default: 120)"
    )
    options = parser.parse_args()
    target = TARGETS[options.target]
    with tempfile.TemporaryDirectory() as name:
        folder = copy(Path(name))
        sources = os.pathsep.join(str(path / "src") for path in folder.glob("packages/*"))
        environment = os.environ | {"NIMLOOP_EXTENSION": "off", "PYTHONPATH": sources, "PYTHONDONTWRITEBYTECODE": "1"}
        command = f"{sys.executable} -m pytest -q -x -p no:cacheprovider {target.tests}"
        modules = [f"packages/{module}" for module in target.modules]
        config = CONFIG.format(modules=json.dumps(modules), timeout=options.timeout, command=command)
        (folder / "config.toml").write_text(config)
        for step in (["baseline", "config.toml"], ["init", "config.toml", "mutants.sqlite"]):
            subprocess.run(["cosmic-ray", *step], cwd=folder, env=environment, check=True)
        total = thin_out(folder / "mutants.sqlite", options.sample, options.seed)
        subprocess.run(["cosmic-ray", "exec", "config.toml", "mutants.sqlite"], cwd=folder, env=environment, check=True)
        dump = subprocess.run(
            ["cosmic-ray", "dump", "mutants.sqlite"], cwd=folder, env=environment, check=True, stdout=subprocess.PIPE
        )
    results = [json.loads(line) for line in dump.stdout.decode().splitlines()]
    survivors = [result for _, result in results if result and result["test_outcome"] == "survived"]
    for survivor in survivors:
        print(survivor["diff"])
    print(f"{options.target}: {len(results)} of {total} mutants, {len(results) - len(survivors)} noticed")


if __name__ == "__main__":
    main()
