"""Ranges by percentile and by least squared error."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from openbpu.arch import numerics
from openbpu.arch.arrays import Float64
from openbpu.arch.dtypes import DType
from openbpu.quantization.ranges.histogram import Counts

Rounded = Callable[[Float64, Float64], npt.NDArray[Any]]
"""Values [1, n] and ranges [k, 1] → [k, n], the values as the grid of each range holds them."""

Halves = Callable[[Float64], Float64]

_SURELY = 1e-3
"""Of a step: what float32 may take from a whole number of them."""

_CELLS = 1 << 18
"""Ranges are judged together while they and the bins are no more than this."""


def grid(dtype: DType, halves: Halves | None = None) -> Rounded:
    """Return how a scale of `dtype` holds magnitudes, the scale being that of an observed range.

    halves: half the width that all steps stand for, for each range. Less than the range is for a zero point:
    the codes of the other side are for this one.
    """

    def rounded(values: Float64, limits: Float64) -> npt.NDArray[Any]:
        widths = limits if halves is None else halves(limits)
        scale = np.maximum(numerics.observed_scale(widths, dtype), np.finfo(np.float32).tiny)
        zero = 0 if halves is None else dtype.qmax - np.floor(limits / scale + _SURELY)
        return (numerics.quantize(values, scale, zero, dtype) - zero) * scale

    return rounded


def fractions(peak: float, steps: int = 100) -> Float64:
    """Return the ranges that a search by error tries: 1/steps … 1 of the largest magnitude."""
    return np.asarray(peak * np.arange(1, steps + 1) / steps, dtype=np.float64)


def percentile_range(counts: Counts, peak: float, percentile: float) -> float:
    """Return the upper edge of the bin at which `percentile` per cent (0..100) of the values are reached."""
    return reached_range(counts, peak, int(counts.sum()) * (percentile / 100))


def reached_range(counts: Counts, peak: float, needed: float) -> float:
    """Return the upper edge of the bin at which so many values are reached, from 0 on."""
    reached = int(np.searchsorted(np.cumsum(counts), needed))
    return peak * (min(reached, len(counts) - 1) + 1) / len(counts)


def mse_range(counts: Counts, peak: float, tried: Iterable[float], rounded: Rounded) -> float:
    """Return the range of `tried` with the least mean squared error of rounding; of equals the largest."""
    limits = np.sort(np.fromiter(tried, dtype=np.float64))
    if not peak or not len(limits):
        return peak
    errors = squared_errors(counts, peak, limits, rounded)
    return float(limits[len(limits) - 1 - int(np.argmin(errors[::-1]))])


def squared_errors(counts: Counts, peak: float, limits: Float64, rounded: Rounded) -> Float64:
    """Return for each range the mean squared error of rounding the counted values to its grid.

    A value counts as the centre of its bin, those of the last bin as the peak.
    """
    filled = np.flatnonzero(counts)
    centres = np.asarray((filled + 0.5) * (peak / len(counts)), dtype=np.float64)
    centres[filled == len(counts) - 1] = peak
    share = counts[filled] / max(int(counts.sum()), 1)
    rows = max(_CELLS // max(len(filled), 1), 1)
    found = np.zeros(len(limits))
    for start in range(0, len(limits), rows):
        away = rounded(centres[np.newaxis], limits[start : start + rows, np.newaxis]) - centres
        found[start : start + rows] = (away * away) @ share
    return found
