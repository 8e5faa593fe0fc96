"""Boxes of strided elements: how many contiguous runs they hold, and how large they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from openbpu.arch.arrays import Int64
from openbpu.arch.errors import HbmError

_LARGEST = 2.0**40


def volume(counts: Int64) -> Int64:
    """Return the product over the last axis of counts [n, d]; raises HbmError above 2^40 elements."""
    size = counts.astype(np.float64).prod(axis=-1)
    if (size > _LARGEST).any():
        raise HbmError(f"a box of {size.max():.3g} elements cannot be on a chip; the file is damaged")
    product: Int64 = counts.prod(axis=-1)
    return product


def runs(counts: Int64, strides: Sequence[Int64], sizes: Sequence[Int64]) -> tuple[Int64, Int64]:
    """Return (rows, run) of n boxes: the longest stretch that all operands cross in one go, and their number.

    counts [n, d], innermost last; per operand the byte strides [n, d] and the bytes of one element [n]. An
    axis joins the run when it continues the one inside it in every operand, or when an operand repeats
    (stride 0) there and inside. Axes of one element do not matter.
    """
    run = np.ones(len(counts), dtype=np.int64)
    started = np.zeros(len(counts), dtype=bool)
    is_open = np.ones(len(counts), dtype=bool)
    following = [np.zeros(len(counts), dtype=np.int64) for _ in strides]
    for axis in range(counts.shape[1] - 1, -1, -1):
        count = counts[:, axis]
        here = is_open & (count > 1)
        if not here.any():
            continue
        joins = here.copy()
        for stride, size, expected in zip(strides, sizes, following, strict=True):
            s = stride[:, axis]
            joins &= np.where(started, s == expected, (s == size) | (s == 0))
        is_open &= ~here | joins
        run[joins] *= count[joins]
        started |= here
        for stride, expected in zip(strides, following, strict=True):
            expected[joins] = (stride[:, axis] * count)[joins]
    return counts.prod(axis=-1) // run, run
