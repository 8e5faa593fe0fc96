"""Homes and tile plans together: tensors stay on chip as long as that costs the tiles less than it saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from openbpu.arch.errors import CompileError, must
from openbpu.compiler.schedule.memory.allocator import Gap, gaps_between
from openbpu.compiler.schedule.memory.live_ranges import Use
from openbpu.compiler.schedule.memory.residency import Home, choose_homes
from openbpu.compiler.schedule.problem.job import Job
from openbpu.compiler.schedule.tiling.cost import Rules, Setting
from openbpu.compiler.schedule.tiling.fusion_groups import Group
from openbpu.compiler.schedule.tiling.memo import Memo
from openbpu.compiler.schedule.tiling.stripes import GroupPlan, search_group
from openbpu.compiler.schedule.tiling.tile_search import Plan, search, smallest_bytes

Unit = Job | Group
_RESERVE = 4
"""Homes leave every job a quarter of the memory for its tiles, unless it needs less or cannot do with it."""
_STRAINED = 1.1
"""Cost of a job over its cost in an empty memory from which its neighbours' homes are put to the test."""
_NO_PLAN = 1 << 60


@dataclass(frozen=True, slots=True)
class Placement:
    """Units in order, each with its plan, and the homes beside them."""

    units: tuple[Unit, ...]
    plans: tuple[Plan | GroupPlan, ...]
    homes: tuple[Home, ...]
    live: tuple[tuple[Home, ...], ...] = field(init=False, compare=False)  # the homes beside every unit

    def __post_init__(self) -> None:
        object.__setattr__(self, "live", tuple(map(tuple, live_at(self.homes, len(self.units)))))

    @property
    def cost(self) -> int:
        """What placements are compared by."""
        return sum(plan.cost for plan in self.plans)


class Planner:
    """Plans of units beside homes, each worked out once."""

    def __init__(self, units: Sequence[Unit], rules: Rules, memo: Memo) -> None:
        self.units, self.rules, self.memo = units, rules, memo
        self.memory = rules.march.chip_bytes
        self._plans: dict[tuple[int, Setting, tuple[Gap, ...]], Plan | GroupPlan | None] = {}

    def plan(self, moment: int, setting: Setting, gaps: tuple[Gap, ...]) -> Plan | GroupPlan | None:
        """The cheapest plan of a unit within the gaps."""
        key = (moment, setting, gaps)
        if key not in self._plans:
            unit = self.units[moment]
            if isinstance(unit, Group):
                resident = frozenset(unit.operands[k].root for k in setting.resident)
                self._plans[key] = search_group(unit, resident, self.rules, gaps, self.memo)
            else:
                self._plans[key] = search(unit, setting, self.rules, gaps, self.memo)
        return self._plans[key]

    def handoff(self, moment: int) -> bool:
        """Whether the next unit runs on another engine and reads what this one writes."""
        if moment + 1 >= len(self.units):
            return False
        unit, following = self.units[moment], self.units[moment + 1]
        output = unit.operands[-1].root
        return following.engine is not unit.engine and any(o.root == output for o in following.operands)

    def setting(self, moment: int, live: Sequence[Home]) -> Setting:
        """What the homes that live beside a unit mean for it."""
        by_root = {h.root: h for h in live}
        operands = self.units[moment].operands
        resident = frozenset(k for k, o in enumerate(operands) if o.root in by_root)
        target = by_root.get(operands[-1].root)
        return Setting(resident, bool(target and target.stored), self.handoff(moment))

    def gaps(self, live: Sequence[Home]) -> tuple[Gap, ...]:
        """The memory beside homes."""
        return gaps_between([h.interval for h in live], self.memory)

    def beside(self, moment: int, live: Sequence[Home]) -> Plan | GroupPlan | None:
        """The plan of a unit beside these homes."""
        return self.plan(moment, self.setting(moment, live), self.gaps(live))

    def strain(self, moment: int, live: Sequence[Home]) -> float:
        """What a unit costs beside these homes over what it would cost with the same ones but all the
        memory.
        """
        setting = self.setting(moment, live)
        plan = self.plan(moment, setting, self.gaps(live))
        free = self.plan(moment, setting, ((0, self.memory),))
        return plan.cost / max(free.cost, 1) if plan and free else float(_NO_PLAN)

    def cost(self, moment: int, live: Sequence[Home]) -> int:
        """What a unit costs beside these homes."""
        plan = self.beside(moment, live)
        return plan.cost if plan else _NO_PLAN


def place_units(
    units: Sequence[Unit], uses: Mapping[int, Use], rules: Rules, memo: Memo
) -> tuple[Planner, Placement]:
    """Decide which of the `uses` get homes, and plan every unit in the memory that is left.

    Raises CompileError when a job does not fit even without homes.
    """
    planner = Planner(units, rules, memo)
    homes: list[Home] = []
    if uses:
        homes = choose_homes(uses, _reserves(planner, uses), planner.memory, rules.march.alignment)
        homes = _feasible(planner, _relieved(planner, homes))
    plans = []
    live = live_at(homes, len(units))
    for moment, unit in enumerate(units):
        plan = planner.beside(moment, live[moment])
        if plan is None:
            raise _too_large(unit, rules)
        plans.append(plan)
    return planner, Placement(tuple(units), tuple(plans), tuple(homes))


def _feasible(planner: Planner, homes: list[Home]) -> list[Home]:
    """The homes, if every unit has a plan beside them (giving one up may leave another unit without); else
    none.
    """
    for _ in range(3):
        live = live_at(homes, len(planner.units))
        if all(planner.cost(moment, beside) < _NO_PLAN for moment, beside in enumerate(live)):
            return homes
        homes = _relieved(planner, homes)
    return []


def live_at(homes: Sequence[Home], moments: int) -> list[list[Home]]:
    """The homes that live while each of so many units runs."""
    live: list[list[Home]] = [[] for _ in range(moments)]
    for home in homes:
        for moment in range(home.first, home.last + 1):
            live[moment].append(home)
    return live


def _relieved(planner: Planner, homes: list[Home]) -> list[Home]:
    """Without the homes that crowd tiles more than they save: those beside strained units are tried one by
    one.
    """
    live = live_at(homes, len(planner.units))
    given_up: set[int] = set()
    for moment in range(len(planner.units)):
        for home in sorted(live[moment], key=lambda h: (h.density, h.root)):
            if planner.strain(moment, live[moment]) <= _STRAINED:
                break
            span = range(home.first, home.last + 1)
            fewer = [[h for h in live[m] if h is not home] for m in span]
            with_it = sum(planner.cost(m, live[m]) for m in span)
            without = sum(planner.cost(m, beside) for m, beside in zip(span, fewer, strict=True))
            if without < with_it or planner.cost(moment, live[moment]) == _NO_PLAN:
                live[home.first : home.last + 1] = fewer
                given_up.add(home.root)
    return [h for h in homes if h.root not in given_up]


def _reserves(planner: Planner, uses: Mapping[int, Use]) -> list[int]:
    """Bytes of tile buffers every unit wants beside its tensors, if all of these live on chip."""
    out = []
    for moment, unit in enumerate(planner.units):
        resident = frozenset(k for k, o in enumerate(unit.operands) if o.root in uses)
        setting = Setting(resident, stored=False, handoff=planner.handoff(moment))
        part, whole = ((0, planner.memory // _RESERVE),), ((0, planner.memory),)
        plan = planner.plan(moment, setting, part) or planner.plan(moment, setting, whole)
        out.append(plan.nbytes if plan else planner.memory)
    return out


def _too_large(unit: Unit, rules: Rules) -> CompileError:
    job = unit.jobs[0] if isinstance(unit, Group) else unit
    where, what = f"operator {job.index} ({job.name})", "the on-chip memory in bytes"
    needed = smallest_bytes(job, Setting(), rules)
    fix = "run the operator on the CPU or choose a march with more on-chip memory"
    return CompileError(must(where, what, f">= {needed} for the smallest tile", rules.march.chip_bytes, fix))
