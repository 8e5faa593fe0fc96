"""One core while it runs: its on-chip memory, the shared DDR, and what its instructions may look up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.arrays import Array, Int64
from openbpu.arch.isa import L2M_BASE
from openbpu.arch.program import Program
from openbpu.simulator.exact.memory import Box, FaultError, Memory

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
_TABLE = 256


@dataclass(slots=True)
class Core:
    """Memories of one core. `saturations` counts accumulators that did not fit int32."""

    chip: Memory
    ddr: Memory
    l2m: Memory
    program: Program
    saturations: int = 0

    def far(self, address: int) -> tuple[Memory, int]:
        """The memory at the far side of a LOAD or STORE, and the address in it."""
        return (self.ddr, address) if address < L2M_BASE else (self.l2m, address - L2M_BASE)

    def dtype(self, tensor_id: int) -> np.dtype[Any]:
        """The NumPy dtype of a tensor."""
        return self.program.tensors[tensor_id].dtype.numpy

    def elements(self, tensor_id: int) -> int:
        """The number of elements of a tensor."""
        return int(np.prod(self.program.tensors[tensor_id].shape, dtype=np.int64))

    def constant(self, address: int, tensor_id: int) -> Box:
        """The box of a whole constant tensor that was loaded to an on-chip address."""
        t = self.program.tensors[tensor_id]
        return self.chip.dense(address, t.shape, t.dtype.numpy)

    def sat32(self, total: Int64, *, wide: bool) -> Int64:
        """Saturate exact sums once to int32; not `wide` is a promise that none needs it."""
        clipped = np.clip(total, INT32_MIN, INT32_MAX)
        count = int(np.count_nonzero(clipped != total))
        if count and not wide:
            raise FaultError(f"{count} accumulators leave int32, which the operator rules out (wide=False)")
        self.saturations += count
        return clipped

    def finish(self, total: Int64, op: Any, table_address: int, shift: Any = None) -> Array:
        """Requantize a 64-bit sum by the operator's shift, zero, lo, hi; look it up if there is a table."""
        y = numerics.requantize(total, op.shift if shift is None else shift, op.zero, op.lo, op.hi)
        if op.table_id < 0:
            return y
        table = self.constant(table_address, op.table_id).read().reshape(-1)
        if y.size and (y.min() < -_TABLE // 2 or y.max() >= _TABLE // 2 or table.size != _TABLE):
            raise FaultError(f"the index {y.min()}..{y.max()} of a table of {table.size} is not an int8")
        return np.asarray(table[y + _TABLE // 2])
