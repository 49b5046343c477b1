"""Changes the code in small ways and sees whether the tests notice: `hatch run mutants:timers --sample 50`.

    python scripts/mutants.py TARGET [--sample N] [--seed N] [--timeout SECONDS]

cosmic-ray makes all mutants of a module; a sample of them is run, in a copy of the tree, on Python alone. The tests
that are most likely to notice come first, and Hypothesis makes few examples: a mutant takes about as long as the tests
up to the first that fails. What survives that is tried again by all tests with all examples. What survives this too is
printed: a missing test, code that need not be there, or a change that means the same.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib
import itertools
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_code, use_mutation
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import MutationSpec

assert sys.platform != "win32", "mutants are tried in processes that are forked"
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Target:
    """Modules, the tests that have to notice, and those that are asked only about what has survived the first."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]
    more: tuple[str, ...] = ()


TARGETS = {
    "timers": Target(
        ("core/_timers", "core/_deadlines"),
        ("core/test_core_timers", "core/test_core_deadlines"),
        ("core/test_core_loop",),
    ),
    "parser": Target(
        ("http/parser", "http/_bodies", "http/_framing", "http/_grammar", "http/_head", "http/_scan_py"),
        (
            "http/test_http_parser",
            "http/test_http_parser_state",
            "http/test_http_parser_limits",
            "http/test_http_framing",
            "http/test_http_parser_rows",
            "http/test_http_scan_chunks",
            "http/test_http_grammar",
            "http/test_http_scan",
            "http/test_http_parser_cases",
        ),
        ("http/test_http_parser_others", "http/test_http_parser_random"),
    ),
    "scanner": Target(
        ("http/_scan_py",),
        (
            "http/test_http_scan",
            "http/test_http_scan_chunks",
            "http/test_http_parser_rows",
            "http/test_http_parser",
            "http/test_http_parser_limits",
            "http/test_http_headers",
        ),
        ("http/test_http_parser_cases", "http/test_http_parser_others", "http/test_http_parser_random"),
    ),
    "framing": Target(
        ("http/_framing", "http/_bodies"),
        (
            "http/test_http_framing",
            "http/test_http_parser",
            "http/test_http_scan_chunks",
            "http/test_http_parser_limits",
            "http/test_http_parser_cases",
        ),
        ("http/test_http_parser_others", "http/test_http_parser_random", "http/test_http_parser_state"),
    ),
    "forms": Target(
        ("http/_multipart", "http/_disposition", "http/_form"),
        ("http/test_http_forms", "http/test_http_disposition"),
    ),
    "proxy": Target(("http/_proxyprotocol", "http/_preface"), ("http/test_http_proxy",)),
    "frames": Target(
        ("ws/_frame_py", "ws/_frame_reader", "ws/_header", "ws/_message", "ws/frames", "ws/parser", "ws/deflate"),
        ("ws/test_ws_frame_c", "ws/test_ws_frames", "ws/test_ws_deflate", "ws/test_ws_parser", "ws/test_ws_handshake"),
    ),
}
DULL = re.compile("AddNot|Decorator|Eq_Is|Is_Eq|IsNot_NotEq")
"""An added ``not`` is found by every test that gets there, a decorator is mostly `@final`, and small numbers that are
equal are the same."""
_MEMORY = 2 << 30
"""Bytes of address space for one run of tests: what goes on for ever takes all that there is."""
QUICK, THOROUGH = "mutants", "nimloop"
"""Profiles of Hypothesis, in `tests/conftest.py`."""


def copy(folder: Path) -> None:
    """Copy what is needed, without libraries that were built."""
    ignored = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__", ".hypothesis")
    for name in ("packages", "tests", "scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)


def prepare(folder: Path) -> None:
    """Make this process one that needs only be forked to run tests in `folder`."""
    os.environ |= {"NIMLOOP_EXTENSION": "off", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    os.chdir(folder)
    sources = [str(path) for path in sorted(folder.glob("packages/*/src"))]
    sys.path[:0] = sources
    os.environ["PYTHONPATH"] = os.pathsep.join(sources)  # for tests that start a Python
    for name in ("hypothesis", "hypothesis.stateful", "h11", "httptools"):
        importlib.import_module(name)


def passes(tests: tuple[str, ...], profile: str, timeout: float) -> bool:
    """Run tests in a child, until the first fails or the time is over."""
    child = os.fork()
    if child == 0:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        os.environ["HYPOTHESIS_PROFILE"] = profile
        for descriptor in (1, 2):
            os.dup2(os.open("tests.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        os._exit(pytest.main(["-q", "-x", "-p", "no:cacheprovider", *(f"tests/{name}.py" for name in tests)]))
    ends = time.monotonic() + timeout
    while time.monotonic() < ends:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status == 0
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


class Evaluated(ast.NodeTransformer):
    """Takes away annotations, which nobody evaluates."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        """Leave the name of a parameter."""
        return ast.arg(node.arg)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Leave out what is returned."""
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        """Leave what is assigned."""
        return ast.Assign([node.target], node.value) if node.value else ast.Pass()


def evaluated(code: str) -> str:
    """Return what is evaluated, in a form in which it can be compared."""
    return ast.dump(Evaluated().visit(ast.parse(code)))


def mutants(modules: list[Path], sample: int, seed: int) -> list[MutationSpec]:
    """Return a sample of the mutants, in the order of their places."""
    database = WorkDB(":memory:", WorkDB.Mode.create)
    init(modules, database, {})
    found = [each for item in database.work_items for each in item.mutations if not DULL.search(each.operator_name)]
    found.sort(key=place)
    random.Random(seed).shuffle(found)
    return sorted(itertools.islice(filter(counts, found), sample), key=place)


def place(mutant: MutationSpec) -> tuple[object, ...]:
    """Return what mutants are sorted by."""
    return mutant.module_path, mutant.start_pos, mutant.operator_name, mutant.occurrence


def counts(mutant: MutationSpec) -> bool:
    """Tell whether a mutant is Python, and not the same as before but for its annotations."""
    before = mutant.module_path.read_text("utf-8")
    after = mutate_code(before, get_operator(mutant.operator_name)(), mutant.occurrence)
    try:
        return evaluated(after) != evaluated(before)
    except SyntaxError:  # `a & not b`
        return False


def notices(target: Target, mutant: MutationSpec, timeout: float) -> bool:
    """Try one mutant; print it when it survives."""
    operator = get_operator(mutant.operator_name)()
    with use_mutation(mutant.module_path, operator, mutant.occurrence) as (before, after):
        stem = mutant.module_path.stem.strip("_").split("_")[0]
        tests = tuple(sorted(target.tests, key=lambda name: stem not in name))  # those of the module before others
        if not passes(tests, QUICK, timeout) or not passes(tests + target.more, THOROUGH, timeout):
            return True
    name = str(mutant.module_path)
    diff = difflib.unified_diff(before.splitlines(), after.splitlines(), name, mutant.operator_name, lineterm="", n=2)
    print("\n".join(diff), flush=True)
    return False


def main() -> None:
    """Run one target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--sample", type=int, default=50, help="how many mutants to run (default: 50)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds for one run of tests (default: 120)")
    options = parser.parse_args()
    target = TARGETS[options.target]
    with tempfile.TemporaryDirectory() as name:
        copy(Path(name))
        prepare(Path(name))
        if not passes(target.tests + target.more, THOROUGH, 10 * options.timeout):
            raise SystemExit(Path("tests.log").read_text("utf-8"))
        packages = (module.split("/") for module in target.modules)
        modules = [Path(f"packages/nimloop-{short}/src/nimloop_{short}/{name}.py") for short, name in packages]
        # What was compiled is kept, except of what is going to change within a second to something of the same size.
        sys.dont_write_bytecode = True
        for module in modules:
            for compiled in module.parent.glob(f"__pycache__/{module.stem}.*"):
                compiled.unlink()
        tried = mutants(modules, options.sample, options.seed)
        noticed = sum(notices(target, each, options.timeout) for each in tried)
    print(f"{options.target}: {len(tried)} mutants, {noticed} noticed")


if __name__ == "__main__":
    main()
