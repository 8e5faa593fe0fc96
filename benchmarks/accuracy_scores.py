"""What `accuracy.py` counts: texts read, boxes found, labels agreed on; each 0 … 1, more is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Boxes:
    """What a detector found. corners: float (N, 4), x1 y1 x2 y2 in pixels; classes: int (N,)."""

    corners: Array
    classes: Array


def edits(found: Sequence[Any], expected: Sequence[Any]) -> int:
    """Return the fewest insertions, deletions and replacements that make one sequence the other."""
    row = list(range(len(expected) + 1))
    for i, one in enumerate(found, 1):
        last, row[0] = row[0], i
        for j, other in enumerate(expected, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (one != other))
    return row[-1]


def read_ctc(codes: Array) -> list[int]:
    """Return the symbols of a CTC path, int (steps,): repeats are one symbol, 0 is none."""
    first = np.concatenate([[True], codes[1:] != codes[:-1]])
    return [int(c) for c in codes[first & (codes != 0)]]


def exact(found: Sequence[Any], expected: Sequence[Any]) -> float:
    """Return the share of samples that are as expected."""
    return float(np.mean([f == e for f, e in zip(found, expected, strict=True)]))


def characters(found: Sequence[Sequence[Any]], expected: Sequence[Sequence[Any]]) -> float:
    """Return 1 − edits / characters expected, of all samples together and not below 0."""
    wrong = sum(edits(f, e) for f, e in zip(found, expected, strict=True))
    return max(0.0, 1 - wrong / max(1, sum(map(len, expected))))


def overlaps(one: Array, other: Array) -> Array:
    """Return intersection over union of all boxes with all others, (N, 4) and (M, 4) to (N, M)."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)
    sizes = [np.prod(b[:, 2:] - b[:, :2], axis=-1) for b in (one, other)]
    return np.asarray(shared / np.maximum(sizes[0][:, None] + sizes[1] - shared, 1e-9))


def suppressed(corners: Array, classes: Array, scores: Array, least: float, overlap: float) -> Boxes:
    """Return the boxes of score ≥ `least`, the best first, without those that overlap a better one."""
    order = [i for i in np.argsort(-scores, kind="stable") if scores[i] >= least]
    kept: list[int] = []
    for i in order:
        same = [k for k in kept if classes[k] == classes[i]]
        if not same or overlaps(corners[[i]], corners[same]).max() <= overlap:
            kept.append(i)
    return Boxes(corners[kept], classes[kept])


def matched(found: Boxes, expected: Boxes) -> list[float]:
    """Return the overlap of every pair of one class above 0.5, the best pairs first, each box once."""
    grid = overlaps(found.corners, expected.corners) * (found.classes[:, None] == expected.classes[None])
    pairs = []
    while grid.size and grid.max() >= 0.5:
        at = np.unravel_index(grid.argmax(), grid.shape)
        pairs.append(float(grid[at]))
        grid[at[0]] = grid[:, at[1]] = 0
    return pairs


def f1(found: Sequence[Boxes], expected: Sequence[Boxes]) -> float:
    """Return 2 · pairs / (found + expected) over all samples; 1 where neither has a box."""
    pairs = sum(len(matched(f, e)) for f, e in zip(found, expected, strict=True))
    boxes = sum(len(b.classes) for b in (*found, *expected))
    return 2 * pairs / boxes if boxes else 1.0


def mean_overlap(found: Sequence[Boxes], expected: Sequence[Boxes]) -> float:
    """Return the mean overlap of the boxes expected with their pairs, 0 without one."""
    pairs = sum(sum(matched(f, e)) for f, e in zip(found, expected, strict=True))
    return pairs / max(1, sum(len(e.classes) for e in expected))


def correlation(found: Sequence[Array], expected: Sequence[Array]) -> float:
    """Return Pearson's coefficient over all values of all samples, 0 where one side is constant."""
    one, other = (
        np.concatenate([np.ravel(a) for a in side]).astype(np.float64) for side in (found, expected)
    )
    one, other = one - one.mean(), other - other.mean()
    size = float(np.sqrt(np.sum(one**2) * np.sum(other**2)))
    return float(np.sum(one * other)) / size if size else 0.0


def decisions(found: Sequence[Array], expected: Sequence[Array]) -> float:
    """Return the share of probabilities on the same side of one half."""
    pairs = zip(found, expected, strict=True)
    return float(np.mean(np.concatenate([np.ravel((f >= 0.5) == (e >= 0.5)) for f, e in pairs])))
