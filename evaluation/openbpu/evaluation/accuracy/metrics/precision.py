"""Mean precision of resamples: pycocotools gives that of the data, and would need seconds for each one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.evaluation.accuracy.metrics.base import Weights


@dataclass(frozen=True, slots=True)
class _Class:
    """What pycocotools matched of a class.

    images: of its detections (D) by falling score · right, wrong: (T, D) for T overlaps · objects: per image.
    """

    images: Array
    right: Array
    wrong: Array
    objects: Array


@dataclass(frozen=True, slots=True)
class Precision:
    """What pycocotools matched, ready to be counted with a weight per image."""

    classes: tuple[_Class, ...]
    recalls: Array

    @classmethod
    def of(cls, found: Any, images: int, categories: int) -> Precision:
        """Take the matches of a COCOeval of one range of areas, whose images and classes count from 0."""
        judged = found.evalImgs
        of_each = [judged[c * images : (c + 1) * images] for c in range(categories)]
        classes = (_class(per_image, images) for per_image in of_each)
        return cls(tuple(c for c in classes if c is not None), found.params.recThrs)

    def mean(self, weights: Weights) -> float:
        """Return the mean precision where image n counts `weights[n]` times; 0 where no object is left."""
        found = [self._of_class(c, weights) for c in self.classes]
        known = [value for value in found if value is not None]
        return float(np.mean(known)) if known else 0.0

    def _of_class(self, c: _Class, weights: Weights) -> float | None:
        total = int(np.sum(c.objects * weights))
        if total == 0:
            return None
        times = weights[c.images]
        right = np.cumsum(c.right * times, axis=1, dtype=np.float64)
        wrong = np.cumsum(c.wrong * times, axis=1, dtype=np.float64)
        recall = right / total
        precision = right / (right + wrong + np.spacing(1))
        # Never less than what a lower threshold still reaches.
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        values = np.zeros((len(best), len(self.recalls)))
        for row, curve, reached in zip(values, best, recall, strict=True):
            at = np.searchsorted(reached, self.recalls, side="left")
            inside = at < len(curve)
            row[inside] = curve[at[inside]]
        return float(np.mean(values))


def _class(per_image: list[Any], images: int) -> _Class | None:
    """Return the matches of a class, None where it has no object in any image."""
    judged = [(n, e) for n, e in enumerate(per_image) if e is not None]
    objects = np.zeros(images, np.int64)
    for n, e in judged:
        objects[n] = np.count_nonzero(np.asarray(e["gtIgnore"]) == 0)
    if not objects.any():
        return None
    scores = np.concatenate([np.asarray(e["dtScores"], dtype=np.float64) for _, e in judged])
    order = np.argsort(-scores, kind="mergesort")
    matched = np.concatenate([e["dtMatches"] for _, e in judged], axis=1)[:, order]
    ignored = np.concatenate([e["dtIgnore"] for _, e in judged], axis=1)[:, order].astype(bool)
    owners = np.concatenate([np.full(len(e["dtScores"]), n) for n, e in judged])[order]
    return _Class(owners, (matched > 0) & ~ignored, (matched == 0) & ~ignored, objects)
