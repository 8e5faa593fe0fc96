"""The planner of one core: residency and tilings together.

A tensor stays on chip as long as that costs the tiles of the units beside it less than it saves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from openbpu.arch.errors import CompileError, must
from openbpu.compiler.schedule.memory.allocator import gaps_between
from openbpu.compiler.schedule.memory.live_ranges import LiveRange
from openbpu.compiler.schedule.memory.residency import Residency, choose_residencies
from openbpu.compiler.schedule.problem.byte_ranges import Interval
from openbpu.compiler.schedule.problem.job import Job
from openbpu.compiler.schedule.tiling.cost import TilingContext
from openbpu.compiler.schedule.tiling.fusion_groups import FusionGroup
from openbpu.compiler.schedule.tiling.memo import Memo
from openbpu.compiler.schedule.tiling.policy import Policy
from openbpu.compiler.schedule.tiling.stripes import GroupTiling, search_stripes
from openbpu.compiler.schedule.tiling.tile_search import Tiling, search_tiling, smallest_tile_bytes

Unit = Job | FusionGroup
"""What is tiled as one: a job, or a fusion group of several."""
_RESERVE = 4
"""Residents leave every unit a quarter of the memory, unless its tiles need less or cannot do with it."""
_STRAINED = 1.1
"""Cost of a unit over its cost in an empty memory from which the residents beside it are put to the test."""
_NO_TILING = 1 << 60


@dataclass(frozen=True, slots=True)
class CorePlan:
    """What one core does: its units in order, the tiling of each, and which tensors stay on chip.

    live: the residents beside every unit.
    """

    units: tuple[Unit, ...]
    tilings: tuple[Tiling | GroupTiling, ...]
    residencies: tuple[Residency, ...]
    live: tuple[tuple[Residency, ...], ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "live", tuple(map(tuple, residencies_at(self.residencies, len(self.units)))))

    @property
    def cost(self) -> int:
        """What plans of the same jobs are compared by: the sum of what their tilings cost."""
        return sum(tiling.cost for tiling in self.tilings)


class Planner:
    """The tilings of a core's units beside residents, each searched once."""

    def __init__(self, units: Sequence[Unit], policy: Policy, memo: Memo) -> None:
        self.units, self.policy, self.memo = units, policy, memo
        self.memory = policy.march.chip_bytes
        self._tilings: dict[tuple[int, TilingContext, tuple[Interval, ...]], Tiling | GroupTiling | None] = {}

    def tiling(
        self, moment: int, context: TilingContext, gaps: tuple[Interval, ...]
    ) -> Tiling | GroupTiling | None:
        """The cheapest tiling of a unit whose buffers fit the gaps; None if none fits."""
        key = (moment, context, gaps)
        if key not in self._tilings:
            unit = self.units[moment]
            if isinstance(unit, FusionGroup):
                resident = frozenset(unit.operands[k].root for k in context.resident)
                self._tilings[key] = search_stripes(unit, resident, self.policy, gaps, self.memo)
            else:
                self._tilings[key] = search_tiling(unit, context, self.policy, gaps, self.memo)
        return self._tilings[key]

    def handoff(self, moment: int) -> bool:
        """Whether the next unit runs on another engine and reads what this one writes."""
        if moment + 1 >= len(self.units):
            return False
        unit, following = self.units[moment], self.units[moment + 1]
        output = unit.operands[-1].root
        return following.engine is not unit.engine and any(o.root == output for o in following.operands)

    def context(self, moment: int, live: Sequence[Residency]) -> TilingContext:
        """What surrounds a unit when these tensors are resident."""
        by_root = {r.root: r for r in live}
        operands = self.units[moment].operands
        resident = frozenset(k for k, o in enumerate(operands) if o.root in by_root)
        target = by_root.get(operands[-1].root)
        return TilingContext(resident, bool(target and target.stored), self.handoff(moment))

    def gaps(self, live: Sequence[Residency]) -> tuple[Interval, ...]:
        """The free on-chip memory between residents."""
        return gaps_between([r.interval for r in live], self.memory)

    def beside(self, moment: int, live: Sequence[Residency]) -> Tiling | GroupTiling | None:
        """The cheapest tiling of a unit beside these residents; None if none fits."""
        return self.tiling(moment, self.context(moment, live), self.gaps(live))

    def strain(self, moment: int, live: Sequence[Residency]) -> float:
        """What a unit costs beside these residents over what it would cost if they took no memory."""
        context = self.context(moment, live)
        tiling = self.tiling(moment, context, self.gaps(live))
        free = self.tiling(moment, context, ((0, self.memory),))
        return tiling.cost / max(free.cost, 1) if tiling and free else float(_NO_TILING)

    def cost(self, moment: int, live: Sequence[Residency]) -> int:
        """What a unit costs beside these residents; more than anything if no tiling fits."""
        tiling = self.beside(moment, live)
        return tiling.cost if tiling else _NO_TILING


def plan_units(
    units: Sequence[Unit], live_ranges: Mapping[int, LiveRange], policy: Policy, memo: Memo
) -> tuple[Planner, CorePlan]:
    """Decide which tensors stay on chip, and tile every unit in the memory that is left.

    `live_ranges`: of the tensors that may stay. Raises CompileError when a unit does not fit even if none
    does.
    """
    planner = Planner(units, policy, memo)
    residencies: list[Residency] = []
    if live_ranges:
        reserve = _reserves(planner, live_ranges)
        chosen = choose_residencies(live_ranges, reserve, planner.memory, policy.march.alignment)
        residencies = _feasible(planner, _relieved(planner, chosen))
    tilings = []
    live = residencies_at(residencies, len(units))
    for moment, unit in enumerate(units):
        tiling = planner.beside(moment, live[moment])
        if tiling is None:
            raise _too_large(unit, policy)
        tilings.append(tiling)
    return planner, CorePlan(tuple(units), tuple(tilings), tuple(residencies))


def residencies_at(residencies: Sequence[Residency], moments: int) -> list[list[Residency]]:
    """The residents while each of so many units runs."""
    live: list[list[Residency]] = [[] for _ in range(moments)]
    for residency in residencies:
        for moment in range(residency.first, residency.last + 1):
            live[moment].append(residency)
    return live


def _feasible(planner: Planner, residencies: list[Residency]) -> list[Residency]:
    """The residents, if every unit has a tiling beside them (giving one up may leave another unit without);
    else none.
    """
    for _ in range(3):
        live = residencies_at(residencies, len(planner.units))
        if all(planner.cost(moment, beside) < _NO_TILING for moment, beside in enumerate(live)):
            return residencies
        residencies = _relieved(planner, residencies)
    return []


def _relieved(planner: Planner, residencies: list[Residency]) -> list[Residency]:
    """Without the residents that crowd tiles more than they save: those beside strained units are tried one
    by one.
    """
    live = residencies_at(residencies, len(planner.units))
    given_up: set[int] = set()
    for moment in range(len(planner.units)):
        for residency in sorted(live[moment], key=lambda r: (r.density, r.root)):
            if planner.strain(moment, live[moment]) <= _STRAINED:
                break
            span = range(residency.first, residency.last + 1)
            fewer = [[r for r in live[m] if r is not residency] for m in span]
            with_it = sum(planner.cost(m, live[m]) for m in span)
            without = sum(planner.cost(m, beside) for m, beside in zip(span, fewer, strict=True))
            if without < with_it or planner.cost(moment, live[moment]) == _NO_TILING:
                live[residency.first : residency.last + 1] = fewer
                given_up.add(residency.root)
    return [r for r in residencies if r.root not in given_up]


def _reserves(planner: Planner, live_ranges: Mapping[int, LiveRange]) -> list[int]:
    """Bytes of tile buffers that every unit wants beside its tensors, if all of these stay on chip."""
    out = []
    for moment, unit in enumerate(planner.units):
        resident = frozenset(k for k, o in enumerate(unit.operands) if o.root in live_ranges)
        context = TilingContext(resident, stored=False, handoff=planner.handoff(moment))
        part, whole = ((0, planner.memory // _RESERVE),), ((0, planner.memory),)
        tiling = planner.tiling(moment, context, part) or planner.tiling(moment, context, whole)
        out.append(tiling.nbytes if tiling else planner.memory)
    return out


def _too_large(unit: Unit, policy: Policy) -> CompileError:
    job = unit.jobs[0] if isinstance(unit, FusionGroup) else unit
    where, what = f"operator {job.index} ({job.name})", "the on-chip memory in bytes"
    needed = smallest_tile_bytes(job, TilingContext(), policy)
    fix = "run the operator on the CPU or choose a march with more on-chip memory"
    return CompileError(must(where, what, f">= {needed} for the smallest tile", policy.march.chip_bytes, fix))
