"""Where a quantized model loses precision, as tables, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from openbpu.report.text import DASH, add_row, count, table

if TYPE_CHECKING:
    from rich.table import Table

    from openbpu.evaluation.analysis import Analysis, Closeness, NodeError, Sensitivity, SortKey, WeightRange

TOP = 10
"""Nodes that a report for people begins with."""
SORTED: dict[SortKey, str] = {
    "alone": "those that add most noise alone first",
    "cosine": "those of the lowest cosine so far first",
    "sqnr": "those of the lowest SQNR so far first",
    "l1": "those of the largest mean difference so far first",
    "max": "those of the largest difference so far first",
    "clipped": "those that clip most values first",
    "used": "those that use the fewest of their codes first",
    "order": "in the order of the network",
}
LEGEND = (
    "So far: the quantized run against the float run. Alone: this node, its weights and its rounding, on the "
    f"float run's tensors; {DASH}: it adds nothing."
)
_SO_FAR = ("Cosine", "SQNR", "L1", "Max")
_NUMBERS = (
    *_SO_FAR,
    "Alone SQNR",
    "Alone cosine",
    "Clipped",
    "Codes used",
    "Binary cosine",
    "Binary differs",
)
_EXACT = 1e-6


def analysis_table(found: Analysis, *, top: int | None = TOP, sort: SortKey = "alone") -> Table:
    """Return a row per node, the worst by `sort` first; `top` of them, None for all."""
    rows = found.worst(sort)[:top]
    told = f"Nodes, {SORTED[sort]}"
    if len(rows) < len(found.rows):
        told += f": {len(rows)} of {len(found.rows)} (--all shows every one)"
    known = any(row.where for row in rows)
    binary = ("Binary cosine", "Binary differs") if found.hbm else ()
    columns = (
        *("Node", "Operator", *_SO_FAR, "Alone SQNR", "Alone cosine", "Type", "Clipped", "Codes used"),
        *binary,
        *("Cause", *(["Module and source"] if known else []), "What to do"),
    )
    made = table(*columns, numbers=_NUMBERS, sentences=("What to do",), title=told)
    for row in rows:
        where = [row.where] if known else []
        beside = [_cosine(row.simulated), _share(row.deviating)] if binary else []
        add_row(
            made,
            *(row.node, row.op, *_measures(row.so_far), *_alone(row), row.dtype or DASH),
            *(_share(row.clipped), _share(row.used), *beside, cause(row), *where, advice(row)),
        )
    return made


def _measures(c: Closeness) -> tuple[str, ...]:
    return f"{c.cosine:.6f}", decibels(c.sqnr), f"{c.l1:.4g}", f"{c.max_abs:.4g}"


def _alone(row: NodeError) -> tuple[str, str]:
    if row.alone.equal:
        return DASH, DASH
    return decibels(row.alone.sqnr), f"{row.alone.cosine:.6f}"


def decibels(value: float) -> str:
    """Return an SQNR as "37.6 dB"; without noise "exact", without signal "none"."""
    if math.isinf(value):
        return "exact" if value > 0 else "none"
    return f"{value:.1f} dB"


def _cosine(c: Closeness | None) -> str:
    return DASH if c is None else f"{c.cosine:.6f}"


def _share(value: float | None) -> str:
    return DASH if value is None else f"{value:.3%}"


def cause(row: NodeError) -> str:
    """Return "truncation", "rounding", "rounding of weights" or "rounding inside"."""
    if row.alone.equal:
        return DASH
    more = {"weights": " of weights", "inside": " inside"}
    return f"{row.cause}{more.get(row.part, '')}"


def advice(row: NodeError) -> str:
    """Return what to change, the alternatives one after another."""
    return "; or ".join(remedy.text for remedy in row.remedies)


def weights_table(weights: Sequence[WeightRange]) -> Table:
    """Return the weights with channels that cannot share their one scale."""
    numbers = ("Channels", "Narrow", "Fewest steps", "Widest / narrowest")
    columns = ("Node", "Weights", "Channels", "Narrow", "Fewest steps", "In channel", "Widest / narrowest")
    made = table(
        *columns, numbers=numbers, title="Weights whose channels cannot share one scale (less than 8 steps)"
    )
    for w in weights:
        steps, ratio = f"{w.steps:.3g}", f"{w.unevenness:.3g}"
        add_row(made, w.node, w.tensor, w.channels, w.narrow, steps, w.narrowest, ratio)
    return made


def sentences(found: Analysis) -> Iterator[str]:
    """Yield what the tables do not say: where it goes wrong first, the outputs, what was run."""
    of = f" of {found.given}" if found.given > found.samples else ""
    more = " (--samples takes more)" if of else ""
    yield f"{count(found.samples, 'sample')}{of}{more}, {count(len(found.rows), 'node')} compared."
    for row in found.outputs:
        beside = f", of the binary {_cosine(row.simulated)}" if row.simulated is not None else ""
        so_far = f"cosine {row.so_far.cosine:.6f}, SQNR {decibels(row.so_far.sqnr)}"
        yield f"Output '{row.tensor}': {so_far}{beside}."
    yield first_sentence(found)
    if found.unmatched:
        names = ", ".join(f"'{name}'" for name in found.unmatched[:3])
        rest = f" and {len(found.unmatched) - 3} more" if len(found.unmatched) > 3 else ""
        yield f"Not compared, since the float model has no tensor behind them: {names}{rest}."
    yield from (f"{note[:1].upper()}{note[1:]}{'' if note.endswith('?') else '.'}" for note in found.notes)


def first_sentence(found: Analysis) -> str:
    """Say where it goes wrong first, and which node on the way there adds most."""
    first = found.first
    if first is None:
        return f"It goes wrong nowhere: no node's cosine so far is below {found.min_cosine:g}."
    said = (
        f"It goes wrong first at {_named(first.row)}: cosine {first.row.so_far.cosine:.6f}, below "
        f"{found.min_cosine:g}."
    )
    worst = first.most
    how = f"{cause(worst)}, {decibels(worst.alone.sqnr)} alone"
    if worst is first.row:
        return f"{said} It adds most of that itself ({how})."
    return f"{said} Most of that comes from {_named(worst)} ({how})."


def _named(row: NodeError) -> str:
    where = f" ({row.where})" if row.where else ""
    return f"{row.op} '{row.node}'{where}"


def sensitivity_table(rows: Sequence[Sensitivity], metric: str, *, top: int | None = TOP) -> Table:
    """Return the nodes, the most sensitive first; `top` of them, None for all."""
    only = bool(rows) and rows[0].mode == "only"
    told = (
        f"Sensitivity: {metric} of the outputs when only this node is quantized"
        if only
        else f"Sensitivity: {metric} of the outputs when all but this node is quantized"
    )
    known = any(row.module or row.source for row in rows)
    change = "Loss" if only else "Gain"
    columns = ("Node", "Operator", metric, change, "Samples", *(["Module and source"] if known else []))
    made = table(*columns, numbers=(metric, change, "Samples"), title=told)
    for row in rows[:top]:
        where = [" ".join(filter(None, (row.module, row.source)))] if known else []
        add_row(made, row.node, row.op, f"{row.value:.6g}", f"{row.loss:.4g}", row.samples, *where)
    return made


def sensitivity_json(rows: Sequence[Sensitivity], metric: str) -> dict[str, Any]:
    """Return the nodes, the most sensitive first."""
    mode = rows[0].mode if rows else None
    return {"metric": metric, "mode": mode, "nodes": [_finite(asdict(row)) for row in rows]}


def analysis_json(found: Analysis) -> dict[str, Any]:
    """Return everything that was found; numbers that JSON cannot hold are null."""
    index = {id(row): k for k, row in enumerate(found.rows)}
    return {
        "float": found.float_model,
        "quantized": found.quantized,
        "hbm": found.hbm or None,
        "samples": found.samples,
        "samples given": found.given,
        "min cosine": found.min_cosine,
        "first": None
        if found.first is None
        else {
            "node": found.first.row.node,
            "module": found.first.row.module,
            "source": found.first.row.source,
            "row": index[id(found.first.row)],
            "most": found.first.most.node,
            "most row": index[id(found.first.most)],
            "text": first_sentence(found),
        },
        "outputs": [index[id(row)] for row in found.outputs],
        "worst": [index[id(row)] for row in found.worst()],
        "nodes": [_json(row) for row in found.rows],
        "weights": [_finite(asdict(w)) for w in found.weights],
        "unmatched": list(found.unmatched),
        "notes": list(found.notes),
    }


def _json(row: NodeError) -> dict[str, Any]:
    made: dict[str, Any] = _finite(asdict(row))
    return made


def _finite(value: Any) -> Any:
    """Return a nest without infinities and NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


CSV_COLUMNS = (
    *("node", "op", "tensor", "module", "source"),
    *("cosine", "sqnr", "l1", "mse", "max_abs"),
    *("alone_cosine", "alone_sqnr", "alone_l1", "alone_mse", "alone_max_abs"),
    *("binary_cosine", "binary_sqnr", "binary_l1", "binary_max_abs", "binary_differs"),
    *("dtype", "step", "range_least", "range_largest", "least", "largest"),
    *("clipped", "used", "vanished", "unevenness", "cause", "part", "remedy"),
    *("sensitivity", "sensitivity_loss"),
)


def analysis_csv(found: Analysis, sort: SortKey = "alone", sensitivity: Sequence[Sensitivity] = ()) -> str:
    """Return a line per node, the worst by `sort` first, under CSV_COLUMNS."""
    outputs = {row.tensor: row for row in sensitivity}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in found.worst(sort):
        a, b, s = row.so_far, row.alone, row.simulated
        low, high = row.range or (None, None)
        felt = outputs.get(row.tensor)
        binary = (None,) * 4 if s is None else (s.cosine, s.sqnr, s.l1, s.max_abs)
        writer.writerow(
            [
                *(row.node, row.op, row.tensor, row.module, row.source),
                *(a.cosine, a.sqnr, a.l1, a.mse, a.max_abs),
                *(b.cosine, b.sqnr, b.l1, b.mse, b.max_abs),
                *(*binary, row.deviating),
                *(row.dtype, row.step, low, high, row.least, row.largest),
                *(row.clipped, row.used, row.vanished, row.unevenness, row.cause, row.part, advice(row)),
                *((None, None) if felt is None else (felt.value, felt.loss)),
            ]
        )
    return text.getvalue()
