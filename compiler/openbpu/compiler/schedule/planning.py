"""Homes and tile plans together: tensors stay on chip as long as every job still finds room for good
tiles.
"""

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


class Planner:
    """Plans by job, setting and free memory, each worked out once."""

    def __init__(self, jobs: Sequence[Job], rules: Rules) -> None:
        self.jobs, self.rules = jobs, rules
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


def place_jobs(
    jobs: Sequence[Job], uses: Mapping[int, Use], rules: Rules
) -> tuple[dict[int, Home], list[Placed]]:
    """Decide which of the `uses` get homes, and plan every job in the memory that is left.

    Raises CompileError when a job does not fit even without homes.
    """
    planner = Planner(jobs, rules)
    memory = rules.march.chip_bytes
    homes = choose_homes(uses, _reserves(planner, uses), memory, rules.march.alignment) if uses else []
    while True:
        placed: list[Placed] = []
        for moment, job in enumerate(jobs):
            live = [h for h in homes if h.first <= moment <= h.last]
            gaps = gaps_between([h.interval for h in live], memory)
            by_root = {h.root: h for h in live}
            mine = tuple(by_root.get(o.root) for o in job.operands)
            plan = planner.plan(moment, _setting(planner, moment, mine), gaps)
            if plan is None:
                if not live:
                    raise _too_large(job, rules)
                homes.remove(min(live, key=lambda h: (h.density, h.root)))
                break
            placed.append(Placed(job, plan, mine, gaps))
        else:
            return {h.root: h for h in homes}, placed


def _setting(planner: Planner, moment: int, homes: tuple[Home | None, ...]) -> Setting:
    resident = frozenset(k for k, home in enumerate(homes) if home)
    target = homes[-1]
    return Setting(resident, bool(target and target.stored), planner.handoff(moment))


def _reserves(planner: Planner, uses: Mapping[int, Use]) -> list[int]:
    """Bytes of tile buffers every job wants beside its tensors, if all of these live on chip."""
    memory = planner.rules.march.chip_bytes
    out = []
    for moment, job in enumerate(planner.jobs):
        resident = frozenset(k for k, o in enumerate(job.operands) if o.root in uses)
        setting = Setting(resident, stored=False, handoff=planner.handoff(moment))
        plan = planner.plan(moment, setting, ((0, memory // _RESERVE),)) or planner.plan(
            moment, setting, ((0, memory),)
        )
        used = [s * len(a) for s, a in zip(plan.sizes, plan.addresses, strict=True)] if plan else [memory]
        out.append(sum(used))
    return out


def _too_large(job: Job, rules: Rules) -> CompileError:
    where, what = f"operator {job.index} ({job.name})", "the on-chip memory in bytes"
    needed = smallest_bytes(job, Setting(), rules)
    fix = "run the operator on the CPU or choose a march with more on-chip memory"
    return CompileError(must(where, what, f">= {needed} for the smallest tile", rules.march.chip_bytes, fix))
