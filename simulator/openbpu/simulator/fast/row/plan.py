"""Softmax and normalization as steps."""

from __future__ import annotations

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.dtypes import DType
from openbpu.arch.numerics.rows import exp_negative
from openbpu.arch.program import LayerNorm, Softmax
from openbpu.simulator.fast.plan.registry import lowers
from openbpu.simulator.fast.plan.steps import Lowering
from openbpu.simulator.fast.row import arguments


@lowers(Softmax, "row")
def lower_softmax(op: Softmax, low: Lowering) -> None:
    """Exponentials depend only on the distance from the maximum: all of them are made here."""
    (x,), (y,) = op.inputs, op.outputs
    outer, length = op.shape
    table = low.constant(op.exp_id).astype(np.int32)
    distances = np.arange(256 if low.dtype(x) is DType.INT8 else 65536, dtype=np.int64)
    exponentials = exp_negative(distances, op.mult, op.shift, table)
    made = arguments.Softmax(
        x=low.read(x), x_kind=low.kind(x), y=low.write(y), y_kind=low.kind(y), length=length,
        exponentials=exponentials, out_mult=op.out_mult, out_shift=op.out_shift, zero=op.zero, lo=op.lo,
        hi=op.hi,
    )  # fmt: skip
    low.add(made, outer, outer * (30 + length * 4.0))


@lowers(LayerNorm, "row")
def lower_layernorm(op: LayerNorm, low: Lowering) -> None:
    """Rows."""
    (x,), (y,) = op.inputs, op.outputs
    outer, length = op.shape
    gain, bias = (low.constant(t).astype(np.int64).reshape(-1) for t in (op.gain_id, op.bias_id))
    bits = numerics.norm_bits(length, centred=op.centred)
    made = arguments.Layernorm(
        x=low.read(x), x_kind=low.kind(x), y=low.write(y), y_kind=low.kind(y), length=length, gain=gain,
        gain_step=int(gain.size > 1), bias=bias, bias_step=int(bias.size > 1), epsilon=op.epsilon,
        epsilon_shift=op.epsilon_shift, centred=int(op.centred), x_zero=op.x_zero, shift=op.shift,
        zero=op.zero, lo=op.lo, hi=op.hi, bits=bits,
    )  # fmt: skip
    low.add(made, outer, outer * (60 + length * 5.0))
