"""The interpreter: walks the steps of a segment, alone or together with other threads.

Threads share a step by taking chunks of its units from a counter. A step is over when all its chunks are
done, not when all threads have come by: a thread that wakes late, or that the system takes off its core
between two chunks, holds nobody up.
"""

from __future__ import annotations

from typing import Any

from openbpu.simulator.fast.declaration import Table
from openbpu.simulator.fast.language.lang import export, types
from openbpu.simulator.fast.language.pointers import (
    P8,
    P64,
    atomic_add,
    atomic_load,
    call_kernel,
    pause,
    yield_thread,
)
from openbpu.simulator.fast.language.records import RowsType
from openbpu.simulator.fast.run.arguments import COUNTERS, StepRow

_PATIENCE = 4000


def drive_alone(table: Table[StepRow], steps: int, scratch: Any) -> None:
    """Run all steps in this thread."""
    for i in range(steps):
        step = table[i]
        call_kernel(step.kernel, step.arguments, 0, step.units, scratch)


def drive(table: Table[StepRow], steps: int, counters: Any, scratch: Any, yield_at: int) -> None:
    """Run all steps together with whoever else does; `counters` start at 0. `yield_at`: a function that gives
    up the core.
    """
    for i in range(steps):
        step = table[i]
        kernel, units, chunks = step.kernel, step.units, step.chunks
        taken, done = i * COUNTERS, i * COUNTERS + COUNTERS // 2
        if atomic_load(counters, taken) < chunks:
            chunk = atomic_add(counters, taken, 1)
            while chunk < chunks:
                lo, hi = units * chunk // chunks, units * (chunk + 1) // chunks
                call_kernel(kernel, step.arguments, lo, hi, scratch)
                atomic_add(counters, done, 1)
                chunk = atomic_add(counters, taken, 1)
        waited = 0
        while atomic_load(counters, done) < chunks:
            pause()
            waited += 1
            if waited > _PATIENCE:
                yield_thread(yield_at)
                waited = 0


export("run", types.void(RowsType(StepRow), types.int64, P8), drive_alone)
export("run", types.void(RowsType(StepRow), types.int64, P64, P8, types.int64), drive)
