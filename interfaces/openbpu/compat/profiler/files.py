"""Tables as the vendor's files have them: aligned text and CSV, written whole."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from openbpu.arch.errors import QuantizationError, must
from openbpu.arch.files import write_text
from openbpu.compat.screen import table

Row = Sequence[Any]


def folder(out_dir: str | os.PathLike[str] | None) -> Path:
    """Return the folder that files go to, made; raises QuantizationError where that cannot be."""
    place = Path(out_dir) if out_dir is not None else Path()
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fix = "choose another folder"
        raise QuantizationError(
            must("profiler", "out_dir", "a folder that can be made", f"'{place}' ({error.strerror})", fix)
        ) from error
    return place


def as_text(columns: Sequence[str], rows: Iterable[Row]) -> str:
    """Return an aligned table."""
    return table(columns, [[cell(value) for value in row] for row in rows])


def cell(value: Any) -> str:
    """Return a value in short: seven digits of a float, a shape as 1x3x224x224."""
    if isinstance(value, float):
        return f"{value:.7g}"
    if isinstance(value, tuple):
        return "x".join(map(str, value))  # no comma: scripts split the lines at them
    return str(value)


def as_csv(columns: Sequence[str], rows: Iterable[Row]) -> str:
    """Return CSV; every float as it is."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([cell(v) if isinstance(v, tuple) else v for v in row] for row in rows)
    return text.getvalue()


def write(place: Path, name: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Write a table as NAME.txt and NAME.csv."""
    write_text(place / f"{name}.txt", as_text(columns, rows) + "\n")
    write_text(place / f"{name}.csv", as_csv(columns, rows))


def finite(value: float, otherwise: float = 0.0) -> float:
    """Return a number that can be sorted by."""
    return otherwise if math.isnan(value) else value
