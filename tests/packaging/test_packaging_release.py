"""What a release rests on: the tag, the workflows and what they may do."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from needed import requirements
from release import problems

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
each_workflow = pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with one package, ready to be released."""
    folder = tmp_path / "packages" / "nimloop-http"
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text('[project]\nversion = "0.2.0"\n')
    (folder / "CHANGELOG.md").write_text("## [0.2.0] - 2026-01-31\n")
    return tmp_path


def test_a_tag_that_agrees_is_released(tree: Path) -> None:
    """Nothing speaks against it."""
    assert problems("nimloop-http-v0.2.0", tree) == []


@pytest.mark.parametrize(
    "tag", ["v0.2.0", "nimloop-http", "nimloop-tcp-v0.2.0", "../packages/nimloop-http-v0.2.0", "-v0.2.0", ""]
)
def test_a_tag_names_a_package(tree: Path, tag: str) -> None:
    """Anything else is refused, and reaches no file."""
    assert len(problems(tag, tree)) == 1


def test_a_tag_names_the_version_in_the_tree(tree: Path) -> None:
    """Neither an older nor a newer one; its changelog is not there either."""
    assert len(problems("nimloop-http-v0.3.0", tree)) == 2


def test_a_released_version_has_a_date(tree: Path) -> None:
    """What still says Unreleased is not finished."""
    (tree / "packages" / "nimloop-http" / "CHANGELOG.md").write_text("## [0.2.0] - Unreleased\n")
    assert len(problems("nimloop-http-v0.2.0", tree)) == 1


@each_workflow
def test_actions_are_pinned(workflow: Path) -> None:
    """By the hash of a commit, which cannot be moved as a tag can; the tag is beside it for people."""
    for used in re.findall(r"uses: (.*)", workflow.read_text("utf-8")):
        assert used.startswith("./.github/workflows/") or re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", used)


@each_workflow
def test_workflows_may_little(workflow: Path) -> None:
    """Reading is all that they may, but for the one job that has to prove who it is in order to publish."""
    text = workflow.read_text("utf-8")
    assert re.search(r"^permissions:( \{\}|\n  contents: read\n)", text, re.MULTILINE)
    granted = set(re.findall(r"^ +([\w-]+): (read|write)\b", text, re.MULTILINE))
    assert granted <= {("contents", "read")} | ({("id-token", "write")} if workflow.name == "release.yml" else set())
    assert text.count("persist-credentials: false") == text.count("actions/checkout@")
    assert "pull_request_target" not in text


def test_wheels_are_built_for_every_python_that_is_promised() -> None:
    """What the classifiers say, and the one without a GIL."""
    config = tomllib.loads((ROOT / "cibuildwheel.toml").read_text("utf-8"))["tool"]["cibuildwheel"]
    built = set(config["build"].split())
    for path in ROOT.glob("packages/*/pyproject.toml"):
        classifiers = tomllib.loads(path.read_text("utf-8"))["project"]["classifiers"]
        versions = re.findall(r"Python :: 3\.(\d+)", "\n".join(classifiers))
        assert {f"cp3{version}-*" for version in versions} == built - {"cp314t-*"}, path
    assert f"build: {config['build']}\n" in (ROOT / ".github/workflows/release.yml").read_text("utf-8")


def test_what_is_audited_is_all_that_is_needed() -> None:
    """What users get, what builds it, and what developers work with, from every environment."""
    needed = set(requirements())
    assert {"multipart>=2.0,<3", "setuptools>=77", "hatchling>=1.27"} <= needed
    listed = re.findall(
        r'^ *"([\w\[\]-]+[=~<>][^"]*)",?(?: #.*)?$', (ROOT / "hatch.toml").read_text("utf-8"), re.MULTILINE
    )
    assert len(listed) > 30
    assert set(listed) <= needed
