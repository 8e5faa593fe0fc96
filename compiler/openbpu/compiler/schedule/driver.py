"""From the operators of a segment to encoded tile instructions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from openbpu.arch.isa import Code, encode
from openbpu.arch.march import March
from openbpu.arch.program import Operator, Tensor
from openbpu.compiler.schedule.jobs import Context, NotAliasableError, jobs_of
from openbpu.compiler.schedule.memory.aliasing import Owners, find_subviews
from openbpu.compiler.schedule.memory.live_ranges import Boundary
from openbpu.compiler.schedule.memory.off_chip import OffChipAllocator
from openbpu.compiler.schedule.problem.job import Job
from openbpu.compiler.schedule.problem.options import ScheduleOptions
from openbpu.compiler.schedule.problem.subviews import Subview
from openbpu.compiler.schedule.search.candidates import ScheduleSearch, configurations
from openbpu.compiler.schedule.search.segment_planner import SegmentPlanner
from openbpu.compiler.schedule.tiling.policy import Policy


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A segment ready for the `.hbm`, and the program's `tensors` with the spaces and addresses chosen here.

    code: encoded instructions per core · chip_bytes: on-chip memory used, by the core that uses most ·
    ddr_bytes, l2m_bytes: ends of the DDR space and of the L2M used.
    """

    operators: tuple[Operator, ...]
    tensors: tuple[Tensor, ...]
    code: tuple[Code, ...]
    chip_bytes: int
    ddr_bytes: int
    l2m_bytes: int = 0


def schedule(  # noqa: PLR0913 - the segment, the chip and three addresses
    operators: Sequence[Operator],
    tensors: Sequence[Tensor],
    inputs: Sequence[int],
    outputs: Sequence[int],
    march: March,
    *,
    options: ScheduleOptions,
    ddr_base: int,
    ddr_start: int,
    l2m_start: int = 0,
    constants: npt.NDArray[np.uint8] | None = None,
) -> Scheduled:
    """Tile, place and order one segment.

    `tensors` is the table of the whole program: CONST and VIEW tensors are placed, a dynamic one with
    address −1 is placed here: on chip or at DDR addresses ≥ `ddr_start` (flat address: ddr_base + address).
    `inputs` and `outputs` are tensors that the caller placed in DDR, or in the L2M below `l2m_start`.
    `constants` is the image of the CONST space; with it Gather and Resize load only the rows their tables
    name.

    `options.opt` 0: one tile at a time, every tensor through DDR · 1: tiles go round the on-chip memory so
    that LOAD, STORE and compute overlap, what is on chip is not loaded again, DDR is reused · 2: tensors
    also stay on chip. The other options say what may be tried (`configurations`) and
    which schedule is kept: that of fewest DDR bytes (`options.balance` 0), least time (100) or least of both.

    Raises CompileError where even the smallest tile of an operator does not fit on chip.
    """
    owners = Owners(tensors)
    live_in, live_out = ({owners[t] for t in ids} for ids in (inputs, outputs))
    context = Context(tensors, owners, {}, constants)
    subviews, jobs = _jobs(operators, context, frozenset(live_in | live_out), march, aliased=options.opt > 1)
    used = {operand.root for job in jobs for operand in job.operands}
    policy = Policy(march, double_buffered=options.opt > 0, reuse=options.opt > 0, balance=options.balance)
    planner = SegmentPlanner(jobs, tensors, Boundary(live_in, live_out), march, keep_on_chip=options.opt > 1)
    allocator = OffChipAllocator(tensors, march.alignment, ddr_base, ddr_start, l2m_start, 0)
    best = ScheduleSearch(planner, operators, policy, allocator).best(configurations(options))
    plan, addresses = best.plan, best.addresses
    hidden = {*subviews, *(used - {*plan.live_ranges, *plan.on_chip})}
    idle = [encode([])] * (options.cores - len(best.code))
    return Scheduled(
        tuple(operators),
        best.allocator.placed_tensors(addresses, plan.on_chip, hidden),
        (*best.code, *idle),
        best.chip_bytes,
        addresses.ddr_bytes,
        addresses.l2m_bytes,
    )


def _jobs(
    operators: Sequence[Operator], dense: Context, pinned: frozenset[int], march: March, *, aliased: bool
) -> tuple[Mapping[int, Subview], list[Job]]:
    """The tensors that are subviews of others (none unless `aliased`), and the jobs that access them as such.

    A tensor that some job cannot access as a subview keeps memory of its own.
    """
    unaliased: frozenset[int] = frozenset()
    while True:
        subviews: Mapping[int, Subview] = {}
        if aliased:
            subviews = find_subviews(
                operators, dense.tensors, dense.owners, pinned, unaliased, march.chip_bytes
            )
        context = replace(dense, subviews=subviews)
        try:
            return subviews, [job for i, op in enumerate(operators) for job in jobs_of(i, op, context)]
        except NotAliasableError as refused:
            unaliased |= {refused.owner}
