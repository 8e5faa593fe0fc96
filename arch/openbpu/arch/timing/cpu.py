"""What operators cost the CPU beside the BPU: an estimate, on one core, from the figures of a march."""

from __future__ import annotations

from dataclasses import dataclass

from openbpu.arch.march import Cpu

_US = 1e6


@dataclass(frozen=True, slots=True)
class CpuParts:
    """The estimate of a CPU segment on one core, in µs: arithmetic and memory traffic overlap."""

    handover_us: float
    dispatch_us: float
    arithmetic_us: float
    memory_us: float

    @property
    def work_us(self) -> float:
        """The slower of arithmetic and memory."""
        return max(self.arithmetic_us, self.memory_us)

    @property
    def busy_us(self) -> float:
        """All but the hand-over."""
        return self.dispatch_us + self.work_us

    @property
    def total_us(self) -> float:
        """The whole segment."""
        return self.handover_us + self.busy_us


def cpu_parts_of(cpu: Cpu, nodes: int, flops: int, bytes_moved: int, *, between: bool) -> CpuParts:
    """Return what so many nodes with so much work in all cost.

    Only what stands `between` BPU segments is handed over: at the ends, submitting a run and its return do
    that.
    """
    return CpuParts(
        handover_us=float(cpu.handover_us) if between else 0.0,
        dispatch_us=float(nodes * cpu.dispatch_us),
        arithmetic_us=flops / (cpu.flops_per_cycle * cpu.clock_hz) * _US,
        memory_us=bytes_moved / cpu.bytes_per_second * _US,
    )
