"""VAE, the vector engine: element-wise operations, tables, reductions and row functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from openbpu.arch.isa.base import Engine, Instr, i32, u32


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


@dataclass(frozen=True, slots=True, kw_only=True)
class FillTile(Instr):
    """y[i] = the `value` of a Pad, for i over counts; strides in bytes."""

    OPCODE: ClassVar[int] = 0x34
    ENGINE: ClassVar[Engine] = Engine.VAE
    y: int = u32()
    counts: tuple[int, ...] = u32(4)
    y_strides: tuple[int, ...] = i32(4)
