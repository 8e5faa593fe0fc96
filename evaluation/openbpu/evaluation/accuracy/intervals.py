"""How far a figure can be trusted: intervals of 95 %, and whether two models differ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from openbpu.arch.arrays import Float64
from openbpu.evaluation.accuracy.metrics import Figure

LEVEL = 0.95
_SEED = 0
_Z = NormalDist().inv_cdf((1 + LEVEL) / 2)
_TAILS = (50 * (1 - LEVEL), 50 * (1 + LEVEL))


@dataclass(frozen=True, slots=True)
class Interval:
    """From low to high, both included."""

    low: float
    high: float


def wilson(right: int, total: int) -> Interval:
    """Return Wilson's interval of a share: E. B. Wilson, 1927; it stays in 0..1 and holds near its ends."""
    share, z2 = right / total, _Z * _Z
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    low = 0.0 if right == 0 else middle - half
    return Interval(max(low, 0.0), 1.0 if right == total else min(middle + half, 1.0))


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided p of McNemar's exact test.

    That is: were the samples on which exactly one of the two is right fair coins, how likely is a split as
    uneven as this, or more so?
    """
    n = only_first + only_second
    ways = total = 1  # of k = 0 in n, and of all up to k: whole numbers up to the one division
    for k in range(min(only_first, only_second)):
        ways = ways * (n - k) // (k + 1)
        total += ways
    return min(1.0, 2 * total / (1 << n))


def resamples(figures: Sequence[Figure], samples: int, count: int) -> Float64:
    """Return (count, figures): every figure on the same resamples, drawn with a fixed seed."""
    made = [[figure.weighted(weights) for figure in figures] for weights in _weights(samples, count)]
    return np.array(made, dtype=np.float64).reshape(count, len(figures))


def _weights(samples: int, count: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield how often each sample is in a resample of as many."""
    rng = np.random.default_rng(_SEED)
    for _ in range(count):
        yield np.bincount(rng.integers(0, samples, samples), minlength=samples)


def middle(values: Float64) -> Interval:
    """Return where the middle 95 % of resampled values lie."""
    low, high = np.percentile(values, _TAILS)
    return Interval(float(low), float(high))


def sign_change(differences: Float64) -> float:
    """Return the two-sided p of resampled differences: how often they fall on the other side of 0."""
    if not differences.any():
        return 1.0
    other = min(np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0))
    return float(min(1.0, 2 * (1 + other) / (1 + len(differences))))
