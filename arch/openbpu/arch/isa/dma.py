"""LOAD and STORE: boxes of bytes between DDR and on-chip memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from openbpu.arch.isa.base import Engine, Instr, u32, u64


@dataclass(frozen=True, slots=True, kw_only=True)
class Load(Instr):
    """chip[Σ i·chip_strides + b] = ddr[Σ i·ddr_strides + b] for i over counts, b over row_bytes.

    DDR address 0 is the first constant; the DDR space starts at the next multiple of 64 behind the constants.
    """

    OPCODE: ClassVar[int] = 0x01
    ENGINE: ClassVar[Engine] = Engine.LOAD
    ddr: int = u64()
    chip: int = u32()
    row_bytes: int = u32()
    counts: tuple[int, ...] = u32(4)
    ddr_strides: tuple[int, ...] = u32(4)
    chip_strides: tuple[int, ...] = u32(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Store(Instr):
    """ddr[Σ i·ddr_strides + b] = chip[Σ i·chip_strides + b] for i over counts, b over row_bytes.

    DDR addresses as for LOAD; constants cannot be written.
    """

    OPCODE: ClassVar[int] = 0x02
    ENGINE: ClassVar[Engine] = Engine.STORE
    ddr: int = u64()
    chip: int = u32()
    row_bytes: int = u32()
    counts: tuple[int, ...] = u32(4)
    ddr_strides: tuple[int, ...] = u32(4)
    chip_strides: tuple[int, ...] = u32(4)
