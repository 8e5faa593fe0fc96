"""model_profiler: everything that can be asked of two models, on one page."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from openbpu.arch.errors import OpenbpuError, QuantizationError, must
from openbpu.arch.files import write_text
from openbpu.compat.profiler import checks, tables
from openbpu.compat.profiler.files import cell, folder
from openbpu.compat.profiler.pairs import pair_of
from openbpu.compat.screen import say
from openbpu.quantization.layers import COLUMNS
from openbpu.report.page.markup import STYLE, section, table, text

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
    body = "".join(_sections(model1, model2, example_inputs))
    head = f'<meta charset="utf-8"><title>{text(title)}</title>\n<style>\n{STYLE}</style>'
    page = f"<h1>{text(title)}</h1>\n{body}"
    path = place / "profiler.html"
    write_text(path, f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{page}</body></html>\n')
    say(f"wrote {path}")
    return str(path)


def _sections(model1: Any, model2: Any, inputs: Any) -> Iterator[str]:
    rows = pair_of(model1, model2).rows(inputs, (), ())
    numbers = tuple(c for c in COLUMNS if c not in {"mod_name", "base_op_type", "analy_op_type", "advice"})
    cells = [[cell(v) for v in row.cells()] for row in rows]
    yield section(
        "Layers",
        "Both models on the same inputs, in the order of the forward.",
        table(COLUMNS, cells, numbers),
    )
    engine = tables.engine()
    first = engine.comparable(model1, inputs, beside=model2)
    second = engine.comparable(model2, inputs, beside=model1)
    weights = [
        (r.name, r.op, cell(r.shape), cell(r.close.cosine), cell(r.close.max_abs))
        for r in engine.weight_rows(first, second)
    ]
    yield section("Weights", "Those that differ most first.", table(tables.WEIGHT_COLUMNS, weights))
    for number, model in enumerate((model1, model2)):
        features = tables.get_raw_features(model, inputs)
        found = [[cell(v) for v in row] for row in tables.statistic_rows(features)]
        yield section(
            f"Statistics of model {number}", "Results of every layer.", table(tables.STATISTIC_COLUMNS, found)
        )
    yield _checks(second.model, inputs)


def _checks(model: Any, inputs: Any) -> str:
    """Return the checks of the analysed model; "" for a model that is not prepared."""
    try:
        called = checks.get_module_called_count(model, inputs)
        groups = checks.check_unfused_operations(model, inputs, print_tabulate=False)
    except OpenbpuError:
        return ""
    unfused = [(name, kind) for group in groups for name, kind in group]
    return section(
        "Calls", "How often a forward calls each layer.", table(("name", "called times"), called.items())
    ) + section(
        "Not fused",
        "Layers that could share one rounding.",
        table(("name", "type"), unfused) if unfused else "",
    )
