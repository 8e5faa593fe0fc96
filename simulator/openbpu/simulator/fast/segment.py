"""A BPU segment, ready to run: steps with addresses, in as many workspaces as there are runs at once."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from openbpu.arch.errors import SimulationError, must
from openbpu.arch.program import BpuSegment, Program
from openbpu.simulator.fast.jit.library import library
from openbpu.simulator.fast.lower import Lowering, lower_segment
from openbpu.simulator.fast.lower.steps import Argument, Late, Place, Saturations, Symbol
from openbpu.simulator.fast.plan import plan_buffers
from openbpu.simulator.fast.threads import helpers

Array = npt.NDArray[np.generic]
Tensors = dict[int, Array]

_ROW = 40
_HEAD = 3
_COUNTERS = 16
_SCRATCH = 65536
_CHUNK_NS = 4000.0
_CLOSED = 1 << 32


class FastSegment:
    """Runs one BpuSegment with whole-layer kernels; `run` may be called from several threads at once.

    `saturations` counts the accumulators that saturated in the last run; only layers marked wide can have any.
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
        """Return every tensor that the segment writes; for debugging, with a workspace that shares nothing."""
        if self._everything is None:
            self._everything = _Plan(self.program, self.segment, self.threads, share=False)
        written = tuple(dict.fromkeys(t for op in self.segment.operators for t in op.outputs))
        wanted = tuple(dict.fromkeys((*written, *self.segment.outputs)))
        outputs, self.saturations = self._everything.run(tensors, wanted)
        return outputs


class _Plan:
    """The lowered segment and its workspaces."""

    def __init__(self, program: Program, segment: BpuSegment, threads: int, *, share: bool) -> None:
        self.program, self.segment, self.threads = program, segment, threads
        self.low = Lowering(program, segment)
        lower_segment(self.low)
        self.offsets, self.size = plan_buffers(self.low.buffers, share=share)
        self.symbols = _symbols(self.low)
        self.arrays: dict[int, Array] = {}
        self.rows = [[self._fixed(a) for a in step.arguments] for step in self.low.steps]
        self._free: list[_Workspace] = []
        self._lock = threading.Lock()
        if threads > 1:
            helpers().ensure(threads - 1)

    def _fixed(self, argument: Argument) -> Argument:
        """Replace what does not depend on the workspace by a number; arrays are kept alive."""
        if isinstance(argument, Late):
            argument = np.ascontiguousarray(argument.make(lambda p: self.offsets[p.buffer] + p.offset))
        if isinstance(argument, tuple):
            addresses = [self.symbols[s.name] if s else 0 for s in argument]
            argument = np.array(addresses, dtype=np.int64)
        if isinstance(argument, Symbol):
            return self.symbols[argument.name]
        if isinstance(argument, np.ndarray):
            data = aligned_copy(argument)
            self.arrays[data.ctypes.data] = data
            return int(data.ctypes.data)
        return argument

    def chunks(self, units: int, work: float) -> int:
        """Into how many pieces threads may cut a step."""
        if self.threads == 1:
            return 1
        return int(max(1, min(units, work / _CHUNK_NS, 4 * self.threads)))

    def run(self, tensors: Tensors, wanted: tuple[int, ...]) -> tuple[Tensors, int]:
        """Run in a workspace of the pool."""
        with self._lock:
            workspace = self._free.pop() if self._free else None
        workspace = workspace or _Workspace(self)
        try:
            for tensor_id in self.segment.inputs:
                workspace.put(tensor_id, tensors[tensor_id])
            workspace.execute()
            return {t: workspace.get(t) for t in wanted}, int(workspace.saturations[0])
        finally:
            with self._lock:
                self._free.append(workspace)


def _symbols(low: Lowering) -> dict[str, int]:
    names = {"drive", "drive_alone", *(step.kernel for step in low.steps)}
    for step in low.steps:
        for argument in step.arguments:
            group = argument if isinstance(argument, tuple) else (argument,)
            names.update(s.name for s in group if isinstance(s, Symbol))
    return {name: library().address(name, low.mode) for name in sorted(names)}


def aligned_copy(values: Array) -> Array:
    """Return a copy that starts on a cache line and has a line of slack behind it."""
    raw = np.zeros(values.nbytes + 192, dtype=np.uint8)
    start = -raw.ctypes.data % 64
    data = raw[start : start + values.nbytes]
    data[:] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    return data


class _Workspace:
    """Memory of one run: buffers, counters, scratch per thread, and the table of steps with its addresses."""

    def __init__(self, plan: _Plan) -> None:
        self.plan = plan
        steps = plan.low.steps
        self.memory = aligned_copy(np.zeros(plan.size, dtype=np.uint8))
        self.saturations = np.zeros(8, dtype=np.int64)
        self.counters = np.zeros((len(steps) + 1) * _COUNTERS, dtype=np.int64)
        self.scratch = aligned_copy(np.zeros(_SCRATCH * plan.threads, dtype=np.uint8))
        for buffer, offset in zip(plan.low.buffers, plan.offsets, strict=True):
            if buffer.image is not None:
                self.memory[offset : offset + buffer.nbytes] = buffer.image
        self.table = np.zeros((len(steps) + 1, _ROW), dtype=np.int64)
        for row, step, arguments in zip(self.table, steps, plan.rows, strict=False):
            row[:_HEAD] = plan.symbols[step.kernel], step.units, plan.chunks(step.units, step.work)
            row[_HEAD : _HEAD + len(arguments)] = [self._number(a) for a in arguments]
        self.joined, self.left = 0, 0
        self.door = threading.Lock()
        self._calls()

    def _number(self, argument: Argument) -> int:
        if isinstance(argument, Place):
            return int(self.memory.ctypes.data) + self.plan.offsets[argument.buffer] + argument.offset
        if isinstance(argument, Saturations):
            return int(self.saturations.ctypes.data)
        assert isinstance(argument, int)  # noqa: S101 - the plan has replaced the rest
        return argument

    def _calls(self) -> None:
        steps, table, scratch = len(self.plan.low.steps), self.table.ctypes.data, self.scratch.ctypes.data
        nothing = (ctypes.c_void_p * 2)()
        self._keep = nothing
        ends = (ctypes.addressof(nothing), ctypes.addressof(nothing))
        word = ctypes.c_int64
        alone = ctypes.CFUNCTYPE(ctypes.c_int, *[word] * 5)(self.plan.symbols["drive_alone"])
        shared = ctypes.CFUNCTYPE(ctypes.c_int, *[word] * 7)(self.plan.symbols["drive"])
        counters = self.counters.ctypes.data
        self.alone: Callable[[], int] = lambda: alone(*ends, table, steps, scratch)
        self.share: Callable[[int], int] = lambda thread: shared(
            *ends, table, steps, counters, scratch + thread * _SCRATCH, yield_address()
        )

    def view(self, tensor_id: int) -> Array:
        """Return the bytes of a tensor as an array."""
        tensor = self.plan.program.tensors[tensor_id]
        start = self.plan.offsets[self.plan.low.homes[self.plan.program.root(tensor_id)]]
        raw = self.memory[start : start + tensor.nbytes]
        return raw.view(tensor.dtype.numpy).reshape(tensor.shape)

    def put(self, tensor_id: int, values: Array) -> None:
        """Copy an input in."""
        np.copyto(self.view(tensor_id), values.reshape(self.plan.program.tensors[tensor_id].shape))

    def get(self, tensor_id: int) -> Array:
        """Copy an output out."""
        return self.view(tensor_id).copy()

    def execute(self) -> None:
        """Run all steps."""
        self.saturations[0] = 0
        if self.plan.threads == 1:
            self.alone()
            return
        self.counters[:] = 0
        run = _Run(self)
        for _ in range(self.plan.threads - 1):
            helpers().offer(run.help)
        self.share(0)
        run.close()


class _Run:
    """One shared execution: helpers may enter until the caller has finished; then it waits for those inside."""

    def __init__(self, workspace: _Workspace) -> None:
        self.workspace = workspace
        self.door = threading.Condition()
        self.entered, self.inside, self.closed = 0, 0, False

    def help(self) -> None:
        """Take part, unless it is over."""
        with self.door:
            if self.closed:
                return
            self.entered += 1
            self.inside += 1
            thread = self.entered
        self.workspace.share(thread)
        with self.door:
            self.inside -= 1
            self.door.notify()

    def close(self) -> None:
        """Let nobody in any more and wait until all are out."""
        with self.door:
            self.closed = True
            while self.inside:
                self.door.wait()


@lru_cache(maxsize=1)
def yield_address() -> int:
    """Return the address of the system's function that gives up the core."""
    if sys.platform == "win32":
        function = ctypes.windll.kernel32.SwitchToThread
    else:
        function = ctypes.CDLL(None).sched_yield
    return ctypes.cast(function, ctypes.c_void_p).value or 0
