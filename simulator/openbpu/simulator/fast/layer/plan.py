"""What every way to run a convolution needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from openbpu.arch import numerics
from openbpu.arch.arrays import Int32, Int64
from openbpu.arch.dtypes import DType
from openbpu.arch.program import Conv
from openbpu.simulator.fast.layer.arguments import Out
from openbpu.simulator.fast.layer.requant import Finish, Requant, choose_finish
from openbpu.simulator.fast.plan.steps import Array, Lowering, Place

Integers = npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class Layer:
    """What the ways to run a convolution share: `weights` [C, KH, KW, K], `x` where to read its input."""

    op: Conv
    weights: Integers
    bias: Int64
    requant: Requant
    finish: Finish
    x: Place
    x_dtype: DType
    x_shape: tuple[int, ...]

    @property
    def out_rows(self) -> int:
        """Output pixels of all images."""
        images, height, width, _ = self.op.y_shape
        return images * height * width

    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.out_rows * self.weights.size


def layer_of(op: Conv, low: Lowering) -> Layer:
    """Collect the constants of a Conv and choose how it ends."""
    weights = integers(low.constant(op.weight_id))
    x = op.inputs[0]
    bias, mult, offset, shift = numerics.unpacked_params(low.constant(op.params_id))
    dtype = low.dtype(x)
    most = -dtype.qmin
    reach = np.minimum(_magnitudes(weights) * most + np.abs(bias), 2**31)
    residual = op.rmult_id >= 0
    rmult = low.constant(op.rmult_id).astype(np.int64) if residual else np.zeros_like(mult)
    r_reach = -low.dtype(op.inputs[1]).qmin if residual else 0
    offset = offset - op.r_zero * rmult
    requant = Requant(mult, offset, shift, rmult, reach, r_reach, op.zero, op.lo, op.hi)
    table = low.constant(op.table_id) if op.table_id >= 0 else None
    r_bytes = low.kind(op.inputs[1]) if residual else 0
    finish = choose_finish(requant, low.mode, r_bytes, low.kind(op.outputs[0]), table)
    return Layer(op, weights, bias, requant, finish, low.read(x), dtype, op.x_shape)


def integers(values: Array) -> Integers:
    """Say what the constants of a Conv are."""
    return cast(Integers, values)


def window_sums(weights: Integers) -> Int64:
    """Return the sum of each output channel's weights, which may be large, so they are not widened first."""
    return np.asarray(weights.sum(axis=(1, 2, 3), dtype=np.int64))


def wrap32(values: Int64) -> Int32:
    """Return the low 32 bits: sums of products may pass int32 on the way to a total that fits."""
    return values.astype(np.int64).astype(np.uint64).astype(np.uint32).view(np.int32)


def _magnitudes(weights: Integers) -> Int64:
    """Return the sum of |w| per output channel."""
    return window_sums(np.maximum(weights, 0)) - window_sums(np.minimum(weights, 0))


def out_of(layer: Layer, low: Lowering, distance: int = 1) -> Out:
    """Return where the rows of a tile go; they are `distance` pixels apart."""
    op, finish = layer.op, layer.finish
    channels, kind = op.y_shape[3], low.kind(op.outputs[0])
    residual = low.kind(op.inputs[1]) if op.rmult_id >= 0 else 0
    return Out(
        epilogue=0 if op.raw else finish.symbol, consts=finish.consts, y=low.write(op.outputs[0]),
        y_pitch=distance * channels * kind, y_kind=kind, r=low.read(op.inputs[1]) if residual else 0,
        r_pitch=distance * channels * residual, table=0 if finish.table is None else finish.table,
        y_pixel=channels * kind, r_pixel=channels * residual,
    )  # fmt: skip


class Parts:
    """Packed constants of the blocks, one behind the other."""

    def __init__(self) -> None:
        self._lists: tuple[list[Array], ...] = ([], [], [])

    def append(self, weights: Array, start: Array, params: Array) -> tuple[int, int, int]:
        """Append a block; return the byte offsets of its weights, init and params."""
        first, second, third = (sum(a.nbytes for a in part) for part in self._lists)
        for part, values in zip(self._lists, (weights, start, params), strict=True):
            part.append(values.reshape(-1))
        return first, second, third

    def arrays(self) -> tuple[Array, ...]:
        """Return the weights, init and params of all blocks."""
        return tuple(np.concatenate(part) for part in self._lists)
