"""The policy: which techniques a schedule may use, and how DDR bytes weigh against latency."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openbpu.arch.arrays import Int64
from openbpu.arch.march import March
from openbpu.compiler.schedule.problem.options import FASTEST

_DEAR = 8
"""What a cycle of transfer at full rate weighs beside a cycle of latency at a balance of 50."""
_RATE_BITS = 8


@dataclass(frozen=True, slots=True)
class Policy:
    """What a schedule may do on a march, and what it is judged by.

    double_buffered: tiles have two buffers, so that engines overlap · reuse: a tile that is on chip is not
    loaded again · balance: weight between DDR bytes (0) and latency (100) · in_l2m: tensors (by root) whose
    memory is in the L2M instead of DDR.
    """

    march: March
    double_buffered: bool
    reuse: bool
    balance: int = FASTEST
    in_l2m: frozenset[int] = frozenset()

    def cost(self, cycles: Int64, ddr_bytes: Int64) -> Int64:
        """What tilings are compared by: their cycles, or with a lower balance a sum of those and DDR bytes.

        Bytes count as the cycles that the memory takes for them at full rate, `_DEAR` times. At 0 cycles
        weigh so little that they only decide between tilings of as many bytes.
        """
        if self.balance == FASTEST:
            return cycles
        rate = (self.march.clock_hz << _RATE_BITS) // self.march.ddr.bytes_per_second
        moving = ddr_bytes * rate >> _RATE_BITS
        return max(self.balance, 1) * cycles + (FASTEST - self.balance) * _DEAR * moving

    def rank(self, cycles: int, ddr_bytes: int) -> tuple[int, int]:
        """What finished schedules are compared by: time at 100, DDR bytes at 0, else what tilings are."""
        if self.balance == 0:
            return ddr_bytes, cycles
        cost = int(self.cost(np.array(cycles), np.array(ddr_bytes)))
        return cost, ddr_bytes if self.balance == FASTEST else cycles
