"""Look-up tables: 256 entries for 8-bit codes, at most 64 line segments for 16-bit codes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from openbpu.arch.dtypes import DType
from openbpu.arch.numerics.fixed import requantize

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

MAX_SEGMENTS = 64
_SEGMENT_SHIFT = 24


def codes(dtype: DType) -> Int64:
    """Return every code of an 8- or 16-bit type in ascending order, as int64."""
    return np.arange(dtype.qmin, dtype.qmax + 1, dtype=np.int64)


def full_table(function: Callable[[Int64], npt.NDArray[np.integer]], out: DType) -> npt.NDArray[np.integer]:
    """Return function(q) for q in −128..127 as a (256,) array of `out`; the function maps codes to codes."""
    return np.asarray(function(codes(DType.INT8))).astype(out.numpy)


def segment_table(target: Float64, lo: int, hi: int) -> Int64:
    """Fit at most 64 segments to `target` (65536 real outputs in output steps, by ascending int16 code).

    Returns int64 [S,4]: first x, base, slope, shift. Breakpoints are spread so that every segment holds the same
    integral of sqrt(|f''|), which evens out the error of the lines; each line halves the deviation of its chord.
    """
    y = np.clip(target, lo - 0.49, hi + 0.49)
    edges = _edges(y)
    return np.array([_segment(y, a, b) for a, b in zip(edges[:-1], edges[1:], strict=True)], dtype=np.int64)


def _edges(y: Float64) -> Int64:
    bend = np.zeros_like(y)
    bend[1:-1] = np.abs(y[2:] - 2 * y[1:-1] + y[:-2])
    bend[bend < 1e-9] = 0.0
    weight = np.cumsum(np.sqrt(bend) + 1e-7)
    marks = np.searchsorted(weight, np.linspace(0, weight[-1], MAX_SEGMENTS + 1)[1:-1])
    return np.unique(np.concatenate([[0], marks, [y.size]])).astype(np.int64)


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
