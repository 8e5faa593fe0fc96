"""Look-up tables: 256 entries for 8-bit codes, at most 64 line segments for 16-bit codes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

from openbpu.arch.arrays import Float64, Int64
from openbpu.arch.dtypes import DType
from openbpu.arch.numerics.fixed import requantize

MAX_SEGMENTS = 64
SEGMENT_SHARE = 512
"""A table may miss its function by this part of the function's range, or by a step where that is more.

Half a step of 256 over that range, be it 65,536 steps of the output or 30: one that misses by more is worse
than a table of int8, which is exact.
"""

RECIPROCAL_BITS = 24
_SEGMENT_SHIFT = 24
_CANDIDATES = 1024
_BISECTIONS = 18


def codes(dtype: DType) -> Int64:
    """Return every code of an 8- or 16-bit type in ascending order, as int64."""
    return np.arange(dtype.qmin, dtype.qmax + 1, dtype=np.int64)


def segment_table(target: Float64, lo: int, hi: int, most: int = MAX_SEGMENTS) -> Int64:
    """Fit at most `most` segments to `target` (65536 real outputs in output steps, by ascending int16 code).

    Returns int64 [S,4]: first x, base, slope, shift. The tolerance is the smallest at which segments that are
    each as long as it allows still number `most`; each line halves the deviation of its chord.
    """
    y = np.clip(target, lo - 0.49, hi + 0.49)
    marks, deviation = _candidates(y), _deviations(y)
    low, high, best = 0.0, float(y.max() - y.min()) / 2 + 1e-9, [0, y.size]
    for _ in range(_BISECTIONS):
        tolerance = (low + high) / 2 if low else high / 8
        edges = _greedy(deviation, marks, tolerance, most)
        if edges is None:
            low = tolerance
        else:
            high, best = tolerance, edges
    return np.array([_segment(y, a, b) for a, b in itertools.pairwise(best)], dtype=np.int64)


def _candidates(y: Float64) -> list[int]:
    """Breakpoints: uniform ones, and more where the function bends; kinks and jumps get their own."""
    bend = np.zeros_like(y)
    bend[1:-1] = np.abs(y[2:] - 2 * y[1:-1] + y[:-2])
    bend[bend < 1e-9] = 0.0
    weight = np.cumsum(np.sqrt(bend) + 1e-9)
    marks = np.searchsorted(weight, np.linspace(0, weight[-1], _CANDIDATES + 1)[1:-1])
    uniform = np.linspace(0, y.size, _CANDIDATES // 4 + 1).astype(np.int64)
    return [int(e) for e in np.unique(np.concatenate([uniform, marks, marks + 1])) if 0 <= e <= y.size]


Deviation = Callable[[int, int], float]
"""How far y lies at most from the best line over start..stop−1."""


def _greedy(deviation: Deviation, marks: list[int], tolerance: float, most: int) -> list[int] | None:
    """Edges of segments as long as `tolerance` allows, or None when more than `most` are needed."""
    edges, at = [0], 0
    while at < len(marks) - 1:
        if len(edges) > most:
            return None
        at = _farthest(deviation, marks, at, tolerance)
        edges.append(marks[at])
    return edges if len(edges) <= most + 1 else None


def _farthest(deviation: Deviation, marks: list[int], at: int, tolerance: float) -> int:
    """Index of the farthest mark that one line from mark `at` reaches: galloping, then bisection."""
    step = 1
    while at + step < len(marks) and deviation(marks[at], marks[at + step]) <= tolerance:
        step *= 2
    good, bad = at + max(step // 2, 1), min(at + step, len(marks))
    while bad - good > 1:
        middle = (good + bad) // 2
        if deviation(marks[at], marks[middle]) <= tolerance:
            good = middle
        else:
            bad = middle
    return min(good, len(marks) - 1)


def _deviations(y: Float64) -> Deviation:
    """The distances of y from lines parallel to chords; each is asked for at many tolerances, so kept."""
    ramp = np.arange(y.size, dtype=np.float64)

    @cache
    def deviation(start: int, stop: int) -> float:
        part, steps = y[start:stop], stop - start - 1
        line = part[0] + ramp[: steps + 1] * ((part[-1] - part[0]) / max(steps, 1))
        line[-1] = part[-1]
        off = part - line
        return float(off.max() - off.min()) / 2

    return deviation


def _segment(y: Float64, start: int, stop: int) -> tuple[int, int, int, int]:
    x = np.arange(stop - start, dtype=np.float64)
    part = y[start:stop]
    slope = (part[-1] - part[0]) / max(stop - start - 1, 1)
    deviation = part - slope * x
    base = (deviation.max() + deviation.min()) / 2
    unit = 2.0**_SEGMENT_SHIFT
    return start - 32768, int(np.rint(base * unit)), int(np.rint(slope * unit)), _SEGMENT_SHIFT


def segment_lut(x: npt.NDArray[np.integer], segments: Int64, lo: int, hi: int) -> Int64:
    """Return clamp(rhe((base + (x − first)·slope) / 2**shift), lo, hi) of the segment each x falls in."""
    wide = x.astype(np.int64)
    row = segments[np.searchsorted(segments[:, 0], wide, side="right") - 1]
    return requantize(row[..., 1] + (wide - row[..., 0]) * row[..., 2], row[..., 3], 0, lo, hi)


def segment_error(target: Float64, segments: Int64, lo: int, hi: int) -> float:
    """Return by how many steps `segments` miss `target`, clipped to lo..hi, at the worst of all codes."""
    got = segment_lut(codes(DType.INT16), segments, lo, hi)
    return float(np.abs(got - np.clip(target, lo, hi)).max())


def segment_allowance(target: Float64, lo: int, hi: int) -> float:
    """Return by how many steps segments may miss `target`, clipped to lo..hi: its rounding is in it."""
    y = np.clip(target, lo, hi)
    return max(1.0, float(y.max() - y.min()) / SEGMENT_SHARE)


def segment_refusal(what: str, error: float, allowed: float, most: int = MAX_SEGMENTS) -> str:
    """Say why a function whose segments miss it by `error` steps is not on the BPU."""
    steps = f"{allowed:.3g} step{'s' if allowed > 1 else ''}"
    lines = f"{most} line segments must keep to {steps}"
    return f"{lines} of {what} over its whole input range, not {error:,.4g}"


def reciprocal_table(zero: int = 0) -> tuple[npt.NDArray[np.int32], float]:
    """Return 1 / (code − zero) of the 256 codes of int8 as int32 codes, and the unit of these.

    The divisor 0 gives 2⁴, which saturates any quotient with the sign of the dividend.
    """
    steps = codes(DType.INT8).astype(np.float64) - zero
    with np.errstate(divide="ignore"):
        inverse = np.where(steps == 0, 2.0**4, 1.0 / steps)
    return np.rint(inverse * 2.0**RECIPROCAL_BITS).astype(np.int32), 2.0**-RECIPROCAL_BITS
