"""Candidate tiles of a job and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openbpu.compiler.schedule.problem.index_maps import Int64, Ints, Tiles
from openbpu.compiler.schedule.problem.job import Job
from openbpu.compiler.schedule.tiling.cost import Buffers, Costs, Looped, Rules, Setting
from openbpu.compiler.schedule.tiling.loop_orders import orders
from openbpu.compiler.schedule.tiling.memo import Memo


@dataclass(frozen=True, slots=True)
class Grid:
    """The legal candidates among some tile shapes: tiles [axes, n], bytes of a buffer [operands, n], and
    their costs by loop order.
    """

    tiles: Tiles
    sizes: Int64
    loops: tuple[Looped, ...]

    @property
    def nbytes(self) -> int:
        """What the arrays take."""
        found = [self.tiles, self.sizes]
        for loop in self.loops:
            found += [loop.cycles, loop.ddr_bytes, loop.nbytes, loop.depths]
        return sum([array.nbytes for array in found])


def grid_of(
    job: Job,
    lengths: Sequence[Sequence[int]],
    setting: Setting,
    rules: Rules,
    buffers: Buffers,
    memo: Memo,
) -> Grid:
    """The grid of all combinations of tile lengths, given by axis.

    All `rules` that a memo is used with differ in balance, DDR and L2M only.
    """
    near = tuple([o.root in rules.shared for o in job.operands])
    shape = tuple([tuple(n) for n in lengths])
    key = (job.alike, shape, setting, buffers, near, rules.march.ddr)
    return memo.recall(key, job, lambda: _grid(job, shape, setting, rules, buffers), lambda grid: grid.nbytes)


def _grid(job: Job, lengths: tuple[Ints, ...], setting: Setting, rules: Rules, buffers: Buffers) -> Grid:
    tiles: Tiles = np.stack([a.ravel() for a in np.meshgrid(*lengths, indexing="ij")])
    legal = job.legal(tiles)
    costs = Costs(job, tiles if legal.all() else tiles[:, legal], setting, rules)
    loops = tuple([costs.looped(order, buffers) for order in orders(lengths)])
    return Grid(costs.tiles, costs.sizes, loops)
