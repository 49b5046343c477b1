"""The tables of settings in READMEs, as they follow from the code."""

from __future__ import annotations

import ast
import inspect
import sys
from dataclasses import fields

UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"))


def table(settings: type) -> str:
    """Return the table of a dataclass of settings: limits in bytes or numbers, or time-outs in seconds."""
    words = documented(settings)
    rows = [f"| `{settings.__name__}` | default | what it bounds |", "| --- | --- | --- |"]
    rows += [
        f"| `{field.name}` | {spelt(settings, getattr(settings(), field.name))} | {words[field.name]} |"
        for field in fields(settings)
    ]
    return "\n".join(rows)


def documented(settings: type) -> dict[str, str]:
    """Return what stands under each field of a dataclass, read from the source: at run time it is gone."""
    module = ast.parse(inspect.getsource(sys.modules[settings.__module__]))
    (found,) = (node for node in module.body if isinstance(node, ast.ClassDef) and node.name == settings.__name__)
    words: dict[str, str] = {}
    for field, text in zip(found.body, found.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            assert isinstance(text.value, ast.Constant)
            assert isinstance(field.target, ast.Name)
            words[field.target.id] = " ".join(str(text.value.value).replace("``", "`").split())
    return words


def spelt(settings: type, value: float | None) -> str:
    """Return a default as people read it."""
    if value is None:
        return "none"
    if settings.__name__.endswith("Timeouts"):
        return f"{value:g} s"
    for unit, name in UNITS:
        if value >= unit:
            return f"{value / unit:g} {name}"
    return f"{value:g}"
