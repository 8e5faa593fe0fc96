"""A table as lines of text for a pipe or a file: what rich prints without a terminal, many times as fast."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

_GAP = "  "


def plain(made: Table) -> str:
    """Return a table of `report.text.table` as text, one line per row whatever its width; no styles."""
    from rich.cells import cell_len  # noqa: PLC0415  # as in report.text

    heads = [str(column.header) for column in made.columns]
    columns = [[head, *map(str, column.cells)] for head, column in zip(heads, made.columns, strict=True)]
    widths = [max(map(cell_len, cells)) for cells in columns]
    right = [column.justify == "right" for column in made.columns]

    def line(cells: tuple[str, ...]) -> str:
        parts = []
        for cell, width, to_right in zip(cells, widths, right, strict=True):
            blank = " " * (width - cell_len(cell))
            parts.append(blank + cell if to_right else cell + blank)
        return f" {_GAP.join(parts)}".rstrip()

    head, *rows = (line(cells) for cells in zip(*columns, strict=True))
    lines = [str(made.title)] if made.title else []
    lines += ["", head, f" {'─' * (sum(widths) + len(_GAP) * (len(widths) - 1))}"]
    for row, text in zip(made.rows, rows, strict=True):
        lines += [text, ""] if row.end_section else [text]
    return "\n".join([*lines, ""])
