"""TRANS, the layout engine: moves that compute nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from openbpu.arch.isa.base import Engine, Instr, i32, u32


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveTile(Instr):
    """y[Σ i·y_strides] = x[Σ i·x_strides] for i over counts; elements of 1, 2, 4 or 8 bytes."""

    OPCODE: ClassVar[int] = 0x50
    ENGINE: ClassVar[Engine] = Engine.TRANS
    x: int = u32()
    y: int = u32()
    element: int = u32()
    counts: tuple[int, ...] = u32(6)
    x_strides: tuple[int, ...] = i32(6)
    y_strides: tuple[int, ...] = i32(6)


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
