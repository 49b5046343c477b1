"""What a release rests on: the tag, the workflows and what they may do."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from needed import requirements
from release import problems

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
each_workflow = pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)


def commit(tree: Path) -> None:
    """Keep all that is in a tree, whoever one is."""
    subprocess.run(["git", "add", "--all"], cwd=tree, check=True)
    nobody = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *nobody, "commit", "--quiet", "--no-verify", "-m", "."], cwd=tree, check=True)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with one package, ready to be released."""
    if shutil.which("git") is None:
        pytest.skip("no git")
    folder = tmp_path / "packages" / "nimloop-http"
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text('[project]\nversion = "0.2.0"\n')
    (folder / "CHANGELOG.md").write_text("## [0.2.0] - 2026-01-31\n")
    (folder / "README.md").write_text("# nimloop-http\n")
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    commit(tmp_path)
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
    commit(tree)
    assert len(problems("nimloop-http-v0.2.0", tree)) == 1


def test_what_is_released_does_not_deny_it(tree: Path) -> None:
    """The index shows the README of the package that somebody has just found there."""
    (tree / "packages" / "nimloop-http" / "README.md").write_text("Nothing has been published yet.\n")
    commit(tree)
    assert len(problems("nimloop-http-v0.2.0", tree)) == 1


def test_a_tag_holds_what_was_tried(tree: Path) -> None:
    """A change that nobody has committed, or a file that nobody has added, is not in it."""
    (tree / "packages" / "nimloop-http" / "README.md").write_text("# nimloop\n")
    (tree / "new.py").touch()
    assert problems("nimloop-http-v0.2.0", tree) == [
        "not committed: packages/nimloop-http/README.md",
        "not committed: new.py",
    ]


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


def test_wheels_of_c_are_built_where_a_package_has_some() -> None:
    """Where it has none, that wheel would be a pure one, at which cibuildwheel stops."""
    text = (ROOT / ".github/workflows/release.yml").read_text("utf-8")
    for system, platform in {"macos": "darwin", "windows": "win32"}.items():
        (left_out,) = re.findall(
            rf"- os: .*fromJSON\('(.*)'\).*'{system}-latest' \|\| 'none' }}}}\n +mode: require\n", text
        )
        without = set()
        for hook in ROOT.glob("packages/*/hatch_build.py"):
            (platforms,) = re.findall(r"^C_PLATFORMS = (\(.*?\))", hook.read_text("utf-8"), re.MULTILINE)
            if not platform.startswith(ast.literal_eval(platforms)):
                without.add(hook.parent.name)
        assert set(ast.literal_eval(left_out)) == without


def test_what_is_audited_is_all_that_is_needed() -> None:
    """What users get, what builds it, and what developers work with, from every environment."""
    needed = set(requirements())
    assert {"multipart>=2.0,<3", "setuptools>=77", "hatchling>=1.27"} <= needed
    listed = re.findall(
        r'^ *"([\w\[\]-]+[=~<>][^"]*)",?(?: #.*)?$', (ROOT / "hatch.toml").read_text("utf-8"), re.MULTILINE
    )
    assert len(listed) > 30
    assert set(listed) <= needed
