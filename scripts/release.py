"""Says whether a tag may be released: `python scripts/release.py nimloop-http-v0.2.0`.

The tag must name a package and the version in its pyproject.toml, its changelog must have a dated section for that
version, its README must not say that it cannot be had yet, and all of it must be committed: a tag holds nothing else.
For a workflow it prints ``package=…``.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def problems(tag: str, root: Path = ROOT) -> list[str]:
    """Return what speaks against the release; nothing, if nothing does."""
    name, separator, version = tag.rpartition("-v")
    folder = root / "packages" / name
    if not separator or "/" in name or not (folder / "pyproject.toml").is_file():
        return [f"{tag} is not a package and its version, like nimloop-http-v0.2.0"]
    found = []
    told = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    if told != version:
        found.append(f"pyproject.toml of {name} says {told}")
    changelog = (folder / "CHANGELOG.md").read_text("utf-8")
    if not re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE):
        found.append(f"the changelog of {name} has no section with a date for {version}")
    if "Nothing has been published yet" in (folder / "README.md").read_text("utf-8"):
        found.append(f"the README of {name} says that nothing has been published yet")
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=root, check=True, text=True, stdout=subprocess.PIPE)
    found += [f"not committed: {line[3:]}" for line in changed.stdout.splitlines()]
    return found


def main() -> int:
    """Say what speaks against it, or which package it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tag", help="nimloop-core-v0.2.0, nimloop-net-v0.2.0 ...")
    tag: str = parser.parse_args().tag
    found = problems(tag)
    for problem in found:
        print(problem, file=sys.stderr)
    if not found:
        print(f"package={tag.rpartition('-v')[0]}")
    return bool(found)


if __name__ == "__main__":
    raise SystemExit(main())
