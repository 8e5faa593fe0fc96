"""From the operators of a segment to encoded tile instructions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from openbpu.arch.errors import CompileError
from openbpu.arch.isa import Code
from openbpu.arch.march import March
from openbpu.arch.program import Operator, Space, Tensor
from openbpu.compiler.schedule.cost import Rules
from openbpu.compiler.schedule.effort import FASTEST, Effort
from openbpu.compiler.schedule.emit import Emitter, Placed
from openbpu.compiler.schedule.emit_group import PlacedGroup, emit_group
from openbpu.compiler.schedule.fusing import fused
from openbpu.compiler.schedule.group_plan import GroupPlan
from openbpu.compiler.schedule.groups import Group
from openbpu.compiler.schedule.homes import Home, Use, uses_of
from openbpu.compiler.schedule.inside import places_of
from openbpu.compiler.schedule.job import Job
from openbpu.compiler.schedule.jobs import Context, MisfitError, jobs_of
from openbpu.compiler.schedule.memory import Life, aligned, gaps_between, pack
from openbpu.compiler.schedule.places import Place
from openbpu.compiler.schedule.planning import Placement, live_at, place_units
from openbpu.compiler.schedule.tiling import Plan

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

    `code`: encoded instructions per core; `chip_bytes`: on-chip memory used; `ddr_bytes`: end of the DDR
    space used.
    """

    operators: tuple[Operator, ...]
    tensors: tuple[Tensor, ...]
    code: tuple[Code, ...]
    chip_bytes: int
    ddr_bytes: int


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
    constants: npt.NDArray[np.uint8] | None = None,
) -> Scheduled:
    """Tile, place and order one segment.

    `tensors` is the table of the whole program: CONST and VIEW tensors are placed, a dynamic one with
    address −1 is placed here: on chip or at DDR addresses ≥ `ddr_start` (flat address: ddr_base + address).
    `inputs` and `outputs` are DDR tensors that the caller placed. `constants` is the image of the CONST
    space; with it Gather and Resize load only the rows their tables name.

    `effort.opt` 0: one tile at a time, every tensor through DDR · 1: tiles go round the on-chip memory so
    that LOAD, STORE and compute overlap, what is on chip is not loaded again, DDR is reused · 2: tensors
    also stay on chip. `effort.balance`: what plans are compared by (`Rules.cost`).

    Raises CompileError where even the smallest tile of an operator does not fit on chip.
    """
    opt, owners = effort.opt, _owners(tensors)
    given, kept = ({owners[t] for t in ids} for ids in (inputs, outputs))
    context = Context(tensors, owners, {}, constants)
    places, jobs = _jobs(operators, context, frozenset(given | kept), march, inside=opt > 1)
    used = {operand.root for job in jobs for operand in job.operands}
    rules = Rules(march, double=opt > 0, reuse=opt > 0, balance=effort.balance)

    def attempt(balance: int) -> tuple[int, Scheduled]:
        """A schedule made for one balance, and what it costs by the one that is asked for."""
        mine = replace(rules, balance=balance)
        placement = _place(jobs, tensors, given, kept, mine, resident=opt > 1)
        uses = uses_of(placement.units, tensors, given, kept)
        homes = {h.root: h for h in placement.homes}
        ddr, ddr_bytes = _place_ddr(uses, homes, tensors, march.alignment, ddr_start, reuse=opt > 0)
        flat = {root: _flat(tensors[root], ddr.get(root, tensors[root].address), ddr_base) for root in used}
        emitter = Emitter(flat, ddr_base, mine)
        emit(emitter, placement)
        inside = {*places, *(used - {*uses, *homes})}
        final = _final(tensors, ddr, homes, inside)
        done = Scheduled(tuple(operators), final, (emitter.code(),), emitter.chip_bytes, ddr_bytes)
        cost = rules.cost(np.array(placement.cycles), np.array(emitter.ddr_bytes))
        return int(cost), done

    tried = [attempt(balance) for balance in (_LADDER if effort.balance < FASTEST else (FASTEST,))]
    return min(tried, key=lambda made: made[0])[1]


def _place(
    jobs: Sequence[Job],
    tensors: Sequence[Tensor],
    given: set[int],
    kept: set[int],
    rules: Rules,
    *,
    resident: bool,
) -> Placement:
    """Plans of the jobs; with `resident`, beside tensors that live on chip, and in groups where that is
    cheaper.
    """
    if not resident:
        return place_units(jobs, {}, rules)[1]
    uses = uses_of(jobs, tensors, given, kept)
    planner, plain = place_units(jobs, uses, rules)
    units = fused(jobs, uses, planner, plain)
    if len(units) == len(jobs):
        return plain
    try:
        grouped = place_units(units, uses_of(units, tensors, given, kept), rules)[1]
    except CompileError:
        return plain
    return grouped if grouped.cost < plain.cost else plain


def emit(emitter: Emitter, placement: Placement) -> None:
    """Emit all units in order."""
    for moment, (unit, plan) in enumerate(zip(placement.units, placement.plans, strict=True)):
        live = live_at(placement.homes, moment)
        by_root = {h.root: h for h in live}
        if isinstance(unit, Group) and isinstance(plan, GroupPlan):
            emit_group(emitter, PlacedGroup(unit, plan, by_root))
        elif isinstance(unit, Job) and isinstance(plan, Plan):
            homes = tuple([by_root.get(o.root) for o in unit.operands])
            gaps = gaps_between([h.interval for h in live], emitter.rules.march.chip_bytes)
            emitter.job(Placed(unit, plan, homes, gaps))


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


def _flat(tensor: Tensor, address: int, ddr_base: int) -> int:
    return address if tensor.space is Space.CONST else ddr_base + address


def _owners(tensors: Sequence[Tensor]) -> list[int]:
    """The owner of every tensor's bytes: itself, or where its chain of VIEWs ends."""
    out = []
    for i in range(len(tensors)):
        at = i
        while tensors[at].space is Space.VIEW:
            at = tensors[at].address
        out.append(at)
    return out


def _place_ddr(
    uses: Mapping[int, Use],
    homes: Mapping[int, Home],
    tensors: Sequence[Tensor],
    alignment: int,
    start: int,
    *,
    reuse: bool,
) -> tuple[dict[int, int], int]:
    """DDR addresses of the memories that need one and that nobody placed yet; without `reuse` no two share
    any.
    """
    end = max((u.last for u in uses.values()), default=0)
    lives = []
    for root, use in uses.items():
        home = homes.get(root)
        if tensors[root].address >= 0 or (home and not home.stored):
            continue
        whole = use.kept or not reuse
        lives.append(Life(root, use.nbytes, 0 if whole else use.first, end if whole else use.last))
    return pack(lives, alignment, aligned(start, alignment))


def _final(
    tensors: Sequence[Tensor], ddr: Mapping[int, int], homes: Mapping[int, Home], inside: Iterable[int]
) -> tuple[Tensor, ...]:
    """The tensor table with the addresses chosen here; what lies inside another tensor has none of its own
    (−1).

    Neither have tensors that only a window of a group ever holds.
    """
    out = list(tensors)
    for owner in inside:
        if out[owner].space is Space.DDR and out[owner].address < 0:
            out[owner] = replace(out[owner], space=Space.CHIP)
    for root, address in ddr.items():
        out[root] = replace(out[root], space=Space.DDR, address=address)
    for root, home in homes.items():
        if root not in ddr and out[root].address < 0:
            out[root] = replace(out[root], space=Space.CHIP, address=home.address)
    return tuple(out)
