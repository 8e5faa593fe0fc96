"""Functions of one variable that need no table: clamped straight lines."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from openbpu.arch.dtypes import DType

Float64 = npt.NDArray[np.float64]

_TOLERANCE = 1e-12


def line(x: Float64, y: Float64) -> tuple[float, float] | None:
    """Slope and offset of y = clamp(slope·x + offset, min y, max y), or None when y is no such function."""
    inside = np.flatnonzero((y > y.min()) & (y < y.max()))
    if inside.size < 2:
        return None
    first, last = inside[0], inside[-1]
    slope = float((y[last] - y[first]) / (x[last] - x[first]))
    offset = float(y[first] - slope * x[first])
    off = np.abs(np.clip(slope * x + offset, y.min(), y.max()) - y).max()
    return (slope, offset) if off <= _TOLERANCE * np.abs(y).max() else None


def code_bounds(clamp: tuple[float, float], scale: float, zero: int, dtype: DType) -> tuple[int, int]:
    """Codes lo..hi that a result is clamped to: its type's range and the real bounds of a Relu or Clip."""
    low, high = (np.rint(np.array(clamp) / scale) + zero).tolist()
    return int(max(dtype.qmin, min(low, dtype.qmax))), int(min(dtype.qmax, max(high, dtype.qmin)))
