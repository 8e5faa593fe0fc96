"""Functions of whole rows: each element of the result depends on all of its row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from openbpu.arch.definition.checked import Checked
from openbpu.arch.definition.instruction import Instr, u32
from openbpu.arch.definition.integers import Count, ceil_div
from openbpu.arch.definition.layers import Layers, Records, column
from openbpu.arch.definition.needs import NARROW, constant_of, need, need_geometry, need_sizes, need_within
from openbpu.arch.definition.operator import Ints, Operator
from openbpu.arch.definition.registry import instruction, operator
from openbpu.arch.dtypes import DType
from openbpu.arch.engines import Engine
from openbpu.arch.march import March
from openbpu.arch.numerics import (
    EXP_ENTRIES,
    MAX_NORM_LENGTH,
    MAX_SHIFT,
    MAX_SOFTMAX_LENGTH,
    MIN_EPSILON_SHIFT,
)


@instruction
@dataclass(frozen=True, slots=True, kw_only=True)
class RowTile(Instr):
    """`rows` whole rows of a Softmax (table: exponentials) or LayerNorm (table: gains, table2: biases).

    Rows are dense, x_row and y_row bytes apart.
    """

    OPCODE: ClassVar[int] = 0x33
    ENGINE: ClassVar[Engine] = Engine.VAE
    x: int = u32()
    y: int = u32()
    table: int = u32()
    table2: int = u32(default=0)
    rows: int = u32()
    x_row: int = u32()
    y_row: int = u32()

    @staticmethod
    def cycles(rows: Records, layers: Layers) -> Count:
        """See `row_cycles`."""
        ids, count = column(rows, "operator"), column(rows, "rows")
        length = layers.of(ids, lambda o: o.shape[1])
        is_norm = layers.of(ids, lambda o: isinstance(o, LayerNorm)).astype(bool)
        soft, norm = (row_cycles(layers.march, rows=count, length=length, norm=n) for n in (False, True))
        return np.where(is_norm, norm, soft)


@operator(8, RowTile, onnx="Softmax")
@dataclass(frozen=True, slots=True, kw_only=True)
class Softmax(Operator):
    """VAE. `numerics.softmax_rows` over the last axis of x [A,R], with the fields below as arguments."""

    exp_id: int
    shape: Ints  # A, R
    mult: int
    shift: int
    out_mult: int
    out_shift: int
    zero: int = 0
    lo: int = -128
    hi: int = 127

    def check(self, program: Checked) -> None:
        """Rows are no longer than their sum can be exact, and exponentials fall."""
        need_geometry("shape", self.shape, 2)
        need_sizes(program, self, math.prod(self.shape), math.prod(self.shape))
        codes = program.tensors[self.inputs[0]].dtype
        need(codes in NARROW, "dtype of the input", codes.value)
        need(self.shape[1] <= MAX_SOFTMAX_LENGTH, "length of a row", self.shape[1])
        # Rows divide by their sum: exponentials are above 0 and fall, and distances grow with the codes.
        table = constant_of(program, self.exp_id, DType.INT32, (EXP_ENTRIES,))
        need_within(program, "exponentials", self.exp_id, range(1), 1, 1 << 30)
        need(bool((np.diff(table) <= 0).all()), "exponentials", "rising")
        need(0 <= self.out_shift <= MAX_SHIFT, "out_shift", self.out_shift)
        for name in ("mult", "out_mult"):
            need(0 <= getattr(self, name) <= DType.INT32.qmax, name, getattr(self, name))


@operator(9, RowTile, onnx="LayerNormalization")
@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNorm(Operator):
    """VAE. `numerics.layernorm_rows` over the last axis of x [A,R], with the fields below as arguments.

    gain_id: int64 [R] or [1], bias_id: int64 [R] or [1], in the fixed point that numerics defines; x_zero is
    taken from x first and `centred` is False for an RMS normalization. epsilon / 2^epsilon_shift is in the
    units of the row's power: `numerics.norm_epsilon`.
    """

    gain_id: int
    bias_id: int
    shape: Ints  # A, R
    epsilon: int = 0
    epsilon_shift: int = 0
    centred: bool = True
    x_zero: int = 0
    shift: int
    zero: int = 0
    lo: int = -128
    hi: int = 127

    def check(self, program: Checked) -> None:
        """Rows are no longer than their sums can be exact, and gains and biases fit them."""
        need_geometry("shape", self.shape, 2)
        need_sizes(program, self, math.prod(self.shape), math.prod(self.shape))
        for i in (self.gain_id, self.bias_id):
            constant_of(program, i, DType.INT64, (1,), (self.shape[1],))
        need(1 <= self.shape[1] <= MAX_NORM_LENGTH, "length of a row", self.shape[1])
        need(0 <= self.epsilon <= 1 << 31, "epsilon", self.epsilon)
        need(MIN_EPSILON_SHIFT <= self.epsilon_shift <= MAX_SHIFT, "epsilon_shift", self.epsilon_shift)
        codes = program.tensors[self.inputs[0]].dtype
        need(codes in NARROW, "dtype of the input", codes.value)
        need(codes.qmin <= self.x_zero <= codes.qmax, "x_zero", self.x_zero)


def row_cycles(march: March, *, rows: Count, length: Count, norm: bool) -> Count:
    """Return the cycles of a RowTile: softmax or normalization (`norm`) over rows of `length` elements."""
    vae = march.vae
    count = vae.norm_passes if norm else vae.softmax_passes
    return vae.issue_cycles + rows * (count * ceil_div(length, vae.lanes_int16) + vae.row_cycles)
