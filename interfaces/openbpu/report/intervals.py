"""A run cut into equal intervals: how busy the tensor engine was in each, and the DDR traffic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from openbpu.arch.arrays import Float64
from openbpu.arch.isa import Engine
from openbpu.report.layers import TimedSegment

INTERVALS = 50


@dataclass(frozen=True, slots=True)
class Intervals:
    """By interval: utilization of the tensor engines (0..1), bytes loaded and stored; cycles: its length."""

    cycles: float
    utilization: Float64
    loaded: Float64
    stored: Float64


def intervals(segments: list[TimedSegment], count: int = INTERVALS) -> Intervals:
    """Spread every instruction evenly over the time it took and sum by interval."""
    total = sum(s.timing.cycles for s in segments)
    edges = np.linspace(0.0, total, count + 1)
    busy, loaded, stored = np.zeros(count), np.zeros(count), np.zeros(count)
    for s in segments:
        for core in s.timing.cores:
            start, end = core.start + s.offset, core.end + s.offset
            share = 1.0 / len(s.timing.cores)
            tae, load, store = (core.engine == e for e in (Engine.TAE, Engine.LOAD, Engine.STORE))
            busy += share * spread(edges, start[tae], end[tae], core.duration[tae].astype(np.float64))
            loaded += spread(edges, start[load], end[load], core.moved[load].astype(np.float64))
            stored += spread(edges, start[store], end[store], core.moved[store].astype(np.float64))
    width = total / count
    return Intervals(width, busy / width if width else busy, loaded, stored)


def spread(
    edges: Float64, start: npt.NDArray[np.int64], end: npt.NDArray[np.int64], amount: Float64
) -> Float64:
    """Return how much of every amount falls between neighbouring edges."""
    sums = np.zeros(len(edges))
    length = np.maximum(end - start, 1).astype(np.float64)
    for i, edge in enumerate(edges):
        sums[i] = float((np.clip((edge - start) / length, 0.0, 1.0) * amount).sum())
    return np.diff(sums)
