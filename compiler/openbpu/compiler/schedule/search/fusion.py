"""The choice of fusion groups: jobs run depth-first where that keeps a tensor from going through DDR."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from openbpu.compiler.schedule.memory.live_ranges import LiveRange
from openbpu.compiler.schedule.problem.job import Job
from openbpu.compiler.schedule.search.core_planner import CorePlan, Planner, Unit
from openbpu.compiler.schedule.tiling.fusion_groups import FusionGroup, make_group
from openbpu.compiler.schedule.tiling.stripes import search_stripes

_REACH = 3
"""How many jobs a group may have before the writer and behind the last reader of the tensor it is made
for."""
_JOBS = 8
"""Most jobs of a group."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """Jobs first..last as a group, and the cycles it would save."""

    first: int
    last: int
    group: FusionGroup
    gain: int


def fuse_jobs(
    jobs: Sequence[Job], live_ranges: Mapping[int, LiveRange], planner: Planner, plan: CorePlan
) -> list[Unit]:
    """The jobs with fusion groups in place of some: those that save most, none of them overlapping.

    `plan`: what `planner` made of the jobs without groups.
    """
    resident = {r.root for r in plan.residencies}
    inner = [life for life in live_ranges.values() if _may_fuse(life) and life.root not in resident]
    candidates = [c for life in inner for c in _candidates(jobs, live_ranges, planner, plan, life)]
    taken: list[_Candidate] = []
    for candidate in sorted(candidates, key=lambda c: (-c.gain, c.first, c.last)):
        if all(candidate.last < t.first or t.last < candidate.first for t in taken):
            taken.append(candidate)
    units: list[Unit] = []
    at = 0
    for candidate in sorted(taken, key=lambda c: c.first):
        units += [*jobs[at : candidate.first], candidate.group]
        at = candidate.last + 1
    return [*units, *jobs[at:]]


def _candidates(
    jobs: Sequence[Job],
    live_ranges: Mapping[int, LiveRange],
    planner: Planner,
    plan: CorePlan,
    life: LiveRange,
) -> Iterator[_Candidate]:
    """The groups that keep a tensor inside, where they save cycles."""
    for first in range(max(life.first - _REACH, 0), life.first + 1):
        for last in range(life.last, min(life.last + _REACH, len(jobs) - 1) + 1):
            group = _group(jobs, live_ranges, first, last) if last - first < _JOBS else None
            gain = _gain(planner, plan, group, first, last) if group else 0
            if group and gain > 0:
                yield _Candidate(first, last, group, gain)


def _may_fuse(life: LiveRange) -> bool:
    """Whether a tensor could stay inside a group: one job writes it, later ones read it, that is all."""
    made_once = len(life.writes) == 1 and not (life.live_out or life.live_in)
    return made_once and bool(life.reads) and life.reads[0] > life.writes[0]


def _group(
    jobs: Sequence[Job], live_ranges: Mapping[int, LiveRange], first: int, last: int
) -> FusionGroup | None:
    inner = {}
    for moment in range(first, last):
        life = live_ranges[jobs[moment].operands[-1].root]
        if not _may_fuse(life) or life.last > last:
            return None
        inner[life.root] = life.nbytes
    return make_group(jobs[first : last + 1], inner)


def _gain(planner: Planner, plan: CorePlan, group: FusionGroup, first: int, last: int) -> int:
    """Cycles that the group saves beside the tensors that are resident now."""
    span = range(first, last + 1)
    by_root = {r.root: r for m in span for r in plan.live[m] if r.root not in group.fused}
    live, resident = list(by_root.values()), frozenset(by_root)
    tiling = search_stripes(group, resident, planner.policy, planner.gaps(live), planner.memo)
    if tiling is None:
        return 0
    return sum(planner.cost(m, plan.live[m]) for m in span) - tiling.cost
