"""Builds the wheels of all packages, those below first, because compiling one looks into those it depends on.

    python scripts/wheels.py                    everything that is published: sdists, pure and compiled wheels
    python scripts/wheels.py --mode full        compiled by mypyc and from C, for the Python at hand
    python scripts/wheels.py --mode off         pure Python

What the modes mean is told in each package's ``hatch_build.py``. The result is in ``dist/``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent


def packages() -> list[Path]:
    """Return the folders of all packages, each after those that it depends on."""
    needs: dict[str, set[str]] = {}
    for path in (ROOT / "packages").glob("*/pyproject.toml"):
        project = tomllib.loads(path.read_text())["project"]
        wanted = {requirement.split(">")[0] for requirement in project["dependencies"]}
        needs[project["name"]] = {name for name in wanted if name.startswith("nimloop-")}
    return [ROOT / "packages" / name for name in TopologicalSorter(needs).static_order()]


def build(package: Path, out: Path, python: str, mode: str, *, sdist: bool = False) -> None:
    """Build one distribution."""
    command = ["uv", "build", "--quiet", "--sdist" if sdist else "--wheel", "--python", python]
    # A sibling that was built anew still has its old version: what is cached of it is not what is meant.
    command += [f"--refresh-package={path.name}" for path in (ROOT / "packages").iterdir()]
    subprocess.run(
        [*command, "--find-links", str(out), "--out-dir", str(out), str(package)],
        env=os.environ | {"NIMLOOP_EXTENSION": mode},
        check=True,
    )


def main() -> None:
    """Build what was asked for, and say what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=["off", "require", "full"], help="this kind of wheel only")
    parser.add_argument("--python", default=sys.executable, help="the Python to build for (default: this one)")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where they go (default: dist)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for package in packages():
        if options.mode is None:
            build(package, options.out, options.python, "off", sdist=True)
        for mode in [options.mode] if options.mode else ["off", "full"]:
            build(package, options.out, options.python, mode)
    for path in sorted(options.out.iterdir()):
        print(path.name)


if __name__ == "__main__":
    main()
