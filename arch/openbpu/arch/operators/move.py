"""Moves that compute nothing, or no more than another scale: layout, joins, borders, choices."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from openbpu.arch.definition.boxes import volume
from openbpu.arch.definition.checked import Checked
from openbpu.arch.definition.instruction import Instr, i32, u32
from openbpu.arch.definition.integers import Count, ceil_div, smallest
from openbpu.arch.definition.layers import Layers, Records, box, column
from openbpu.arch.definition.needs import (
    INTEGERS,
    constant_of,
    need,
    need_geometry,
    need_sizes,
    need_walk,
    need_within,
    size_of,
)
from openbpu.arch.definition.operator import MANY, Ints, Operator
from openbpu.arch.definition.registry import instruction, operator
from openbpu.arch.dtypes import DType
from openbpu.arch.engines import Engine
from openbpu.arch.march import March
from openbpu.arch.numerics import MAX_SHIFT
from openbpu.arch.operators.elementwise import UnaryTile, elementwise_cycles


@instruction
@dataclass(frozen=True, slots=True, kw_only=True)
class MoveTile(Instr):
    """y[Σ i·y_strides] = x[Σ i·x_strides] for i over counts; elements of 1, 2, 4 or 8 bytes."""

    OPCODE: ClassVar[int] = 0x50
    ENGINE: ClassVar[Engine] = Engine.TRANS
    SERVES_ALL: ClassVar[bool] = True
    x: int = u32()
    y: int = u32()
    element: int = u32()
    counts: tuple[int, ...] = u32(6)
    x_strides: tuple[int, ...] = i32(6)
    y_strides: tuple[int, ...] = i32(6)

    @staticmethod
    def cycles(rows: Records, layers: Layers) -> Count:
        """See `move_cycles`."""
        element = column(rows, "element")
        count, run = box(rows, ("x_strides", element), ("y_strides", element))
        return move_cycles(layers.march, rows=count, run=run, element=element)


@operator(10, MoveTile, onnx="Transpose")
@dataclass(frozen=True, slots=True, kw_only=True)
class Move(Operator):
    """TRANS. y[i] = x[offset + Σ i·strides] for i over `shape`; y is dense.

    Transposes, slices, flips, expansions. Strides and offset count elements of x and may be 0 or negative.
    """

    ANY_DTYPE: ClassVar[bool] = True

    shape: Ints
    strides: Ints
    offset: int = 0

    def copied(self) -> Iterable[int]:
        """All of them."""
        return self.inputs

    def check(self, program: Checked) -> None:
        """The walk does not leave the tensor, and fills the output."""
        need_geometry("shape", self.shape, len(self.shape), least=0)
        need_walk(program, self.inputs[0], self.shape, self.strides, self.offset)
        need(size_of(program, self.outputs[0]) == math.prod(self.shape), "shape", self.shape)


@operator(11, UnaryTile, onnx="Concat")
@dataclass(frozen=True, slots=True, kw_only=True)
class Concat(Operator):
    """VAE/DMA. Input i, seen as [A, sizes[i]], fills its columns of y [A, Σ sizes], each element rescaled.

    y = clamp(rhe((x − x_zeros[i])·mults[i] / 2^shifts[i]) + zero, lo, hi); mults[i] = 0 copies the bits.
    """

    INPUTS: ClassVar[tuple[int, int]] = (1, MANY)
    ANY_DTYPE: ClassVar[bool] = True

    outer: int
    sizes: Ints
    x_zeros: Ints
    mults: Ints
    shifts: Ints
    zero: int = 0
    lo: int = -128
    hi: int = 127

    def copied(self) -> Iterable[int]:
        """Those that keep their scale."""
        return (i for i, mult in zip(self.inputs, self.mults, strict=False) if mult == 0)

    def check(self, program: Checked) -> None:
        """There is a size, a zero point and a factor for every input, and they fill the output."""
        need_geometry("outer", (self.outer,), 1, least=0)
        for name in ("sizes", "x_zeros", "mults", "shifts"):
            need(len(getattr(self, name)) == len(self.inputs), f"length of {name}", len(getattr(self, name)))
        need_geometry("sizes", self.sizes, len(self.inputs), least=0)
        need(all(0 <= s <= MAX_SHIFT for s in self.shifts), "shifts", self.shifts)
        for i, mult in zip(self.inputs, self.mults, strict=True):
            for t in (program.tensors[i], program.tensors[self.outputs[0]]) if mult else ():
                need(t.dtype in INTEGERS, f"dtype of '{t.name}' (it is rescaled)", t.dtype.value)
        need(all(DType.INT32.qmin <= z <= DType.INT32.qmax for z in self.x_zeros), "x_zeros", self.x_zeros)
        need_sizes(program, self, *(self.outer * s for s in self.sizes), self.outer * sum(self.sizes))


@instruction
@dataclass(frozen=True, slots=True, kw_only=True)
class FillTile(Instr):
    """y[i] = the `value` of a Pad, for i over counts; strides in bytes."""

    OPCODE: ClassVar[int] = 0x34
    ENGINE: ClassVar[Engine] = Engine.VAE
    y: int = u32()
    counts: tuple[int, ...] = u32(4)
    y_strides: tuple[int, ...] = i32(4)

    @staticmethod
    def cycles(rows: Records, layers: Layers) -> Count:
        """Runs of the output."""
        size = layers.of(column(rows, "operator"), layers.output_size)
        count, run = box(rows, ("y_strides", size))
        return elementwise_cycles(layers.march, rows=count, run=run, bits=8 * size)


@operator(12, FillTile, onnx="Pad")
@dataclass(frozen=True, slots=True, kw_only=True)
class Pad(Operator):
    """TRANS. y is x inside a border of `value`: before[d] elements in front of axis d, after[d] behind it."""

    ANY_DTYPE: ClassVar[bool] = True

    shape: Ints  # of x
    before: Ints
    after: Ints
    value: int = 0

    def copied(self) -> Iterable[int]:
        """All of them."""
        return self.inputs

    def check(self, program: Checked) -> None:
        """The output is the input and its border."""
        rank = len(self.shape)
        for name in ("shape", "before", "after"):
            need_geometry(name, getattr(self, name), rank, least=0)
        padded = [b + d + a for b, d, a in zip(self.before, self.shape, self.after, strict=True)]
        need_sizes(program, self, math.prod(self.shape), math.prod(padded))


@instruction
@dataclass(frozen=True, slots=True, kw_only=True)
class GatherTile(Instr):
    """y[a, i, b] = x[a, indices[i] − base, b]; counts and strides (in bytes) are (a, i, b), b is dense.

    `indices` points at the tile's first int32 index, which counts along the whole axis; x holds index `base`.
    """

    OPCODE: ClassVar[int] = 0x51
    ENGINE: ClassVar[Engine] = Engine.TRANS
    x: int = u32()
    y: int = u32()
    indices: int = u32()
    base: int = u32()
    counts: tuple[int, ...] = u32(3)
    x_strides: tuple[int, ...] = i32(2)
    y_strides: tuple[int, ...] = i32(2)

    @staticmethod
    def cycles(rows: Records, layers: Layers) -> Count:
        """A run per index."""
        counts = column(rows, "counts")
        volume(counts)
        element = layers.of(column(rows, "operator"), layers.input_size)
        count = counts[:, 0] * counts[:, 1]
        return move_cycles(layers.march, rows=count, run=counts[:, 2], element=element)


@operator(13, GatherTile, onnx="Gather")
@dataclass(frozen=True, slots=True, kw_only=True)
class Gather(Operator):
    """TRANS. y[a,i,b] = x[a, indices[i], b]; x [A,R,B]; indices_id: int32 [I], each in 0..R−1."""

    ANY_DTYPE: ClassVar[bool] = True

    indices_id: int
    shape: Ints  # A, R, B

    def copied(self) -> Iterable[int]:
        """All of them."""
        return self.inputs

    def check(self, program: Checked) -> None:
        """Every index exists."""
        need_geometry("shape", self.shape, 3)
        a, r, b = self.shape
        count = size_of(program, self.indices_id)
        constant_of(program, self.indices_id, DType.INT32, (count,))
        need_within(program, "indices", self.indices_id, range(1), 0, r - 1)
        need_sizes(program, self, a * r * b, a * count * b)


def move_cycles(march: March, *, rows: Count, run: Count, element: Count) -> Count:
    """Return the cycles of a MoveTile or GatherTile: by whole runs, or by elements where runs are short."""
    trans = march.trans
    by_run = rows * ceil_div(run * element, trans.bytes_per_cycle)
    by_element = ceil_div(rows * run, trans.elements_per_cycle)
    return trans.issue_cycles + smallest(by_run, by_element)
