"""Drawings as SVG, in the colour of the text around them: boxes, and lines between them. No layout engine is needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

ROW: Final = 44  # pixels from box to box
BOX: Final = 28
LANE: Final = 26  # between the vertical parts of two lines


def layers(imports: Mapping[str, Iterable[str]]) -> str:
    """Draw each package above those it imports; the keys are in the order of the layers, lowest first."""
    order = list(imports)
    moves = [(order.index(above), order.index(below)) for above in reversed(order) for below in sorted(imports[above])]
    return column([f"nimloop_{name}" for name in order], moves, numbered=False, downwards=False)


def states(names: Sequence[str], moves: Sequence[tuple[int, int]]) -> str:
    """Draw states in a column and the moves between them, numbered from 1."""
    return column(names, moves, numbered=True, downwards=True)


def column(names: Sequence[str], moves: Sequence[tuple[int, int]], *, numbered: bool, downwards: bool) -> str:
    """Draw boxes in a column and, to the right, each move as a line in a lane of its own."""
    width = 16 + 9 * max(map(len, names))
    order = sorted(range(len(moves)), key=lambda i: abs(moves[i][0] - moves[i][1]))
    lanes = {move: place for place, move in enumerate(order)}
    total = width + 40 + LANE * len(moves)
    height = ROW * len(names) + 8

    def middle(state: int) -> float:
        return 8 + BOX / 2 + ROW * (state if downwards else len(names) - 1 - state)

    kind = "drawing" if numbered else "drawing narrow"
    head = (
        f'<svg class="{kind}" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {height}" width="{total}" '
        f'height="{height}" role="img" aria-label="{", ".join(names)}" font-family="monospace" font-size="14" '
        'fill="none" stroke="currentColor">'
    )
    parts = [head]
    for state, name in enumerate(names):
        y = middle(state)
        parts.append(f'<rect x="4" y="{y - BOX / 2:g}" width="{width}" height="{BOX}" rx="6" stroke-width="1.5"/>')
        parts.append(
            f'<text x="{4 + width / 2:g}" y="{y + 5:g}" text-anchor="middle" fill="currentColor" stroke="none">'
            f"{name}</text>"
        )
    leaving, arriving = ports(moves)
    for index, (source, target) in enumerate(moves):
        lane = width + 34 + LANE * lanes[index]
        start, end = middle(source) + leaving[index], middle(target) + arriving[index]
        edge = 4 + width
        parts.append(
            f'<path d="M{edge} {start:g} H{lane} V{end:g} H{edge + 7}" stroke-opacity="0.7"/>'
            f'<path d="M{edge} {end:g} l8 -4 v8 z" fill="currentColor" stroke="none"/>'
        )
        if numbered:
            parts.append(
                f'<text x="{lane + 3}" y="{(start + end) / 2 + 4:g}" font-size="11" fill="currentColor" '
                f'stroke="none">{index + 1}</text>'
            )
    return f'<figure class="drawing">{"".join(parts)}</svg></figure>'


def ports(moves: Sequence[tuple[int, int]]) -> tuple[list[float], list[float]]:
    """Return where at the side of its box each line leaves and arrives, so that no two lie upon each other."""
    ends: dict[int, list[tuple[int, bool]]] = {}
    for index, (source, target) in enumerate(moves):
        ends.setdefault(source, []).append((index, True))
        ends.setdefault(target, []).append((index, False))
    leaving, arriving = [0.0] * len(moves), [0.0] * len(moves)
    for lines in ends.values():
        for place, (index, leaves) in enumerate(lines):
            offset = (place + 1) * BOX / (len(lines) + 1) - BOX / 2
            (leaving if leaves else arriving)[index] = round(offset, 1)
    return leaving, arriving
