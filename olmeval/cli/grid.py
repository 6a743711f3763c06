"""Tables of text and numbers that fit a terminal without losing a digit.

A terminal of 80 columns is narrower than most of our tables. Left to itself, a table is squeezed
until numbers end in dots and names break in the middle of a word; here numbers stay whole, what is
the same in all rows is said once, and names break where they have a joint.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

# Rich puts a blank on both sides of a cell.
GAP = 2
# Narrower columns of text are worse than lines that the terminal breaks.
NARROWEST = 8
JOINT = re.compile(r"[^:_/ -]*[:_/ -]*")


@dataclass(frozen=True)
class Grid:
    """Heads and rows of cells, which may have several lines; ``texts`` are the columns of text."""

    heads: list[str]
    rows: list[list[str]]
    texts: list[bool]
    same: dict[str, str]
    """Columns that were the same in all rows, and are not in the table any more."""

    def widths(self) -> list[int]:
        """Characters of each column."""
        from rich.cells import cell_len

        columns = zip(self.heads, *self.rows, strict=True)
        return [max(cell_len(x) for cell in c for x in cell.split("\n")) for c in columns]

    def width(self) -> int:
        """Characters of the whole."""
        return sum(self.widths()) + GAP * (len(self.heads) - 1)


def fit(
    heads: Sequence[str], rows: Sequence[Sequence[str]], texts: Collection[int], width: int | None
) -> Grid:
    """The table as wide as ``width`` allows (None: no limit); ``texts`` numbers its text columns.

    Where it is too wide, in this order: text that is the same in every row is taken out, intervals
    go below their values, heads of numbers and then names are broken. What is too wide even then
    stays so (:func:`listed` needs no width). Digits are never dropped.
    """
    is_text = [k in texts for k in range(len(heads))]
    grid = Grid(list(heads), [list(row) for row in rows], is_text, {})
    for narrower in (_said_once, _intervals_below, _heads_broken):
        if width is None or grid.width() <= width:
            return grid
        grid = narrower(grid)
    assert width is not None
    return _names_broken(grid, width)


def listed(grid: Grid, width: int) -> str:
    """The same without columns, for what does not fit: names, and below them what they have."""
    from textwrap import fill

    blocks = []
    for row in grid.rows:
        cells = list(zip(grid.heads, row, grid.texts, strict=True))
        blocks.append("  ".join(cell for _, cell, text in cells if text and cell))
        pairs = (
            f"{head} {cell.strip()}".replace(" ", "\0") for head, cell, text in cells if not text
        )
        filled = fill(", ".join(pairs), width, initial_indent="  ", subsequent_indent="  ")
        blocks.append(filled.replace("\0", " "))
    return "\n".join(blocks)


def fold(text: str, width: int) -> str:
    """``text`` in lines of at most ``width``, broken behind a joint (``: _ - /``, a blank)."""
    from rich.cells import cell_len, chop_cells

    lines = [""]
    for piece in JOINT.findall(text):
        if cell_len(lines[-1] + piece.rstrip()) > width:
            lines += chop_cells(piece, width)
        else:
            lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines if line)


def _said_once(grid: Grid) -> Grid:
    columns = list(zip(*grid.rows, strict=True))
    same = {
        head: cells[0]
        for k, (head, cells) in enumerate(zip(grid.heads, columns, strict=False))
        if k and grid.texts[k] and len(cells) > 1 and set(cells) == {cells[0]}
    }
    keep = [k for k, head in enumerate(grid.heads) if head not in same]
    return Grid(
        [grid.heads[k] for k in keep],
        [[row[k] for k in keep] for row in grid.rows],
        [grid.texts[k] for k in keep],
        {head: value for head, value in same.items() if value},
    )


def _intervals_below(grid: Grid) -> Grid:
    rows = [
        [
            cell if text else cell.replace(" [", "\n[")
            for cell, text in zip(row, grid.texts, strict=True)
        ]
        for row in grid.rows
    ]
    return Grid(grid.heads, rows, grid.texts, grid.same)


def _heads_broken(grid: Grid) -> Grid:
    bare = Grid([""] * len(grid.heads), grid.rows, grid.texts, grid.same).widths()
    heads = [
        head if text else fold(head, max(cells, *map(len, JOINT.findall(head))))
        for head, cells, text in zip(grid.heads, bare, grid.texts, strict=True)
    ]
    return Grid(heads, grid.rows, grid.texts, grid.same)


def _names_broken(grid: Grid, width: int) -> Grid:
    widths = grid.widths()
    while sum(widths) + GAP * (len(widths) - 1) > width:
        widest = max(range(len(widths)), key=lambda k: widths[k] * grid.texts[k])
        if not grid.texts[widest] or widths[widest] <= NARROWEST:
            break
        widths[widest] -= 1
    rows = [
        [
            fold(cell, w) if text else cell
            for cell, w, text in zip(row, widths, grid.texts, strict=True)
        ]
        for row in grid.rows
    ]
    return Grid(grid.heads, rows, grid.texts, grid.same)
