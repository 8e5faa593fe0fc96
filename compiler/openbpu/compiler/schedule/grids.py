"""Candidate tiles and what they cost, worked out once for all who ask.

The same job is searched again beside other tensors on chip, by another balance, with other ways to split the
work. What its tiles take does not change with these, only which of them is best.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from openbpu.compiler.schedule.axes import Int64, Ints, Tiles
from openbpu.compiler.schedule.cost import Buffers, Costs, Looped, Rules, Setting
from openbpu.compiler.schedule.job import Job
from openbpu.compiler.schedule.orders import orders

_KEPT = 1 << 27
"""Bytes of grids that are kept; beyond that all are forgotten."""


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


class Grids:
    """The grids of one segment's jobs. All `rules` it is asked with differ in balance, DDR and L2M only."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[Job, Grid]] = {}
        self._bytes = 0

    def of(
        self, job: Job, lengths: Sequence[Sequence[int]], setting: Setting, rules: Rules, buffers: Buffers
    ) -> Grid:
        """The grid of all combinations of tile lengths, given by axis."""
        near = tuple([o.root in rules.shared for o in job.operands])
        shape = tuple([tuple(n) for n in lengths])
        key = (job.alike, shape, setting, buffers, near, rules.march.ddr)
        found = self._kept.get(key)
        if found is None:
            found = (job, _grid(job, shape, setting, rules, buffers))  # the job lives on, so its id stays its
            if self._bytes > _KEPT:
                self._kept, self._bytes = {}, 0
            self._kept[key] = found
            self._bytes += found[1].nbytes
        return found[1]


def _grid(job: Job, lengths: tuple[Ints, ...], setting: Setting, rules: Rules, buffers: Buffers) -> Grid:
    tiles: Tiles = np.stack([a.ravel() for a in np.meshgrid(*lengths, indexing="ij")])
    legal = job.legal(tiles)
    costs = Costs(job, tiles if legal.all() else tiles[:, legal], setting, rules)
    loops = tuple([costs.looped(order, buffers) for order in orders(lengths)])
    return Grid(costs.tiles, costs.sizes, loops)
