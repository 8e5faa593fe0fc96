"""Homes and tile plans together: tensors stay on chip as long as that costs the tiles less than it saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from openbpu.arch.errors import CompileError, must
from openbpu.compiler.schedule.cost import Rules, Setting
from openbpu.compiler.schedule.emit import Placed
from openbpu.compiler.schedule.homes import Home, Use, choose_homes
from openbpu.compiler.schedule.job import Job
from openbpu.compiler.schedule.memory import Gap, gaps_between
from openbpu.compiler.schedule.tiling import Plan, search, smallest_bytes

_RESERVE = 4
"""Homes leave every job a quarter of the memory for its tiles, unless it needs less or cannot do with it."""
_STRAINED = 1.1
"""Cost of a job over its cost in an empty memory from which its neighbours' homes are put to the test."""
_NO_PLAN = 1 << 60


class Planner:
    """Plans of jobs beside homes, each worked out once."""

    def __init__(self, jobs: Sequence[Job], rules: Rules) -> None:
        self.jobs, self.rules = jobs, rules
        self.memory = rules.march.chip_bytes
        self._plans: dict[tuple[int, Setting, tuple[Gap, ...]], Plan | None] = {}

    def plan(self, moment: int, setting: Setting, gaps: tuple[Gap, ...]) -> Plan | None:
        """The cheapest plan of a job within the gaps."""
        key = (moment, setting, gaps)
        if key not in self._plans:
            self._plans[key] = search(self.jobs[moment], setting, self.rules, gaps)
        return self._plans[key]

    def handoff(self, moment: int) -> bool:
        """Whether the next job runs on another engine and reads what this one writes."""
        if moment + 1 >= len(self.jobs):
            return False
        job, following = self.jobs[moment], self.jobs[moment + 1]
        output = job.operands[-1].root
        return following.engine is not job.engine and any(o.root == output for o in following.operands)

    def beside(
        self, moment: int, live: Sequence[Home]
    ) -> tuple[Plan | None, tuple[Home | None, ...], tuple[Gap, ...]]:
        """The plan of a job beside the homes that live with it, the homes of its operands, and the free
        memory.
        """
        by_root = {h.root: h for h in live}
        mine = tuple([by_root.get(o.root) for o in self.jobs[moment].operands])
        gaps = gaps_between([h.interval for h in live], self.memory)
        return self.plan(moment, self._setting(moment, mine), gaps), mine, gaps

    def _setting(self, moment: int, homes: tuple[Home | None, ...]) -> Setting:
        resident = frozenset(k for k, home in enumerate(homes) if home)
        target = homes[-1]
        return Setting(resident, bool(target and target.stored), self.handoff(moment))

    def strain(self, moment: int, live: Sequence[Home]) -> float:
        """What a job costs beside these homes over what it would cost with the same ones but all the
        memory.
        """
        plan, mine, _ = self.beside(moment, live)
        free = self.plan(moment, self._setting(moment, mine), ((0, self.memory),))
        if plan is None or free is None:
            return float(_NO_PLAN)
        return plan.cost / max(free.cost, 1)

    def cost(self, moment: int, live: Sequence[Home]) -> int:
        """Estimated cycles of a job beside these homes."""
        plan = self.beside(moment, live)[0]
        return plan.cost if plan else _NO_PLAN


def place_jobs(
    jobs: Sequence[Job], uses: Mapping[int, Use], rules: Rules
) -> tuple[dict[int, Home], list[Placed]]:
    """Decide which of the `uses` get homes, and plan every job in the memory that is left.

    Raises CompileError when a job does not fit even without homes.
    """
    planner = Planner(jobs, rules)
    homes: list[Home] = []
    if uses:
        homes = choose_homes(uses, _reserves(planner, uses), planner.memory, rules.march.alignment)
        homes = _relieved(planner, homes)
    placed = []
    for moment, job in enumerate(jobs):
        plan, mine, gaps = planner.beside(moment, _live(homes, moment))
        if plan is None:
            raise _too_large(job, rules)
        placed.append(Placed(job, plan, mine, gaps))
    return {h.root: h for h in homes}, placed


def _live(homes: Sequence[Home], moment: int) -> list[Home]:
    return [h for h in homes if h.first <= moment <= h.last]


def _relieved(planner: Planner, homes: list[Home]) -> list[Home]:
    """Without the homes that crowd tiles more than they save: those beside strained jobs are tried one by
    one.
    """
    for moment in range(len(planner.jobs)):
        for home in sorted(_live(homes, moment), key=lambda h: (h.density, h.root)):
            live = _live(homes, moment)
            if planner.strain(moment, live) <= _STRAINED:
                break
            fewer = [h for h in homes if h is not home]
            span = range(home.first, home.last + 1)
            change = sum(planner.cost(m, _live(fewer, m)) - planner.cost(m, _live(homes, m)) for m in span)
            if change < 0 or (planner.cost(moment, live) == _NO_PLAN):
                homes = fewer
    return homes


def _reserves(planner: Planner, uses: Mapping[int, Use]) -> list[int]:
    """Bytes of tile buffers every job wants beside its tensors, if all of these live on chip."""
    out = []
    for moment, job in enumerate(planner.jobs):
        resident = frozenset(k for k, o in enumerate(job.operands) if o.root in uses)
        setting = Setting(resident, stored=False, handoff=planner.handoff(moment))
        plan = planner.plan(moment, setting, ((0, planner.memory // _RESERVE),)) or planner.plan(
            moment, setting, ((0, planner.memory),)
        )
        used = [s * len(a) for s, a in zip(plan.sizes, plan.addresses, strict=True)] if plan else []
        out.append(sum(used) if plan else planner.memory)
    return out


def _too_large(job: Job, rules: Rules) -> CompileError:
    where, what = f"operator {job.index} ({job.name})", "the on-chip memory in bytes"
    needed = smallest_bytes(job, Setting(), rules)
    fix = "run the operator on the CPU or choose a march with more on-chip memory"
    return CompileError(must(where, what, f">= {needed} for the smallest tile", rules.march.chip_bytes, fix))
