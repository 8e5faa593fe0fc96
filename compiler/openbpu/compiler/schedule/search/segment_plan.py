"""The plan of a segment on one core or several, and its emission in one order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from openbpu.arch.isa import ENGINES
from openbpu.compiler.schedule.codegen.dependencies import DependencyTracker, SharedAccessHistory
from openbpu.compiler.schedule.codegen.emitter import Emitter
from openbpu.compiler.schedule.codegen.group_emitter import TiledGroup, emit_group
from openbpu.compiler.schedule.codegen.tile_buffers import TiledJob
from openbpu.compiler.schedule.memory.allocator import gaps_between
from openbpu.compiler.schedule.memory.live_ranges import LiveRange
from openbpu.compiler.schedule.problem.job import Job
from openbpu.compiler.schedule.search.core_planner import CorePlan, Unit
from openbpu.compiler.schedule.tiling.fusion_groups import FusionGroup
from openbpu.compiler.schedule.tiling.policy import Policy
from openbpu.compiler.schedule.tiling.stripes import GroupTiling
from openbpu.compiler.schedule.tiling.tile_search import Tiling


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """What every core does of a segment, and when.

    moments: of every core's units, in one count that all cores share · live_ranges: of all tensors but
    constants by root, in that count.
    """

    core_plans: tuple[CorePlan, ...]
    moments: tuple[tuple[int, ...], ...]
    live_ranges: Mapping[int, LiveRange]

    @property
    def on_chip(self) -> dict[int, int]:
        """On-chip addresses by root of the tensors that stay on chip; −1 where cores hold parts of one."""
        alone = len(self.core_plans) == 1
        return {r.root: r.address if alone else -1 for p in self.core_plans for r in p.residencies}

    @property
    def tiles(self) -> int:
        """The number of tiles of all jobs of all cores."""
        return sum(_tiles(u, t) for p in self.core_plans for u, t in zip(p.units, p.tilings, strict=True))

    def moved(self) -> set[int]:
        """The tensors (by root) that some core stores or loads, so that they need memory outside."""
        found = set()
        for core_plan in self.core_plans:
            touched = {o.root for unit in core_plan.units for o in unit.operands}
            found |= touched - {r.root for r in core_plan.residencies if not (r.stored or r.loaded)}
        return found & self.live_ranges.keys()

    def emit(self, flat: Mapping[int, int], ddr_base: int, policy: Policy) -> list[Emitter]:
        """Emit the units of all cores in the order of the common count; returns an emitter per core.

        `flat`: flat address by root; below `ddr_base` all is constant.
        """
        cores = len(self.core_plans)
        if cores == 1:
            emitter = Emitter(flat, ddr_base, policy)
            for index in range(len(self.moments[0])):
                _emit_unit(emitter, self.core_plans[0], index)
            return [emitter]
        memory = SharedAccessHistory(cores * ENGINES)
        tokens = [DependencyTracker(core, cores, memory) for core in range(cores)]
        emitters = [Emitter(flat, ddr_base, policy, tokens=t) for t in tokens]
        order = sorted((m, core, i) for core, ms in enumerate(self.moments) for i, m in enumerate(ms))
        for moment, core, index in order:
            memory.moment = moment
            _emit_unit(emitters[core], self.core_plans[core], index)
        return emitters


def _tiles(unit: Unit, tiling: Tiling | GroupTiling) -> int:
    if isinstance(unit, Job) and isinstance(tiling, Tiling):
        return prod(-(-n // t) for n, t in zip(unit.extent, tiling.tile, strict=True))
    if isinstance(unit, FusionGroup) and isinstance(tiling, GroupTiling):
        return len(tiling.steps) * len(unit.jobs)
    return 0


def _emit_unit(emitter: Emitter, core_plan: CorePlan, index: int) -> None:
    unit, tiling = core_plan.units[index], core_plan.tilings[index]
    live = core_plan.live[index]
    by_root = {r.root: r for r in live}
    if isinstance(unit, FusionGroup) and isinstance(tiling, GroupTiling):
        emit_group(emitter, TiledGroup(unit, tiling, by_root))
    elif isinstance(unit, Job) and isinstance(tiling, Tiling):
        residencies = tuple([by_root.get(o.root) for o in unit.operands])
        gaps = gaps_between([r.interval for r in live], emitter.policy.march.chip_bytes)
        emitter.job(TiledJob(unit, tiling, residencies, gaps))
