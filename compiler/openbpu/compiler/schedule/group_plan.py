"""How large a group's stripes are, what they cost, and where their buffers go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from openbpu.arch.isa import ENGINES, Engine
from openbpu.arch.timing import move_cycles
from openbpu.compiler.schedule.axes import Box, Int64, Ints
from openbpu.compiler.schedule.cost import Rules, traffic_of
from openbpu.compiler.schedule.groups import Group, Stride, cut_axes, strides_of
from openbpu.compiler.schedule.job import Operand, lengths
from openbpu.compiler.schedule.memory import Gap, aligned
from openbpu.compiler.schedule.orders import sizes_of
from openbpu.compiler.schedule.tiling import place_blocks

_STEPS = 96
"""Most steps of a group: stripes thinner than that cost more instructions than they save memory."""
Buffer = tuple[int, int]
"""(position of the job, position of the operand), or (−1, root) for the windows of a link."""


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """The steps of a group and the addresses of its buffers; `nbytes`: of all of them."""

    steps: tuple[Stride, ...]
    addresses: Mapping[Buffer, Ints]
    nbytes: int
    cost: int


def search_group(
    group: Group, resident: frozenset[int], rules: Rules, gaps: Sequence[Gap]
) -> GroupPlan | None:
    """The cheapest stripes whose buffers fit the gaps, or None. `resident`: roots that live on chip."""
    best: GroupPlan | None = None
    for dim in cut_axes(group)[:2]:
        extent = group.jobs[-1].extent[dim]
        for length in sizes_of(extent, 1, extent):
            if extent > length * _STEPS:
                break
            steps = strides_of(group, dim, length)
            plan = _plan(group, steps, resident, rules, gaps, best) if steps else None
            best = plan or best
    return best


def _plan(
    group: Group,
    steps: Sequence[Stride],
    resident: frozenset[int],
    rules: Rules,
    gaps: Sequence[Gap],
    best: GroupPlan | None,
) -> GroupPlan | None:
    """The plan of these steps if it fits and beats `best`."""
    blocks = _blocks(group, steps, resident, rules.march.alignment)
    nbytes = sum(size * count for size, count in blocks.values())
    if nbytes > sum(hi - lo for lo, hi in gaps):
        return None
    found = _cost(group, steps, resident, rules)
    if found is None or (best and found >= best.cost):
        return None
    addresses = place_blocks(list(blocks.values()), gaps)
    if addresses is None:
        return None
    return GroupPlan(tuple(steps), dict(zip(blocks, addresses, strict=True)), nbytes, found)


def _blocks(
    group: Group, steps: Sequence[Stride], resident: frozenset[int], alignment: int
) -> dict[Buffer, tuple[int, int]]:
    """(bytes, number) of every buffer: one of what never changes, two of what does."""
    out: dict[Buffer, tuple[int, int]] = {}
    for root, link in group.links.items():
        rows = max((hi - lo for lo, hi in (s.windows.get(root, (0, 0)) for s in steps)), default=0)
        out[-1, root] = (aligned(rows * link.row_bytes, alignment), 2)
    for position, job in enumerate(group.jobs):
        for k, operand in enumerate(job.operands):
            if operand.root in group.links or operand.root in resident:
                continue
            if job.copy and (k > 0 or job.operands[-1].root in group.links):
                continue  # LOAD writes the window itself; a last copy's output leaves from its input
            regions = [operand.region(b) for b in (s.boxes[position] for s in steps) if b is not None]
            if not regions:
                continue
            size = max(prod(lengths(r)) for r in regions) * operand.element
            changes = any(r != regions[0] for r in regions)
            out[position, k] = (aligned(size, alignment), 1 + changes)
    return out


def _cost(group: Group, steps: Sequence[Stride], resident: frozenset[int], rules: Rules) -> int | None:
    """What plans are compared by, as `Costs` counts it: cycles of the busiest engine, and one step for the
    pipeline to fill.

    None when a tile does not fit its instruction.
    """
    busy = np.zeros(ENGINES, dtype=np.int64)
    memory, first, ddr_bytes = 0, 0, 0
    for position, job in enumerate(group.jobs):
        done = [b for b in (s.boxes[position] for s in steps) if b is not None]
        tiles = _tiles(done)
        if not done or not job.legal(tiles).all():
            return None
        compute = job.cycles(rules.march, tiles)
        if not job.copy:
            busy[job.engine] += int(compute.sum())
            first += int(compute.max())
        for operand in job.operands:
            if operand.root in group.links or operand.root in resident:
                continue
            engine, part, longest = _moved(operand, done, tiles, rules)
            busy[engine] += part[0]
            memory += part[1]
            ddr_bytes += part[2]
            first += longest
    busy[Engine.TRANS] += _halos(group, steps, rules)
    cycles = max(busy.max(), memory) + first + busy.sum() // 2
    return int(rules.cost(np.array(cycles), np.array(ddr_bytes)))


def _moved(
    operand: Operand, done: Sequence[Box], tiles: Int64, rules: Rules
) -> tuple[Engine, tuple[int, int, int], int]:
    """LOAD or STORE; its cycles, memory cycles and DDR bytes for an operand over all steps; the longest of
    one step.
    """
    cost = traffic_of(operand, tiles, rules)
    engine = Engine.STORE if operand.output else Engine.LOAD
    regions = [operand.region(b) for b in done]
    new = np.array([i == 0 or r != regions[i - 1] for i, r in enumerate(regions)])
    longest = int(cost.engine.max()) // (4 if operand.constant else 1)
    sums = [int(part[new].sum()) for part in (cost.engine, cost.memory, cost.nbytes)]
    through_ddr = 0 if operand.root in rules.shared else sums[2]
    return engine, (sums[0], sums[1], through_ddr), longest


def _halos(group: Group, steps: Sequence[Stride], rules: Rules) -> int:
    """Cycles of the layout engine to copy the rows that a window keeps when it moves on."""
    total = 0
    for root, link in group.links.items():
        before = (0, 0)
        for step in steps:
            low, high = step.windows.get(root, (0, 0))
            if high > before[1] > low:
                kept = (before[1] - low) * link.row_bytes
                total += int(move_cycles(rules.march, rows=1, run=kept, element=1))
            before = (low, high)
    return total


def _tiles(done: Sequence[Box]) -> Int64:
    return np.array([lengths(b) for b in done], dtype=np.int64).reshape(len(done), -1).T
