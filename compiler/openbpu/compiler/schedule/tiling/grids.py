"""Grids: the candidate tile shapes of a job and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openbpu.arch.arrays import Int64
from openbpu.arch.shapes import Ints
from openbpu.compiler.schedule.problem.index_maps import Tiles
from openbpu.compiler.schedule.problem.job import Job
from openbpu.compiler.schedule.tiling.cost import Buffering, OrderCosts, TileCosts, TilingContext
from openbpu.compiler.schedule.tiling.loop_orders import loop_orders
from openbpu.compiler.schedule.tiling.memo import Memo
from openbpu.compiler.schedule.tiling.policy import Policy


@dataclass(frozen=True, slots=True)
class TileGrid:
    """The legal candidates: tile shapes [axes, n], bytes of a buffer [operands, n], and what they cost under
    every loop order.
    """

    tiles: Tiles
    sizes: Int64
    loops: tuple[OrderCosts, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays, which a memo keeps."""
        found = [self.tiles, self.sizes]
        for loop in self.loops:
            found += [loop.cycles, loop.ddr_bytes, loop.nbytes, loop.depths]
        return sum([array.nbytes for array in found])


def grid_of(
    job: Job,
    lengths: Sequence[Sequence[int]],
    context: TilingContext,
    policy: Policy,
    buffers: Buffering,
    memo: Memo,
) -> TileGrid:
    """The grid of all combinations of tile lengths, given by axis.

    All policies that a memo is used with differ in balance, DDR and L2M only.
    """
    in_l2m = tuple([o.root in policy.in_l2m for o in job.operands])
    shape = tuple([tuple(n) for n in lengths])
    key = (memo.kind(job), shape, context, buffers, in_l2m, policy.march.ddr)
    return memo.recall(
        key, job, lambda: _grid(job, shape, context, policy, buffers), lambda grid: grid.nbytes
    )


def _grid(
    job: Job, lengths: tuple[Ints, ...], context: TilingContext, policy: Policy, buffers: Buffering
) -> TileGrid:
    tiles: Tiles = np.stack([a.ravel() for a in np.meshgrid(*lengths, indexing="ij")])
    legal = job.legal(tiles)
    costs = TileCosts(job, tiles if legal.all() else tiles[:, legal], context, policy)
    loops = tuple([costs.under_order(order, buffers) for order in loop_orders(lengths)])
    return TileGrid(costs.tiles, costs.sizes, loops)
