"""Observed ranges: which max|x| of a tensor its scale is made of.

    max         the largest magnitude seen
    percentile  the magnitude that 99.99 % of the values do not exceed
    mse         of 100 fractions of the maximum, the one with the least squared error
    kl          the clipping whose quantized distribution has the least divergence from the observed one

All but `max` work on a histogram of |x| with 2048 bins over 0 … max.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from openbpu.arch import numerics
from openbpu.arch.dtypes import DType

BINS = 2048
PERCENTILE = 99.99
FRACTIONS = 100

Counts = npt.NDArray[np.int64]
Array = npt.NDArray[np.float32]


def histogram(x: Array, top: float) -> Counts:
    """Return how many |x| lie in each of BINS equal bins over 0 … `top`; a value above counts in the last."""
    place = np.abs(x.reshape(-1)) * np.float32(BINS / top)
    return np.bincount(np.minimum(place.astype(np.int32), BINS - 1), minlength=BINS).astype(np.int64)


def percentile_range(counts: Counts, top: float) -> float:
    """Return the upper edge of the bin in which PERCENTILE of the values are reached."""
    reached = np.searchsorted(np.cumsum(counts), counts.sum() * (PERCENTILE / 100))
    return top * (min(int(reached), BINS - 1) + 1) / BINS


def mse_range(counts: Counts, top: float, dtype: DType) -> float:
    """Return the fraction of `top` that quantizes the histogram with the least squared error."""
    centres = (np.arange(BINS) + 0.5) * (top / BINS)
    best, least = top, np.inf
    for fraction in range(FRACTIONS, 0, -1):
        candidate = top * fraction / FRACTIONS
        scale = float(numerics.observed_scale(candidate, dtype))
        error = centres - numerics.quantize(centres, scale, 0, dtype) * scale
        loss = float(counts @ (error * error))
        if loss < least:
            best, least = candidate, loss
    return best


def kl_range(counts: Counts, top: float, dtype: DType) -> float:
    """Return the clipping range of least Kullback-Leibler divergence; with more levels than bins, `top`."""
    levels = dtype.qmax + 1
    if levels >= BINS or not counts[1:].any():
        return top
    distribution = counts.astype(np.float64)
    distribution[0] = distribution[1]  # exact zeros (ReLU, padding) have no error and would drown the rest
    best, least = BINS, np.inf
    for bins in range(levels, BINS + 1, levels // 8):
        divergence = _divergence(distribution, bins, levels)
        if divergence < least:
            best, least = bins, divergence
    return top * best / BINS


def _divergence(counts: npt.NDArray[np.float64], bins: int, levels: int) -> float:
    """Return KL(p ‖ q): p is clipped to `bins` bins, q is what `levels` levels leave of it."""
    kept = counts[:bins]
    p = kept.copy()
    p[-1] += counts[bins:].sum()
    group = np.arange(bins) * levels // bins
    filled = kept > 0
    sums = np.bincount(group, weights=kept, minlength=levels)
    members = np.bincount(group, weights=filled, minlength=levels)
    q = np.where(filled, (sums / np.maximum(members, 1))[group], 0.0)
    if p.sum() == 0 or q.sum() == 0:
        return float(np.inf)
    p, q = p / p.sum(), q / q.sum()
    mask = p > 0
    return float(np.sum(p[mask] * np.log(p[mask] / np.maximum(q[mask], 1e-12))))
