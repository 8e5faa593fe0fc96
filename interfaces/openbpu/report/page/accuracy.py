"""From what `openbpu eval` found to the page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from openbpu.report.accuracy import (
    apart_cells,
    class_rows,
    interval,
    metrics_with_classes,
    number,
    sentences,
    taken_for,
)
from openbpu.report.page.frame import About, Tab, page
from openbpu.report.page.parts import Bar, Bars, Cell, Column, Said, Section, Table, Tiles, section
from openbpu.report.text import DASH

if TYPE_CHECKING:
    from openbpu.evaluation.accuracy import Evaluation, Score

_DIFFERENCES = ("Against the first", "95 % interval of that", "p", "Right there only", "Right here only")


def accuracy_page(
    found: Evaluation, resamples: int, failures: Sequence[str] = (), about: About | None = None
) -> str:
    """Return the page of an evaluation as HTML text; failures: what was asked for and is not so."""
    tabs = [
        Tab("overview", "Overview", tuple(_overview(found, resamples, failures))),
        Tab("scores", "Scores", (_scores(found),)),
        Tab("classes", "Classes", tuple(_classes(found))),
        Tab("samples", "Samples", (_samples(found),)),
    ]
    return page(f"{' and '.join(found.models[:2])} on your data", about or About(), tabs)


def _overview(found: Evaluation, resamples: int, failures: Sequence[str]) -> Iterator[object]:
    yield section("What is not as asked", "", *(Said(text, "bad") for text in failures))
    yield Tiles((("samples", str(found.samples)), ("samples there are", str(found.of))))
    for metric in dict.fromkeys(s.metric for s in found.scores):
        scores = [s for s in found.scores if s.metric == metric]
        if all(s.is_share for s in scores):
            bars = (
                Bar(s.model, (("load", min(max(s.value, 0.0), 1.0)),), number(s.value, s)) for s in scores
            )
            yield section(metric, "", Bars(f"{metric} by model", tuple(bars)))
    told = [*sentences(found, resamples), *found.told]
    yield section("What it means", "", *(Said(text) for text in told))


def _scores(found: Evaluation) -> Section:
    several = len(found.models) > 1
    columns = [Column("Metric"), Column("Model", "long"), Column("Score", "number"), Column("95 % interval")]
    columns += [Column(name, "number") for name in _DIFFERENCES] if several else []
    rows = [_score(s, several=several) for s in found.scores]
    return section("Scores", "Of every model and metric.", Table(tuple(columns), rows, "scores"))


def _score(s: Score, *, several: bool) -> tuple[object, ...]:
    own = (s.metric, s.model, Cell(number(s.value, s), s.value), interval(s))
    d = s.difference
    if not several:
        return own
    keys = (None,) * 5 if d is None else (d.value, None, d.p, d.only_first, d.only_this)
    shown = zip(apart_cells(s), keys, strict=True)
    return (*own, *(Cell(text, math.nan if key is None else float(key)) for text, key in shown))


def _classes(found: Evaluation) -> Iterator[Section]:
    for metric in metrics_with_classes(found):
        share, last = next(s for s in found.scores if s.metric == metric), found.models[-1]
        columns = (
            Column("Class", "long"), Column("Count", "number"),
            *(Column(model, "number") for model in found.models), Column(f"{last} took it for", "long"),
        )  # fmt: skip
        rows = []
        for row in class_rows(found, metric):
            first = next(iter(row.values()))
            values = [row[m].value if m in row else math.nan for m in found.models]
            shown = [Cell(DASH if math.isnan(v) else number(v, share), v) for v in values]
            rows.append((first.name, Cell(str(first.count), first.count), *shown, taken_for(row, last)))
        yield section(f"Classes, by {metric}", "", Table(columns, rows, f"classes of {metric}"))


def _samples(found: Evaluation) -> Section | str:
    if not found.rows:
        return ""
    heads = [(model, column) for model in found.models for column in found.rows[0].cells.get(model, ())]
    columns = (
        Column("Sample", "long"), Column("Label"), *(Column(f"{m}: {column}", "long") for m, column in heads)
    )  # fmt: skip
    rows = [
        (
            *(row.key, DASH if row.label is None else str(row.label)),
            *(str(row.cells.get(model, {}).get(column, DASH)) for model, column in heads),
        )
        for row in found.rows
    ]
    return section("Samples", "What was found of every one.", Table(columns, rows, "samples"))
