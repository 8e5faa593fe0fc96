"""model_profiler: everything that can be asked of two models, on one page."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from openbpu.arch.errors import OpenbpuError, QuantizationError, must
from openbpu.arch.files import write_text
from openbpu.compat.profiler import checks, tables
from openbpu.compat.profiler.files import cell, folder
from openbpu.compat.profiler.pairs import pair_of
from openbpu.compat.screen import say
from openbpu.quantization.layers import COLUMNS
from openbpu.report.page.frame import About, Tab, page
from openbpu.report.page.parts import Cell, Column, Kind, Section, Table, section

MODES = ("FvsQ", "QvsQ", "CvsQ")


def model_profiler(
    model1: Any,
    model2: Any,
    example_inputs: Any,
    mode: str = "FvsQ",
    out_dir: str | os.PathLike[str] | None = None,
    kwargs_dict: Any = None,
    **ignored: Any,
) -> str:
    """Write `profiler.html` with every check, and `model0_statistic.txt`, `model1_statistic.txt`.

    mode: FvsQ (float and prepared), QvsQ (two prepared), CvsQ (calibrated and trained). Returns the path of
    the page.
    """
    del kwargs_dict, ignored
    if mode not in MODES:
        raise QuantizationError(must("model_profiler", "mode", " or ".join(MODES), repr(mode)))
    place = folder(out_dir)
    for k, model in enumerate((model1, model2)):
        rows = tables.statistic_rows(tables.get_raw_features(model, example_inputs))
        write_text(place / f"model{k}_statistic.txt", tables.statistic_text(rows))
    title = f"{type(model1).__name__} and {type(model2).__name__}, {mode}"
    path = place / "profiler.html"
    write_text(path, page(title, About(), _tabs(model1, model2, example_inputs)))
    say(f"wrote {path}")
    return str(path)


def _tabs(model1: Any, model2: Any, inputs: Any) -> Iterator[Tab]:
    rows = pair_of(model1, model2).rows(inputs, (), ())
    told = "Both models on the same inputs, in the order of the forward."
    yield Tab("layers", "Layers", (section("Layers", told, _table(COLUMNS, [row.cells() for row in rows])),))
    engine = tables.engine()
    first = engine.comparable(model1, inputs, beside=model2)
    second = engine.comparable(model2, inputs, beside=model1)
    weights = [
        (r.name, r.op, r.shape, r.close.cosine, r.close.max_abs) for r in engine.weight_rows(first, second)
    ]
    told = "Those that differ most first."
    yield Tab("weights", "Weights", (section("Weights", told, _table(tables.WEIGHT_COLUMNS, weights)),))
    for number, model in enumerate((model1, model2)):
        found = tables.statistic_rows(tables.get_raw_features(model, inputs))
        title = f"Statistics of model {number}"
        made = section(title, "Results of every layer.", _table(tables.STATISTIC_COLUMNS, found))
        yield Tab(f"statistics{number}", title, (made,))
    yield Tab("checks", "Checks", _checks(second.model, inputs))


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """Return a table; a column whose values are numbers is one of numbers."""
    found = [tuple(row) for row in rows]
    kinds: list[Kind] = [
        "number" if any(isinstance(row[k], int | float) for row in found) else "long"
        for k in range(len(columns))
    ]
    cells = [[Cell(cell(v), v if isinstance(v, int | float) else None) for v in row] for row in found]
    return Table(tuple(Column(name, kind) for name, kind in zip(columns, kinds, strict=True)), cells)


def _checks(model: Any, inputs: Any) -> tuple[Section, ...]:
    """Return the checks of the analysed model; none for a model that is not prepared."""
    try:
        called = checks.get_module_called_count(model, inputs)
        groups = checks.check_unfused_operations(model, inputs, print_tabulate=False)
    except OpenbpuError:
        return ()
    unfused = [(name, kind) for group in groups for name, kind in group]
    return (
        section(
            "Calls", "How often a forward calls each layer.", _table(("name", "called times"), called.items())
        ),
        section("Not fused", "Layers that could share one rounding.", _table(("name", "type"), unfused)),
    )
