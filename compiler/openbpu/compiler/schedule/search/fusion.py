"""Which jobs run depth-first together: those between which a tensor would go through DDR, where it pays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from openbpu.compiler.schedule.memory.live_ranges import Use
from openbpu.compiler.schedule.problem.job import Job
from openbpu.compiler.schedule.search.planner import Placement, Planner, Unit
from openbpu.compiler.schedule.tiling.fusion_groups import Group, make_group
from openbpu.compiler.schedule.tiling.stripes import search_group

_REACH = 3
"""How many jobs a group may have before the writer and behind the last reader of the tensor it is made
for."""
_JOBS = 8
"""Most jobs of a group."""


@dataclass(frozen=True, slots=True)
class _Offer:
    """Jobs first..last as a group, and the cycles it would save."""

    first: int
    last: int
    group: Group
    gain: int


def fused(jobs: Sequence[Job], uses: Mapping[int, Use], planner: Planner, placement: Placement) -> list[Unit]:
    """The jobs with groups in place of some: the offers that save most, none of them overlapping."""
    housed = {h.root for h in placement.homes}
    inside = [use for use in uses.values() if _inside(use) and use.root not in housed]
    offers = [o for use in inside for o in _offers(jobs, uses, planner, placement, use)]
    taken: list[_Offer] = []
    for offer in sorted(offers, key=lambda o: (-o.gain, o.first, o.last)):
        if all(offer.last < t.first or t.last < offer.first for t in taken):
            taken.append(offer)
    units: list[Unit] = []
    at = 0
    for offer in sorted(taken, key=lambda o: o.first):
        units += [*jobs[at : offer.first], offer.group]
        at = offer.last + 1
    return [*units, *jobs[at:]]


def _offers(
    jobs: Sequence[Job], uses: Mapping[int, Use], planner: Planner, placement: Placement, use: Use
) -> Iterator[_Offer]:
    """Groups that keep a tensor inside, where they save cycles."""
    for first in range(max(use.first - _REACH, 0), use.first + 1):
        for last in range(use.last, min(use.last + _REACH, len(jobs) - 1) + 1):
            group = _group(jobs, uses, first, last) if last - first < _JOBS else None
            gain = _gain(planner, placement, group, first, last) if group else 0
            if group and gain > 0:
                yield _Offer(first, last, group, gain)


def _inside(use: Use) -> bool:
    """Whether a tensor could stay inside a group: one job writes it, later ones read it, that is all."""
    made_once = len(use.writes) == 1 and not (use.kept or use.given)
    return made_once and bool(use.reads) and use.reads[0] > use.writes[0]


def _group(jobs: Sequence[Job], uses: Mapping[int, Use], first: int, last: int) -> Group | None:
    inner = {}
    for moment in range(first, last):
        use = uses[jobs[moment].operands[-1].root]
        if not _inside(use) or use.last > last:
            return None
        inner[use.root] = use.nbytes
    return make_group(jobs[first : last + 1], inner)


def _gain(planner: Planner, placement: Placement, group: Group, first: int, last: int) -> int:
    """Cycles that the group saves beside the homes that its jobs have now."""
    span = range(first, last + 1)
    homes = {h.root: h for m in span for h in placement.live[m] if h.root not in group.links}
    live, resident = list(homes.values()), frozenset(homes)
    plan = search_group(group, resident, planner.rules, planner.gaps(live), planner.memo)
    if plan is None:
        return 0
    return sum(planner.cost(m, placement.live[m]) for m in span) - plan.cost
