"""What `quantize` has to say at its end: how close the result is, by data that calibration did not see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.arch.dtypes import DType
from openbpu.quantization.onnx.findings import Finding
from openbpu.quantization.onnx.looks import InputLook
from openbpu.quantization.onnx.samples import Feed
from openbpu.quantization.onnx.usage import RangeUse

HELD_OUT_FROM = 10
"""Fewer samples are all needed for calibration."""

HELD_OUT = 16
"""Samples that are held out at most; of fewer than 160 it is every tenth."""


@dataclass(frozen=True, slots=True)
class Report:
    """The closing report of a quantization.

    cosines: by output, to the float model · calibrated, judged: samples that ranges were made of, and those
    that the cosines are of · held_out: whether these are others · same: outputs that do not depend on the
    sample · inputs, ranges: what was seen of them · types: number of tensors by type · seconds: by stage.
    """

    cosines: Mapping[str, float]
    calibrated: int
    judged: int
    held_out: bool
    same: tuple[str, ...]
    inputs: tuple[InputLook, ...]
    ranges: tuple[RangeUse, ...]
    types: Mapping[str, int]
    findings: tuple[Finding, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def clipped(self) -> tuple[RangeUse, ...]:
        """The ranges that more than one value in a thousand lies beyond, the worst first."""
        found = [use for use in self.ranges if use.clipped > 1e-3]
        return tuple(sorted(found, key=lambda use: -use.clipped))

    @property
    def wasted(self) -> tuple[RangeUse, ...]:
        """The int8 ranges of which 99.99 % of the values need less than a quarter, the worst first."""
        found = [use for use in self.ranges if use.used < 0.25 and use.dtype is DType.INT8]
        return tuple(sorted(found, key=lambda use: use.used))

    @property
    def coarse(self) -> tuple[RangeUse, ...]:
        """The tensors nine tenths of whose values, zeros aside, lie within one step; the worst first."""
        found = [use for use in self.ranges if use.steps < 1]
        return tuple(sorted(found, key=lambda use: use.steps))


def hold_out(feeds: Sequence[Feed]) -> tuple[list[Feed], list[Feed]]:
    """Return the samples to calibrate on, and those to judge by: evenly spread, none where there are few."""
    if len(feeds) < HELD_OUT_FROM:
        return list(feeds), []
    count = min(HELD_OUT, len(feeds) // 10)
    places = {int((n + 0.5) * len(feeds) / count) for n in range(count)}
    kept = [feed for n, feed in enumerate(feeds) if n not in places]
    return kept, [feeds[n] for n in sorted(places)]


def unchanging(names: Sequence[str], runs: Sequence[Mapping[str, Array]]) -> tuple[str, ...]:
    """Return the outputs that are as good as the same for all of several samples."""
    return tuple(name for name in names if len(runs) > 1 and _is_same([run[name] for run in runs]))


def _is_same(values: Sequence[Array]) -> bool:
    first = np.asarray(values[0], dtype=np.float64)
    if not first.size or any(np.shape(x) != first.shape for x in values):
        return False
    size = float(np.abs(first).max())
    return size > 0 and all(float(np.abs(x - first).max()) <= 1e-4 * size for x in values[1:])
