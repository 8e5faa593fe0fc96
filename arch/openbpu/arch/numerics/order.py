"""Comparisons of dequantized numbers, decided on their integer codes.

The graph compares float32: code · scale, rounded once. What that gives is decided here by integers alone, by
factors that keep the order of two tensors, or by the code at which a number stands among those of a tensor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from openbpu.arch.arrays import Float32, Float64, Int64
from openbpu.arch.dtypes import DType
from openbpu.arch.numerics.tables import codes

_MOST = 2**43
"""Products with factors up to this stay in int64, and the fast kernels take them."""


@dataclass(frozen=True, slots=True)
class Ruler:
    """The numbers that the codes of a tensor stand for: (code − zero) · scale, in float32, ascending."""

    scale: float
    zero: int
    dtype: DType

    @property
    def steps(self) -> Int64:
        """Every code less the zero point, ascending."""
        return codes(self.dtype) - self.zero

    @property
    def numbers(self) -> Float32:
        """What the codes stand for, as the graph's float32 has it."""
        return (self.steps.astype(np.float64) * self.scale).astype(np.float32)

    def places(self, x: npt.NDArray[np.floating]) -> tuple[Int64, Int64]:
        """Return the first code whose number is at least, and the first that is more, than each of `x`.

        One beyond the largest code where there is none. `x` is in float32, or infinite; not NaN.
        """
        numbers, single = self.numbers, x.astype(np.float32)
        first, behind = (np.searchsorted(numbers, single, side) for side in ("left", "right"))
        return first + self.dtype.qmin, behind + self.dtype.qmin


@dataclass(frozen=True, slots=True)
class Order:
    """Factors so that a · mult_a and b · mult_b, steps of two tensors, compare as their numbers do.

    wrong: of how many pairs of codes they do not, because float32 rounds one number and not the other.
    """

    mult_a: int
    mult_b: int
    wrong: int


def order(a: Ruler, b: Ruler) -> Order:
    """Return the factors that decide the most pairs as float32 does, the smallest of these."""
    best: Order | None = None
    for p, q in _fractions(Fraction(a.scale) / Fraction(b.scale)):
        found = Order(p, q, _wrong(a, b, p, q))
        if best is None or found.wrong < best.wrong:
            best = found
        if best.wrong == 0:
            break
    if best is None:
        raise OverflowError(f"scales of {a.scale:.3g} and {b.scale:.3g} are too far apart to be compared")
    return best


def _fractions(ratio: Fraction) -> Iterator[tuple[int, int]]:
    """The convergents of a ratio, the simplest first, as far as factors may go."""
    (p, q), (p1, q1) = (0, 1), (1, 0)
    numerator, denominator = ratio.numerator, ratio.denominator
    while denominator:
        whole, rest = divmod(numerator, denominator)
        (p, q), (p1, q1) = (p1, q1), (whole * p1 + p, whole * q1 + q)
        if max(p1, q1) > _MOST:
            return
        if p1 and q1:
            yield p1, q1
        numerator, denominator = denominator, rest


def _wrong(a: Ruler, b: Ruler, p: int, q: int) -> int:
    """Pairs of codes whose order a · p and b · q do not have, those counted twice that are off by two."""
    least, size = int(b.steps[0]), b.steps.size
    first, behind = b.places(a.numbers)
    scaled = a.steps * p
    mine = np.clip(-(-scaled // q) - least, 0, size), np.clip(scaled // q + 1 - least, 0, size)
    wanted = first - b.dtype.qmin, behind - b.dtype.qmin
    return int(sum(np.abs(m - w).sum() for m, w in zip(mine, wanted, strict=True)))


def runs(truth: Float64) -> Int64:
    """Return segments of a table (`segment_lut`) that gives whole numbers for every int16 code, exactly."""
    starts = np.flatnonzero(np.diff(truth, prepend=np.nan) != 0)
    zeros = np.zeros(starts.size, np.int64)
    first = starts + DType.INT16.qmin
    return np.stack([first, truth[starts].astype(np.int64), zeros, zeros], axis=1)
