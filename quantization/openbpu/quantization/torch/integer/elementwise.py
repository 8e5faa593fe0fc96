"""Operators of several operands, reductions, pools, softmax."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from openbpu.arch import numerics
from openbpu.arch.arrays import Int64
from openbpu.arch.dtypes import DType
from openbpu.quantization.torch.integer.values import OPEN, Clamp, Codes, Grid, fixed_sum

_INT32_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Computed:
    """A result given as a function of the grid it is rounded to, and in float."""

    code: Callable[[Grid, Clamp], Int64]
    value: Callable[[], npt.NDArray[np.float32]]

    def rounded(self, out: Grid, clamp: Clamp) -> Int64:
        """Return the codes of the result on the grid `out`, clamped."""
        return self.code(out, clamp)

    def real(self) -> npt.NDArray[np.float32]:
        """The float value."""
        return self.value()


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a grid is sampled: between pixels or at the nearest, clamped to the border or not, from which
    corners.
    """

    linear: bool
    border: bool
    corners: bool


def added(a: Codes, b: Codes, out: Grid, clamp: Clamp, sign: float = 1.0) -> Int64:
    """rhe((a·mult_a + b·mult_b) / 2^shift)."""
    fixed = fixed_sum(
        (a.grid.s / out.s, sign * b.grid.s / out.s), (float(a.grid.reach), float(b.grid.reach)), every=True
    )
    total = a.codes * fixed.multipliers[0] + b.codes * fixed.multipliers[1]
    return numerics.requantize(total, fixed.shift, 0, *out.bounds(clamp))


def picked(a: Codes, b: Codes, out: Grid, clamp: Clamp, pick: Any) -> Int64:
    """rhe(max|min(a·mult_a, b·mult_b) / 2^shift)."""
    fixed = fixed_sum(
        (a.grid.s / out.s, b.grid.s / out.s), (float(a.grid.reach), float(b.grid.reach)), every=True
    )
    total = pick(a.codes * fixed.multipliers[0], b.codes * fixed.multipliers[1])
    return numerics.requantize(total, fixed.shift, 0, *out.bounds(clamp))


def multiplied(a: Codes, b: Codes, out: Grid, clamp: Clamp) -> Int64:
    """rhe(a·b·mult / 2^shift)."""
    factor = a.grid.s * b.grid.s / out.s
    fixed = fixed_sum((factor,), (float(a.grid.reach * b.grid.reach),))
    return numerics.requantize(a.codes * b.codes * fixed.multipliers[0], fixed.shift, 0, *out.bounds(clamp))


def divided(a: Codes, b: Codes, out: Grid, clamp: Clamp) -> Int64:
    """rhe(a·reciprocal[b]·mult / 2^shift), b int8."""
    table, unit = numerics.reciprocal_table()
    factor = a.grid.s * (unit / b.grid.s) / out.s
    reach = float(a.grid.reach) * 2.0 ** (numerics.RECIPROCAL_BITS + 4)
    fixed = fixed_sum((factor,), (reach,))
    total = a.codes * table.astype(np.int64)[b.codes + 128] * fixed.multipliers[0]
    return numerics.requantize(total, fixed.shift, 0, *out.bounds(clamp))


def chosen(
    mask: npt.NDArray[np.bool_], sides: Sequence[Codes | npt.NDArray[np.float32]], out: Grid, clamp: Clamp
) -> Int64:
    """The first side where `mask` holds, else the second, each rounded to the grid `out` on its own."""
    first, second = (_on_grid(side, out) for side in sides)
    low, high = out.bounds(clamp)
    return np.clip(np.where(mask, first, second), low, high)


def _on_grid(side: Codes | npt.NDArray[np.float32], out: Grid) -> Int64:
    if not isinstance(side, Codes):
        return np.asarray(numerics.quantize(side, out.s, 0, out.dtype)).astype(np.int64)
    fixed = fixed_sum((side.grid.s / out.s,), (float(side.grid.reach),))
    total = side.codes * fixed.multipliers[0]
    return numerics.requantize(total, fixed.shift, 0, out.dtype.qmin, out.dtype.qmax)


def preluded(x: Codes, slope: Codes, out: Grid, clamp: Clamp) -> Int64:
    """x·mult_a where x >= 0, x·slope·mult_b elsewhere."""
    fixed = fixed_sum(
        (x.grid.s / out.s, x.grid.s * slope.grid.s / out.s),
        (float(x.grid.reach), float(x.grid.reach * slope.grid.reach)),
        every=True,
    )
    above, below = fixed.multipliers
    total = np.where(x.codes >= 0, x.codes * above, x.codes * slope.codes * below)
    return numerics.requantize(total, fixed.shift, 0, *out.bounds(clamp))


def reduced(x: Codes, axes: Sequence[int], keepdims: bool, fn: str, out: Grid, clamp: Clamp) -> Int64 | None:
    """Sum, mean, max or min over axes; None where a sum may leave int32."""
    count = int(np.prod([x.codes.shape[a] for a in axes]))
    summed = fn in {"sum", "mean"}
    reach = x.grid.reach * (count if summed else 1)
    if reach > _INT32_MAX:
        return None
    fixed = fixed_sum((x.grid.s / out.s / (count if fn == "mean" else 1),), (float(reach),))
    pick = np.sum if summed else (np.max if fn == "max" else np.min)
    total = pick(x.codes, axis=tuple(axes), keepdims=keepdims)
    codes = numerics.requantize(total * fixed.multipliers[0], fixed.shift, 0, *out.bounds(clamp))
    return codes.reshape(np.shape(total))


def accumulated(x: Codes, axis: int, out: Grid, clamp: Clamp) -> Int64 | None:
    """Running sums along an axis; None where the last may leave int32."""
    reach = x.grid.reach * x.codes.shape[axis]
    if reach > _INT32_MAX:
        return None
    fixed = fixed_sum((x.grid.s / out.s,), (float(reach),))
    total = np.cumsum(x.codes, axis=axis, dtype=np.int64)
    return numerics.requantize(total * fixed.multipliers[0], fixed.shift, 0, *out.bounds(clamp))


def joined(parts: Sequence[Codes], axis: int, out: Grid, clamp: Clamp) -> Int64:
    """Concatenated, every part rescaled to the grid `out`, or copied where it has that grid already."""
    return np.concatenate([_part(part, out, clamp) for part in parts], axis=axis)


def _part(part: Codes, out: Grid, clamp: Clamp) -> Int64:
    if part.grid == out and clamp == OPEN:
        return part.codes
    fixed = fixed_sum((part.grid.s / out.s,), (float(part.grid.reach),))
    return numerics.requantize(part.codes * fixed.multipliers[0], fixed.shift, 0, *out.bounds(clamp))


def softmaxed(x: Codes, axis: int, out: Grid, clamp: Clamp) -> Int64 | None:
    """`numerics.softmax_rows` along an axis; None where the grid `out` is too fine for the BPU."""
    if out.s < numerics.MIN_PROBABILITY_STEP:
        return None
    mult, shift = numerics.exp_factor(x.grid.s)
    out_mult, out_shift = numerics.fixed_point(1.0 / (out.s * 2.0**31))
    rows = np.moveaxis(x.codes, axis, -1)
    y = numerics.softmax_rows(
        rows.reshape(-1, rows.shape[-1]),
        numerics.exp_table(),
        mult,
        shift,
        int(out_mult[0]),
        int(out_shift[0]),
        0,
        *out.bounds(clamp),
    )
    return np.moveaxis(y.reshape(rows.shape), -1, axis)


def averaged(
    x: Codes, pool: Callable[[torch.Tensor], torch.Tensor], taps: int, out: Grid, clamp: Clamp
) -> Int64:
    """An average pool: rhe(Σ·mult[count] / 2^shift[count]); `pool` sums a window of float64 values."""
    fixed = numerics.fixed_point_sum(
        (x.grid.s / out.s / np.maximum(np.arange(taps + 1), 1),), (float(x.grid.reach * taps),)
    )
    sums = np.rint(pool(torch.from_numpy(x.codes).double()).numpy()).astype(np.int64)
    ones = torch.ones(x.codes.shape, dtype=torch.float64)
    counts = np.rint(pool(ones).numpy()).astype(np.int64)
    total = sums * fixed.multipliers[0][counts]
    return numerics.requantize(total, fixed.shift[counts], 0, *out.bounds(clamp))


def sampled(x: Codes, points: Codes, way: Sampling, out: Grid, clamp: Clamp) -> Int64 | None:
    """X [N, C, H, W] at the points: program.GridSample; None where it is none, or the grid `out` too fine."""
    if way.linear and x.grid.s / out.s > numerics.MAX_FINER_SAMPLE:
        return None
    unit = _UNIT if way.linear else 1.0
    fixed = fixed_sum((x.grid.s / out.s / unit,), (float(x.grid.reach) * unit,))
    sizes, last = x.codes.shape[2:], np.moveaxis(x.codes, 1, -1)
    images = np.arange(len(last))[:, None, None]
    column, row = (
        numerics.clamped_positions(
            numerics.positions(
                points.codes[..., i], *numerics.position_factors(points.grid.s, 0, n, corners=way.corners)
            ),
            n,
            border=way.border,
        )
        for i, n in enumerate(sizes[::-1])
    )

    def pixels(rows: Int64, columns: Int64) -> Int64:
        (y, high), (at, wide) = (
            numerics.pixels_inside(v, n) for v, n in zip((rows, columns), sizes, strict=True)
        )
        return np.where((high & wide)[..., None], last[images, y, at], 0)

    total = numerics.sampled(pixels, row, column, linear=way.linear) * fixed.multipliers[0]
    return np.moveaxis(numerics.requantize(total, fixed.shift, 0, *out.bounds(clamp)), -1, 1)


def linear_table(size: int, out: int, scale: float, corners: bool) -> Int64:
    """Rows (low, high, weight of 30 bits) of a linear resize along one axis, positions in float64."""
    i = np.arange(out, dtype=np.float64)
    spread = i * (size - 1) / max(out - 1, 1) if corners else (i + 0.5) / scale - 0.5
    x = np.clip(spread if out > 1 else np.zeros(1), 0, size - 1)
    low = np.floor(x)
    return np.stack([low, np.minimum(low + 1, size - 1), numerics.weights(x - low)], axis=1).astype(np.int64)


_UNIT = 2.0**numerics.BETWEEN_BITS


def resized(x: Codes, tables: Sequence[Int64], out: Grid, clamp: Clamp) -> Int64 | None:
    """Linear over two or three spatial axes; None where the grid `out` is too fine for the BPU.

    As the compiler has it: two axes are one Resize; where all three change, the depth comes first.
    """
    if x.grid.s / out.s > numerics.MAX_FINER:
        return None
    if len(tables) == 2:
        return _between(x, tables[0], tables[1], out, out.bounds(clamp))
    n, c, d, h, w = x.codes.shape
    deep, rows, cols = tables
    if not _changes(deep, d):
        return _between(x, rows, cols, out, out.bounds(clamp))
    slices = Codes(x.codes.reshape(n, c, d, h * w), x.grid)
    if not _changes(cols, w):
        turned = Codes(np.moveaxis(x.codes, 4, 1), x.grid)
        made = _between(turned, deep, rows, out, out.bounds(clamp))
        return np.moveaxis(made, 1, 4)
    step = numerics.slice_step(x.grid.s, x.grid.dtype)
    if step / out.s > numerics.SLICE_ROOM[out.dtype]:
        return None
    inner = Grid(step, DType.INT16)
    made = _between(slices, deep, _still(h * w), inner, inner.bounds())
    return _between(Codes(made.reshape(n, c, len(deep), h, w), inner), rows, cols, out, out.bounds(clamp))


def _still(size: int) -> Int64:
    """The table of an axis that stays as it is."""
    index = np.arange(size, dtype=np.int64)
    return np.stack([index, index, 0 * index], axis=1)


def _changes(table: Int64, size: int) -> bool:
    return len(table) != size or bool((table[:, 0] != np.arange(size)).any()) or bool(table[:, 2].any())


def _between(x: Codes, rows: Int64, cols: Int64, out: Grid, bounds: tuple[int, int]) -> Int64:
    """program.Resize over the last two axes."""
    fixed = fixed_sum((x.grid.s / out.s / _UNIT,), (float(x.grid.reach) * _UNIT,))
    y0, y1, f = rows[:, 0], rows[:, 1], rows[:, 2][:, None]
    x0, x1, g = cols[:, 0], cols[:, 1], cols[:, 2]
    across = numerics.WEIGHT_BITS - numerics.BETWEEN_BITS
    top, bottom = (
        numerics.between(part[..., x0], part[..., x1], g, across)
        for part in (x.codes[..., y0, :], x.codes[..., y1, :])
    )
    total = numerics.between(top, bottom, f, numerics.WEIGHT_BITS) * fixed.multipliers[0]
    return numerics.requantize(total, fixed.shift, 0, *bounds)
