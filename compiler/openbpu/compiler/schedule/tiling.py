"""Tile shapes and loop orders: what fits, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from math import prod

from openbpu.compiler.schedule.axes import Box, Ints
from openbpu.compiler.schedule.job import Job, Operand
from openbpu.compiler.schedule.transfer import ddr_rows


@dataclass(frozen=True, slots=True)
class Plan:
    """How a job is cut: tile shape, loop order (outermost first), bytes and number of buffers per operand
    (0: none).
    """

    tile: Ints
    order: Ints
    sizes: Ints
    depths: Ints
    cost: int

    @property
    def nbytes(self) -> int:
        """On-chip bytes of all buffers."""
        return sum(s * d for s, d in zip(self.sizes, self.depths, strict=True))


@dataclass(frozen=True, slots=True)
class Rules:
    """What the planner may use: whether tiles are double buffered and reused, the buffers' alignment, DDR
    costs.
    """

    double: bool
    reuse: bool
    alignment: int
    row_bytes: int = 16  # what a contiguous run costs beside its bytes, in bytes
    tile_bytes: int = 2048  # what a tile costs beside its bytes, in bytes


def boxes(extent: Ints, tile: Ints, order: Ints) -> Iterator[Box]:
    """The tiles of an iteration box, in loop order."""
    spans = [[(lo, min(lo + tile[d], extent[d])) for lo in range(0, extent[d], tile[d])] for d in order]
    back = sorted(range(len(order)), key=lambda i: order[i])
    for box in product(*spans):
        yield tuple([box[i] for i in back])


def changes(operand: Operand, trips: Ints, order: Ints) -> int:
    """How often the region of an operand changes while the loops turn (1: never after the first tile)."""
    seen, turns = 1, 1
    for d in order:
        turns *= trips[d]
        if trips[d] > 1 and d in operand.dims:
            seen = turns
    return seen


def plan_job(job: Job, tile: Ints, order: Ints, resident: frozenset[int], rules: Rules) -> Plan:
    """Cost and buffers of one way to cut a job. `resident` operands (by position) need no buffer and no
    transfer.
    """
    trips = tuple([-(-n // t) for n, t in zip(job.extent, tile, strict=True)])
    total = prod(trips)
    sizes, depths, cost = [], [], total * rules.tile_bytes
    for k, operand in enumerate(job.operands):
        if k in resident:
            sizes.append(0)
            depths.append(0)
            continue
        shape = operand.tile_shape(tile)
        nbytes = prod(shape) * operand.element
        times = changes(operand, trips, order) if rules.reuse or operand.output else total
        cost += times * (nbytes + ddr_rows(shape, operand) * rules.row_bytes)
        sizes.append(-(-nbytes // rules.alignment) * rules.alignment)
        depths.append(2 if rules.double and times > 1 else 1)
    if job.copy:  # the output leaves from the buffer the input came into; no engine needs both
        sizes[-1] = depths[-1] = 0
        if 0 in resident:
            sizes = depths = [0] * len(sizes)
    return Plan(tile, order, tuple(sizes), tuple(depths), cost)


def orders(job: Job, tile: Ints) -> list[Ints]:
    """Loop orders worth trying: all permutations of the (few) axes that are cut, the rest outermost."""
    cut = [d for d, (n, t) in enumerate(zip(job.extent, tile, strict=True)) if t < n]
    rest = [d for d in range(len(tile)) if d not in cut]
    if len(cut) < 2:
        return [(*rest, *cut)]
    if len(cut) > 3:
        return [(*rest, *cut), (*rest, *reversed(cut))]
    return [(*rest, *p) for p in permutations(cut)]


def sizes_of(n: int, step: int, cap: int) -> list[int]:
    """Tile lengths worth trying for an axis of length n: even cuts into 1, 2, 3, 4, 6, 8, 12, … parts."""
    out: list[int] = []
    parts = 1
    while True:
        t = min(-(-n // parts), cap)
        t = n if t >= n else -(-t // step) * step
        if t <= n and (not out or t < out[-1]):
            out.append(t)
        if t <= step or parts >= n:
            break
        parts = parts * 3 // 2 if parts & (parts - 1) == 0 and parts > 1 else -(-parts * 4 // 3)
    return out


Fits = Callable[[Plan], bool]


def smallest(job: Job, resident: frozenset[int], rules: Rules) -> Plan:
    """The plan that needs the least memory: one element of every axis, single buffers."""
    single = Rules(double=False, reuse=rules.reuse, alignment=rules.alignment)
    tile = (1,) * len(job.extent)
    return plan_job(job, tile, tuple(range(len(tile))), resident, single)


def candidates(job: Job, *, fine: bool) -> list[list[int]]:
    """Tile lengths per axis; `fine` goes below the preferred steps."""
    caps = job.caps or job.extent
    steps = (1,) * len(job.extent) if fine else job.steps
    return [sizes_of(n, min(s, n), c) for n, s, c in zip(job.extent, steps, caps, strict=True)]


def search(job: Job, resident: frozenset[int], rules: Rules, fits: Fits, *, fine: bool) -> Plan | None:
    """The cheapest plan that fits, or None: exhaustive over few axes, else by halving."""
    lists = candidates(job, fine=fine)
    if prod(len(c) for c in lists) > 600:
        return _halve(job, lists, resident, rules, fits)
    best: Plan | None = None
    for tile in product(*lists):
        if not job.legal(tile):
            continue
        found = _best_order(job, tile, resident, rules, fits, best)
        best = found or best
    return best


def _best_order(
    job: Job, tile: Ints, resident: frozenset[int], rules: Rules, fits: Fits, best: Plan | None
) -> Plan | None:
    """The cheapest loop order of a tile that fits and beats `best`."""
    for order in orders(job, tile):
        plan = plan_job(job, tile, order, resident, rules)
        if (best is None or plan.cost < best.cost) and fits(plan):
            best = plan
    return best


def _halve(
    job: Job, lists: Sequence[list[int]], resident: frozenset[int], rules: Rules, fits: Fits
) -> Plan | None:
    """Start with the largest tile; take the next smaller length of the axis that costs least until it
    fits.
    """
    at = [0] * len(lists)
    while True:
        tile = tuple(c[i] for c, i in zip(lists, at, strict=True))
        if job.legal(tile):
            found = _best_order(job, tile, resident, rules, fits, None)
            if found:
                return found
        options = []
        for d, c in enumerate(lists):
            if at[d] + 1 < len(c):
                smaller = (*tile[:d], c[at[d] + 1], *tile[d + 1 :])
                plan = min(
                    (plan_job(job, smaller, o, resident, rules) for o in orders(job, smaller)),
                    key=lambda p: p.cost,
                )
                options.append((plan.cost * max(plan.nbytes, 1), d))
        if not options:
            return None
        at[min(options)[1]] += 1
