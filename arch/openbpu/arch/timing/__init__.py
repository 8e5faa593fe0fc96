"""Timing: integer cycles of every instruction of a segment, by the numbers of a march.

A rule is written beside its operator, in `openbpu.arch.operators`, for candidate geometries (ints or int64
arrays); `records` applies them to encoded instructions. The scheduler and the timing simulator read the same
rules.
"""

from openbpu.arch.operators.convert import vpu_cycles
from openbpu.arch.operators.elementwise import elementwise_cycles, lut_cycles
from openbpu.arch.operators.move import move_cycles
from openbpu.arch.operators.reduce import reduce_cycles
from openbpu.arch.operators.row import row_cycles
from openbpu.arch.operators.tensor.array import passes
from openbpu.arch.operators.tensor.conv import conv_cycles
from openbpu.arch.operators.tensor.matmul import matmul_cycles
from openbpu.arch.operators.transfer import memory_cycles, port_cycles, shared_cycles
from openbpu.arch.operators.window import pool_cycles, resize_cycles
from openbpu.arch.timing.records import Costs, cycles, fill_cycles, instruction_costs

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
