"""Pool, Reduce, CumSum, ArgReduce, Resize and GridSample as steps."""

from __future__ import annotations

import numpy as np

from openbpu.arch.dtypes import DType
from openbpu.arch.operators.reduce import ArgReduce, CumSum
from openbpu.arch.operators.sample import GridSample
from openbpu.arch.program import Pool, Reduce, Resize
from openbpu.simulator.fast.declaration import Address, Arguments, Table
from openbpu.simulator.fast.plan.registry import lowers
from openbpu.simulator.fast.plan.steps import Lowering
from openbpu.simulator.fast.scratch import BLOCK
from openbpu.simulator.fast.window import arguments

_FUNCTIONS = {
    "avg": arguments.SUM,
    "sum": arguments.SUM,
    "max": arguments.MAX,
    "min": arguments.MIN,
}


@lowers(Pool, "window")
def lower_pool(op: Pool, low: Lowering) -> None:
    """Output pixels; the common int8 max pool has a kernel of its own."""
    (x,), (y,) = op.inputs, op.outputs
    counts = low.constant(op.counts_id).astype(np.int64)
    (images, height, width, channels), (_, out_h, out_w, _) = op.x_shape, op.y_shape
    per_pixel = -(-channels // BLOCK)
    top, left, bottom, right = op.pads
    pixels = images * out_h * out_w
    taps = op.kernel[0] * op.kernel[1]
    if _only_clamps(op, low, counts):
        clamped = arguments.MaxPoolBytes(
            x=low.read(x), y=low.write(y), height=height, width=width, channels=channels, out_height=out_h,
            out_width=out_w, kernel_height=op.kernel[0], kernel_width=op.kernel[1],
            stride_down=op.strides[0], stride_right=op.strides[1], top=top, left=left,
            dilation_down=op.dilations[0], dilation_right=op.dilations[1], lo=op.lo, hi=op.hi,
        )  # fmt: skip
        low.add(clamped, pixels, pixels * taps * (2 + channels * 0.02))
        return
    made = arguments.Pool(
        x=low.read(x), x_kind=low.kind(x), y=low.write(y), y_kind=low.kind(y), fn=_FUNCTIONS[op.fn],
        height=height, width=width, channels=channels, out_height=out_h, out_width=out_w,
        kernel_height=op.kernel[0], kernel_width=op.kernel[1], stride_down=op.strides[0],
        stride_right=op.strides[1], top=top, left=left, bottom=bottom, right=right,
        dilation_down=op.dilations[0], dilation_right=op.dilations[1], counts=Table(arguments.Count, counts),
        count_pad=int(op.count_pad), per_pixel=per_pixel, x_zero=op.x_zero, zero=op.zero, lo=op.lo, hi=op.hi,
    )  # fmt: skip
    low.add(made, pixels * per_pixel, pixels * taps * (3 + channels * 0.5))


def _only_clamps(op: Pool, low: Lowering, counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> bool:
    same = op.x_zero == op.zero and counts[0, 0] == 1 << int(counts[0, 1])
    both = low.dtype(op.inputs[0]) is DType.INT8 and low.dtype(op.outputs[0]) is DType.INT8
    return bool(op.fn == "max" and same and both)


@lowers(Reduce, "window")
def lower_reduce(op: Reduce, low: Lowering) -> None:
    """The middle axis of [A,R,B]."""
    (x,), (y,) = op.inputs, op.outputs
    outer, length, inner = op.shape
    per_row = -(-inner // BLOCK)
    made = arguments.Reduce(
        x=low.read(x), x_kind=low.kind(x), y=low.write(y), y_kind=low.kind(y), fn=_FUNCTIONS[op.fn],
        length=length, inner=inner, per_row=per_row, x_zero=op.x_zero, mult=op.mult, shift=op.shift,
        zero=op.zero, lo=op.lo, hi=op.hi,
    )  # fmt: skip
    low.add(made, outer * per_row, outer * length * inner * 0.5)


@lowers(Resize, "window")
def lower_resize(op: Resize, low: Lowering) -> None:
    """Bilinear rows."""
    (x,), (y,) = op.inputs, op.outputs
    (images, height, width, channels), (_, out_h, out_w, _) = op.x_shape, op.y_shape
    rows, columns = (
        Table(arguments.Between, low.constant(t).astype(np.int64)) for t in (op.rows_id, op.cols_id)
    )
    made = arguments.Resize(
        x=low.read(x), x_kind=low.kind(x), y=low.write(y), y_kind=low.kind(y), height=height, width=width,
        channels=channels, out_height=out_h, out_width=out_w, rows=rows, columns=columns, x_zero=op.x_zero,
        mult=op.mult, shift=op.shift, zero=op.zero, lo=op.lo, hi=op.hi,
    )  # fmt: skip
    low.add(made, images * out_h, images * out_h * out_w * (20 + channels * 3.0))


class Places(Arguments):
    """Where along the middle axis of x [·, length, inner] the extremes are."""

    x: Address
    x_kind: int
    y: Address
    y_kind: int
    length: int
    inner: int
    per_row: int
    sign: int
    """−1 looks for the smallest."""
    last: int


@lowers(ArgReduce, "window")
def lower_arg_reduce(op: ArgReduce, low: Lowering) -> None:
    """The middle axis of [A,R,B]."""
    (x,), (y,) = op.inputs, op.outputs
    outer, length, inner = op.shape
    per_row = -(-inner // BLOCK)
    made = Places(
        x=low.read(x), x_kind=low.kind(x), y=low.write(y), y_kind=low.kind(y), length=length, inner=inner,
        per_row=per_row, sign=-1 if op.fn == "min" else 1, last=int(op.last),
    )  # fmt: skip
    low.add(made, outer * per_row, outer * length * inner * 1.0)


@lowers(GridSample, "window")
def lower_grid_sample(op: GridSample, low: Lowering) -> None:
    """Rows of points."""
    (x, grid), (y,) = op.inputs, op.outputs
    (images, height, width, channels), (_, out_h, out_w, _) = op.x_shape, op.y_shape
    linear = op.mode == "linear"
    made = arguments.Sampled(
        x=low.read(x), x_kind=low.kind(x), grid=low.read(grid), y=low.write(y), y_kind=low.kind(y),
        linear=int(linear), border=int(op.border), height=height, width=width, channels=channels,
        out_height=out_h, out_width=out_w, column_mult=op.columns[0], column_offset=op.columns[1],
        column_shift=op.columns[2], row_mult=op.rows[0], row_offset=op.rows[1], row_shift=op.rows[2],
        x_zero=op.x_zero, mult=op.mult, shift=op.shift, zero=op.zero, lo=op.lo, hi=op.hi,
    )  # fmt: skip
    low.add(made, images * out_h, images * out_h * out_w * (30 + channels * (3.0 if linear else 1.0)))


class Cumsum(Arguments):
    """Sums along the middle axis of x [·, length, inner]."""

    x: Address
    x_kind: int
    y: Address
    y_kind: int
    length: int
    inner: int
    per_row: int
    exclusive: int
    reverse: int
    x_zero: int
    mult: int
    shift: int
    zero: int
    lo: int
    hi: int


@lowers(CumSum, "window")
def lower_cumsum(op: CumSum, low: Lowering) -> None:
    """The middle axis of [A,R,B]."""
    (x,), (y,) = op.inputs, op.outputs
    outer, length, inner = op.shape
    per_row = -(-inner // BLOCK)
    made = Cumsum(
        x=low.read(x), x_kind=low.kind(x), y=low.write(y), y_kind=low.kind(y), length=length, inner=inner,
        per_row=per_row, exclusive=int(op.exclusive), reverse=int(op.reverse), x_zero=op.x_zero, mult=op.mult,
        shift=op.shift, zero=op.zero, lo=op.lo, hi=op.hi,
    )  # fmt: skip
    low.add(made, outer * per_row, outer * length * inner * 1.0)
