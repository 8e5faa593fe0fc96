"""How an output differs from what it should be, added up over samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt

import numpy as np

from openbpu.arch.arrays import Array


@dataclass(frozen=True, slots=True)
class Comparison:
    """One output over all samples. `step` is its quantization step, None (as `max_steps`) where it has none.

    cosine: of all values as one vector, 1 where both are all zero · max_abs: infinite where one side is NaN
    or infinite and the other is not · differing: share of elements that differ by half a step or more (at
    all, for an output without step). Codes are compared as codes: their step is 1.
    """

    name: str
    cosine: float
    max_abs: float
    step: float | None
    max_steps: float | None
    differing: float
    elements: int


@dataclass(slots=True)
class Tally:
    """Adds samples of one output to a Comparison."""

    name: str
    step: float | None = None
    elements: int = 0
    differ: int = 0
    largest: float = 0.0
    sums: Array = field(default_factory=lambda: np.zeros(3))
    apart: bool = False

    def add(self, expected: Array, actual: Array) -> int:
        """Add a sample; return how many elements differ. Another shape is an infinite difference."""
        if expected.shape != actual.shape:
            self.largest, self.apart = np.inf, True
            self.elements += expected.size
            self.differ += expected.size
            return max(expected.size, 1)
        a, b = (np.asarray(v).reshape(-1).astype(np.float64) for v in (expected, actual))
        # Equal infinities and NaNs are no difference; unequal ones are an infinite one.
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        with np.errstate(invalid="ignore"):
            gap = np.where(same, 0.0, np.nan_to_num(np.abs(a - b), nan=np.inf, posinf=np.inf))
        count = int(np.count_nonzero((gap >= (self.step or 0.0) / 2) & (gap > 0)))
        self.elements += a.size
        self.differ += count
        self.largest = max(self.largest, float(gap.max(initial=0.0)))
        finite = np.isfinite(a) & np.isfinite(b)
        a, b = a[finite], b[finite]
        self.sums += np.array([a @ a, b @ b, a @ b])
        return count

    def comparison(self) -> Comparison:
        """Return what was added up."""
        steps = self.largest / self.step if self.step else None
        share = self.differ / self.elements if self.elements else 0.0
        return Comparison(self.name, self._cosine(), self.largest, self.step, steps, share, self.elements)

    def _cosine(self) -> float:
        a, b, both = (float(v) for v in self.sums)
        if self.apart:
            return 0.0
        if a == 0.0 or b == 0.0:
            return float(a == b)
        return min(both / sqrt(a) / sqrt(b), 1.0)
