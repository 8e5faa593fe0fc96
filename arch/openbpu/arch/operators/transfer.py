"""LOAD and STORE: boxes of bytes between DDR, or the L2M all cores share, and on-chip memory; their time.

Whole bursts at the memory's rate, and a little per contiguous run. What goes to the L2M or comes from there
takes no memory time: every core has ports of its own to it.

A transfer first takes the engine's issue cycles, then memory time. Memory time is what all engines and cores
share: alone it runs at full rate, with k transfers under way each gets 1/k. Latency comes after the last
byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from openbpu.arch.arrays import Int64
from openbpu.arch.definition.boxes import runs, volume
from openbpu.arch.definition.instruction import Instr, u32, u64
from openbpu.arch.definition.integers import Count, ceil_div
from openbpu.arch.definition.layers import Layers, Records, column
from openbpu.arch.definition.registry import instruction
from openbpu.arch.engines import Engine
from openbpu.arch.march import March

_RATE_BITS = 16
L2M_BASE = 1 << 48
"""From this address on, the far side of a LOAD or STORE is the L2M, whose first byte it is."""

MAX_CORES = 4
"""Cores that one program can run on: as many as the field `peers` has room for."""

_PEERS = 2 * (MAX_CORES - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Transfer(Instr):
    """Rows between the DDR or the L2M and the core's own memory, either way."""

    SERVES_ALL: ClassVar[bool] = True
    ddr: int = u64()
    chip: int = u32()
    row_bytes: int = u32()
    counts: tuple[int, ...] = u32(4)
    ddr_strides: tuple[int, ...] = u32(4)
    chip_strides: tuple[int, ...] = u32(4)
    peers: tuple[int, ...] = u32(_PEERS, (0,) * _PEERS)

    @staticmethod
    def cycles(rows: Records, layers: Layers) -> Count:
        """The first column of `transfer_costs`."""
        return transfer_costs(rows, layers.march)[0]


@instruction
@dataclass(frozen=True, slots=True, kw_only=True)
class Load(_Transfer):
    """chip[Σ i·chip_strides + b] = ddr[Σ i·ddr_strides + b] for i over counts, b over row_bytes.

    DDR address 0 is the first constant; the DDR space starts at the next multiple of 64 behind the constants;
    addresses from 2⁴⁸ on are the L2M's. `peers`: how many LOADs and STOREs every other core must have
    completed before this one may start, two numbers per core, in order.
    """

    OPCODE: ClassVar[int] = 0x01
    ENGINE: ClassVar[Engine] = Engine.LOAD


@instruction
@dataclass(frozen=True, slots=True, kw_only=True)
class Store(_Transfer):
    """ddr[Σ i·ddr_strides + b] = chip[Σ i·chip_strides + b] for i over counts, b over row_bytes.

    DDR addresses and `peers` as for LOAD; constants cannot be written.
    """

    OPCODE: ClassVar[int] = 0x02
    ENGINE: ClassVar[Engine] = Engine.STORE


def transfer_costs(rows: Records, march: March) -> tuple[Int64, Int64, Int64, Int64]:
    """Return cycles, memory time, bytes from or to DDR, bytes from or to the L2M."""
    counts, row = column(rows, "counts"), column(rows, "row_bytes")
    moved = volume(np.concatenate([counts, row[:, None]], axis=1))
    count, stretch = runs(counts, (column(rows, "ddr_strides"),), (row,))
    offset = (rows["ddr"] % np.uint64(march.ddr.burst_bytes)).astype(np.int64)
    memory = memory_cycles(march, rows=count, run=stretch * row, offset=offset)
    issue, near = march.ddr.issue_cycles, rows["ddr"] >= L2M_BASE
    if not near.any():
        return issue + memory, memory, moved, np.zeros_like(moved)
    busy = np.where(near, np.asarray(shared_cycles(march, moved)), np.asarray(memory))
    return issue + busy, np.where(near, 0, memory), np.where(near, 0, moved), np.where(near, moved, 0)


def memory_cycles(march: March, *, rows: Count, run: Count, offset: Count = 0) -> Count:
    """Return the memory time of `rows` contiguous runs of `run` bytes each, at full rate.

    `offset` is the address of the first run modulo the burst size: a run that starts or ends inside a burst
    pays for all of it.
    """
    ddr = march.ddr
    bursts = ceil_div(offset % ddr.burst_bytes + run, ddr.burst_bytes)
    rate = ceil_div(march.clock_hz << _RATE_BITS, ddr.bytes_per_second)
    return ceil_div(rows * bursts * ddr.burst_bytes * rate, 1 << _RATE_BITS) + rows * ddr.row_cycles


def shared_cycles(march: March, nbytes: Count) -> Count:
    """Return the engine time of `nbytes` bytes to or from the L2M, behind the issue cycles."""
    return ceil_div(nbytes, max(march.chip.shared_bytes_per_cycle, 1))


def port_cycles(march: March, moved: Count) -> Count:
    """Return how long `moved` bytes of an operator keep its computing engine from the on-chip memory."""
    width = march.chip.port_bytes_per_cycle
    return moved // width if width else moved * 0
