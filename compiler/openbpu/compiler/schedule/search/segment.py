"""The jobs of a segment as one core or several do them: plans, homes, and the order they are emitted in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from openbpu.arch.errors import CompileError
from openbpu.arch.isa import ENGINES
from openbpu.arch.march import with_values
from openbpu.arch.program import Space, Tensor
from openbpu.compiler.schedule.codegen.dependencies import Shared, Tokens
from openbpu.compiler.schedule.codegen.emitter import Emitter, Placed
from openbpu.compiler.schedule.codegen.group_emitter import PlacedGroup, emit_group
from openbpu.compiler.schedule.cores.partition import Division
from openbpu.compiler.schedule.cores.parts import Parts
from openbpu.compiler.schedule.cores.traffic import Touches, touches_of, uses_on
from openbpu.compiler.schedule.memory.allocator import gaps_between
from openbpu.compiler.schedule.memory.live_ranges import Ends, Use, uses_of
from openbpu.compiler.schedule.problem.job import Job
from openbpu.compiler.schedule.search.fusion import fused
from openbpu.compiler.schedule.search.planner import Placement, place_units
from openbpu.compiler.schedule.tiling.cost import Rules
from openbpu.compiler.schedule.tiling.fusion_groups import Group
from openbpu.compiler.schedule.tiling.memo import Memo
from openbpu.compiler.schedule.tiling.stripes import GroupPlan
from openbpu.compiler.schedule.tiling.tile_search import Plan

_AT_ONCE = 2
"""One core in so many uses the memory at a time, plans assume: the others compute."""


@dataclass(frozen=True, slots=True)
class Split:
    """Who does what. placements: by core · moments: of their units, in a count that all cores share ·
    uses: of all tensors, by that count.
    """

    placements: tuple[Placement, ...]
    moments: tuple[tuple[int, ...], ...]
    uses: Mapping[int, Use]

    @property
    def on_chip(self) -> dict[int, int]:
        """The on-chip address of every tensor that has a home, by root; −1 where cores hold parts of it."""
        alone = len(self.placements) == 1
        return {h.root: h.address if alone else -1 for p in self.placements for h in p.homes}

    @property
    def tiles(self) -> int:
        """Tiles of all jobs of all cores."""
        return sum(_tiles(u, plan) for p in self.placements for u, plan in zip(p.units, p.plans, strict=True))

    def outside(self) -> set[int]:
        """Roots that some core stores or loads, so that they need memory outside the cores."""
        found = set()
        for placement in self.placements:
            touched = {o.root for unit in placement.units for o in unit.operands}
            found |= touched - {h.root for h in placement.homes if not (h.stored or h.loaded)}
        return found & self.uses.keys()

    def emit(self, flat: Mapping[int, int], ddr_base: int, rules: Rules) -> list[Emitter]:
        """Emit the units of all cores in the order of the common count; returns an emitter per core."""
        cores = len(self.placements)
        if cores == 1:
            emitter = Emitter(flat, ddr_base, rules)
            for index in range(len(self.moments[0])):
                _emit_unit(emitter, self.placements[0], index)
            return [emitter]
        memory = Shared(cores * ENGINES)
        tokens = [Tokens(core, cores, memory) for core in range(cores)]
        emitters = [Emitter(flat, ddr_base, rules, tokens=t) for t in tokens]
        order = sorted((m, core, i) for core, ms in enumerate(self.moments) for i, m in enumerate(ms))
        for moment, core, index in order:
            memory.moment = moment
            _emit_unit(emitters[core], self.placements[core], index)
        return emitters


@dataclass(frozen=True, slots=True)
class Work:
    """A segment's jobs. resident: tensors may stay on chip. `divided`: the jobs' parts by number of cores and
    bytes of the L2M, once they were asked for.
    """

    jobs: Sequence[Job]
    tensors: Sequence[Tensor]
    ends: Ends
    resident: bool
    memo: Memo = field(default_factory=Memo)
    divided: dict[tuple[int, int], Sequence[Parts]] = field(default_factory=dict)

    def on_one(self, rules: Rules) -> Split:
        """One core does everything: beside tensors that live on chip, in groups where that is cheaper."""
        placement = self._grouped(rules)
        uses = self._uses(placement.units)
        return Split((placement,), (tuple(range(len(placement.units))),), uses)

    def _grouped(self, rules: Rules) -> Placement:
        if not self.resident:
            return place_units(self.jobs, {}, rules, self.memo)[1]
        uses = self._uses(self.jobs)
        planner, plain = place_units(self.jobs, uses, rules, self.memo)
        units = fused(self.jobs, uses, planner, plain)
        if len(units) == len(self.jobs):
            return plain
        try:
            grouped = place_units(units, self._uses(units), rules, self.memo)[1]
        except CompileError:
            return plain
        return grouped if grouped.cost < plain.cost else plain

    def _uses(self, units: Sequence[Job | Group]) -> dict[int, Use]:
        return uses_of(units, self.tensors, self.ends)

    def on_several(self, cores: int, l2m_bytes: int, rules: Rules) -> Split:
        """Every core does a part of every job; each may count on its share of the memory's rate."""
        constant = [t.space is Space.CONST for t in self.tensors]
        key = (cores, l2m_bytes)
        if key not in self.divided:
            self.divided[key] = Division(self.jobs, constant, rules.march, cores, l2m_bytes).parts()
        parts = self.divided[key]
        rate = {"ddr.bytes_per_second": rules.march.ddr.bytes_per_second // -(-cores // _AT_ONCE)}
        crowded = replace(rules, march=with_values(rules.march, rate))
        touches = touches_of(parts, self.tensors)
        placed = [self._core(core, parts, touches, crowded) for core in range(cores)]
        return Split(tuple(p for p, _ in placed), tuple(m for _, m in placed), self._uses(self.jobs))

    def _core(
        self, core: int, parts: Sequence[Parts], touches: Touches, rules: Rules
    ) -> tuple[Placement, tuple[int, ...]]:
        """What one core does, and at which moments."""
        moments = tuple(m for m, p in enumerate(parts) if p[core])
        mine = [part for p in parts if (part := p[core])]
        uses: dict[int, Use] = {}
        if self.resident:
            count = {m: i for i, m in enumerate(moments)}
            uses = uses_on(core, touches, count, self.tensors, self.ends)
        return place_units(mine, uses, rules, self.memo)[1], moments


def _tiles(unit: Job | Group, plan: Plan | GroupPlan) -> int:
    if isinstance(unit, Job) and isinstance(plan, Plan):
        return prod(-(-n // t) for n, t in zip(unit.extent, plan.tile, strict=True))
    return len(plan.steps) * len(unit.jobs) if isinstance(unit, Group) and isinstance(plan, GroupPlan) else 0


def _emit_unit(emitter: Emitter, placement: Placement, index: int) -> None:
    unit, plan = placement.units[index], placement.plans[index]
    live = placement.live[index]
    by_root = {h.root: h for h in live}
    if isinstance(unit, Group) and isinstance(plan, GroupPlan):
        emit_group(emitter, PlacedGroup(unit, plan, by_root))
    elif isinstance(unit, Job) and isinstance(plan, Plan):
        homes = tuple([by_root.get(o.root) for o in unit.operands])
        gaps = gaps_between([h.interval for h in live], emitter.rules.march.chip_bytes)
        emitter.job(Placed(unit, plan, homes, gaps))
