"""The interpreter: walks the steps of a segment, alone or together with other threads.

Threads share a step by taking chunks of its units from a counter. A step is over when all its chunks are
done, not when all threads have come by: a thread that wakes late, or that the system takes off its core
between two chunks, holds nobody up.
"""

from __future__ import annotations

from typing import Any

from openbpu.simulator.fast.kernels.lang import helper, types
from openbpu.simulator.fast.kernels.pointers import (
    P8,
    P64,
    address_of,
    atomic_add,
    atomic_load,
    call_kernel,
    ld,
    p64,
    pause,
    yield_thread,
)

ROW = 40
"""int64 of one step: kernel, units, chunks, arguments."""
HEAD = 3
COUNTERS = 16
"""int64 between the counters of two steps: chunks taken and chunks done, each in a cache line of its own."""
_PATIENCE = 4000


@helper
def _arguments(table: Any, step: int) -> Any:
    return p64(address_of(table) + 8 * (step * ROW + HEAD))


def drive_alone(table: Any, steps: int, scratch: Any) -> None:
    """Run all steps in this thread."""
    for step in range(steps):
        kernel, units = ld(table, step * ROW), ld(table, step * ROW + 1)
        call_kernel(kernel, _arguments(table, step), 0, units, scratch)


def drive(table: Any, steps: int, counters: Any, scratch: Any, yield_at: int) -> None:
    """Run all steps together with whoever else does;

    `counters` start at 0. `yield_at`: a function that gives up the core.
    """
    for step in range(steps):
        kernel, units, chunks = ld(table, step * ROW), ld(table, step * ROW + 1), ld(table, step * ROW + 2)
        taken, done = step * COUNTERS, step * COUNTERS + COUNTERS // 2
        if atomic_load(counters, taken) < chunks:
            chunk = atomic_add(counters, taken, 1)
            while chunk < chunks:
                lo, hi = units * chunk // chunks, units * (chunk + 1) // chunks
                call_kernel(kernel, _arguments(table, step), lo, hi, scratch)
                atomic_add(counters, done, 1)
                chunk = atomic_add(counters, taken, 1)
        waited = 0
        while atomic_load(counters, done) < chunks:
            pause()
            waited += 1
            if waited > _PATIENCE:
                yield_thread(yield_at)
                waited = 0


KERNELS = {
    "drive_alone": (drive_alone, types.void(P64, types.int64, P8)),
    "drive": (drive, types.void(P64, types.int64, P64, P8, types.int64)),
}
