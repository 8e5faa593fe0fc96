"""The memory of one run, and the run itself, alone or shared with helper threads."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from openbpu.arch.arrays import Bytes
from openbpu.simulator.fast.declaration import layout, words_of
from openbpu.simulator.fast.jit.library import library
from openbpu.simulator.fast.plan.steps import Array, Place, Saturations
from openbpu.simulator.fast.run.arguments import COUNTERS, StepRow
from openbpu.simulator.fast.run.threads import helpers
from openbpu.simulator.fast.scratch import SCRATCH

_AT = {name: field.at for name, field in layout(StepRow).items()}


@dataclass(frozen=True, slots=True)
class Row:
    """A step whose arguments are numbers; those that lie in the workspace are offsets in its memory."""

    kernel: int
    units: int
    chunks: int
    arguments: list[int | Place | Saturations]


def aligned_copy(values: Array) -> Bytes:
    """Return the bytes of an array, on a cache line and with a line of slack behind them."""
    data = aligned_zeros(values.nbytes)
    data[:] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    return data


def aligned_zeros(nbytes: int) -> Bytes:
    """Return zeros as aligned_copy."""
    raw = np.zeros(nbytes + 192, dtype=np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + nbytes]


class Workspace:
    """Buffers, counters, scratch per thread, and the table of steps with the addresses of this workspace."""

    def __init__(
        self,
        size: int,
        images: Sequence[tuple[int, Array]],
        rows: Sequence[Row],
        threads: int,
    ) -> None:
        self.memory = aligned_zeros(size)
        for offset, image in images:
            self.memory[offset : offset + image.nbytes] = image.view(np.uint8)
        self._saturations = np.zeros(8, dtype=np.int64)
        self._counters = np.zeros((len(rows) + 1) * COUNTERS, dtype=np.int64)
        self._scratch = aligned_zeros(SCRATCH * threads)
        self._table = np.zeros((len(rows) + 1, words_of(StepRow)), dtype=np.int64)
        for line, row in zip(self._table, rows, strict=False):
            line[_AT["kernel"]], line[_AT["units"]], line[_AT["chunks"]] = row.kernel, row.units, row.chunks
            start = _AT["arguments"]
            line[start : start + len(row.arguments)] = [self._number(a) for a in row.arguments]
        self.alone, self.take_part = self._calls(len(rows))

    def _number(self, argument: int | Place | Saturations) -> int:
        if isinstance(argument, Place):
            return int(self.memory.ctypes.data) + argument.offset
        if isinstance(argument, Saturations):
            return int(self._saturations.ctypes.data)
        return argument

    def _calls(self, steps: int) -> tuple[Callable[[], int], Callable[[int], int]]:
        """Return what runs all steps alone, and what does so as the n-th of several threads."""
        table, scratch = self._table.ctypes.data, self._scratch.ctypes.data
        counters, yield_core = self._counters.ctypes.data, yield_address()
        word, result = ctypes.c_int64, ctypes.c_int32
        # numba's convention: pointers for a result and an error come first; kernels use neither.
        self._unused = np.zeros(2, dtype=np.int64)
        unused = self._unused.ctypes.data
        alone = ctypes.CFUNCTYPE(result, *[word] * 5)(library().address("run", "drive_alone"))
        shared = ctypes.CFUNCTYPE(result, *[word] * 7)(library().address("run", "drive"))
        return (
            lambda: int(alone(unused, unused, table, steps, scratch)),
            lambda n: int(shared(unused, unused, table, steps, counters, scratch + n * SCRATCH, yield_core)),
        )

    def reset(self) -> None:
        """Prepare for a new run."""
        self._saturations[0] = 0
        self._counters[:] = 0

    def saturations(self) -> int:
        """Accumulators that saturated since `reset`."""
        return int(self._saturations[0])


class SharedRun:
    """One execution that helpers may join until its caller has finished.

    The caller does not wait for helpers to leave (the system may have taken one off its core): whoever
    leaves last gives the workspace back.
    """

    def __init__(self, workspace: Workspace, helpers: int, release: Callable[[Workspace], None]) -> None:
        self._workspace, self._helpers, self._release = workspace, helpers, release
        self._lock = threading.Lock()
        self._entered, self._inside, self._closed = 0, 1, False

    def execute(self) -> None:
        """Run all steps; when it returns they are done."""
        self._workspace.reset()
        if self._helpers == 0:
            self._workspace.alone()
            return
        for _ in range(self._helpers):
            helpers().offer(self._help)
        self._workspace.take_part(0)

    def _help(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._entered += 1
            self._inside += 1
            number = self._entered
        self._workspace.take_part(number)
        self._leave()

    def close(self) -> None:
        """Let nobody in any more."""
        with self._lock:
            self._closed = True
        self._leave()

    def _leave(self) -> None:
        with self._lock:
            self._inside -= 1
            last = self._closed and self._inside == 0
        if last:
            self._release(self._workspace)


@lru_cache(maxsize=1)
def yield_address() -> int:
    """Return the address of the system's function that gives up the core."""
    if sys.platform == "win32":
        function = ctypes.windll.kernel32.SwitchToThread
    else:
        function = ctypes.CDLL(None).sched_yield
    return ctypes.cast(function, ctypes.c_void_p).value or 0
