"""Sums and extremes along an axis, and where the extremes are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from openbpu.arch.definition.boxes import volume
from openbpu.arch.definition.checked import Checked
from openbpu.arch.definition.instruction import Instr, i32, u32
from openbpu.arch.definition.integers import Count, ceil_div
from openbpu.arch.definition.layers import Layers, Records, box, column
from openbpu.arch.definition.needs import INTEGERS, need, need_geometry, need_same_size, need_sizes
from openbpu.arch.definition.operator import Ints, Operator
from openbpu.arch.definition.registry import instruction, operator
from openbpu.arch.dtypes import DType
from openbpu.arch.engines import Engine
from openbpu.arch.march import March
from openbpu.arch.operators.elementwise import lanes_of


@instruction
@dataclass(frozen=True, slots=True, kw_only=True)
class ReduceTile(Instr):
    """y[a, b] = Reduce over r of x[a, r, b]; counts and x_strides are (a, r, b), y_strides (a, b), in bytes.

    r is the whole reduced axis.
    """

    OPCODE: ClassVar[int] = 0x32
    ENGINE: ClassVar[Engine] = Engine.VAE
    x: int = u32()
    y: int = u32()
    counts: tuple[int, ...] = u32(3)
    x_strides: tuple[int, ...] = i32(3)
    y_strides: tuple[int, ...] = i32(2)

    @staticmethod
    def cycles(rows: Records, layers: Layers) -> Count:
        """See `reduce_cycles`."""
        return reduce_cycles(layers.march, **_work(rows, layers))


@operator(7, ReduceTile, onnx="ReduceSum")
@dataclass(frozen=True, slots=True, kw_only=True)
class Reduce(Operator):
    """VAE. x [A,R,B] → y [A,B].

    fn "sum": y = clamp(rhe(sat32(Σ_r (x − x_zero))·mult / 2^shift) + zero); a mean has 1 / R in mult.
    fn "max" | "min": y = clamp(rhe((max|min_r(x) − x_zero)·mult / 2^shift) + zero).
    """

    fn: str
    shape: Ints  # A, R, B
    x_zero: int = 0
    mult: int
    shift: int
    zero: int = 0
    lo: int = -128
    hi: int = 127

    def check(self, program: Checked) -> None:
        """The function is known, and the sizes agree."""
        need_geometry("shape", self.shape, 3)
        need(self.fn in {"sum", "max", "min"}, "fn", self.fn)
        a, r, b = self.shape
        need_sizes(program, self, a * r * b, a * b)


def _work(rows: Records, layers: Layers) -> dict[str, Count]:
    """What tiles that make one element of an axis read and make."""
    size = layers.of(column(rows, "operator"), layers.input_size)
    count, run = box(rows, ("x_strides", size))
    counts = column(rows, "counts")
    return {"rows": count, "run": run, "outputs": counts[:, 0] * counts[:, 2], "bits": 8 * size}


def reduce_cycles(march: March, *, rows: Count, run: Count, outputs: Count, bits: Count) -> Count:
    """Return the cycles of a ReduceTile: the input's runs through the lanes, then a fold per result."""
    vae = march.vae
    return vae.issue_cycles + rows * ceil_div(run, lanes_of(vae, bits)) + ceil_div(outputs, vae.lanes_int32)


@instruction
@dataclass(frozen=True, slots=True, kw_only=True)
class CumSumTile(Instr):
    """y[a, r, b] = CumSum of x[a, r, b] along r, the whole axis; strides are in bytes."""

    OPCODE: ClassVar[int] = 0x35
    ENGINE: ClassVar[Engine] = Engine.VAE
    x: int = u32()
    y: int = u32()
    counts: tuple[int, ...] = u32(3)
    x_strides: tuple[int, ...] = i32(3)
    y_strides: tuple[int, ...] = i32(3)

    @staticmethod
    def cycles(rows: Records, layers: Layers) -> Count:
        """See `cumsum_cycles`."""
        ids = column(rows, "operator")
        volume(column(rows, "counts"))
        a, r, b = column(rows, "counts").T
        return cumsum_cycles(layers.march, a=a, r=r, b=b, bits=layers.of(ids, layers.bits))


@operator(17, CumSumTile, onnx="CumSum")
@dataclass(frozen=True, slots=True, kw_only=True)
class CumSum(Operator):
    """VAE. x [A,R,B] → y [A,R,B]: y = clamp(rhe(sat32(Σ_s (x − x_zero))·mult / 2^shift) + zero) over s ≤ r.

    `exclusive`: over s < r; `reverse`: over s ≥ r; both: over s > r. Every sum is exact and saturates once.
    """

    shape: Ints  # A, R, B
    exclusive: bool = False
    reverse: bool = False
    x_zero: int = 0
    mult: int
    shift: int
    zero: int = 0
    lo: int = -128
    hi: int = 127

    def check(self, program: Checked) -> None:
        """The sizes agree."""
        need_geometry("shape", self.shape, 3)
        need_same_size(program, self)
        need_sizes(program, self, *[math.prod(self.shape)] * 2)


def cumsum_cycles(march: March, *, a: Count, r: Count, b: Count, bits: Count) -> Count:
    """Return the cycles of a CumSumTile: every step along the axis is a pass of the lanes across b."""
    return march.vae.issue_cycles + a * r * ceil_div(b, lanes_of(march.vae, bits))


@instruction
@dataclass(frozen=True, slots=True, kw_only=True)
class ArgReduceTile(Instr):
    """y[a, b] = ArgReduce over r, the whole axis, of x[a, r, b]; strides are in bytes."""

    OPCODE: ClassVar[int] = 0x36
    ENGINE: ClassVar[Engine] = Engine.VAE
    x: int = u32()
    y: int = u32()
    counts: tuple[int, ...] = u32(3)
    x_strides: tuple[int, ...] = i32(3)
    y_strides: tuple[int, ...] = i32(2)

    @staticmethod
    def cycles(rows: Records, layers: Layers) -> Count:
        """See `arg_reduce_cycles`."""
        return arg_reduce_cycles(layers.march, **_work(rows, layers))


PLACES = (*INTEGERS, DType.UINT8, DType.INT64)
"""What an index can be written as: whatever reads it on the CPU, or behind the model, finds its own type."""


@operator(18, ArgReduceTile, onnx="ArgMax")
@dataclass(frozen=True, slots=True, kw_only=True)
class ArgReduce(Operator):
    """VAE. x [A,R,B] → y [A,B], of any type of integers: the r at which x[a, r, b] is largest.

    fn "max" | "min": or smallest. The first of equal ones, or the last (`last`).
    """

    ANY_DTYPE: ClassVar[bool] = True  # int64, too; `check` says which

    fn: str
    shape: Ints  # A, R, B
    last: bool = False

    def check(self, program: Checked) -> None:
        """The function is known, the sizes agree, codes are read, and every index fits what is written."""
        need_geometry("shape", self.shape, 3)
        need(self.fn in {"max", "min"}, "fn", self.fn)
        a, r, b = self.shape
        need_sizes(program, self, a * r * b, a * b)
        x, y = (program.tensors[i].dtype for i in (self.inputs[0], self.outputs[0]))
        need(x in INTEGERS, "dtype of what is searched", x.value)
        need(y in PLACES, "dtype of an index", y.value)
        need(r - 1 <= y.qmax, f"length of an axis with indices of {y.value}", r)


def arg_reduce_cycles(march: March, *, rows: Count, run: Count, outputs: Count, bits: Count) -> Count:
    """Return the cycles of an ArgReduceTile: as of a ReduceTile, with a second pass that keeps the index."""
    once = reduce_cycles(march, rows=rows, run=run, outputs=outputs, bits=bits)
    return 2 * once - march.vae.issue_cycles
