"""Observed ranges: which max|x| of a tensor its scale is made of.

    max         the largest magnitude seen
    percentile  the magnitude that 99.99 % of the values do not exceed; `percentile 0.9995`: 99.95 %
    mse         of 100 fractions of the maximum, the one with the least squared error
    kl          the clipping whose quantized distribution has the least divergence from the observed one

All but `max` read a histogram of |x|: `openbpu.quantization.ranges`.
"""

from __future__ import annotations

import numpy as np

from openbpu.arch.dtypes import DType
from openbpu.quantization.ranges import (
    Halves,
    Histogram,
    entropy_range,
    fractions,
    grid,
    mse_range,
    percentile_range,
)

PERCENTILE = 99.99


def clipped_range(method: str, seen: Histogram, dtype: DType, halves: Halves | None = None) -> float:
    """Return the range that `method` makes of what was seen of a tensor of type `dtype`.

    halves: half the width that all its steps stand for, for each range, as `grid` takes it.
    """
    counts, peak = seen.counts, seen.peak
    name, _, share = method.partition(" ")
    if name == "percentile":
        return percentile_range(counts, peak, float(share) * 100 if share else PERCENTILE)
    if method == "mse":
        return mse_range(counts, peak, fractions(peak), grid(dtype, halves))
    finer = 1.0 if halves is None else peak / float(halves(np.asarray(peak)))
    return entropy_range(counts, peak, round((dtype.qmax + 1) * finer))
