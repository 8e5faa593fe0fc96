"""LOAD and STORE: boxes of bytes between DDR, or the L2M all cores share, and on-chip memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from openbpu.arch.isa.base import Engine, Instr, u32, u64

L2M_BASE = 1 << 48
"""From this address on, the far side of a LOAD or STORE is the L2M, whose first byte it is."""

MAX_CORES = 4
"""Cores that one program can run on: as many as the field `peers` has room for."""

_PEERS = 2 * (MAX_CORES - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load(Instr):
    """chip[Σ i·chip_strides + b] = ddr[Σ i·ddr_strides + b] for i over counts, b over row_bytes.

    DDR address 0 is the first constant; the DDR space starts at the next multiple of 64 behind the constants;
    addresses from 2⁴⁸ on are the L2M's. `peers`: how many LOADs and STOREs every other core must have
    completed before this one may start, two numbers per core, in order.
    """

    OPCODE: ClassVar[int] = 0x01
    ENGINE: ClassVar[Engine] = Engine.LOAD
    ddr: int = u64()
    chip: int = u32()
    row_bytes: int = u32()
    counts: tuple[int, ...] = u32(4)
    ddr_strides: tuple[int, ...] = u32(4)
    chip_strides: tuple[int, ...] = u32(4)
    peers: tuple[int, ...] = u32(_PEERS, (0,) * _PEERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Store(Instr):
    """ddr[Σ i·ddr_strides + b] = chip[Σ i·chip_strides + b] for i over counts, b over row_bytes.

    DDR addresses and `peers` as for LOAD; constants cannot be written.
    """

    OPCODE: ClassVar[int] = 0x02
    ENGINE: ClassVar[Engine] = Engine.STORE
    ddr: int = u64()
    chip: int = u32()
    row_bytes: int = u32()
    counts: tuple[int, ...] = u32(4)
    ddr_strides: tuple[int, ...] = u32(4)
    chip_strides: tuple[int, ...] = u32(4)
    peers: tuple[int, ...] = u32(_PEERS, (0,) * _PEERS)
