"""Installs what `scripts/wheels.py` has built as a user would, and tries it: `hatch run release:check`.

    python scripts/try_wheels.py [--dist DIST] [--python PYTHON]...

Each package goes alone into an empty virtual environment, with what its metadata brings: the newest versions and the
oldest that are allowed, compiled and pure. It must bring just the packages below it, and work.
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


def attempt(package: str, dist: Path, python: str, resolution: str, *, pure: bool) -> str:
    """Install one package in one way, look at what came with it, and do something with it."""
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), python)
        inside = place.make()
        wheels = Path(folder, "wheels")
        wheels.mkdir()
        for wheel in dist.glob("nimloop_*-py3-none-any.whl" if pure else "nimloop_*.whl"):
            (wheels / wheel.name).hardlink_to(wheel)
        siblings = [f"--refresh-package={name}" for name in BRINGS]  # an old wheel of the same version may be cached
        options = ["--quiet", "--python", inside, "--only-binary=:all:", "--find-links", str(wheels)]
        place.run("uv", "pip", "install", *options, *siblings, "--resolution", resolution, package)
        listed = json.loads(place.run("uv", "pip", "list", "--quiet", "--python", inside, "--format", "json"))
        brought = {each["name"] for each in listed} - {package}
        if brought != BRINGS[package]:
            raise SystemExit(f"{package} brings {sorted(brought)}, and not {sorted(BRINGS[package])}")
        return place.run(inside, "-W", "error", str(ROOT / "scripts" / "smoke.py"), package).strip()


def main() -> None:
    """Try all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="where the wheels are (default: dist)")
    parser.add_argument("--python", action="append", help="a Python to try (default: this one); may be repeated")
    options = parser.parse_args()
    for python, package in product(options.python or [sys.executable], BRINGS):
        for resolution, pure in product(["highest", "lowest-direct"], [False, True]):
            told = attempt(package, options.dist.resolve(), python, resolution, pure=pure)
            print(f"{told} ({resolution})", flush=True)


if __name__ == "__main__":
    main()
