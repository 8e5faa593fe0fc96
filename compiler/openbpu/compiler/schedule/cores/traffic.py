"""Traffic between cores: what each reads and writes of every tensor, what it may keep and must hand on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from openbpu.arch.program import Space, Tensor
from openbpu.compiler.schedule.cores.parts import Partition
from openbpu.compiler.schedule.memory.live_ranges import Boundary, LiveRange
from openbpu.compiler.schedule.problem.byte_ranges import ByteRange, Interval, byte_range_of, regions_outside
from openbpu.compiler.schedule.problem.index_maps import Box
from openbpu.compiler.schedule.problem.job import Operand


@dataclass(frozen=True, slots=True)
class OperandAccess:
    """One core's part of the job at `moment` reads or writes (`output`) bytes of a tensor's memory.

    touched: those bytes · operand, region: the operand of the part that it is, and the indices accessed.
    """

    core: int
    moment: int
    output: bool
    touched: ByteRange
    operand: Operand
    region: Box


Accesses = Mapping[int, Sequence[OperandAccess]]
"""All accesses of a segment by root, in the order of the jobs."""


def accesses_of(jobs: Sequence[Partition], tensors: Sequence[Tensor]) -> Accesses:
    """Every access of every part of every job, but those of constants."""
    found: dict[int, list[OperandAccess]] = {}
    for moment, parts in enumerate(jobs):
        for core, part in enumerate(parts):
            if part is None:
                continue
            for operand in part.operands:
                if tensors[operand.root].space is not Space.CONST:
                    region = operand.region(tuple([(0, n) for n in part.extent]))
                    touched = byte_range_of(part, operand)
                    access = OperandAccess(core, moment, operand.output, touched, operand, region)
                    found.setdefault(operand.root, []).append(access)
    return found


def live_ranges_on(
    core: int, accesses: Accesses, moments: Mapping[int, int], tensors: Sequence[Tensor], boundary: Boundary
) -> dict[int, LiveRange]:
    """The live ranges, on one core, of tensors that it may keep on chip; `moments`: its own count of the jobs
    that it takes part in, by the common one.
    """
    found = {}
    for root, all_of_it in accesses.items():
        if any(t.core == core for t in all_of_it):
            live_out = root in boundary.live_out or tensors[root].address >= 0
            live_in = root in boundary.live_in
            life = _live_range(core, root, all_of_it, tensors[root].nbytes, live_in, live_out)
            if life:
                life.writes, life.reads = (
                    sorted({moments[t.moment] for t in all_of_it if t.core == core and t.output is output})
                    for output in (True, False)
                )
                found[root] = life
    return found


def _live_range(
    core: int, root: int, accesses: Sequence[OperandAccess], nbytes: int, live_in: bool, live_out: bool
) -> LiveRange | None:
    """A tensor's live range on one core; None where the core cannot tell its own bytes from those of others,
    or must not wait for them.
    """
    mine = [t for t in accesses if t.core == core]
    low, high = min(t.touched.low for t in mine), max(t.touched.high for t in mine)
    life = LiveRange(root, high - low, live_in, live_out, low=low)
    if not any(t.output for t in mine):
        life.live_in = True
        return life if _complete(mine, accesses) else None
    written = None if live_in else _written(core, accesses, nbytes)
    if written is None:
        return None
    if any(t.touched.low < written[0] or written[1] < t.touched.high for t in mine):
        life.by_rows = not _complete(mine, accesses)
        reads = [t for t in mine if not t.output]
        if life.by_rows and any(regions_outside(t.operand, t.region, written) is None for t in reads):
            return None
        life.written = written
    exported = _exported(core, accesses, written)
    if not live_out:
        life.live_out, life.exported = bool(exported), exported
    return life


def _exported(core: int, accesses: Sequence[OperandAccess], written: Interval) -> tuple[Interval, ...]:
    """What other cores may load of the bytes that a core wrote: for each core, all between the first and the
    last that it touches.
    """
    found = set()
    for other in {t.core for t in accesses if t.core != core and not t.output}:
        theirs = [t.touched for t in accesses if t.core == other]
        low, high = min(e.low for e in theirs), max(e.high for e in theirs)
        if low < written[1] and written[0] < high:
            found.add((low, high))
    return tuple(sorted(found))


def _complete(mine: Sequence[OperandAccess], accesses: Sequence[OperandAccess]) -> bool:
    """Whether all is written before the core reads any: what it loads early is then final."""
    first = min((t.moment for t in mine if not t.output), default=0)
    return all(t.moment < first for t in accesses if t.output)


def _written(core: int, accesses: Sequence[OperandAccess], nbytes: int) -> Interval | None:
    """The bytes that a core writes, if it alone writes them and all between the first and the last."""
    written = [t for t in accesses if t.output]
    mine = [t.touched for t in written if t.core == core]
    if len(mine) == len(written):
        return 0, nbytes
    low, high = min(e.low for e in mine), max(e.high for e in mine)
    contiguous = sum(e.count for e in mine) == high - low
    once = sum(t.touched.count for t in written) <= nbytes
    return (low, high) if contiguous and once else None
