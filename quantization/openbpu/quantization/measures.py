"""How close values are to those they should be: one definition for the analysis, the tables and the tools.

    cosine  Σ a·b / √(Σ a² · Σ b²), of all values as one vector
    SQNR    10·log₁₀(Σ a² / Σ (a − b)²) in dB: what the signal is to the noise
    L1      the mean of |a − b|
    mse     the mean of (a − b)²
    max     the largest |a − b|

a are the values as they should be. All sums are float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf, log10, sqrt

import numpy as np

from openbpu.arch.arrays import Array, Float64

_PIECE = 1 << 18
"""Values that are taken at once: their float64 copies stay in the cache."""


@dataclass(frozen=True, slots=True)
class Closeness:
    """What was measured over `elements` values.

    cosine: 1 where both are all zero, 0 where one is · sqnr: in dB, infinite for equal values, −infinite for
    noise on zeros · max_abs: infinite where one side is NaN or infinite and the other is not, or where shapes
    differ; cosine, sqnr, l1 and mse are those of the finite values.
    """

    cosine: float
    sqnr: float
    l1: float
    mse: float
    max_abs: float
    elements: int

    @property
    def equal(self) -> bool:
        """Whether no value differs."""
        return self.max_abs == 0.0


@dataclass(slots=True)
class Sums:
    """Adds arrays, batch by batch, up to a Closeness."""

    elements: int = 0
    finite: int = 0
    signal: float = 0.0
    other: float = 0.0
    product: float = 0.0
    noise: float = 0.0
    absolute: float = 0.0
    largest: float = 0.0
    apart: bool = field(default=False)

    def add(self, expected: Array, found: Array) -> None:
        """Add a batch, of any number type; another shape is an infinite difference."""
        if expected.shape != found.shape:
            self.apart, self.largest = True, inf
            self.elements += expected.size
            return
        self.elements += expected.size
        for a, b in _pieces(expected, found):
            self._add(a, b)

    def _add(self, a: Float64, b: Float64) -> None:
        with np.errstate(invalid="ignore", over="ignore"):
            gap = b - a
            if not np.isfinite(gap.sum()):
                a, b, gap = self._finite(a, b)
            self.finite += a.size
            self.signal += float(a @ a)
            self.other += float(b @ b)
            self.product += float(a @ b)
            self.noise += float(gap @ gap)
        size = np.abs(gap)
        self.absolute += float(size.sum())
        self.largest = max(self.largest, float(size.max(initial=0.0)))

    def _finite(self, a: Float64, b: Float64) -> tuple[Float64, Float64, Float64]:
        """Return what is finite on both sides; equal infinities and two NaNs are no difference."""
        both = np.isfinite(a) & np.isfinite(b)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        if not (both | same).all():
            self.largest = inf
        a, b = a[both], b[both]
        return a, b, b - a

    def closeness(self) -> Closeness:
        """Return what was added up."""
        n = max(self.finite, 1)
        return Closeness(
            self._cosine(),
            decibel(self.signal, self.noise) if not self.apart else -inf,
            self.absolute / n,
            self.noise / n,
            self.largest,
            self.elements,
        )

    def _cosine(self) -> float:
        if self.apart:
            return 0.0
        if self.signal == 0.0 or self.other == 0.0:
            return float(self.signal == self.other)
        return max(min(self.product / sqrt(self.signal) / sqrt(self.other), 1.0), -1.0)


def _pieces(a: Array, b: Array) -> Iterator[tuple[Float64, Float64]]:
    flat_a, flat_b = a.reshape(-1), b.reshape(-1)
    for start in range(0, flat_a.size, _PIECE):
        part = slice(start, start + _PIECE)
        yield flat_a[part].astype(np.float64), flat_b[part].astype(np.float64)


def decibel(signal: float, noise: float) -> float:
    """Return 10·log₁₀ of signal power over noise power; infinite without noise."""
    if noise == 0.0:
        return inf
    return 10.0 * (log10(signal) - log10(noise)) if signal > 0.0 else -inf


def closeness(expected: Array, found: Array) -> Closeness:
    """Return how close one array is to another; raises nothing: another shape is an infinite difference."""
    sums = Sums()
    sums.add(np.asarray(expected), np.asarray(found))
    return sums.closeness()
