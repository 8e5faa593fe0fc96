"""Detections in the outputs of a model: boxes, scores, classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.arch.errors import InputError, must
from openbpu.evaluation.accuracy.metrics.base import Seen

Unit = Literal["pixels", "relative"]
_COLUMNS = 6
_FORM = (
    "one of (N, 6): x1, y1, x2, y2, score, class; or three of boxes (N, 4), scores (N,) and classes (N,), "
    "each with or without a batch of 1"
)
_CLASSES = ("class", "label", "categor")


@dataclass(frozen=True, slots=True)
class Boxes:
    """What the numbers of a model mean.

    unit: corners in pixels of the model's input, or in 0..1 of its sides · first: the number that the first
    class has · ids: whether classes are the ids of COCO's categories, not their order.
    """

    unit: Unit = "pixels"
    first: int = 0
    ids: bool = False

    def found(self, seen: Seen) -> list[list[float]]:
        """Return [x1, y1, x2, y2, score, class] of every detection, in pixels of the picture.

        The user's postprocessing gives them so already. Raises InputError for outputs of another form.
        """
        if seen.prediction is not None:
            made = np.asarray(seen.prediction, dtype=np.float64)
            made = made.reshape(-1, _COLUMNS) if made.size == 0 else made
            if made.ndim != 2 or made.shape[1] != _COLUMNS:
                where = f"{seen.model}, sample '{seen.sample.key}'"
                raise InputError(must(where, "what --postprocess returns", "(N, 6)", made.shape, _FORM))
        else:
            made = self._in_picture(_table(seen), seen)
        kept = np.isfinite(made).all(axis=1) & (made[:, 4] > 0)  # outputs of a fixed size are filled with 0
        rows: list[list[float]] = made[kept].tolist()
        return rows

    def _in_picture(self, made: Array, seen: Seen) -> Array:
        if seen.sample.size is None or (seen.frame is None and self.unit == "pixels"):
            fix = "give --postprocess, which returns pixels of the picture"
            raise InputError(must(seen.model, "its input", "a picture for boxes", "none", fix))
        (height, width) = seen.sample.size
        (rows, columns) = (1, 1) if self.unit == "relative" or seen.frame is None else seen.frame
        scale = np.array([width / columns, height / rows] * 2)
        return np.concatenate([made[:, :4] * scale, made[:, 4:]], axis=1)


def _table(seen: Seen) -> Array:
    """Return the outputs as (N, 6)."""
    arrays = {name: _without_batch(y) for name, y in seen.outputs.items()}
    tables = [y for y in arrays.values() if y.ndim == 2 and y.shape[1] == _COLUMNS]
    if len(tables) == 1:
        return tables[0].astype(np.float64)
    boxes = [y for y in arrays.values() if y.ndim == 2 and y.shape[1] == 4]
    columns = {name: y.reshape(-1) for name, y in arrays.items() if y.size == max(y.shape, default=0)}
    if len(boxes) == 1:
        columns = {name: y for name, y in columns.items() if len(y) == len(boxes[0])}
        classes = _classes(columns)
        scores = [y for name, y in columns.items() if name != classes]
        if classes is not None and len(scores) == 1:
            parts = (boxes[0], scores[0][:, None], columns[classes][:, None])
            return np.concatenate([p.astype(np.float64) for p in parts], axis=1)
    found = ", ".join(f"'{name}' {y.shape}" for name, y in seen.outputs.items())
    fix = "give --postprocess MODULE:FUNCTION, which makes (N, 6) of the outputs"
    raise InputError(must(seen.model, "the outputs of a detector", _FORM, found, fix))


def _without_batch(y: Array) -> Array:
    return y[0] if y.ndim > 1 and len(y) == 1 else y


def _classes(columns: Mapping[str, Array]) -> str | None:
    """Return which of two columns holds classes: by its name, or its type."""
    named = [n for n in columns if any(word in n.lower() for word in _CLASSES)]
    whole = [n for n, y in columns.items() if y.dtype.kind in "iu"]
    return next((group[0] for group in (named, whole) if len(group) == 1), None)
