"""Metrics by the names that the user gives them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from openbpu.arch.errors import InputError, must
from openbpu.evaluation.accuracy.metrics.base import Metric
from openbpu.evaluation.accuracy.metrics.boxes import Boxes
from openbpu.evaluation.accuracy.metrics.cosine import Cosine
from openbpu.evaluation.accuracy.metrics.detection import MeanPrecision
from openbpu.evaluation.accuracy.metrics.own import OwnMetric
from openbpu.evaluation.accuracy.metrics.top import Top
from openbpu.evaluation.own import load_own

_KNOWN = "top1, top5 (any topK), map, map50, cosine or MODULE:NAME of your own"


def make_metrics(names: Sequence[str], *, scores: str = "", boxes: Boxes | None = None) -> list[Metric]:
    """Return the metrics of these names, each once; raises InputError for one that there is not."""
    found = [_metric(name.strip(), scores, boxes or Boxes()) for name in dict.fromkeys(names)]
    if not found:
        raise InputError(must("--metric", "the number of metrics", "at least 1", 0, f"give one of {_KNOWN}"))
    return found


def _metric(name: str, scores: str, boxes: Boxes) -> Metric:
    top = re.fullmatch(r"top-?([1-9]\d{0,4})", name, re.IGNORECASE)
    if top:
        return Top(int(top[1]), scores)
    if name.lower() in {"map", "map50"}:
        return MeanPrecision(name.lower(), boxes)
    if name.lower() == "cosine":
        return Cosine()
    if ":" in name:
        return OwnMetric(load_own("--metric", name))
    raise InputError(must("--metric", "a metric", _KNOWN, f"'{name}'"))
