"""A table in a terminal of any width: lines break between words, and where even that is too wide, rows stack.

Number           Value  Source                    tae.fill_cycles
tae.fill_cycles     40  fitted to …        →        Value: 40 · Source: fitted to …
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Column, Table
    from rich.text import Text

_EDGES = 1  # the blank column in front of a table
_GAP = 2  # between two columns
_INDENT = 2


def fitted(made: Table, width: int) -> Table | Group:
    """Return `made` with columns that fit into `width` characters, or its rows stacked; no cell is cut."""
    whole, least = [_natural(c) for c in made.columns], [_least(c) for c in made.columns]
    room = width - 2 * _EDGES - _GAP * (len(whole) - 1)
    if sum(whole) <= room:
        return made
    if sum(least) > room:
        return _stacked(made, width)
    for column, size in zip(made.columns, _shared(whole, least, room), strict=True):
        column.width = size
    return made


def _texts(column: Column) -> list[str]:
    return [str(cell) for cell in (column.header, *column.cells)]


def _natural(column: Column) -> int:
    from rich.cells import cell_len  # noqa: PLC0415  # rich costs 50 ms that `--json` never pays

    return max(map(cell_len, _texts(column)))


def _least(column: Column) -> int:
    """Return how narrow a column can be: figures stay whole, sentences break between their words."""
    from rich.cells import cell_len  # noqa: PLC0415

    if column.no_wrap or column.justify == "right":
        return _natural(column)
    return max((cell_len(word) for text in _texts(column) for word in text.split()), default=0)


def _shared(whole: list[int], least: list[int], room: int) -> list[int]:
    """Return widths between `least` and `whole` that share `room`: the wide columns give first."""
    level = max(whole)
    sizes = list(whole)
    while sum(sizes) > room:
        level -= 1
        sizes = [max(low, min(high, level)) for high, low in zip(whole, least, strict=True)]
    return sizes


def _stacked(made: Table, width: int) -> Group:
    """Return every row as its first cell and, indented below, the others with the names of their columns."""
    from rich.console import Group  # noqa: PLC0415
    from rich.padding import Padding  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    lines: list[Text | Padding] = [Text(), *([Text(str(made.title), style="bold")] if made.title else [])]
    names = [str(c.header) for c in made.columns]
    cells = zip(*(list(c.cells) for c in made.columns), strict=True)
    for row, (first, *others) in zip(made.rows, cells, strict=True):
        pieces = [f"{name}: {cell}" for name, cell in zip(names[1:], map(str, others), strict=True) if cell]
        lines.append(Text(str(first), style=row.style or ""))
        lines += [
            Padding(Text(line), (0, 0, 0, _INDENT), expand=False) for line in _packed(pieces, width - _INDENT)
        ]
    return Group(*lines, Text())


def _packed(pieces: list[str], room: int) -> list[str]:
    """Return the pieces on as few lines as keep each of them in one: only a longer one is broken, later."""
    from rich.cells import cell_len  # noqa: PLC0415

    lines: list[str] = []
    for piece in pieces:
        together = f"{lines[-1]} · {piece}" if lines else piece
        if lines and cell_len(together) <= room:
            lines[-1] = together
        else:
            lines.append(piece)
    return lines
