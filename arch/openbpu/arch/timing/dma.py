"""Cycles of LOAD and STORE: whole bursts at the memory's rate, and a little per contiguous run.

What goes to the L2M or comes from there takes no memory time: every core has ports of its own to it.

A transfer first takes the engine's issue cycles, then memory time. Memory time is what all engines and cores
share: alone it runs at full rate, with k transfers under way each gets 1/k. Latency comes after the last
byte.
"""

from __future__ import annotations

from openbpu.arch.march import March
from openbpu.arch.timing.integers import Ints, ceil_div

_RATE_BITS = 16


def memory_cycles(march: March, *, rows: Ints, run: Ints, offset: Ints = 0) -> Ints:
    """Return the memory time of `rows` contiguous runs of `run` bytes each, at full rate.

    `offset` is the address of the first run modulo the burst size: a run that starts or ends inside a burst
    pays for all of it.
    """
    ddr = march.ddr
    bursts = ceil_div(offset % ddr.burst_bytes + run, ddr.burst_bytes)
    rate = ceil_div(march.clock_hz << _RATE_BITS, ddr.bytes_per_second)
    return ceil_div(rows * bursts * ddr.burst_bytes * rate, 1 << _RATE_BITS) + rows * ddr.row_cycles


def shared_cycles(march: March, nbytes: Ints) -> Ints:
    """Return the engine time of `nbytes` bytes to or from the L2M, behind the issue cycles."""
    return ceil_div(nbytes, max(march.chip.shared_bytes_per_cycle, 1))


def port_cycles(march: March, moved: Ints) -> Ints:
    """Return how long `moved` bytes of an operator keep its computing engine from the on-chip memory."""
    width = march.chip.port_bytes_per_cycle
    return moved // width if width else moved * 0
