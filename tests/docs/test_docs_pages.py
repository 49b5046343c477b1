"""What pages take from the sources is complete, every example is shown and tested, and links lead somewhere."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import itertools
import json
import re
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from tests.docs.blocks import PAGES, ROOT

import nimloop_http.errors
from nimloop_http import FormLimits, Limits, Timeouts
from nimloop_ws import WsLimits, WsTimeouts

sys.path.insert(0, str(ROOT / "scripts"))
import charts
import docs_pages

BEHAVIOUR = (ROOT / "docs" / "server-behaviour.md").read_text("utf-8")


@pytest.mark.parametrize("package", docs_pages.PACKAGES)
def test_every_exported_constant_and_kind_of_function_is_described(package: str) -> None:
    """Below its assignment, where the API pages take it from; ruff looks after classes and functions."""
    module = importlib.import_module(f"nimloop_{package}")
    described = set()
    for path in (ROOT / "packages" / f"nimloop-{package}" / "src").rglob("*.py"):
        for node, below in itertools.pairwise(ast.parse(path.read_text("utf-8")).body):
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
                described |= {target.id} if isinstance(target, ast.Name) else set()
    values = {name: getattr(module, name) for name in module.__all__}
    named = {name for name, value in values.items() if not inspect.isclass(value) and not inspect.isroutine(value)}
    assert named <= described


@pytest.mark.parametrize("settings", [Limits, Timeouts, FormLimits, WsLimits, WsTimeouts])
def test_every_setting_is_on_the_page_about_behaviour(settings: type) -> None:
    """With its default, as it is in the class."""
    rows = [line.split("|") for line in docs_pages.expand(BEHAVIOUR).splitlines()]
    shown = {row[1].strip(): row[2].strip() for row in rows if len(row) > 3}
    for field in dataclasses.fields(settings):
        assert shown[f"`{settings.__name__}.{field.name}`"] == docs_pages.in_words(field.default)


def test_every_status_of_an_error_is_on_the_page_about_behaviour() -> None:
    """No class is left out."""
    page = docs_pages.expand(BEHAVIOUR)
    for name, error in vars(nimloop_http.errors).items():
        if isinstance(error, type) and hasattr(error, "status"):
            assert f"| {error.status} | `{name}` |" in page


def test_every_status_that_the_source_sends_is_on_the_page_about_behaviour() -> None:
    """Numbers given to send_error, status, redirect and their kin in nimloop-http and nimloop-ws."""
    sent = set()
    for package in ("http", "ws"):
        for path in (ROOT / "packages" / f"nimloop-{package}" / "src").rglob("*.py"):
            code = path.read_text("utf-8")
            sent |= set(re.findall(r"(?:send_error|status|replace_by_error|redirect)\([^)\n]*?\b([1-5]\d\d)\b", code))
    assert {"301", "404", "405", "412", "500", "503"} <= sent
    shown = set(re.findall(r"\b[1-5]\d\d\b", docs_pages.expand(BEHAVIOUR)))
    assert sent - {"200", "302"} <= shown  # those are a program's own


def test_every_move_between_states_is_drawn() -> None:
    """As many lines as the table has moves."""
    for module in ("nimloop_net._state", "nimloop_http._parser_state", "nimloop_ws._state"):
        drawn = docs_pages.states(module)
        table = sys.modules[module]
        assert drawn.count("stroke-opacity") == sum(len(set(moves)) for moves in targets(table.MOVES, module))
        assert all(f">{name}<" in drawn for name in table.NAMES)


def targets(moves: dict[int, dict[int, int]], module: str) -> list[list[int]]:
    """Return where each state leads; the parser's table has it the other way round."""
    return [list(reached) if module.endswith("_parser_state") else list(reached.values()) for reached in moves.values()]


def test_layers() -> None:
    """Each package imports only those below it."""
    for place, package in enumerate(docs_pages.PACKAGES):
        assert docs_pages.imports_of(package) <= set(docs_pages.PACKAGES[:place]), package


def test_every_example_is_in_the_gallery_and_has_a_test() -> None:
    """Also those to come."""
    gallery = docs_pages.expand((ROOT / "docs" / "examples.md").read_text("utf-8"))
    tests = "".join(path.read_text("utf-8") for path in (ROOT / "tests" / "examples").glob("*.py"))
    for path in (ROOT / "examples").rglob("*.py"):
        assert f'"{path.relative_to(ROOT).as_posix()}"' in gallery
        assert re.search(rf"\b{path.stem}\b", tests), path


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_links_to_files_of_the_repository(page: Path) -> None:
    """They exist; the site's own links are checked when it is built, and those of others by a person."""
    text = page.read_text("utf-8")
    for path in re.findall(r"github\.com/nimloop/nimloop/(?:blob|tree)/main/([^)#\s]+)", text):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text):
        assert (page.parent / path).exists(), path


def test_nothing_is_fetched_from_elsewhere_when_a_page_is_read() -> None:
    """No picture, script or style of another host."""
    for page in PAGES:
        text = page.read_text("utf-8")
        assert not re.search(r"!\[[^\]]*\]\(https?:", text), page
        assert not re.search(r"<(?:img|script|link)[^>]*(?:src|href)=.https?:", text), page
    assert "font: false" in (ROOT / "mkdocs.yml").read_text("utf-8")


def test_charts_are_drawn_from_the_figures_that_are_kept() -> None:
    """Otherwise: python scripts/charts.py."""
    drawn = charts.charts(json.loads(charts.KEPT.read_text("utf-8")))
    assert drawn
    assert {path for path, _ in drawn} == set(charts.ASSETS.glob("chart-*.svg"))
    for path, text in drawn:
        assert path.read_text("utf-8") == text
        ET.fromstring(text)
    page = (ROOT / "docs" / "performance.md").read_text("utf-8")
    shown = re.findall(r"^<!-- chart: (\w+) -->$", page, re.MULTILINE)
    assert sorted(shown * 2) == sorted(path.name.split("-")[1] for path, _ in drawn)
