"""Plain text for a terminal: what the vendor's functions print."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from openbpu.arch.errors import printable


def say(text: str) -> None:
    """Print a line or several to stdout."""
    sys.stdout.write(printable(text, keep="\n") + "\n")
    sys.stdout.flush()


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return columns as wide as their widest cell, under a ruled header."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(header), *cells]) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()

    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, cells)])
