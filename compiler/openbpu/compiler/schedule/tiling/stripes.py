"""Stripes: how a fusion group is cut, what that costs, and where its buffers go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from openbpu.arch.arrays import Int64
from openbpu.arch.isa import ENGINES, Engine
from openbpu.arch.shapes import Ints
from openbpu.arch.timing import move_cycles
from openbpu.compiler.schedule.memory.allocator import aligned, first_fit
from openbpu.compiler.schedule.problem.byte_ranges import Interval
from openbpu.compiler.schedule.problem.index_maps import Boxes
from openbpu.compiler.schedule.problem.job import Job, Operand
from openbpu.compiler.schedule.tiling.cost import traffic_of
from openbpu.compiler.schedule.tiling.fusion_groups import FusionGroup, stripe_axes
from openbpu.compiler.schedule.tiling.group_steps import GroupStep, GroupSteps, Part, steps_of
from openbpu.compiler.schedule.tiling.loop_orders import tile_lengths
from openbpu.compiler.schedule.tiling.memo import Memo
from openbpu.compiler.schedule.tiling.policy import Policy

_STEPS = 96
"""Most steps of a group: stripes thinner than that cost more instructions than they save memory."""
_ENTRY = 200
"""Bytes of memory that a buffer's entry takes, about."""
Buffer = tuple[int, int]
"""A buffer: (position of the job, of the operand), or (−1, position of the writer) for the windows of a fused
tensor.
"""
Blocks = dict[Buffer, tuple[int, int]]
"""Bytes and number of every buffer."""


@dataclass(frozen=True, slots=True)
class GroupTiling:
    """How a fusion group is cut: its steps, the addresses of its buffers, and the bytes of all of them."""

    steps: tuple[GroupStep, ...]
    addresses: Mapping[Buffer, Ints]
    nbytes: int
    cost: int


class _Stripes:
    """The ways to cut a group along one axis: what they need and cost, from the memo or worked out now."""

    def __init__(self, group: FusionGroup, resident: frozenset[int], policy: Policy, memo: Memo) -> None:
        self.group, self.policy, self.memo = group, policy, memo
        self.resident = resident
        numbers = group.numbers
        self.key = tuple([(memo.kind(j), tuple([numbers[o.root] for o in j.operands])) for j in group.jobs])
        self.beside = tuple([(r in resident, r in policy.in_l2m) for r in numbers])

    def steps(self, dim: int, length: int) -> GroupSteps | None:
        """The steps of stripes of `length`; None where a window would have to go back."""
        key = ("steps", self.key, dim, length)
        return self.memo.recall(key, self.group, lambda: steps_of(self.group, dim, length), _size_of_steps)

    def blocks(self, dim: int, length: int) -> Blocks | None:
        """The buffers beside what is resident; None where a window would have to go back."""

        def make() -> Blocks | None:
            steps = self.steps(dim, length)
            return _blocks(self.group, steps, self.policy.march.alignment) if steps else None

        found = self.memo.recall((self.key, dim, length), self.group, make, _size_of)
        if found is None:
            return None
        operands = [job.operands for job in self.group.jobs]
        return {
            (p, k): block
            for (p, k), block in found.items()
            if p < 0 or operands[p][k].root not in self.resident
        }

    def cost(self, dim: int, length: int) -> int | None:
        """What ways are compared by; None when a tile does not fit its instruction."""

        def make() -> tuple[int, int] | None:
            steps = self.steps(dim, length)
            return _cost(self.group, steps, self.resident, self.policy) if steps else None

        key = (self.key, dim, length, self.beside, self.policy.march.ddr)
        found = self.memo.recall(key, self.group, make, _size_of)
        return None if found is None else int(self.policy.cost(*(np.array(n) for n in found)))


def _size_of(found: Sized | None) -> int:
    return _ENTRY * (1 + len(found or ()))


def _size_of_steps(found: GroupSteps | None) -> int:
    return _ENTRY + (found.nbytes if found else 0)


def search_stripes(
    group: FusionGroup, resident: frozenset[int], policy: Policy, gaps: Sequence[Interval], memo: Memo
) -> GroupTiling | None:
    """The cheapest stripes whose buffers fit the gaps, or None. `resident`: roots that stay on chip."""
    stripes = _Stripes(group, resident, policy, memo)
    room = sum(hi - lo for lo, hi in gaps)
    best: tuple[int, int, int] | None = None
    for dim in stripe_axes(group)[:2]:
        extent = group.jobs[-1].extent[dim]
        for length in tile_lengths(extent, 1, extent):
            if extent > length * _STEPS:
                break
            blocks = stripes.blocks(dim, length)
            if blocks is None or sum(size * count for size, count in blocks.values()) > room:
                continue
            cost = stripes.cost(dim, length)
            if cost is None or (best and cost >= best[0]) or first_fit(list(blocks.values()), gaps) is None:
                continue
            best = (cost, dim, length)
    return _tiling(stripes, gaps, *best) if best else None


def _tiling(
    stripes: _Stripes, gaps: Sequence[Interval], cost: int, dim: int, length: int
) -> GroupTiling | None:
    """The tiling by stripes that fit."""
    steps, blocks = stripes.steps(dim, length), stripes.blocks(dim, length)
    addresses = first_fit(list(blocks.values()), gaps) if blocks else None
    if not (steps and blocks and addresses):
        return None
    nbytes = sum(size * count for size, count in blocks.values())
    return GroupTiling(
        steps.one_by_one(stripes.group), dict(zip(blocks, addresses, strict=True)), nbytes, cost
    )


def _blocks(group: FusionGroup, steps: GroupSteps, alignment: int) -> Blocks:
    """(bytes, number) of every buffer: one of what never changes, two of what does."""
    out: dict[Buffer, tuple[int, int]] = {}
    for position, (tensor, (low, high)) in enumerate(zip(group.fused.values(), steps.windows, strict=True)):
        out[-1, position] = (aligned(int((high - low).max()) * tensor.row_bytes, alignment), 2)
    for position, (job, part) in enumerate(zip(group.jobs, steps.parts, strict=True)):
        if not len(part.at):
            continue
        boxes = part.boxes(job)
        for k, operand in enumerate(job.operands):
            if operand.root in group.fused:
                continue
            if job.copy and (k > 0 or job.operands[-1].root in group.fused):
                continue  # LOAD writes the window itself; a last copy's output leaves from its input
            regions = operand.regions(boxes)
            size = int(np.max(prod([hi - lo for lo, hi in regions]))) * operand.element
            out[position, k] = (aligned(size, alignment), 1 + bool(_changes(regions, len(part.at))[1:].any()))
    return out


def _changes(regions: Boxes, count: int) -> npt.NDArray[np.bool_]:
    """Whether each of `count` regions differs from the one before it; the first does."""
    changes = np.zeros(count, np.bool_)
    changes[0] = True
    for bound in (bound for spans in regions for bound in spans):
        if bound.ndim:
            changes[1:] |= bound[1:] != bound[:-1]
    return changes


def _cost(
    group: FusionGroup, steps: GroupSteps, resident: frozenset[int], policy: Policy
) -> tuple[int, int] | None:
    """Estimated cycles as `TileCosts` counts them, of the busiest engine and one step for the pipeline to
    fill; DDR bytes.

    None when a tile does not fit its instruction.
    """
    busy = np.zeros(ENGINES, dtype=np.int64)
    memory, first, ddr_bytes = 0, 0, 0
    for job, part in zip(group.jobs, steps.parts, strict=True):
        tiles = part.tiles(job)
        if not len(part.at) or not job.legal(tiles).all():
            return None
        compute = job.cycles(policy.march, tiles)
        if not job.copy:
            busy[job.engine] += int(compute.sum())
            first += int(compute.max())
        for operand in job.operands:
            if operand.root in group.fused or operand.root in resident:
                continue
            engine, moved, longest = _moved(operand, job, part, tiles, policy)
            busy[engine] += moved[0]
            memory += moved[1]
            ddr_bytes += moved[2]
            first += longest
    busy[Engine.TRANS] += _halos(group, steps, policy)
    cycles = max(busy.max(), memory) + first + busy.sum() // 2
    return int(cycles), ddr_bytes


def _moved(
    operand: Operand, job: Job, part: Part, tiles: Int64, policy: Policy
) -> tuple[Engine, tuple[int, int, int], int]:
    """LOAD or STORE; its cycles, memory cycles and DDR bytes for an operand over all steps; the longest of
    one step.
    """
    cost = traffic_of(operand, tiles, policy)
    engine = Engine.STORE if operand.output else Engine.LOAD
    new = _changes(operand.regions(part.boxes(job)), len(part.at))
    longest = int(cost.engine.max()) // (4 if operand.constant else 1)
    sums = [int(part[new].sum()) for part in (cost.engine, cost.memory, cost.nbytes)]
    through_ddr = 0 if operand.root in policy.in_l2m else sums[2]
    return engine, (sums[0], sums[1], through_ddr), longest


def _halos(group: FusionGroup, steps: GroupSteps, policy: Policy) -> int:
    """Cycles of the layout engine to copy the rows that a window keeps when it moves on."""
    total = 0
    for tensor, (low, high) in zip(group.fused.values(), steps.windows, strict=True):
        had = np.concatenate(([0], high[:-1]))
        kept = (had - low)[(high > had) & (had > low)] * tensor.row_bytes
        total += int(np.sum(move_cycles(policy.march, rows=1, run=kept, element=1)))
    return total
