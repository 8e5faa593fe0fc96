"""The choice of tile shape and loop order: the cheapest that fits the free memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from openbpu.arch.shapes import Ints
from openbpu.compiler.schedule.memory.allocator import first_fit
from openbpu.compiler.schedule.problem.byte_ranges import Interval
from openbpu.compiler.schedule.problem.index_maps import Box
from openbpu.compiler.schedule.problem.job import Job
from openbpu.compiler.schedule.problem.options import FASTEST
from openbpu.compiler.schedule.tiling.cost import Buffering, TileCosts, TilingContext
from openbpu.compiler.schedule.tiling.grids import grid_of
from openbpu.compiler.schedule.tiling.loop_orders import thinned, tile_lengths
from openbpu.compiler.schedule.tiling.memo import Memo
from openbpu.compiler.schedule.tiling.policy import Policy

_GRID = 1200
"""Candidates of one search: enough for four axes of six lengths."""
_TIGHT = 0.5
"""Share that the cost with all the room must be exceeded by before fewer buffers and finer tiles are tried.

Less with a lower balance, down to nothing: fewer buffers leave room for tiles that move less.
"""
_TRIED = 64
"""How many of the cheapest candidates are tried for room before the search gives up on their loop order."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """How a job is tiled: tile shape, loop order (outermost first), and bytes of a tile buffer per operand.

    addresses: of every operand's buffers, all live at once · cost: what tilings are compared by.
    """

    tile: Ints
    order: Ints
    sizes: Ints
    addresses: tuple[Ints, ...]
    cost: int

    @property
    def nbytes(self) -> int:
        """On-chip bytes of all buffers."""
        return sum(size * len(a) for size, a in zip(self.sizes, self.addresses, strict=True))


def tile_boxes(extent: Ints, tile: Ints, order: Ints) -> Iterator[Box]:
    """The tiles of an iteration space, in loop order."""
    spans = [[(lo, min(lo + tile[d], extent[d])) for lo in range(0, extent[d], tile[d])] for d in order]
    back = sorted(range(len(order)), key=lambda i: order[i])
    for box in product(*spans):
        yield tuple([box[i] for i in back])


@dataclass(frozen=True, slots=True)
class _Sought:
    """What a tiling is sought for."""

    job: Job
    context: TilingContext
    policy: Policy
    memo: Memo


def search_tiling(
    job: Job, context: TilingContext, policy: Policy, gaps: Sequence[Interval], memo: Memo
) -> Tiling | None:
    """The cheapest tiling of a job whose buffers fit the free gaps, or None.

    Where memory is so tight that double buffers of preferred sizes cost much more than they would with
    room, fewer buffers and smaller tiles are tried too.
    """
    sought = _Sought(job, context, policy, memo)
    first = Buffering.DOUBLE if policy.double_buffered else Buffering.SINGLE
    steps, ones = job.steps, (1,) * len(job.extent)
    best, ideal = _refined(sought, steps, gaps, first)
    if best and best.cost <= ideal * (1 + _TIGHT * policy.balance / FASTEST):
        return best
    rest = [(steps, b) for b in Buffering if b is not first and policy.double_buffered]
    for finer, buffers in (*rest, *((ones, b) for b in Buffering if policy.double_buffered or b is first)):
        found, _ = _refined(sought, finer, gaps, buffers)
        if found and (best is None or found.cost < best.cost):
            best = found
    return best


def _refined(
    sought: _Sought, steps: Ints, gaps: Sequence[Interval], buffers: Buffering
) -> tuple[Tiling | None, int]:
    """The cheapest tiling that fits, first on a coarse grid, then around it; and the cheapest with all the
    room.
    """
    job = sought.job
    caps = job.caps or job.extent
    full = [tile_lengths(n, min(s, n), c) for n, s, c in zip(job.extent, steps, caps, strict=True)]
    coarse = thinned(full, _GRID)
    best, ideal = _cheapest(sought, coarse, gaps, buffers)
    if best is None or coarse == full:
        return best, ideal
    near = [_around(f, c, t) for f, c, t in zip(full, coarse, best.tile, strict=True)]
    finer, _ = _cheapest(sought, thinned(near, _GRID), gaps, buffers)
    return (finer if finer and finer.cost < best.cost else best), ideal


def _around(full: list[int], coarse: list[int], chosen: int) -> list[int]:
    """The lengths between the neighbours of the chosen one in the coarse list."""
    i = coarse.index(chosen)
    high, low = coarse[max(i - 1, 0)], coarse[min(i + 1, len(coarse) - 1)]
    return [t for t in full if low <= t <= high]


def _cheapest(
    sought: _Sought, lists: Sequence[list[int]], gaps: Sequence[Interval], buffers: Buffering
) -> tuple[Tiling | None, int]:
    """The cheapest tiling of a grid that fits the gaps (None: none does), and the least cost if all would."""
    grid = grid_of(sought.job, lists, sought.context, sought.policy, buffers, sought.memo)
    room = sum(hi - lo for lo, hi in gaps)
    best: Tiling | None = None
    ideal = 1 << 62
    for loop in grid.loops:
        cost = sought.policy.cost(loop.cycles, loop.ddr_bytes)
        ideal = min(ideal, int(cost.min(initial=ideal)))
        fits = loop.nbytes <= room
        if best is not None:
            fits &= cost < best.cost
        candidates = np.flatnonzero(fits)
        for i in candidates[np.argsort(cost[candidates], kind="stable")][:_TRIED].tolist():
            sizes = tuple(grid.sizes[:, i].tolist())
            addresses = first_fit(list(zip(sizes, loop.depths[:, i].tolist(), strict=True)), gaps)
            if addresses is not None:
                tile = tuple(grid.tiles[:, i].tolist())
                best = Tiling(tile, loop.order, sizes, addresses, int(cost[i]))
                break
    return best, ideal


def smallest_tile_bytes(job: Job, context: TilingContext, policy: Policy) -> int:
    """On-chip bytes of the smallest tile: one element of every axis, single buffers."""
    tile = np.ones((len(job.extent), 1), dtype=np.int64)
    return int(TileCosts(job, tile, context, policy).sizes.sum())
