"""What is in the files that users download."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.tags import Tag

PACKAGES = sorted(path.parent for path in (Path(__file__).parents[2] / "packages").glob("nimloop-*/pyproject.toml"))
# What may lie in a source tree after work on the C parts, and must not travel in a pure wheel.
LIBRARIES = frozenset({"_stale.so", "_stale.pyd"})
C_SOURCES = frozenset({"_leaf.c", "_leaf.h"})

FROM_OUTSIDE = {"nimloop-http": {"multipart"}}


@dataclass(frozen=True)
class Built:
    """What one package was built into: the names in both files, and the metadata of the wheel."""

    name: str
    wheel: frozenset[str]
    sdist: frozenset[str]
    metadata: Message

    @property
    def module(self) -> str:
        """The import name."""
        return self.name.replace("-", "_")

    @property
    def dist_info(self) -> str:
        """The folder of metadata in the wheel."""
        return f"{self.module}-{self.metadata['Version']}.dist-info"


@pytest.fixture(scope="module", params=PACKAGES, ids=lambda path: path.name)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build a littered copy of one package: the copy is outside git, where no .gitignore helps."""
    original: Path = request.param
    copy = tmp_path_factory.mktemp("build") / original.name
    shutil.copytree(original, copy, ignore=shutil.ignore_patterns("__pycache__", "dist"))
    for name in LIBRARIES | C_SOURCES:
        (copy / "src" / original.name.replace("-", "_") / name).touch()
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", "out"],
        cwd=copy,
        # The pure wheel is meant, also where a build hook would compile.
        env=os.environ | {"NIMLOOP_EXTENSION": "off"},
        check=True,
    )
    (wheel,) = copy.glob("out/*-py3-none-any.whl")
    (sdist,) = copy.glob("out/*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = frozenset(archive.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        parsed = BytesParser().parsebytes(archive.read(metadata))
    with tarfile.open(sdist) as tar:
        # Every name in an sdist begins with the same folder.
        inner = frozenset(name.partition("/")[2] for name in tar.getnames())
    return Built(original.name, names, inner, parsed)


def test_wheel_holds_the_package_and_its_metadata(built: Built) -> None:
    """Two top-level names land in site-packages, and no more."""
    assert {name.partition("/")[0] for name in built.wheel} == {built.module, built.dist_info}


def test_wheel_is_typed(built: Built) -> None:
    """Type checkers find the marker."""
    assert f"{built.module}/py.typed" in built.wheel


def test_wheel_is_pure(built: Built) -> None:
    """No library and no C source is packed, although the tree had some."""
    assert not {name.rpartition("/")[2] for name in built.wheel} & (LIBRARIES | C_SOURCES)
    suffixes = {Path(name).suffix for name in built.wheel if name.startswith(f"{built.module}/")}
    assert not suffixes & {".c", ".h", ".so", ".pyd", ".pyc", ".dll", ".dylib"}


def test_wheel_has_its_licence(built: Built) -> None:
    """The licence is named by its SPDX expression, and its text is inside."""
    assert built.metadata["License-Expression"] == "MIT"
    assert f"{built.dist_info}/licenses/LICENSE" in built.wheel


def test_wheel_needs_little_but_siblings(built: Built) -> None:
    """What installing a package brings from outside this repository is known."""
    needed = {Requirement(text).name for text in built.metadata.get_all("Requires-Dist", [])}
    assert needed - {path.name for path in PACKAGES} == FROM_OUTSIDE.get(built.name, set())
    assert built.name not in needed


def test_wheel_is_described(built: Built) -> None:
    """The index will have something to show, and pip knows the oldest Python."""
    assert built.metadata["Requires-Python"] == ">=3.11"
    assert built.metadata["Description-Content-Type"] == "text/markdown"
    assert str(built.metadata.get_payload()).startswith(f"# {built.name}\n")
    assert "Typing :: Typed" in built.metadata.get_all("Classifier", [])


def test_sdist_can_be_built_from(built: Built) -> None:
    """The sdist has the sources, C included, and the papers, but neither libraries nor tests."""
    folders = {name.partition("/")[0] for name in built.sdist}
    hook = {"hatch_build.py"} & folders
    assert folders == {"src", "pyproject.toml", "PKG-INFO", "README.md", "LICENSE", "CHANGELOG.md"} | hook
    packed = {name.rpartition("/")[2] for name in built.sdist}
    assert packed >= C_SOURCES
    assert not packed & LIBRARIES


@pytest.mark.skipif(shutil.which("cc") is None, reason="no compiler")
@pytest.mark.parametrize(
    "package", [each for each in PACKAGES if (each / "hatch_build.py").exists()], ids=lambda path: path.name
)
def test_wheel_with_c_has_a_library_for_each_file(package: Path, tmp_path: Path) -> None:
    """One for every later Python (abi3), each beside its stub and its Python twin, and no C source."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=package, env=os.environ | {"NIMLOOP_EXTENSION": "require"}, check=True)
    (wheel,) = tmp_path.glob("*-cp311-abi3-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    expected = {path.relative_to(package / "src").with_suffix("").as_posix() for path in package.glob("src/**/*.c")}
    assert {name.partition(".")[0] for name in names if Path(name).suffix in {".so", ".pyd"}} == expected
    for name in expected:
        assert f"{name}.abi3.so" in names or f"{name}.pyd" in names
        assert f"{name}.pyi" in names
    assert not {name for name in names if name.endswith((".c", ".h"))}


def test_wheel_for_another_machine_bears_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Mac with an ARM processor compiles for Intel's, too, and is told so by ARCHFLAGS."""
    builder = WheelBuilder(str(next(each for each in PACKAGES if (each / "hatch_build.py").exists())))
    hook = builder.get_build_hooks(str(tmp_path))["custom"]
    monkeypatch.setattr("packaging.tags.sys_tags", lambda: iter([Tag("cp311", "cp311", "macosx_14_0_arm64")]))
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setenv("ARCHFLAGS", "-arch x86_64")
    assert vars(type(hook))["platform"].fget(hook) == "macosx_14_0_x86_64"


def test_build_hooks_are_one_file() -> None:
    """An sdist has to hold its own hook, so there are copies: they differ in the names at their beginning only."""
    hooks = [hook.read_text("utf-8") for package in PACKAGES for hook in package.glob("hatch_build.py")]
    assert len(hooks) > 1
    parts = [(hook.partition("\nPACKAGE = ")[0], hook.partition("\n_MODES = ")[2]) for hook in hooks]
    assert len(set(parts)) == 1
    assert all(all(part) for part in parts)
