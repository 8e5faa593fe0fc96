"""How long a program takes: BPU segments simulated in cycles, CPU segments estimated.

Two figures for a whole run are estimates on top: per frame when several threads keep the BPU busy, and from
call to return in one thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

from openbpu.arch.dtypes import DType
from openbpu.arch.march import Cpu, March
from openbpu.arch.program import BpuSegment, CpuSegment, Program, Tensor
from openbpu.arch.timing.cpu import CpuParts, cpu_parts_of

if TYPE_CHECKING:
    from openbpu.simulator.timing import Timing as Timing  # noqa: PLC0414 - re-exported to the reports

_US = 1e6
_PS_PER_US = 1e6


@dataclass(frozen=True, slots=True)
class SegmentLatency:
    """One segment. `basis` says what the figure is: "simulated" (cycles) for the BPU, "estimate" for the CPU.

    `cycles` and `timing` are those of the BPU, and `start_us`, in `microseconds` beside them, is what the
    chip takes to start a segment; a CPU segment has none of the three.
    """

    name: str
    on: str  # "BPU" | "CPU"
    microseconds: float
    basis: str
    cycles: int = 0
    timing: Timing | None = field(default=None, repr=False)
    start_us: float = 0.0


@dataclass(frozen=True, slots=True)
class Latency:
    """One run of a program, batch as compiled, nothing else on the chip.

    `submit_us` is what the host adds per run, from the march (fitted to published latencies): like
    `dequantize_us` in neither `bpu_us` nor `cpu_us`, and in `one_thread_us` only;
    `serial_us` the part of it that bounds all `cores` together when every one of them is kept busy, and
    `shared_us` what a run takes of the DDR that they share (0: they do not slow each other down). Where
    several cores share the work of a run, `cores` counts how many runs the chip does at once. `images` is the
    batch: how many frames one run computes.
    """

    segments: tuple[SegmentLatency, ...]
    submit_us: float
    dequantize_us: float = 0.0
    serial_us: float = 0.0
    shared_us: float = 0.0
    cores: int = 1
    images: int = 1

    def __repr__(self) -> str:
        figures = f"bpu_us={self.bpu_us:.6g}, cpu_us={self.cpu_us:.6g}, submit_us={self.submit_us:.6g}"
        return f"Latency({figures}, segments: {len(self.segments)})"

    @property
    def fps(self) -> float:
        """Frames a second of the BPU alone, one run at a time: `images` per `bpu_us`; 0 without a BPU."""
        return self.images * _US / self.bpu_us if self.bpu_us else 0.0

    @property
    def frame_us(self) -> float:
        """Estimated time per run of one core when threads keep all cores busy, in µs: `images` frames.

        A CPU segment between BPU segments holds its frame's place on the BPU (published figures of networks
        with CPU operators in the middle show no overlap); CPU segments at the ends overlap with other frames.
        """
        return self.frame_us_on(self.cores)

    def frame_us_on(self, cores: int) -> float:
        """`frame_us` when only so many cores are kept busy: fewer wait for the host's serial part, and for
        each other's DDR traffic.
        """
        return max(self._frame_us(), cores * max(self.serial_us, self.shared_us))

    def _frame_us(self) -> float:
        on_bpu = [i for i, s in enumerate(self.segments) if s.on == "BPU"]
        if not on_bpu:
            return self.cpu_us
        return sum(s.microseconds for s in self.segments[on_bpu[0] : on_bpu[-1] + 1])

    @property
    def one_thread_us(self) -> float:
        """Estimated time from call to return in one thread, in µs: segments, submission, dequantizing."""
        return self.bpu_us + self.cpu_us + self.submit_us + self.dequantize_us

    @property
    def bpu_us(self) -> float:
        """Simulated time of the BPU segments, in µs."""
        return sum((s.microseconds for s in self.segments if s.on == "BPU"), 0.0)

    @property
    def cpu_us(self) -> float:
        """Estimated time of the CPU segments, in µs; 0 when there are none."""
        return sum((s.microseconds for s in self.segments if s.on == "CPU"), 0.0)


def latency_of(program: Program, march: March) -> Latency:
    """Simulate the BPU segments of `program` and estimate its CPU segments."""
    bare = sum(prod(t.shape) for t in (program.tensors[i] for i in program.outputs) if _is_integer(t))
    segments = tuple(_segment(program, index, march) for index in range(len(program.segments)))
    return Latency(
        segments,
        submit_us=float(march.cpu.submit_us),
        serial_us=float(march.cpu.serial_us),
        shared_us=_shared_us(segments, march),
        cores=max(march.chip.cores // cores_of(program), 1),
        dequantize_us=bare * march.cpu.dequantize_ps / _PS_PER_US,
        images=images_of(program),
    )


def _shared_us(segments: Sequence[SegmentLatency], march: March) -> float:
    rate = march.ddr.shared_bytes_per_second
    moved = sum(s.timing.loaded + s.timing.stored for s in segments if s.timing)
    return moved / rate * _US if rate else 0.0


def images_of(program: Program) -> int:
    """Return the batch: the first size that all inputs share, if it divides that of every output; else 1."""
    given = {program.tensors[i].shape[:1] for i in program.inputs}
    made = {program.tensors[i].shape[:1] for i in program.outputs}
    if len(given) != 1 or () in given | made:
        return 1
    batch = next(iter(given))[0]
    return batch if batch and all(size[0] and size[0] % batch == 0 for size in made) else 1


def cores_of(program: Program) -> int:
    """Return how many cores share the work of the program's BPU segments; 1 when there are none."""
    return max([1, *(len(s.code) for s in program.segments if isinstance(s, BpuSegment))])


def _is_integer(tensor: Tensor) -> bool:
    return tensor.dtype not in {DType.FLOAT32, DType.FLOAT16}


def _segment(program: Program, index: int, march: March) -> SegmentLatency:
    segment = program.segments[index]
    if isinstance(segment, CpuSegment):
        return SegmentLatency(segment.name, "CPU", cpu_parts(program, index, march.cpu).total_us, "estimate")
    from openbpu.simulator.timing import simulate  # noqa: PLC0415  # only when latency is asked for

    timing = simulate(program, segment, march)
    start = float(march.chip.start_us)
    us = timing.microseconds + start
    return SegmentLatency(segment.name, "BPU", us, "simulated", timing.cycles, timing, start)


def cpu_parts(program: Program, index: int, cpu: Cpu) -> CpuParts:
    """Return what the CPU segment at `index` costs: hand-over, dispatch per node, arithmetic, memory.

    Only a segment between BPU segments is handed over: at the ends, submitting a run and its return do that.
    """
    segment, kinds = program.segments[index], [type(s) for s in program.segments]
    if not isinstance(segment, CpuSegment):
        raise TypeError(f"segment {index} must be a CPU segment, not {type(segment).__name__}")
    between = BpuSegment in kinds[:index] and BpuSegment in kinds[index + 1 :]
    moved = segment.bytes_moved
    return cpu_parts_of(cpu, segment.nodes, segment.flops, moved, between=between)
