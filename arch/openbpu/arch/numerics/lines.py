"""Functions of one variable that need no table: clamped straight lines, and parabolas as products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openbpu.arch.arrays import Float64
from openbpu.arch.dtypes import DType

_TOLERANCE = 1e-12
_LEAST = 1e-11
"""A parabola is subtracted from itself to be found, which costs a digit."""
_FARTHEST = 2.0**17


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


@dataclass(frozen=True, slots=True)
class Parabola:
    """factor·(code − first)·(code − second) + offset, what x·x is: `first` and `second` are integers."""

    factor: float
    first: int
    second: int
    offset: float

    def at(self, code: Float64) -> Float64:
        """The value at every code."""
        return self.factor * (code - self.first) * (code - self.second) + self.offset


def parabola(code: Float64, y: Float64) -> Parabola | None:
    """The parabola of which y is the part between min y and max y; None when y is no such function of codes.

    Its axis must lie on a code or between two: a product of two integers takes no other.
    """
    inside = np.flatnonzero((y > y.min()) & (y < y.max()))
    if inside.size < 3:
        return None
    found = _through(code[inside], y[inside])
    if (
        found is None
        or np.abs(np.clip(found.at(code), y.min(), y.max()) - y).max() > _LEAST * np.abs(y).max()
    ):
        return None
    return found


def _through(code: Float64, y: Float64) -> Parabola | None:
    """The parabola through the ends and a point between, its axis moved to the nearest half code."""
    a, b, c = 0, code.size // 2, code.size - 1
    left, right = (y[b] - y[a]) / (code[b] - code[a]), (y[c] - y[b]) / (code[c] - code[b])
    if abs(right - left) <= _TOLERANCE * (abs(left) + abs(right)):
        return None
    twice = -(left * (code[b] + code[c]) - right * (code[a] + code[b])) / (right - left)
    if not abs(twice) < _FARTHEST:
        return None
    first = int(np.floor(np.rint(twice) / 2))
    second = int(np.rint(twice)) - first
    product = (code - first) * (code - second)
    low, high = int(product.argmin()), int(product.argmax())
    factor = float((y[high] - y[low]) / (product[high] - product[low]))
    return Parabola(factor, first, second, float(y[low] - factor * product[low]))


def code_bounds(clamp: tuple[float, float], scale: float, zero: int, dtype: DType) -> tuple[int, int]:
    """Codes lo..hi that a result is clamped to: its type's range and the real bounds of a Relu or Clip."""
    low, high = (np.rint(np.array(clamp) / scale) + zero).tolist()
    return int(max(dtype.qmin, min(low, dtype.qmax))), int(min(dtype.qmax, max(high, dtype.qmin)))
