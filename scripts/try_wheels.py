"""Installs what `scripts/wheels.py` has built as a user would, and tries it: `hatch run release:check`.

    python scripts/try_wheels.py [--dist DIST] [--python PYTHON]...

Each package goes alone into an empty virtual environment, with what its metadata brings: the newest versions and the
oldest that are allowed; compiled by mypyc, with C alone (from DIST/abi3), and pure. It must bring just the packages
below it, be built as it was meant to be, and work.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import product
from pathlib import Path

ROOT = Path(__file__).parent.parent
BRINGS = {
    "nimloop-core": set[str](),
    "nimloop-net": {"nimloop-core"},
    "nimloop-http": {"nimloop-core", "nimloop-net", "multipart"},
    "nimloop-ws": {"nimloop-core", "nimloop-net", "nimloop-http", "multipart"},
    "nimloop-mt": {"nimloop-core", "nimloop-net", "nimloop-http", "multipart"},
}
"""What there is beside a package once it is installed, written down a second time on purpose."""
KINDS = {
    "compiled": ("nimloop_*.whl", "mypyc + C"),
    "with C": ("abi3/nimloop_*.whl", "C"),
    "pure": ("nimloop_*-py3-none-any.whl", "Python"),
}
"""Which wheels there are to choose from, and how a package then says that it was built."""


@dataclass
class Place:
    """A virtual environment that is empty at first."""

    folder: Path
    python: str

    def run(self, *command: str) -> str:
        """Run a command outside the source tree; give what it prints."""
        return subprocess.run(command, cwd=self.folder, check=True, text=True, stdout=subprocess.PIPE).stdout

    def make(self) -> str:
        """Make it, and return the path of its Python."""
        self.run("uv", "venv", "--quiet", "--python", self.python, str(self.folder / "venv"))
        inside = self.folder / "venv" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
        return str(inside)


def kinds_for(python: str, dist: Path) -> list[str]:
    """Return what can be tried on a Python: a compiled wheel is for one version, and may not have been built for it."""
    with tempfile.TemporaryDirectory() as folder:
        ask = "import sysconfig; print('cp' + sysconfig.get_config_var('py_version_nodot'))"
        command = ["uv", "run", "--no-project", "--python", python, "python", "-c", ask]
        tag = Place(Path(folder), python).run(*command).strip()
    there = [kind for kind in KINDS if kind != "compiled" or any(dist.glob(f"nimloop_core-*-{tag}-{tag}*.whl"))]
    for kind in KINDS.keys() - there:
        print(f"nothing {kind} was built for Python {python}: python scripts/wheels.py --mode full --python {python}")
    return there


def attempt(package: str, dist: Path, python: str, resolution: str, kind: str) -> str:
    """Install one package in one way, look at what came with it, and do something with it."""
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), python)
        inside = place.make()
        wheels = Path(folder, "wheels")
        wheels.mkdir()
        pattern, expected = KINDS[kind]
        for wheel in dist.glob(pattern):
            (wheels / wheel.name).hardlink_to(wheel)
        siblings = [f"--refresh-package={name}" for name in BRINGS]  # an old wheel of the same version may be cached
        options = ["--quiet", "--python", inside, "--only-binary=:all:", "--find-links", str(wheels)]
        place.run("uv", "pip", "install", *options, *siblings, "--resolution", resolution, package)
        listed = json.loads(place.run("uv", "pip", "list", "--quiet", "--python", inside, "--format", "json"))
        brought = {each["name"] for each in listed} - {package}
        if brought != BRINGS[package]:
            raise SystemExit(f"{package} brings {sorted(brought)}, and not {sorted(BRINGS[package])}")
        told = place.run(inside, "-W", "error", str(ROOT / "scripts" / "smoke.py"), package).strip()
        how = told.rpartition(": ")[2]
        if package != "nimloop-mt" and how.partition(" (")[0] != expected:  # nothing in nimloop-mt is compiled
            raise SystemExit(f"{package} was to be {expected}, and is {how}")
        return f"{told} ({kind}, {resolution})"


def main() -> None:
    """Try all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="where the wheels are (default: dist)")
    parser.add_argument("--python", action="append", help="a Python to try (default: this one); may be repeated")
    options = parser.parse_args()
    dist = options.dist.resolve()
    for python in options.python or [sys.executable]:
        kinds = kinds_for(python, dist)
        for package, kind, resolution in product(BRINGS, kinds, ["highest", "lowest-direct"]):
            print(attempt(package, dist, python, resolution, kind), flush=True)


if __name__ == "__main__":
    main()
