"""What an evaluation found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openbpu.arch.arrays import Float64
from openbpu.evaluation.accuracy.intervals import Interval, mcnemar, middle, resamples, sign_change, wilson
from openbpu.evaluation.accuracy.metrics import Figure, OfClass

RESAMPLES = 500


@dataclass(frozen=True, slots=True)
class Difference:
    """A model against the first one, on the same samples.

    value: the figure's less the first's · p: how likely so large a difference is if there is none; None
    without resamples · test: "McNemar" or "bootstrap" · only_first, only_this: samples on which only the one
    is right, None for figures that are no share.
    """

    value: float
    interval: Interval | None
    p: float | None
    test: str
    only_first: int | None
    only_this: int | None


@dataclass(frozen=True, slots=True)
class Score:
    """A figure of a model.

    is_share: of samples that are right · interval: of 95 %, None without resamples · difference: None for the
    first model, and for what compares with it already · classes: the figure of each class, where it has any.
    """

    model: str
    metric: str
    value: float
    is_share: bool
    interval: Interval | None
    difference: Difference | None
    classes: tuple[OfClass, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One sample: its key, its label where that is a class or a number, and per model what was found."""

    key: str
    label: object
    cells: Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores by metric, then by model; rows in the order of the samples.

    of: how many samples there are, of which `samples` were evaluated · told: what to know besides.
    """

    models: tuple[str, ...]
    samples: int
    of: int
    scores: tuple[Score, ...]
    rows: tuple[Row, ...]
    told: tuple[str, ...]

    def failures(self, *, at_least: float | None = None, at_most_lost: float | None = None) -> list[str]:
        """Return in words which scores are too low, or too far below the first model's."""
        found = []
        for s in self.scores:
            what = f"{s.model}: {s.metric}"
            if at_least is not None and s.value < at_least:
                found.append(f"{what} is {s.value:.4f}, below {at_least:g}")
            lost = -s.difference.value if s.difference is not None else 0.0
            if at_most_lost is not None and lost > at_most_lost:
                found.append(f"{what} is {lost:.4f} below {self.models[0]}, more than {at_most_lost:g}")
        return found


def scores_of(
    models: Sequence[str], figures: Sequence[Sequence[Figure]], samples: int, count: int
) -> tuple[Score, ...]:
    """Return the scores of one metric. figures: per model; count: of resamples, 0 for no intervals."""
    found = []
    for k in range(len(figures[0])):
        column = [of_model[k] for of_model in figures]
        drawn = resamples(column, samples, count) if count else None
        for n, (model, figure) in enumerate(zip(models, column, strict=True)):
            interval = _interval(figure, samples, None if drawn is None else drawn[:, n])
            apart = None if drawn is None else drawn[:, n] - drawn[:, 0]
            compared = n > 0 and not figure.is_relative
            difference = _difference(column[0], figure, apart) if compared else None
            found.append(
                Score(model, figure.name, figure.value, figure.is_share, interval, difference, figure.classes)
            )
    return tuple(found)


def _interval(figure: Figure, samples: int, drawn: Float64 | None) -> Interval | None:
    if figure.is_share and figure.values is not None:
        return wilson(int(np.sum(figure.values)), samples)
    return None if drawn is None else middle(drawn)


def _difference(first: Figure, this: Figure, apart: Float64 | None) -> Difference:
    interval = None if apart is None else middle(apart)
    value = this.value - first.value
    if first.values is not None and this.values is not None and first.is_share and this.is_share:
        only_first = int(np.count_nonzero(first.values > this.values))
        only_this = int(np.count_nonzero(first.values < this.values))
        return Difference(value, interval, mcnemar(only_first, only_this), "McNemar", only_first, only_this)
    p = None if apart is None else sign_change(apart)
    return Difference(value, interval, p, "bootstrap", None, None)


def document(found: Evaluation) -> dict[str, Any]:
    """Return the scores as JSON holds them."""
    return {
        "models": list(found.models),
        "samples": found.samples,
        "of": found.of,
        "scores": [
            {"model": s.model, "metric": s.metric, "value": s.value, **_ends(s.interval)}
            | {"difference": None if s.difference is None else _as_json(s.difference)}
            | {"classes": [_class_as_json(c) for c in s.classes]}
            for s in found.scores
        ],
        "notes": list(found.told),
    }


def _class_as_json(c: OfClass) -> dict[str, Any]:
    return {"class": c.name, "value": c.value, "count": c.count, "taken_for": dict(c.taken_for)}


def _as_json(d: Difference) -> dict[str, Any]:
    return {
        "value": d.value,
        **_ends(d.interval),
        "p": d.p,
        "test": d.test,
        "only_first_right": d.only_first,
        "only_this_right": d.only_this,
    }


def _ends(interval: Interval | None) -> dict[str, float | None]:
    return {"low": interval.low if interval else None, "high": interval.high if interval else None}
