"""What bounds a CPU segment: hand-over, dispatch, arithmetic or memory; all of it an estimate."""

from __future__ import annotations

from dataclasses import dataclass

from openbpu.arch.march import March
from openbpu.arch.program import BpuSegment, CpuSegment, Placement, Program
from openbpu.arch.timing.cpu import CpuParts
from openbpu.runtime.latency import cpu_parts
from openbpu.runtime.roofline.changes.ends import converting_segments, without

_CONVERSIONS = frozenset({"QuantizeLinear", "DequantizeLinear"})


@dataclass(frozen=True, slots=True)
class CpuBound:
    """A CPU segment. by: the largest part · why, cure: sentences · gain_us: without it, at most.

    The time of its nodes on the BPU is not known before they are there, and is not taken off the gain.
    """

    segment: int
    nodes: int
    parts: CpuParts
    by: str
    why: str
    cure: str
    gain_us: float


def cpu_bounds(program: Program, march: March) -> tuple[CpuBound, ...]:
    """Return the CPU segments of a program in their order."""
    ends = converting_segments(program)
    return tuple(
        _bound(program, march, index, segment, ends.get(index, ""))
        for index, segment in enumerate(program.segments)
        if isinstance(segment, CpuSegment)
    )


def _bound(program: Program, march: March, index: int, segment: CpuSegment, end: str) -> CpuBound:
    parts = cpu_parts(program, index, march.cpu)
    three = {
        "hand-over": parts.handover_us,
        "dispatch": parts.dispatch_us,
        "arithmetic" if parts.arithmetic_us >= parts.memory_us else "memory": parts.work_us,
    }
    by = max(three, key=lambda k: three[k])
    gain = parts.total_us + (march.chip.start_us if _splits(program, index) else 0)
    nodes = [p for p in program.placement if p.segment == index and p.on == "CPU"]
    why = f"CPU segment, {by} {three[by]:.0f} of {parts.total_us:.0f} µs"
    cure = without(program, end) if end else _cure(nodes)
    return CpuBound(index, segment.nodes, parts, by, why, cure, gain)


def _splits(program: Program, index: int) -> bool:
    """Whether the BPU's work would be one segment without this one."""
    around = program.segments[max(index - 1, 0) : index] + program.segments[index + 1 : index + 2]
    return len(around) == 2 and all(isinstance(s, BpuSegment) for s in around)


def _cure(nodes: list[Placement]) -> str:
    core = [p for p in nodes if p.op not in _CONVERSIONS]
    if nodes and not core:
        return nodes[0].fix
    kinds = ", ".join(dict.fromkeys(p.op for p in core)) or "its nodes"
    fix = next((p.fix for p in core if p.fix), "")
    return f"{kinds} onto the BPU" + (f" ({fix})" if fix else "")
