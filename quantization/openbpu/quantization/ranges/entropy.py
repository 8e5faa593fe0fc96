"""The range of least Kullback-Leibler divergence."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from openbpu.arch.arrays import Float64
from openbpu.quantization.ranges.histogram import Counts

_CELLS = 1 << 20
"""Candidates are judged together while their levels are no more than this."""

_TIE = 1e-12
"""Divergences that differ by no more are equal: the sums are rounded."""

_KEPT = 0.9
"""A clipping keeps at least this share of the values."""


def entropy_range(
    counts: Counts, peak: float, levels: int, *, start: int | None = None, stride: int = 1
) -> float:
    """Return the range whose quantized histogram diverges least from the observed one, clipped to that range.

    Tried are the upper edges of the bins `start` (default: as many as levels), `start` + stride, …; of
    equal ones the largest wins. levels: magnitudes that a code can have, 128 for int8. The first bin takes
    the count of the second: zeros (of a ReLU, of padding) are free of error in any range and must not decide
    it. With no more bins than levels nothing can be gained, and the peak is returned.

    This is the algorithm published with pytorch-quantization ("entropy"). One thing is added: a clipping that
    cuts off more than a tenth of the values is none. Where values are few, or lie on a grid as those of
    images do, such a clipping can look perfect: all that it keeps is a single bin.
    """
    bins = len(counts)
    tried = np.arange(min(levels if start is None else start, bins), bins + 1, stride)
    if levels >= bins or not counts[1:].any() or not len(tried):
        return peak
    rows = max(_CELLS // (levels + 1), 1)
    judge = _Judge(counts, levels)
    found = np.concatenate([judge.divergence(tried[i : i + rows]) for i in range(0, len(tried), rows)])
    best = tried[np.flatnonzero(found <= found.min() + _TIE)[-1]]
    return peak * int(best) / bins


class _Judge:
    """KL(p ‖ q) for many clippings at once.

    p is the histogram clipped to n bins, what lies outside counted in the last. q is what `levels` levels of
    equal width leave of the n bins: a level's count, shared alike by its bins that are not empty. Within a
    level q is constant, so sums over levels, differences of running sums, are all that is needed.
    """

    def __init__(self, counts: Counts, levels: int) -> None:
        self.levels = levels
        share = counts.astype(np.float64)
        share[0] = share[1]
        self.share: Float64 = share / share.sum()
        self.mass = _running(self.share)
        self.filled = _running(self.share > 0)
        self.spread = _running(_xlogx(self.share))

    def divergence(self, tried: npt.NDArray[np.int64]) -> Float64:
        """Return KL(p ‖ q) for every number of bins in `tried`; infinite where q is empty and p is not."""
        edges = -(-np.arange(self.levels + 1) * tried[:, None] // self.levels)  # rounded up
        mass, filled = np.diff(self.mass[edges]), np.diff(self.filled[edges])
        log_q = np.log(np.divide(mass, filled, out=np.ones_like(mass), where=(filled > 0) & (mass > 0)))
        kept, last = self.mass[tried], self.share[tried - 1]
        outside = np.maximum(self.mass[-1] - kept, 0.0)
        own = self.spread[tried] - _xlogx(last) + _xlogx(last + outside)
        level = (tried - 1) * self.levels // tried  # of the last bin
        cross = (mass * log_q).sum(axis=1) + outside * log_q[np.arange(len(tried)), level]
        found = own - cross + np.log(np.maximum(kept, _KEPT))
        lost = (last == 0) & (self.filled[tried] < self.filled[-1])
        return np.where(lost | (kept < _KEPT), np.inf, found)


def _running(values: npt.NDArray[np.float64] | npt.NDArray[np.bool_]) -> Float64:
    """Return the sums of the first 0, 1, … all values."""
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])


def _xlogx(x: Float64) -> Float64:
    return x * np.log(np.where(x > 0, x, 1.0))
