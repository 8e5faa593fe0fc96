"""Models side by side on labelled data, as a table or as JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from openbpu.evaluation.accuracy.results import document
from openbpu.report.text import DASH, add_row, count, table

if TYPE_CHECKING:
    from rich.table import Table

    from openbpu.evaluation.accuracy import Difference, Evaluation, Score
    from openbpu.evaluation.accuracy.metrics import OfClass

_RARE = 0.05
_ALONE = 1
_COLUMNS = (
    "Metric", "Model", "Score", "95 % interval", "Against the first", "95 % interval of that", "p",
    "Right there only", "Right here only",
)  # fmt: skip


def accuracy_table(found: Evaluation) -> Table:
    """Return a row per metric and model; the columns of differences are left out for one model."""
    several = len(found.models) > _ALONE
    used = _COLUMNS if several else _COLUMNS[:4]
    made = table(*used, numbers=_COLUMNS[2:])
    last = found.scores[0].metric if found.scores else ""
    for s in found.scores:
        if s.metric != last:
            made.add_section()
            last = s.metric
        cells = (s.metric, s.model, number(s.value, s), interval(s))
        add_row(made, *cells, *(apart_cells(s) if several else ()))
    return made


def number(value: float, s: Score) -> str:
    """Return a figure of a score as it is read."""
    return f"{100 * value:.2f} %" if s.is_share else f"{value:.6g}"


def interval(s: Score) -> str:
    """Return the interval of a score as it is read."""
    if s.interval is None:
        return DASH
    return f"{number(s.interval.low, s)} … {number(s.interval.high, s)}"


def apart_cells(s: Score) -> tuple[str, ...]:
    """Return the five cells of a score's difference to the first model."""
    d = s.difference
    if d is None:
        return (DASH,) * 5
    between = DASH if d.interval is None else f"{_signed(d.interval.low, s)} … {_signed(d.interval.high, s)}"
    only = (DASH, DASH) if d.only_first is None else (str(d.only_first), str(d.only_this))
    return (_signed(d.value, s), between, _p(d.p), *only)


def _signed(value: float, s: Score) -> str:
    return f"{100 * value:+.2f} %" if s.is_share else f"{value:+.6g}"


def _p(p: float | None) -> str:
    return DASH if p is None else f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"


def in_brief(scores: Sequence[Score]) -> str:
    """Return scores of a part of the samples in one line."""
    return ", ".join(f"{s.metric} {number(s.value, s)} of {s.model}" for s in scores)


def sentences(found: Evaluation, resamples: int) -> Iterator[str]:
    """Yield what the table does not say."""
    of = "" if found.samples == found.of else f" of {found.of}, spread over all"
    yield f"{count(found.samples, 'sample')}{of}. Intervals: {_how(found, resamples)}."
    compared = [(s, s.difference) for s in found.scores if s.difference is not None]
    if compared:
        tests = {d.test for _, d in compared}
        named = " and ".join(_TESTS[t] for t in sorted(tests))
        yield f"p is how likely so large a difference is by chance: {named}."
    yield from (_verdict(s, d, found.models[0]) for s, d in compared)


_TESTS = {
    "McNemar": "McNemar's exact test of the samples that one alone has right",
    "bootstrap": "how often resamples turn its sign",
}


def _how(found: Evaluation, resamples: int) -> str:
    shares = any(s.is_share for s in found.scores)
    if not resamples:
        return "Wilson's, of shares alone" if shares else "none, without resamples"
    if len(found.models) == _ALONE and all(s.is_share for s in found.scores):
        return "Wilson's"
    drawn = f"the middle of {resamples} resamples of the samples"
    return f"Wilson's for shares, else {drawn}" if shares else drawn


def _verdict(s: Score, d: Difference, first: str) -> str:
    """Say of a model in words what its numbers mean."""
    if d.p is None:
        return f"{s.metric}: {s.model} differs from {first} by {_signed(d.value, s)}"
    if d.p < _RARE:
        better = "better" if d.value > 0 else "worse"
        return f"{s.metric}: {s.model} is {better} than {first} (p = {_p(d.p)})"
    return f"{s.metric}: these samples do not tell {s.model} from {first} (p = {_p(d.p)})"


def accuracy_json(found: Evaluation) -> dict[str, Any]:
    """Return all scores; what was found of every sample goes into a file of its own."""
    return document(found)


# --- by class -----------------------------------------------------------------------------------------------

_SHOWN = 20
"""Classes of a metric that are printed, those of the lowest scores."""


def class_tables(found: Evaluation) -> Iterator[Table | str]:
    """Yield a table per metric that has classes, a row per class, and what it leaves out in words."""
    for metric in metrics_with_classes(found):
        rows = class_rows(found, metric)
        shown = sorted(rows, key=lambda row: min(s.value for s in row.values()))[:_SHOWN]
        last = found.models[-1]
        made = table(
            f"Class ({metric})",
            "Count",
            *found.models,
            f"{last} took it for",
            numbers=("Count", *found.models),
        )
        share = next(s for s in found.scores if s.metric == metric)
        for row in shown:
            first = next(iter(row.values()))
            values = (number(row[m].value, share) if m in row else DASH for m in found.models)
            add_row(made, first.name, str(first.count), *values, taken_for(row, last))
        yield made
        if len(rows) > len(shown):
            yield f"{metric}: the {len(shown)} lowest of {len(rows)} classes; --per-class has all."


def taken_for(row: Mapping[str, OfClass], model: str) -> str:
    """Return what a model takes a class for, and how often, in words; row: the class by model."""
    others = row[model].taken_for if model in row else ()
    return ", ".join(f"{name} ({n})" for name, n in others) or DASH


def class_csv(found: Evaluation) -> str:
    """Return the scores of all classes: metric, model, class, count, value."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["metric", "model", "class", "count", "value"])
    for s in found.scores:
        writer.writerows([s.metric, s.model, c.name, c.count, c.value] for c in s.classes)
    return text.getvalue()


def metrics_with_classes(found: Evaluation) -> list[str]:
    """Return the metrics that have a figure for each of several classes."""
    return list(dict.fromkeys(s.metric for s in found.scores if len(s.classes) > 1))


def class_rows(found: Evaluation, metric: str) -> list[dict[str, OfClass]]:
    """Return what every model has of a class, class by class."""
    of_metric = [s for s in found.scores if s.metric == metric]
    return [
        {s.model: s.classes[n] for s in of_metric if n < len(s.classes)}
        for n in range(max(len(s.classes) for s in of_metric))
    ]
