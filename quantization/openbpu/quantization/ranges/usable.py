"""Ranges that a scale can be made of: one rule for every door."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

ZERO_RANGE = 1.0
"""The range a tensor of zeros gets, so that its int8 scale is 1/127.5: any positive one would do."""

SMALLEST_RANGE = 1e-15
"""Ranges below it count as zero: products of two such scales leave float32."""


def usable_range(max_abs: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return max|x|, of any shape, with ZERO_RANGE in the place of what counts as zero."""
    wide = np.asarray(max_abs, dtype=np.float64)
    return np.where(wide < SMALLEST_RANGE, ZERO_RANGE, wide)
