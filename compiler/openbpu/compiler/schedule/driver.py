"""From the operators of a segment to encoded tile instructions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from openbpu.arch.isa import Code, encode
from openbpu.arch.march import March
from openbpu.arch.program import Operator, Space, Tensor
from openbpu.compiler.schedule.addresses import Addresses
from openbpu.compiler.schedule.cost import Rules
from openbpu.compiler.schedule.effort import FASTEST, Effort
from openbpu.compiler.schedule.inside import places_of
from openbpu.compiler.schedule.job import Job
from openbpu.compiler.schedule.jobs import Context, MisfitError, jobs_of
from openbpu.compiler.schedule.places import Place
from openbpu.compiler.schedule.sharing import Ends
from openbpu.compiler.schedule.work import Split, Work

_LADDER = (FASTEST, 60, 30, 0)
"""Balances that schedules are made for when fewer DDR bytes are asked for.

The one that costs least by the balance asked for is taken. All choose from the same few, so a lower balance
never means more DDR bytes: what is best for single layers need not be for all of them, as larger tiles leave
less room for tensors.
"""


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
    also stay on chip. `effort.balance`: what plans are compared by (`Rules.cost`). `effort.l2m_bytes`:
    tensors that do not stay on chip are in the L2M as far as there is room. `effort.cores`: so many cores, or
    two of them, do a part of every job each, or one does all, whatever takes least time.

    Raises CompileError where even the smallest tile of an operator does not fit on chip.
    """
    opt, owners = effort.opt, _owners(tensors)
    given, kept = ({owners[t] for t in ids} for ids in (inputs, outputs))
    context = Context(tensors, owners, {}, constants)
    places, jobs = _jobs(operators, context, frozenset(given | kept), march, inside=opt > 1)
    rules = Rules(march, double=opt > 0, reuse=opt > 0, balance=effort.balance)
    used = {operand.root for job in jobs for operand in job.operands}
    work = Work(jobs, tensors, Ends(given, kept), resident=opt > 1)
    addresses = Addresses(tensors, march.alignment, ddr_base, ddr_start, l2m_start, effort.l2m_bytes)

    def attempt(balance: int, place: Callable[[Rules], Split]) -> tuple[int, Scheduled]:
        """A schedule made for one balance, and what it costs by the one that is asked for."""
        mine = replace(rules, balance=balance)
        split = place(mine)
        memories = addresses.choose(split, reuse=opt > 0)
        if memories.l2m:
            mine = replace(mine, shared=frozenset(memories.l2m))
            split = place(mine)
            memories = addresses.choose(split, reuse=opt > 0, near=mine.shared)
        emitters = split.emit(addresses.flat(memories, jobs), ddr_base, mine)
        idle = [encode([])] * (effort.cores - len(emitters))
        inside = {*places, *(used - {*split.uses, *(h.root for h in split.homes)})}
        done = Scheduled(
            tuple(operators),
            addresses.final(memories, split, inside),
            (*(e.code() for e in emitters), *idle),
            max(e.chip_bytes for e in emitters),
            memories.ddr_bytes,
            memories.l2m_bytes,
        )
        cost = rules.cost(np.array(split.cycles), np.array(sum(e.ddr_bytes for e in emitters)))
        return int(cost), done

    several = sorted({2, effort.cores}) if effort.cores > 1 else []
    room = effort.l2m_bytes - l2m_start
    ways: list[Callable[[Rules], Split]] = [
        work.on_one,
        *(partial(work.on_several, cores, room) for cores in several),
    ]
    balances = _LADDER if effort.balance < FASTEST else (FASTEST,)
    tried = [attempt(balance, way) for way in ways for balance in balances]
    return min(tried, key=lambda made: made[0])[1]


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


def _owners(tensors: Sequence[Tensor]) -> list[int]:
    """The owner of every tensor's bytes: itself, or where its chain of VIEWs ends."""
    out = []
    for i in range(len(tensors)):
        at = i
        while tensors[at].space is Space.VIEW:
            at = tensors[at].address
        out.append(at)
    return out
