"""The table of the parser's states: its shape, that the parser follows it, and the diagram in the README."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from nimloop_http import _bodies, _heads
from nimloop_http import _parser_state as states
from nimloop_http import parser as parser_module

README = Path(__file__).parents[2] / "packages" / "nimloop-http" / "README.md"
EVERY = range(len(states.NAMES))
FINAL = {states.OVER, states.FAILED}


def test_the_table_is_complete() -> None:
    """Every state has a name, words and a row, and moves lead to states only."""
    assert list(states.MOVES) == list(EVERY)
    assert len(set(states.NAMES)) == len(states.WORDS) == len(EVERY)
    assert all(getattr(states, name) == state for state, name in enumerate(states.NAMES))
    for moves in [*states.MOVES.values(), states.ANYWHERE]:
        assert set(moves) <= set(EVERY)
        assert all(moves.values())


def test_every_state_is_reached_and_left() -> None:
    """From the first one; and from all but the final ones a way leads on."""
    reached = {states.HEAD} | set(states.ANYWHERE)
    while found := {target for state in reached for target in states.MOVES[state]} - reached:
        reached |= found
    assert reached == set(EVERY)
    assert {state for state in EVERY if not states.MOVES[state]} == {states.PAUSED, states.SWITCHED, *FINAL}


@pytest.mark.interpreted
def test_the_parser_moves_as_the_table_says() -> None:
    """Read from its source: the states that each reader sets are those that its row has."""
    tree = ast.parse("".join(map(inspect.getsource, (_bodies, _heads, parser_module))))
    methods = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    spelt = {name: state for state, name in enumerate(states.NAMES)}

    def set_by(name: str) -> set[int]:
        """The states that a method sets, itself or through its own helpers."""
        found = set()
        for node in ast.walk(methods[name]):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "self._state":
                for value in ast.walk(node.value):
                    if isinstance(value, ast.Name) and value.id in spelt:
                        found.add(spelt[value.id])
                    elif isinstance(value, ast.Attribute) and value.attr == "_after_head":
                        found |= {states.HEAD, states.MESSAGE_END}
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "self._read_chunk_line":
                found |= set_by("_read_chunk_line")
        return found

    for state in EVERY:
        readers = {parser_module._READERS[state].__name__, parser_module._RESPONSE_READERS[state].__name__}
        moves = set().union(*map(set_by, readers))
        # An interim response sets nothing, and `end` is no reader.
        told = set(states.MOVES[state])
        assert moves == (told - {states.LAST_END} if state == states.UNTIL_END else told)
    assert set_by("end") == {states.LAST_END, states.FAILED}
    assert set_by("pause") == {states.PAUSED}
    assert set_by("remaining_data") == {states.OVER}
    assert set_by("reset") == {states.HEAD}
    assert set_by("next_event") == {states.FAILED}
    others = {"resume", "__init__", "_read_chunk_line"}
    known = {"end", "pause", "remaining_data", "reset", "next_event"} | others
    for name in methods:
        if name not in known and not name.startswith("_read_"):
            assert not set_by(name), name


def test_the_readme_has_the_diagram_of_the_table() -> None:
    """Paste the output of `python -c "from nimloop_http._parser_state import diagram; print(diagram())"`."""
    assert f"```text\n{states.diagram()}\n```" in README.read_text()
