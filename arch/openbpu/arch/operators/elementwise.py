"""Element by element, on the vector engine: of two tensors, of one, and the time of any box.

A box is `rows` runs of `run` elements: the longest stretch that every operand reads and writes with stride
one (or zero, where it is broadcast). A run that ends inside a vector wastes the rest of it. `bits` is the
widest operand's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from openbpu.arch.definition.checked import Checked
from openbpu.arch.definition.instruction import Instr, i32, u32
from openbpu.arch.definition.integers import Count, ceil_div, choose
from openbpu.arch.definition.layers import Layers, Records, box, column
from openbpu.arch.definition.needs import need, need_geometry, need_same_size, need_walk, size_of
from openbpu.arch.definition.operator import Ints, Operator
from openbpu.arch.definition.registry import instruction, operator
from openbpu.arch.engines import Engine
from openbpu.arch.march import March, Vae


@instruction
@dataclass(frozen=True, slots=True, kw_only=True)
class BinaryTile(Instr):
    """A box of a Binary: y[i] = fn(a[i], b[i]) for i over counts; strides in bytes, 0 where broadcast."""

    OPCODE: ClassVar[int] = 0x30
    ENGINE: ClassVar[Engine] = Engine.VAE
    a: int = u32()
    b: int = u32()
    y: int = u32()
    table: int = u32(default=0)
    counts: tuple[int, ...] = u32(4)
    a_strides: tuple[int, ...] = i32(4)
    b_strides: tuple[int, ...] = i32(4)
    y_strides: tuple[int, ...] = i32(4)

    @staticmethod
    def cycles(rows: Records, layers: Layers) -> Count:
        """Runs that all three tensors cross in one go."""
        ids = column(rows, "operator")
        a = layers.of(ids, layers.input_size)
        b = layers.of(ids, lambda o: layers.size(o.inputs[1]))
        y = layers.of(ids, layers.output_size)
        count, run = box(rows, ("a_strides", a), ("b_strides", b), ("y_strides", y))
        return elementwise_cycles(layers.march, rows=count, run=run, bits=layers.of(ids, layers.bits))


@operator(2, BinaryTile, onnx="Add")
@dataclass(frozen=True, slots=True, kw_only=True)
class Binary(Operator):
    """VAE. y = table[clamp(rhe(v / 2^shift) + zero)], where v is made of a' = a − a_zero and b' = b − b_zero.

    fn "add":   v = a'·mult_a + b'·mult_b + offset
    fn "mul":   v = a'·b'·mult_a + offset
    fn "max" / "min": v = max|min(a'·mult_a, b'·mult_b) + offset
    fn "prelu": v = a'·mult_a + offset where a' >= 0, a'·b'·mult_b + offset elsewhere

    The output is dense row-major of `shape`; a and b are read with element strides, 0 where broadcast.
    """

    INPUTS: ClassVar[tuple[int, int]] = (2, 2)

    table_id: int = -1
    fn: str
    shape: Ints
    a_strides: Ints
    b_strides: Ints
    a_zero: int = 0
    b_zero: int = 0
    mult_a: int = 0
    mult_b: int = 0
    offset: int = 0
    shift: int = 0
    zero: int = 0
    lo: int = -128
    hi: int = 127

    def check(self, program: Checked) -> None:
        """The function is known, and neither operand's walk leaves its tensor."""
        need(self.fn in {"add", "mul", "max", "min", "prelu"}, "fn", self.fn)
        need_geometry("shape", self.shape, len(self.shape), least=0)
        need_walk(program, self.inputs[0], self.shape, self.a_strides)
        need_walk(program, self.inputs[1], self.shape, self.b_strides)
        need(size_of(program, self.outputs[0]) == math.prod(self.shape), "shape", self.shape)


@instruction
@dataclass(frozen=True, slots=True, kw_only=True)
class UnaryTile(Instr):
    """A box of a Lut, SegmentLut, Rescale, or of input `part` of a Concat: y[i] = f(x[i]); strides in bytes.

    `table` is the address of the Lut's or SegmentLut's table.
    """

    OPCODE: ClassVar[int] = 0x31
    ENGINE: ClassVar[Engine] = Engine.VAE
    x: int = u32()
    y: int = u32()
    table: int = u32(default=0)
    part: int = u32(default=0)
    counts: tuple[int, ...] = u32(4)
    x_strides: tuple[int, ...] = i32(4)
    y_strides: tuple[int, ...] = i32(4)

    @staticmethod
    def cycles(rows: Records, layers: Layers) -> Count:
        """Runs through the lanes of the tables, or through the plain ones."""
        ids, march = column(rows, "operator"), layers.march
        x, y = layers.of(ids, layers.input_size), layers.of(ids, layers.output_size)
        for part in np.unique(rows["part"]).tolist():
            of_part = rows["part"] == part
            x[of_part] = layers.of(ids[of_part], partial(_part_size, layers, part))
        count, run = box(rows, ("x_strides", x), ("y_strides", y))
        is_table = layers.of(ids, lambda o: o.LOOKS_UP).astype(bool)
        table = lut_cycles(march, rows=count, run=run, bits=8 * x)
        plain = elementwise_cycles(march, rows=count, run=run, bits=layers.of(ids, layers.bits))
        return np.where(is_table, table, plain)


def _part_size(layers: Layers, part: int, operator: Operator) -> int:
    return layers.size(operator.inputs[part])


@operator(5, UnaryTile, onnx="")
@dataclass(frozen=True, slots=True, kw_only=True)
class Rescale(Operator):
    """VAE. y = clamp(rhe(((x − x_zero)·mult + offset) / 2^shift) + zero): another scale or dtype."""

    x_zero: int = 0
    mult: int
    offset: int = 0
    shift: int
    zero: int = 0
    lo: int
    hi: int

    def check(self, program: Checked) -> None:
        """Input and output have one size."""
        need_same_size(program, self)


def lanes_of(vae: Vae, bits: Count) -> Count:
    """Return the element-wise lanes for operands of 8, 16 or 32 bits."""
    return choose(bits <= 8, vae.lanes_int8, choose(bits <= 16, vae.lanes_int16, vae.lanes_int32))


def elementwise_cycles(march: March, *, rows: Count, run: Count, bits: Count) -> Count:
    """Return the cycles of a BinaryTile, FillTile or of a UnaryTile that rescales or copies."""
    return march.vae.issue_cycles + rows * ceil_div(run, lanes_of(march.vae, bits))


def lut_cycles(march: March, *, rows: Count, run: Count, bits: Count) -> Count:
    """Return the cycles of a UnaryTile of a Lut (8-bit input) or SegmentLut (16-bit input)."""
    lanes = choose(bits <= 8, march.vae.lut_int8, march.vae.lut_int16)
    return march.vae.issue_cycles + rows * ceil_div(run, lanes)
