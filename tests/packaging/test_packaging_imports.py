"""Nobody imports what is above, beside or private: read from the installed packages."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

# The layering, written down a second time on purpose: a dependency that creeps into a pyproject.toml
# does not make itself legal.
BELOW: dict[str, frozenset[str]] = {
    "nimloop_core": frozenset(),
    "nimloop_net": frozenset({"nimloop_core"}),
    "nimloop_http": frozenset({"nimloop_core", "nimloop_net"}),
    "nimloop_ws": frozenset({"nimloop_core", "nimloop_net", "nimloop_http"}),
    "nimloop_mt": frozenset({"nimloop_core", "nimloop_net", "nimloop_http"}),
}
INSTALLED = [name for name in BELOW if importlib.util.find_spec(name)]


def root(package: str) -> Path:
    """Return the folder in which a package is installed."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None, f"{package} has no __init__.py"
    return Path(spec.origin).parent


def declared(package: str) -> frozenset[str]:
    """Return the import names of the siblings that the metadata of a package asks for."""
    requirements = requires(package.replace("_", "-")) or []
    return frozenset(Requirement(text).name.replace("-", "_") for text in requirements)


def is_private(dotted: str) -> bool:
    """Tell whether any part of a dotted name is unpromised: `__main__` and its like are too."""
    return any(part.startswith("_") for part in dotted.split("."))


def is_promised(module: str, name: str) -> bool:
    """Tell whether a module offers a name: in its `__all__`, without one as a public name, or as a module inside."""
    loaded = importlib.import_module(module)
    offered: list[str] = getattr(loaded, "__all__", dir(loaded))
    inside = hasattr(loaded, "__path__") and importlib.util.find_spec(f"{module}.{name}") is not None
    return not is_private(name) and (name in offered or inside)


def modules_named(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and the module of every absolute import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert node.module is not None
            yield node.lineno, node.module


def outsiders(package: str, tree: ast.AST) -> Iterator[str]:
    """Yield the imports that reach neither the standard library, nor the package, nor one below it."""
    # mypy_extensions comes with mypy, for the eyes of type checkers: `nimloop_http._mypyc` does without when it runs.
    allowed = {package, "mypy_extensions"} | (BELOW[package] & declared(package))
    for line, module in modules_named(tree):
        top = module.partition(".")[0]
        if top not in allowed and top not in sys.stdlib_module_names:
            yield f"line {line}: {module}"


def intrusions(package: str, tree: ast.AST) -> Iterator[str]:
    """Yield the uses of a sibling's private modules and of names that it does not offer."""
    aliases = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                if top in BELOW and top != package:
                    aliases.add(alias.asname or top)
                    if is_private(alias.name):
                        yield f"line {node.lineno}: import {alias.name}"
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            top = node.module.partition(".")[0]
            if top in BELOW and top != package:
                for alias in node.names:
                    if is_private(node.module) or not is_promised(node.module, alias.name):
                        yield f"line {node.lineno}: from {node.module} import {alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            owner = ast.unparse(node.value).partition(".")[0]
            if owner in aliases:
                yield f"line {node.lineno}: {ast.unparse(node)}"


def sources(package: str) -> list[Path]:
    """Return all modules and stubs of an installed package."""
    return sorted(path for path in root(package).rglob("*.py*") if path.suffix in {".py", ".pyi"})


def test_something_is_installed() -> None:
    """The tests below have packages to look at."""
    assert "nimloop_core" in INSTALLED


@pytest.mark.parametrize("package", INSTALLED)
def test_imports_stay_below(package: str) -> None:
    """A package imports the standard library and declared packages below it, nothing else."""
    found = {
        f"{path.name}, {what}" for path in sources(package) for what in outsiders(package, ast.parse(path.read_bytes()))
    }
    assert not found


@pytest.mark.parametrize("package", INSTALLED)
def test_siblings_are_used_by_their_public_names(package: str) -> None:
    """From another package come only names that it promises."""
    found = {
        f"{path.name}, {what}"
        for path in sources(package)
        for what in intrusions(package, ast.parse(path.read_bytes()))
    }
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        "import requests",
        "import nimloop_net",
        "from nimloop_net.errors import NetError",
        "def late():\n    import nimloop_http._session",
    ],
)
def test_a_wrong_import_is_noticed(source: str) -> None:
    """The first check sees each way of importing what core must not know."""
    assert list(outsiders("nimloop_core", ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        "import nimloop_core._loop",
        "from nimloop_core._loop import Loop",
        "from nimloop_core import _loop",
        "from nimloop_core import nothing_of_that_name",
        "import nimloop_core\nnimloop_core._loop.Loop()",
        "import nimloop_core as core\ncore.errors._secret",
    ],
)
def test_a_private_import_is_noticed(source: str) -> None:
    """The second check sees each way of reaching into core."""
    assert list(intrusions("nimloop_net", ast.parse(source)))
