"""Timing rules: integer cycles of every instruction, by the numbers of a march.

`tae`, `vector` and `dma` hold one rule per family for candidate geometries (ints or int64 arrays); `records`
applies them to encoded instructions. The scheduler and the timing simulator read the same rules.
"""

from openbpu.arch.timing.dma import memory_cycles, port_cycles, shared_cycles
from openbpu.arch.timing.records import Costs, cycles, fill_cycles, instruction_costs
from openbpu.arch.timing.tae import conv_cycles, matmul_cycles, passes
from openbpu.arch.timing.vector import (
    elementwise_cycles,
    lut_cycles,
    move_cycles,
    pool_cycles,
    reduce_cycles,
    resize_cycles,
    row_cycles,
    vpu_cycles,
)

__all__ = [
    "Costs",
    "conv_cycles",
    "cycles",
    "elementwise_cycles",
    "fill_cycles",
    "instruction_costs",
    "lut_cycles",
    "matmul_cycles",
    "memory_cycles",
    "move_cycles",
    "passes",
    "pool_cycles",
    "port_cycles",
    "reduce_cycles",
    "resize_cycles",
    "row_cycles",
    "shared_cycles",
    "vpu_cycles",
]
