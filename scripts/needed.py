"""Prints what this repository needs from elsewhere, a requirement a line, for `hatch run security:check`.

All of it: what the packages bring to their users, what builds them, and what each environment of hatch.toml has for
those who work on them. The packages themselves are left out: nothing can be known of them before they are published.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import cast

ROOT = Path(__file__).parent.parent


def requirements(root: Path = ROOT) -> Iterator[str]:
    """Yield each requirement, as often as it stands somewhere."""
    for path in root.glob("packages/*/pyproject.toml"):
        description = tomllib.loads(path.read_text("utf-8"))
        yield from description["build-system"]["requires"]
        yield from description["project"]["dependencies"]
        for extra in description["project"].get("optional-dependencies", {}).values():
            yield from extra
    for environment in tomllib.loads((root / "hatch.toml").read_text("utf-8"))["envs"].values():
        for key in ("dependencies", "extra-dependencies"):
            yield from cast("list[str]", environment.get(key, []))


def main() -> None:
    """Print them, each once."""
    print("\n".join(sorted({each for each in requirements() if not each.startswith("nimloop-")})))


if __name__ == "__main__":
    main()
