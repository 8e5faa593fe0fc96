"""Counts of values in bins around zero, for a picture; batches may come in any order and grow."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2

import numpy as np

from openbpu.arch.arrays import Array

HALF = 64
"""Bins on each side of zero."""
_LEAST = -140
"""The exponent of the finest bins: float32 still has these numbers."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many values lie in each of some bins of equal width from `start` on; empty ends are left out."""

    start: float
    width: float
    counts: tuple[int, ...]


class Picture:
    """Counts values in bins whose width is a power of 2: it doubles, and pairs merge, when values grow."""

    def __init__(self) -> None:
        self._exponent: int | None = None
        self._bins = np.zeros(2 * HALF, dtype=np.int64)

    def add(self, x: Array) -> None:
        """Count the finite values of a batch."""
        flat = x.reshape(-1)
        if flat.dtype.kind != "f" or flat.dtype.itemsize < np.dtype(np.float32).itemsize:
            flat = flat.astype(np.float32)
        if not np.isfinite(flat).all():
            flat = flat[np.isfinite(flat)]
        peak = float(np.abs(flat).max(initial=0.0))
        self._make_room(peak)
        width = 2.0 ** (self._exponent or 0)
        place = np.floor(flat / flat.dtype.type(width)).astype(np.int64) + HALF
        self._bins += np.bincount(np.clip(place, 0, 2 * HALF - 1), minlength=2 * HALF)

    def _make_room(self, peak: float) -> None:
        needed = max(ceil(log2(peak / HALF)), _LEAST) if peak > 0 else None
        if needed is None:
            return
        if self._exponent is None:
            zeros, self._exponent = int(self._bins.sum()), needed  # nothing but zeros so far
            self._bins[:] = 0
            self._bins[HALF] = zeros
        for _ in range(min(max(needed - self._exponent, 0), 2 * HALF)):
            pairs = self._bins.reshape(-1, 2).sum(axis=1)
            self._bins[:] = 0
            self._bins[HALF // 2 : HALF // 2 + HALF] = pairs
        self._exponent = max(self._exponent, needed)

    def counts(self) -> Counts:
        """Return what was counted."""
        width = 2.0 ** (self._exponent or 0)
        filled = np.flatnonzero(self._bins)
        if not filled.size:
            return Counts(0.0, width, ())
        first, last = int(filled[0]), int(filled[-1])
        return Counts((first - HALF) * width, width, tuple(int(n) for n in self._bins[first : last + 1]))
