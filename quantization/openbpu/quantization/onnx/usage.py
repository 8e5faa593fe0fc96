"""How well ranges fit what tensors hold: what is cut off, and which codes are never needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from openbpu.arch.dtypes import DType
from openbpu.quantization.onnx.tensor_range import TensorRange
from openbpu.quantization.ranges import Histogram, percentile_range

PERCENTILE = 99.99


@dataclass(frozen=True, slots=True)
class RangeUse:
    """The range of a tensor against the values seen.

    clipped: share of the values beyond it · used: share of the codes that 99.99 % of the values need · steps:
    of the scale in the largest of nine tenths of the values that are not 0.
    """

    tensor: str
    range: float
    dtype: DType
    clipped: float
    used: float
    steps: float


def range_uses(ranges: Mapping[str, TensorRange], seen: Mapping[str, Histogram]) -> tuple[RangeUse, ...]:
    """Return how every range that something was seen of is used."""
    return tuple(_use(name, found, seen[name]) for name, found in ranges.items() if name in seen)


def _use(name: str, found: TensorRange, seen: Histogram) -> RangeUse:
    counts = seen.counts
    edges = seen.peak * np.arange(len(counts)) / len(counts)  # the lower ones
    beyond = int(counts[edges >= found.range].sum())
    most = percentile_range(counts, seen.peak, PERCENTILE)
    some = np.concatenate([[0], counts[1:]])  # without zeros, which have a code of their own
    usual = percentile_range(some, seen.peak, 90.0) if some.any() else np.inf
    total = max(int(counts.sum()), 1)
    return RangeUse(
        name, found.range, found.dtype, beyond / total, min(most / found.range, 1.0), usual / found.step
    )
