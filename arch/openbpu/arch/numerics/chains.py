"""Chains of element-wise operators for tables: exact in float64, on the side of a jump that float32 is on.

Between two roundings a chain means what it gives with real numbers. Where it jumps (Floor, a comparison, the
threshold of a Shrink) or ends (Asin beyond 1), the graph's own float32 values decide, with the rounding of
every operator in front: 3 · 0.1 / 0.3 is 1 in float32, and a little less with the float64 values of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from openbpu.arch.arrays import Float64
from openbpu.arch.numerics.functions import CONDITIONS, JUMPING_CASTS, POINTWISE, Attrs

JUMPS = frozenset({"Floor", "Ceil", "Mod", "Round", "Sign", *CONDITIONS})
"""What float32 values decide altogether; so do they a Cast to bool or to integers."""
TURNS = frozenset({"ThresholdedRelu", "Shrink", "Asin", "Acos", "Acosh", "Atanh"})
"""What follows its argument, but for a jump or an end."""
_NOISE = 2.0**-16
"""What float32 roundings change of a value, relative to it, is less; a jump is more."""


@dataclass(frozen=True, slots=True)
class Real:
    """A value in float64, and as the graph's float32 tensor holds it."""

    exact: Float64
    single: Float64

    @classmethod
    def of(cls, exact: Float64) -> Real:
        """What one float32 rounding separates from its float64 value: codes times a scale, a constant."""
        return cls(exact, _rounded(exact))

    @property
    def decisive(self) -> Float64:
        """The float32 value, or the other where float32 overflowed on the way."""
        return np.where(np.isfinite(self.single) | ~np.isfinite(self.exact), self.single, self.exact)


def pointwise(op: str, attrs: Attrs, *operands: Real | None) -> Real:
    """Apply an element-wise operator to values that broadcast; None for operands that are left out."""
    function = POINTWISE[op]

    def applied(which: str) -> Float64:
        values: list[Any] = [None if r is None else getattr(r, which) for r in operands]
        return np.asarray(function(attrs, *values), dtype=np.float64)

    if op in JUMPS or (op == "Cast" and int(attrs["to"]) in JUMPING_CASTS):
        return Real.of(applied("decisive"))
    exact, single = applied("exact"), applied("single")
    if op in TURNS:
        exact = _on_its_side(exact, applied("decisive"))
    return Real(exact, _rounded(single))


def _on_its_side(exact: Float64, single: Float64) -> Float64:
    near = np.abs(exact - single) <= _NOISE * (np.abs(exact) + np.abs(single))
    return np.where(near, exact, single)


def _rounded(x: Float64) -> Float64:
    return x.astype(np.float32).astype(np.float64)
