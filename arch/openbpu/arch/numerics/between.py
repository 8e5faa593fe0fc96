"""Linear interpolation: a point between two neighbours, along one axis after the other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from openbpu.arch.arrays import Int64
from openbpu.arch.dtypes import DType
from openbpu.arch.numerics.fixed import round_shift

WEIGHT_BITS = 30
BETWEEN_BITS = 15
"""Fraction bits of what lies between two codes: as many as leave 62 bits for its product with a weight."""
MAX_FINER = 2.0**13
"""How much finer than its input's the scale of an interpolation may be: errors stay below half a step."""
SLICE_ROOM = {DType.INT8: 1.0, DType.INT16: 4.0}
"""How many steps of the result a `slice_step` may be: half of it is how far the result is moved."""


def weights(fraction: npt.ArrayLike) -> Int64:
    """Return fractions of 0..1 as weights of 30 bits."""
    return np.rint(np.asarray(fraction, np.float64) * 2.0**WEIGHT_BITS).astype(np.int64)


def slice_step(scale: float, dtype: DType) -> float:
    """Return the step of the int16 codes between slices and images, where all axes of a volume are resized.

    As fine as codes of `dtype` and `scale`, whose zero point may be any, fit; they are what is resized.
    """
    return scale / 128 if dtype is DType.INT8 else scale


def between(left: Int64, right: Int64, weight: npt.ArrayLike, drop: int) -> Int64:
    """Return rhe((left·2^30 + (right − left)·weight) / 2^drop); weight 0..2^30, |left| and |right| < 2^32.

    Across (drop 15) codes become values of 15 fraction bits; down (drop 30) these stay such values.
    """
    return round_shift((left << WEIGHT_BITS) + (right - left) * np.asarray(weight, np.int64), drop)
