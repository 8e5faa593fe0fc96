"""The planner of a segment: what one core does of it, or several."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from openbpu.arch.errors import CompileError
from openbpu.arch.march import March, with_values
from openbpu.arch.program import Space, Tensor
from openbpu.compiler.schedule.cores.partition import Partitioner
from openbpu.compiler.schedule.cores.parts import Partition
from openbpu.compiler.schedule.cores.traffic import Accesses, accesses_of, live_ranges_on
from openbpu.compiler.schedule.memory.live_ranges import Boundary, LiveRange, live_ranges_of
from openbpu.compiler.schedule.problem.job import Job
from openbpu.compiler.schedule.search.core_planner import CorePlan, Unit, plan_units
from openbpu.compiler.schedule.search.fusion import fuse_jobs
from openbpu.compiler.schedule.search.segment_plan import SegmentPlan
from openbpu.compiler.schedule.tiling.memo import Memo
from openbpu.compiler.schedule.tiling.policy import Policy

_AT_ONCE = 2
"""One core in so many uses the memory at a time, plans assume: the others compute."""


@dataclass(frozen=True, slots=True)
class SegmentPlanner:
    """Plans the jobs of a segment, for one policy or another; no plan is made twice.

    keep_on_chip: whether tensors may stay on chip · march: the policies differ in balance and L2M only.
    """

    jobs: Sequence[Job]
    tensors: Sequence[Tensor]
    boundary: Boundary
    march: March
    keep_on_chip: bool
    memo: Memo = field(default_factory=Memo)
    _plans: dict[Hashable, SegmentPlan] = field(default_factory=dict)
    _partitioners: dict[int, Partitioner] = field(default_factory=dict)

    def plan(self, cores: int, l2m_bytes: int, policy: Policy) -> SegmentPlan:
        """The plan for so many cores; `l2m_bytes`: how much of the L2M tensors between them may take.

        Raises CompileError when a job does not fit on chip.
        """
        chosen = self._partitioner(cores).choose(l2m_bytes) if cores > 1 else ()
        key = (cores, chosen, policy.balance, policy.in_l2m)
        if key not in self._plans:
            self._plans[key] = self._on_cores(cores, chosen, policy) if cores > 1 else self._on_one(policy)
        return self._plans[key]

    def _on_one(self, policy: Policy) -> SegmentPlan:
        """One core does everything, in fusion groups where that is cheaper."""
        core_plan = self._with_groups(policy)
        live_ranges = self._live_ranges(core_plan.units)
        return SegmentPlan((core_plan,), (tuple(range(len(core_plan.units))),), live_ranges)

    def _with_groups(self, policy: Policy) -> CorePlan:
        if not self.keep_on_chip:
            return plan_units(self.jobs, {}, policy, self.memo)[1]
        live_ranges = self._live_ranges(self.jobs)
        planner, plain = plan_units(self.jobs, live_ranges, policy, self.memo)
        units = fuse_jobs(self.jobs, live_ranges, planner, plain)
        if len(units) == len(self.jobs):
            return plain
        try:
            grouped = plan_units(units, self._live_ranges(units), policy, self.memo)[1]
        except CompileError:
            return plain
        return grouped if grouped.cost < plain.cost else plain

    def _live_ranges(self, units: Sequence[Unit]) -> dict[int, LiveRange]:
        return live_ranges_of(units, self.tensors, self.boundary)

    def _partitioner(self, cores: int) -> Partitioner:
        if cores not in self._partitioners:
            constant = [t.space is Space.CONST for t in self.tensors]
            self._partitioners[cores] = Partitioner(self.jobs, constant, self.march, cores)
        return self._partitioners[cores]

    def _on_cores(self, cores: int, chosen: Sequence[int], policy: Policy) -> SegmentPlan:
        """Every core does a part of every job, and counts on its share of the DDR rate."""
        partitions = self._partitioner(cores).partitions(chosen)
        rate = {"ddr.bytes_per_second": policy.march.ddr.bytes_per_second // -(-cores // _AT_ONCE)}
        crowded = replace(policy, march=with_values(policy.march, rate))
        accesses = accesses_of(partitions, self.tensors)
        planned = [self._core(core, partitions, accesses, crowded) for core in range(cores)]
        core_plans, moments = zip(*planned, strict=True)
        return SegmentPlan(core_plans, moments, self._live_ranges(self.jobs))

    def _core(
        self, core: int, partitions: Sequence[Partition], accesses: Accesses, policy: Policy
    ) -> tuple[CorePlan, tuple[int, ...]]:
        """What one core does, and at which moments."""
        moments = tuple(m for m, p in enumerate(partitions) if p[core])
        mine = [part for p in partitions if (part := p[core])]
        live_ranges: Mapping[int, LiveRange] = {}
        if self.keep_on_chip:
            count = {m: i for i, m in enumerate(moments)}
            live_ranges = live_ranges_on(core, accesses, count, self.tensors, self.boundary)
        return plan_units(mine, live_ranges, policy, self.memo)[1], moments
