"""What the pages of the documentation take from elsewhere, so that it is written once: a hook of MkDocs.

A page says where it wants something, and the build puts it there:

    <!-- readme: nimloop-http -->                     the package's README without its title
    <!-- file: packages/nimloop-ws/docs/autobahn.md -->
    <!-- api: nimloop_http -->                        every name that the package exports, but for its exceptions
    <!-- settings: nimloop_http.Limits -->            a table of the fields: default and docstring
    <!-- statuses: nimloop_http.errors -->            a table of the errors that carry a status
    <!-- examples: http -->                           the programs in examples/http with their sources
    <!-- chart: hello -->                            the one that scripts/charts.py has drawn of a benchmark
    <!-- layers -->                                   what imports what, from the import statements
    <!-- states: nimloop_net._state -->               a drawing of a table of states
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import itertools
import re
from pathlib import Path
from typing import Final

import docs_drawings

ROOT: Final = Path(__file__).parent.parent
SITE: Final = "https://github.com/nimloop/nimloop/blob/main/"
MARK: Final = re.compile(r"^<!-- (\w+)(?:: (\S+))? -->$", re.MULTILINE)
PACKAGES: Final = ("core", "net", "http", "ws", "mt")


def on_page_markdown(markdown: str, *, page: object, **_: object) -> str:
    """Fill in what the page asks for. MkDocs calls this for each page."""
    return expand(markdown)


def on_page_content(html: str, **_: object) -> str:
    """Mark what is short enough never to be broken: an option would lose its dashes to the line above."""
    return re.sub(r"<code>([^<]{1,24})</code>", r'<code class="short">\1</code>', html)


def expand(markdown: str) -> str:
    """Return the page with every mark replaced. An unknown mark stays: it is a comment."""

    def fill(match: re.Match[str]) -> str:
        maker = MAKERS.get(match[1])
        return match[0] if maker is None else maker(match[2])

    return MARK.sub(fill, markdown)


def readme(distribution: str) -> str:
    """Return the README of a package without its title, its links led to the pages of this site."""
    return included((ROOT / "packages" / distribution / "README.md").read_text("utf-8").partition("\n")[2])


def file(path: str) -> str:
    """Return a file of the repository that is written in Markdown."""
    return included((ROOT / path).read_text("utf-8"))


def included(text: str) -> str:
    """Return a text whose links are right on GitHub and on PyPI with links that are right here."""
    text = re.sub(rf"\]\({SITE}packages/nimloop-(\w+)/README\.md", r"](../packages/\1.md", text)
    return text.replace(f"]({SITE}packages/nimloop-ws/docs/autobahn.md)", "](../packages/autobahn.md)")


def api(package: str) -> str:
    """Ask mkdocstrings for each exported name but the exceptions, which stand together with their family tree."""
    module = importlib.import_module(package)
    errors = vars(importlib.import_module(f"{package}.errors"))
    exported: list[str] = module.__all__
    return "\n\n".join(described(package, name, getattr(module, name)) for name in exported if name not in errors)


def described(package: str, name: str, value: object) -> str:
    """Ask mkdocstrings for one name: what is no class or function with its value; of a twin of C, the Python."""
    if inspect.isfunction(value) and value.__module__.endswith("_py"):
        return f"::: {value.__module__}.{name}"
    if inspect.isclass(value) or inspect.isroutine(value):
        return f"::: {package}.{name}"
    return f"::: {package}.{name}\n    options:\n      show_attribute_values: true"


def settings(name: str) -> str:
    """Return a table of the fields of a dataclass of settings."""
    rows = [
        f"| `{name.rpartition('.')[2]}.{field.name}` | {in_words(field.default)} | {text} |"
        for field, text in described_fields(name)
    ]
    return "\n".join(["| setting | default | what it bounds |", "| --- | --- | --- |", *rows])


def described_fields(name: str) -> list[tuple[dataclasses.Field[object], str]]:
    """Return the fields of a dataclass, each with the docstring below it. Raises ValueError where there is none."""
    module, _, attribute = name.rpartition(".")
    settings_class: type = getattr(importlib.import_module(module), attribute)
    (body,) = (
        node.body
        for node in ast.parse(Path(inspect.getfile(settings_class)).read_text("utf-8")).body
        if isinstance(node, ast.ClassDef) and node.name == attribute
    )
    texts = {}
    for field, below in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            assert isinstance(below.value, ast.Constant)
            texts[field.target.id] = " ".join(str(below.value.value).replace("``", "`").split())
    fields = dataclasses.fields(settings_class)
    missing = [field.name for field in fields if field.name not in texts]
    if missing:
        raise ValueError(f"{name}: no docstring below {', '.join(missing)}")
    return [(field, texts[field.name]) for field in fields]


def in_words(value: object) -> str:
    """Spell a default."""
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:g} s"
    if isinstance(value, int):
        for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
            if value >= 1 << 16 and value % size == 0:
                return f"{value // size} {unit}"
    return f"{value}"


def statuses(module: str) -> str:
    """Return a table of the errors of a module that carry a status, or the code of a close frame."""
    rows = []
    for name, error in vars(importlib.import_module(module)).items():
        status = getattr(error, "status", getattr(error, "code", None))
        if isinstance(error, type) and isinstance(status, int) and error.__module__ == module and error.__doc__:
            words = " ".join(error.__doc__.replace("``", "`").split())
            rows.append((status, f"| {status} | `{name}` | {words} |"))
    ordered = [row for _, row in sorted(rows, key=lambda pair: pair[0])]
    return "\n".join(["| answer | error | when |", "| --- | --- | --- |", *ordered])


def examples(folder: str) -> str:
    """Return the programs of a folder: what each is for, its picture where there is one, and its source."""
    parts = []
    for path in sorted((ROOT / "examples" / folder).glob("*.py")):
        source = path.read_text("utf-8").rstrip()
        title, _, usage = inspect.cleandoc(ast.get_docstring(ast.parse(source)) or "").partition("\n\n")
        name = path.relative_to(ROOT).as_posix()
        parts.append(f"### {path.stem}\n\n{title}\n")
        # What is indented, or begins like a command, is one.
        for paragraph in filter(None, usage.split("\n\n")):
            typed = paragraph.startswith((" ", "$", "curl ", "python ", "GET ", "printf "))
            parts.append(f"```text\n{inspect.cleandoc(paragraph)}\n```\n" if typed else f"{paragraph}\n")
        if (ROOT / "docs" / "assets" / f"{folder}-{path.stem}.png").exists():
            parts.append(f"![What {path.name} shows](assets/{folder}-{path.stem}.png){{ loading=lazy }}\n")
        indented = "\n".join(f"    {line}".rstrip() for line in source.splitlines())
        parts.append(f'??? example "{name}"\n\n    ```python\n{indented}\n    ```\n')
    return "\n".join(parts)


def chart(benchmark: str) -> str:
    """Return the chart of a benchmark, for light and dark."""
    return "\n".join(
        f"![{benchmark}](assets/chart-{benchmark}-{theme}.svg#only-{theme}){{ loading=lazy }}"
        for theme in ("light", "dark")
    )


def layers(_: str) -> str:
    """Return the drawing of what imports what."""
    return docs_drawings.layers({package: imports_of(package) for package in PACKAGES})


def imports_of(package: str) -> set[str]:
    """Return which of the other packages this one imports, from its import statements."""
    found = set()
    for path in (ROOT / "packages" / f"nimloop-{package}" / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                names = [node.module]
            found |= {name.partition(".")[0].removeprefix("nimloop_") for name in names if name.startswith("nimloop_")}
    return found - {package}


def states(module: str) -> str:
    """Return a drawing of a module's table of states, and below it what each number stands for."""
    table = importlib.import_module(module)
    names: tuple[str, ...] = table.NAMES
    moves = []
    for state, targets in table.MOVES.items():
        if module.endswith("_parser_state"):  # next state → what leads there
            moves += [(state, target, why) for target, why in targets.items()]
            continue
        # event → next state; events are numbers with a docstring in the source.
        reached: dict[int, list[str]] = {}
        for event, target in targets.items():
            reached.setdefault(target, []).append(event_names(module)[event])
        moves += [(state, target, ", ".join(events)) for target, events in reached.items()]
    drawing = docs_drawings.states(names, [(state, target) for state, target, _ in moves])
    rows = [
        f"| {number} | {names[state]} → {names[target]} | {why} |"
        for number, (state, target, why) in enumerate(moves, start=1)
    ]
    return "\n".join([drawing, "", "| | move | because of |", "| --- | --- | --- |", *rows])


def event_names(module: str) -> dict[int, str]:
    """Return what the events of a table of states are, in the words below them."""
    table = importlib.import_module(module)
    body = ast.parse(inspect.getsource(table)).body
    events: set[int] = {event for targets in table.MOVES.values() for event in targets}
    words: dict[int, str] = {}
    # The states come first, then the names of the states, then the events.
    after = next(
        i for i, node in enumerate(body) if isinstance(node, ast.AnnAssign) and "NAMES" in ast.dump(node.target)
    )
    for node, below in itertools.pairwise(body[after + 1 :]):
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Constant) and isinstance(below, ast.Expr):
            assert isinstance(below.value, ast.Constant)
            number = node.value.value
            if isinstance(number, int) and number in events:
                words.setdefault(number, str(below.value.value).rstrip("."))
    return words


MAKERS: Final = {
    "readme": readme,
    "file": file,
    "api": api,
    "settings": settings,
    "statuses": statuses,
    "examples": examples,
    "chart": chart,
    "layers": layers,
    "states": states,
}
