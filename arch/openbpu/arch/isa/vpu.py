"""VPU, the float-capable vector unit: quantize and dequantize at the ends of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from openbpu.arch.isa.base import Engine, Instr, i32, u32


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeTile(Instr):
    """A box of a Quantize: y[i] = quantize(x[i]) for i over counts; strides in bytes."""

    OPCODE: ClassVar[int] = 0x40
    ENGINE: ClassVar[Engine] = Engine.VPU
    x: int = u32()
    y: int = u32()
    counts: tuple[int, ...] = u32(4)
    x_strides: tuple[int, ...] = i32(4)
    y_strides: tuple[int, ...] = i32(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class DequantizeTile(Instr):
    """y[a, c, b] of a Dequantize for a, c, b over counts; strides in bytes.

    `scales` points at the scale of the tile's first c, its offset, if there is one, right behind it;
    scale_stride is 4 or 8 bytes, or 0 for a single scale.
    """

    OPCODE: ClassVar[int] = 0x41
    ENGINE: ClassVar[Engine] = Engine.VPU
    x: int = u32()
    y: int = u32()
    scales: int = u32()
    scale_stride: int = u32()
    counts: tuple[int, ...] = u32(3)
    x_strides: tuple[int, ...] = i32(3)
    y_strides: tuple[int, ...] = i32(3)
