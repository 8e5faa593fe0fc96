"""A BPU segment, ready to run: lowered once, run in as many workspaces as there are runs at once."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from openbpu.arch.errors import SimulationError, must
from openbpu.arch.memory import check_fits
from openbpu.arch.program import BpuSegment, Program
from openbpu.simulator.fast.jit.library import library
from openbpu.simulator.fast.operators import families_of, lower_segment
from openbpu.simulator.fast.plan.steps import (
    Argument,
    Array,
    Late,
    Lowering,
    Place,
    Saturations,
    Step,
    Symbol,
)
from openbpu.simulator.fast.run.memory import plan_buffers
from openbpu.simulator.fast.run.pace import Pace
from openbpu.simulator.fast.run.threads import helpers
from openbpu.simulator.fast.run.workspace import Row, SharedRun, Workspace, aligned_copy

Tensors = dict[int, Array]

_CHUNK_NS = 4000.0
"""Least work worth a chunk of its own: taking one costs a cache line that moves between cores."""
_CHUNKS_PER_THREAD = 4


class FastSegment:
    """Runs one BpuSegment with whole-layer kernels; `run` may be called from several threads at once.

    `saturations` counts the accumulators that saturated in the last run; only layers marked wide can have
    any. Raises SimulationError for a wrong number of threads or unknown OPENBPU_KERNELS.
    """

    def __init__(self, program: Program, segment: BpuSegment, threads: int = 1) -> None:
        if threads < 1:
            raise SimulationError(must("fast simulator", "threads", "1 or more", threads))
        self.program, self.segment, self.threads = program, segment, threads
        self.saturations = 0
        self._plan = _Plan(program, segment, threads, share=True)
        self._everything: _Plan | None = None

    def run(self, tensors: Tensors) -> Tensors:
        """Return the outputs of the segment, by tensor id, for the tensors in `segment.inputs`."""
        outputs, self.saturations = self._plan.run(tensors, self.segment.outputs)
        return outputs

    def run_all(self, tensors: Tensors) -> Tensors:
        """Return every tensor that the segment writes: for debugging, where none share bytes."""
        if self._everything is None:
            self._everything = _Plan(self.program, self.segment, self.threads, share=False)
        written = tuple(dict.fromkeys(t for op in self.segment.operators for t in op.outputs))
        wanted = tuple(dict.fromkeys((*written, *self.segment.outputs)))
        outputs, self.saturations = self._everything.run(tensors, wanted)
        return outputs


class _Plan:
    """The lowered segment: rows of the step table, the layout of the memory, the workspaces of both."""

    def __init__(self, program: Program, segment: BpuSegment, threads: int, *, share: bool) -> None:
        self.program, self.segment, self.threads = program, segment, threads
        low = Lowering(program, segment)
        lower_segment(low)
        self.offsets, self.size = plan_buffers(low.buffers, share=share)
        self.homes = {tensor_id: self.offsets[buffer] for tensor_id, buffer in low.homes.items()}
        self.images = [
            (o, b.image) for o, b in zip(self.offsets, low.buffers, strict=True) if b.image is not None
        ]
        check_fits(f"BPU segment '{segment.name}'", "the memory of its layers", self.size)
        library().require(families_of(map(type, segment.operators), low.mode))
        self.symbols = _symbols(low)
        self.constants: list[Array] = []
        self.rows = [
            Row(
                _kernel(step), step.units, self._chunks(step.units, step.work),
                [self._fixed(a) for a in step.arguments],
            )
            for step in low.steps
        ]  # fmt: skip
        self._free: list[Workspace] = []
        self._lock = threading.Lock()
        self._pace = Pace()
        if threads > 1:
            helpers().ensure(threads - 1)

    def _fixed(self, argument: Argument) -> int | Place | Saturations:
        """Replace what does not depend on the workspace by a number, and keep arrays alive."""
        if isinstance(argument, Symbol):
            return self.symbols[argument.name]
        if isinstance(argument, int | Saturations):
            return argument
        if isinstance(argument, Place):
            return replace(argument, offset=self.offsets[argument.buffer] + argument.offset)
        if isinstance(argument, Late):
            argument = argument.make(lambda p: self.offsets[p.buffer] + p.offset)
        if isinstance(argument, tuple):
            argument = np.array([self.symbols[s.name] if s else 0 for s in argument], dtype=np.int64)
        self.constants.append(aligned_copy(argument))
        return int(self.constants[-1].ctypes.data)

    def _chunks(self, units: int, work: float) -> int:
        """Into how many pieces threads may cut a step."""
        if self.threads == 1:
            return 1
        return int(max(1, min(units, work / _CHUNK_NS, _CHUNKS_PER_THREAD * self.threads)))

    def run(self, tensors: Tensors, wanted: tuple[int, ...]) -> tuple[Tensors, int]:
        """Run in a workspace of the pool; return the tensors wanted and the number of saturations."""
        with self._lock:
            workspace = self._free.pop() if self._free else None
        if workspace is None:
            workspace = Workspace(self.size, self.images, self.rows, self.threads)
        shared = self.threads > 1 and self._pace.shared_now()
        run = SharedRun(workspace, self.threads - 1 if shared else 0, self._release)
        try:
            for tensor_id in self.segment.inputs:
                view = self._view(workspace, tensor_id)
                np.copyto(view, tensors[tensor_id].reshape(view.shape))
            start = time.perf_counter()
            run.execute()
            self._pace.record(shared=shared, seconds=time.perf_counter() - start)
            return {t: self._view(workspace, t).copy() for t in wanted}, workspace.saturations()
        finally:
            run.close()

    def _view(self, workspace: Workspace, tensor_id: int) -> Array:
        """The bytes of a tensor as an array."""
        tensor, start = self.program.tensors[tensor_id], self.homes[self.program.root(tensor_id)]
        raw: npt.NDArray[np.uint8] = workspace.memory[start : start + tensor.nbytes]
        return raw.view(tensor.dtype.numpy).reshape(tensor.shape)

    def _release(self, workspace: Workspace) -> None:
        with self._lock:
            self._free.append(workspace)


def _kernel(step: Step) -> int:
    return library().address(step.family, step.kernel)


def _symbols(low: Lowering) -> dict[str, int]:
    """Find every vector kernel that the steps name."""
    names: set[str] = set()
    for step in low.steps:
        for argument in step.arguments:
            group = argument if isinstance(argument, tuple) else (argument,)
            names.update(s.name for s in group if isinstance(s, Symbol))
    return {name: library().address(f"vector_{low.mode}", name) for name in sorted(names)}
