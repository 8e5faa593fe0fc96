"""model_profiler: everything that can be asked of two models, on one page."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from openbpu.arch.errors import OpenbpuError, QuantizationError, must
from openbpu.arch.files import write_text
from openbpu.compat.deploy import placed
from openbpu.compat.profiler import checks, stepwise, tables
from openbpu.compat.profiler.files import as_text, cell, folder
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
    stepped = _stepped(second, inputs)
    if stepped:
        yield Tab("steps", "Step by step", stepped)
    yield Tab("checks", "Checks", _checks(second.model, inputs))


def _stepped(model: Any, inputs: Any) -> tuple[Section, ...]:
    """Return the outputs' error as one kind of layer, and one layer, after another rounds."""
    by_kind = stepwise.step_rows(model, inputs, "kind")
    if not by_kind:
        return ()
    say(as_text(stepwise.COLUMNS, by_kind))
    told = (
        "From top to bottom one after another is quantized, the rest is float; the error is of all outputs."
    )
    made = [section("By kind of layer", told, _table(stepwise.COLUMNS, by_kind))]
    if sum(row[2] for row in by_kind) <= stepwise.MOST:
        by_module = stepwise.step_rows(model, inputs, "module")
        made.append(section("By layer", told, _table(stepwise.COLUMNS, by_module)))
    return tuple(made)


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
        *_set(model, inputs),
        *_placed(model, inputs),
    )


def _set(model: Any, inputs: Any) -> Iterator[Section]:
    """Yield what every layer rounds to."""
    found = checks.checked(model, inputs)
    told = "Types and observers, as qconfigs gave them."
    for title, part in (("Results", found.outputs), ("Weights", found.weights)):
        yield section(f"QConfig: {title}", told, _table(part.columns, part))


def _placed(model: Any, inputs: Any) -> Iterator[Section]:
    """Yield where nodes run; nothing where no march was set or the model cannot be exported."""
    try:
        rows = placed(model, inputs)
    except OpenbpuError:
        return
    told = "Which nodes run on the BPU, and why the others do not."
    cells = [(row.node, row.on, row.op, row.dtypes, row.reason, row.fix) for row in rows]
    yield section("Devices", told, _table(("node", "on", "type", "dtypes", "reason", "fix"), cells))
