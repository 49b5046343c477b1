"""The files that describe the workspace agree with one another."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Project:
    """What a pyproject.toml says about a package."""

    folder: Path
    version: str
    needs: dict[str, Requirement]

    @property
    def short(self) -> str:
        """The name without the common prefix: core, net, http."""
        return self.folder.name.removeprefix("nimloop-")


def read(folder: Path) -> Project:
    """Read one package's description."""
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["name"] == folder.name
    requirements = [Requirement(text) for text in project["dependencies"] if text.startswith("nimloop-")]
    return Project(folder, project["version"], {each.name: each for each in requirements})


LAYERS = ("core", "net", "http", "ws", "mt")
PROJECTS = {path.parent.name: read(path.parent) for path in ROOT.glob("packages/nimloop-*/pyproject.toml")}
each_project = pytest.mark.parametrize("project", PROJECTS.values(), ids=PROJECTS)


@each_project
def test_readme_reads_well_at_the_index(project: Project) -> None:
    """There a link has no folder to start from; and the first section tells how to install it."""
    text = (project.folder / "README.md").read_text("utf-8")
    assert re.findall(r"\]\((?!https://|#)[^)]*\)", text) == []
    _, first, *_ = text.split("\n## ")
    assert f"`python -m pip install {project.folder.name}`" in first
    siblings = " ".join(f"./packages/nimloop-{name}" for name in LAYERS if name in chain(project))
    assert f"\npython -m pip install {siblings}\n" in first


def chain(project: Project) -> set[str]:
    """Return the short names of a package and of all that it depends on, near and far."""
    return {project.short}.union(*(chain(PROJECTS[name]) for name in project.needs))


@each_project
def test_ranges_admit_the_siblings_in_this_tree(project: Project) -> None:
    """What is developed together can be installed together."""
    for name, requirement in project.needs.items():
        assert requirement.specifier.contains(PROJECTS[name].version), requirement


@each_project
def test_ranges_are_closed(project: Project) -> None:
    """A range has a floor and a ceiling: a later sibling may break code."""
    for requirement in project.needs.values():
        assert {each.operator for each in requirement.specifier} == {">=", "<"}, requirement


@each_project
def test_papers_are_present(project: Project) -> None:
    """Each package can stand alone: the same licence, a changelog that knows the current version."""
    assert (project.folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    changelog = (project.folder / "CHANGELOG.md").read_text("utf-8")
    assert f"## [{project.version}]" in changelog
    assert "Semantic Versioning" in changelog
    supported = (ROOT / "SECURITY.md").read_text("utf-8")
    assert re.search(
        rf"^\|.*\b{project.folder.name}\b.*\| {project.version.rpartition('.')[0]}\.x \|$", supported, re.MULTILINE
    )


@each_project
def test_hatch_tests_with_the_whole_chain_and_no_more(project: Project) -> None:
    """The environment of a package has exactly the siblings that it needs."""
    hatch = tomllib.loads((ROOT / "hatch.toml").read_text("utf-8"))
    members = hatch["envs"]["hatch-test"]["overrides"]["matrix"]["package"]["workspace"]["members"]
    given = {each["value"] for each in members if project.short in each.get("if", [project.short])}
    assert given == {f"packages/nimloop-{name}" for name in chain(project)}


@pytest.mark.parametrize("environment", ["hatch-test", "only"])
def test_every_package_is_in_the_matrix(environment: str) -> None:
    """No package is forgotten by an environment that has one cell for each."""
    hatch = tomllib.loads((ROOT / "hatch.toml").read_text("utf-8"))
    (matrix,) = hatch["envs"][environment]["matrix"]
    assert sorted(matrix["package"]) == sorted(project.short for project in PROJECTS.values())


@each_project
def test_workflow_runs_for_what_the_package_is_made_of(project: Project) -> None:
    """CI of a package starts when it, its tests or what they share, a package below it or the workspace changes."""
    path = f".github/workflows/{project.short}.yml"
    lines = [line.strip() for line in (ROOT / path).read_text("utf-8").splitlines()]
    assert f"package: {project.short}" in lines
    watched = {f"packages/nimloop-{name}/**" for name in chain(project)}
    tests = "\n".join(path.read_text("utf-8") for path in ROOT.glob(f"tests/{project.short}/*.py"))
    shared = {f"tests/{name}/**" for name in re.findall(r"^from tests\.(\w+)", tests, re.MULTILINE)}
    for pattern in watched | shared | {"tests/support/**", f"tests/{project.short}/**", "hatch.toml", path}:
        # Once for pushes, once for pull requests.
        assert lines.count(f"- {pattern}") == 2, pattern
    assert sum(line.startswith("- packages/") for line in lines) == 2 * len(watched)


def test_ci_runs_the_command_of_the_readme() -> None:
    """What the README promises is what CI tries."""
    command = 'python -m pip install "hatch>=1.18" && hatch run unit'
    assert command in (ROOT / "README.md").read_text("utf-8").splitlines()
    assert f"command='{command}'" in (ROOT / ".ci/run").read_text("utf-8").splitlines()
