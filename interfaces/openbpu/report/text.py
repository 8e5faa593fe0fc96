"""Cells of a table: text from files made harmless, numbers made readable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from openbpu.arch.errors import printable

if TYPE_CHECKING:
    from rich.table import Table

DASH = "--"
_KIB = 1024
_MILLI = 1000.0
_TEN = 10.0


def table(
    *columns: str, numbers: tuple[str, ...] = (), sentences: tuple[str, ...] = (), title: str | None = None
) -> Table:
    """Return an empty table; the columns in `numbers` are aligned to the right.

    Where there are `sentences`, a narrow terminal breaks their lines and leaves the other columns whole.
    """
    from rich import box  # noqa: PLC0415  # 50 ms that `--json` never pays
    from rich.table import Table  # noqa: PLC0415

    made = Table(
        box=box.SIMPLE_HEAD,
        title=None if title is None else printable(title),
        title_justify="left",
        title_style="bold",
        pad_edge=False,
        padding=(0, 1, 0, 0),
        min_width=len(printable(title or "")),
    )
    for name in columns:
        justify: Literal["left", "right"] = "right" if name in numbers else "left"
        whole = bool(sentences) and name not in sentences
        made.add_column(printable(name), justify=justify, overflow="fold", no_wrap=whole)
    return made


def add_row(made: Table, *cells: object, style: str | None = None) -> None:
    """Add a row of plain text: nothing in it is markup."""
    from rich.text import Text  # noqa: PLC0415

    made.add_row(*(Text(printable(str(cell))) for cell in cells), style=style)


def in_bytes(n: int) -> str:
    """Return 12345678 as "11.8 MiB"."""
    value = float(n)
    for unit in ("B", "KiB", "MiB"):
        if value < _KIB:
            return f"{n} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= _KIB
    return f"{value:.2f} GiB"


def in_time(us: float) -> str:
    """Return microseconds as "12.3 µs" or "4.567 ms"."""
    if us < _MILLI:
        return f"{us:.2f} µs" if us < _TEN else f"{us:.1f} µs"
    return f"{us / _MILLI:.3f} ms"


def in_shape(shape: tuple[int, ...]) -> str:
    """Return (1, 3, 224, 224) as "1×3×224×224"."""
    return "×".join(map(str, shape)) or "scalar"


def count(n: int, what: str) -> str:
    """Return "1 node" or "2 nodes"."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
