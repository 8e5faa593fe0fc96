"""Tiles of convolutions and matrix products, kernel tap by kernel tap.

Sums are taken in float64 matrix products, which are exact here: 2^16 · 2^16 · 2^20 terms stay below 2^53.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from openbpu.arch import numerics
from openbpu.arch.arrays import Array, Float64, Int64
from openbpu.arch.isa import ConvTile, MatMulTile
from openbpu.arch.program import Conv, MatMul
from openbpu.simulator.exact.core import Core
from openbpu.simulator.exact.memory import FaultError
from openbpu.simulator.exact.rooms import EXECUTE

_EXACT = 1 << 53


@EXECUTE.of(ConvTile)
def conv_tile(core: Core, tile: ConvTile, op: Conv) -> None:
    """Execute a ConvTile: read x, weights, params and residual; accumulate; requantize; write y."""
    shape = (tile.out_h, tile.out_w, tile.out_c)
    y_dtype = core.dtype(op.outputs[0])
    y = core.chip.box(tile.y, shape, (tile.y_row, tile.y_pixel, y_dtype.itemsize), y_dtype)
    words = core.program.tensors[op.params_id].shape[1]
    params = core.chip.dense(tile.params, (tile.out_c, words), np.int32).read()
    bias, mult, offset, shift = numerics.unpacked_params(params)
    acc = core.sat32(_accumulate(core, tile, op) + bias, wide=op.wide)
    if op.raw:
        y.write(acc)
        return
    total = acc * mult + offset + _residual(core, tile, op)
    y.write(core.finish(total, op, tile.table, shift))


def _residual(core: Core, tile: ConvTile, op: Conv) -> Int64 | int:
    """Return (r − r_zero)·rmult[c], 0 without a residual."""
    if len(op.inputs) < 2 or op.inputs[1] < 0:
        return 0
    dtype = core.dtype(op.inputs[1])
    shape = (tile.out_h, tile.out_w, tile.out_c)
    r = core.chip.box(tile.r, shape, (tile.r_row, tile.r_pixel, dtype.itemsize), dtype).read()
    rmult = core.chip.dense(tile.rmult, (tile.out_c,), np.int64).read()
    scaled: Int64 = (r.astype(np.int64) - op.r_zero) * rmult
    return scaled


def _accumulate(core: Core, tile: ConvTile, op: Conv) -> Int64:
    """Return Σ x·w of every result of the tile, exact, [out_h, out_w, out_c]."""
    per_in, per_out = op.x_shape[3] // op.groups, op.y_shape[3] // op.groups
    group = (tile.oc_start + np.arange(tile.out_c)) // per_out
    group -= tile.oc_start // per_out
    x = _padded(core, tile, op, per_in * (int(group[-1]) + 1))
    w_dtype = core.dtype(op.weight_id)
    w = core.chip.dense(tile.weights, (tile.out_c, *op.kernel, per_in), w_dtype).read().astype(np.float64)
    rows = _positions(tile.out_h, tile.in_h, tile.pad_top, op, 0)
    cols = _positions(tile.out_w, tile.in_w, tile.pad_left, op, 1)
    acc = np.zeros((tile.out_h, tile.out_w, tile.out_c))
    for ky in range(op.kernel[0]):
        for kx in range(op.kernel[1]):
            tap = x[np.ix_(rows[:, ky], cols[:, kx])]
            acc += _products(tap, w[:, ky, kx, :], group)
    if acc.size and np.abs(acc).max() >= _EXACT:
        raise FaultError("an accumulator leaves 53 bits: no legal convolution is that large")
    return acc.astype(np.int64)


def _padded(core: Core, tile: ConvTile, op: Conv, channels: int) -> Float64:
    """Return the input tile with one more row and column that hold the padding value."""
    dtype = core.dtype(op.inputs[0])
    shape = (tile.in_h, tile.in_w, channels)
    box = core.chip.box(tile.x, shape, (tile.x_row, tile.x_pixel, dtype.itemsize), dtype)
    padded = np.full((tile.in_h + 1, tile.in_w + 1, channels), float(op.pad_value))
    padded[:-1, :-1] = box.read()
    return padded


def _positions(outputs: int, length: int, pad: int, op: Conv, axis: int) -> npt.NDArray[np.int64]:
    """Return the row (column) of the padded tile that output i reads at tap k; `length` is the padding's."""
    taps = np.arange(op.kernel[axis]) * op.dilations[axis]
    u = np.arange(outputs)[:, None] * op.strides[axis] + taps - pad
    index, rest = np.divmod(u, op.upsample[axis])
    return np.where((rest == 0) & (index >= 0) & (index < length), index, length)


def _products(tap: Float64, w: Float64, group: npt.NDArray[np.int64]) -> Float64:
    """Return Σ_k tap[h, w, group[c]·K + k]·w[c, k] for every channel c; K = w.shape[1]."""
    per_in = w.shape[1]
    if group[-1] == 0:
        return tap @ w.T
    if per_in == 1:
        return tap[..., group] * w[:, 0]
    out = np.empty((*tap.shape[:2], len(group)))
    for g in range(int(group[-1]) + 1):
        out[..., group == g] = tap[..., g * per_in : (g + 1) * per_in] @ w[group == g].T
    return out


@EXECUTE.of(MatMulTile)
def matmul_tile(core: Core, tile: MatMulTile, op: MatMul) -> None:
    """Execute a MatMulTile: all of k at once."""
    dtypes = [core.dtype(t) for t in (*op.inputs[:2], op.outputs[0])]
    y = core.chip.box(tile.y, (tile.m, tile.n), (tile.y_row, dtypes[2].itemsize), dtypes[2])
    a = core.chip.box(tile.a, (tile.m, op.k), (tile.a_row, dtypes[0].itemsize), dtypes[0]).read()
    b_shape = (tile.n, op.k) if op.b_transposed else (op.k, tile.n)
    b = core.chip.box(tile.b, b_shape, (tile.b_row, dtypes[1].itemsize), dtypes[1]).read()
    acc = core.sat32(_product(a, b.T if op.b_transposed else b, op), wide=op.wide)
    if op.raw:
        y.write(acc)
        return
    y.write(core.finish(acc * op.mult + op.offset, op, tile.table))


def _product(a: Array, b: Array, op: MatMul) -> Int64:
    exact = (a.astype(np.float64) - op.a_zero) @ (b.astype(np.float64) - op.b_zero)
    if exact.size and np.abs(exact).max() >= _EXACT:
        raise FaultError("an accumulator leaves 53 bits: no legal matrix product is that large")
    return exact.astype(np.int64)
