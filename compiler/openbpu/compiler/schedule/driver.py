"""From the operators of a segment to encoded tile instructions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
import numpy.typing as npt

from openbpu.arch.isa import Code, encode
from openbpu.arch.march import March
from openbpu.arch.program import Operator, Space, Tensor
from openbpu.compiler.schedule.jobs import Context, MisfitError, jobs_of
from openbpu.compiler.schedule.memory.aliasing import places_of
from openbpu.compiler.schedule.memory.live_ranges import Ends
from openbpu.compiler.schedule.memory.off_chip import Addresses
from openbpu.compiler.schedule.problem.job import Job
from openbpu.compiler.schedule.problem.options import Effort
from openbpu.compiler.schedule.problem.subviews import Place
from openbpu.compiler.schedule.search.candidates import Candidates, ways
from openbpu.compiler.schedule.search.segment import Work
from openbpu.compiler.schedule.tiling.cost import Rules


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A segment ready for the `.hbm`: `tensors` is the program's table with the spaces and addresses chosen
    here.

    `code`: encoded instructions per core; `chip_bytes`: on-chip memory used, by the core that uses most;
    `ddr_bytes`, `l2m_bytes`: ends of the DDR space and of the L2M used.
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
    effort: Effort,
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

    `effort.opt` 0: one tile at a time, every tensor through DDR · 1: tiles go round the on-chip memory so
    that LOAD, STORE and compute overlap, what is on chip is not loaded again, DDR is reused · 2: tensors
    also stay on chip. The others say what may be tried (`ways`) and which attempt is kept: that of
    fewest DDR bytes (`effort.balance` 0), least time (100) or least of both.

    Raises CompileError where even the smallest tile of an operator does not fit on chip.
    """
    owners = _Owners(tensors)
    given, kept = ({owners[t] for t in ids} for ids in (inputs, outputs))
    context = Context(tensors, owners, {}, constants)
    places, jobs = _jobs(operators, context, frozenset(given | kept), march, inside=effort.opt > 1)
    used = {operand.root for job in jobs for operand in job.operands}
    rules = Rules(march, double=effort.opt > 0, reuse=effort.opt > 0, balance=effort.balance)
    work = Work(jobs, tensors, Ends(given, kept), resident=effort.opt > 1)
    addresses = Addresses(tensors, march.alignment, ddr_base, ddr_start, l2m_start, 0)
    best = Candidates(work, operators, rules, addresses).best(ways(effort))
    split, memories = best.split, best.memories
    inside = {*places, *(used - {*split.uses, *split.on_chip})}
    idle = [encode([])] * (effort.cores - len(best.code))
    return Scheduled(
        tuple(operators),
        best.addresses.final(memories, split.on_chip, inside),
        (*best.code, *idle),
        best.chip_bytes,
        memories.ddr_bytes,
        memories.l2m_bytes,
    )


def _jobs(
    operators: Sequence[Operator], dense: Context, fixed: frozenset[int], march: March, *, inside: bool
) -> tuple[Mapping[int, Place], list[Job]]:
    """Places of the tensors that lie inside others (none unless `inside`) and the jobs that see them there.

    A tensor that some job cannot see in rows stays apart.
    """
    apart: frozenset[int] = frozenset()
    while True:
        places: Mapping[int, Place] = {}
        if inside:
            places = places_of(operators, dense.tensors, dense.owners, fixed, apart, march.chip_bytes)
        context = replace(dense, places=places)
        try:
            return places, [job for i, op in enumerate(operators) for job in jobs_of(i, op, context)]
        except MisfitError as misfit:
            apart |= {misfit.owner}


class _Owners(Sequence[int]):
    """The owner of a tensor's bytes, by id: itself, or where its chain of VIEWs ends.

    Found when it is asked for: the table is the whole program's, and there may be many segments.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors)

    @overload
    def __getitem__(self, at: int) -> int: ...
    @overload
    def __getitem__(self, at: slice) -> list[int]: ...
    def __getitem__(self, at: int | slice) -> int | list[int]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        while self.tensors[at].space is Space.VIEW:
            at = self.tensors[at].address
        return at
