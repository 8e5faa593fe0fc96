"""Partitions: a job cut into slabs of its iteration space, one per core; a slab is a job itself.

conv, 56 rows, 4 cores  →  rows 0..13, 14..27, 28..41, 42..55, one job each; the rows of the input that two
slabs need are read by both.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from openbpu.arch.arrays import Int64
from openbpu.arch.isa import Instr
from openbpu.arch.march import March
from openbpu.compiler.schedule.problem.index_maps import Along, Box, Tiles, shifted
from openbpu.compiler.schedule.problem.job import Job, View

Partition = tuple[Job | None, ...]
"""A job by core: the part that each one does, or None where it does nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slab(Job):
    """The iterations of job `whole` from `low` on along axis `dim`; its own iteration space starts at 0."""

    whole: Job
    dim: int
    low: int

    @property
    def cost_key(self) -> Hashable:
        """A key that equally long slabs of a job share, if it does not matter where they begin."""
        if all(axis.uniform for o in self.operands for axis in o.axes if self.dim in axis.dims):
            return self.whole.cost_key, self.dim, self.extent
        return id(self)

    def emit(self, box: Box, views: tuple[View, ...]) -> list[Instr]:
        """The instructions of the same tile of the whole job."""
        lo, hi = box[self.dim]
        moved = (*box[: self.dim], (lo + self.low, hi + self.low), *box[self.dim + 1 :])
        return self.whole.emit(moved, views)

    def cycles(self, march: March, tile: Tiles) -> Int64:
        """Engine cycles of one tile: those of the whole job's tile of that shape."""
        return self.whole.cycles(march, tile)

    def legal(self, tile: Tiles) -> npt.NDArray[np.bool_]:
        """Whether the sizes of a tile fit the instruction's fields: as for the whole job."""
        return self.whole.legal(tile)


def partitions_of(job: Job, cores: int) -> list[Partition]:
    """The partitions that a job may have: the first core does all of it, or an axis of the output is cut."""
    alone: Partition = (job, *(None for _ in range(cores - 1)))
    return [alone, *(_along(job, dim, cores) for dim in range(len(job.extent)) if _divisible(job, dim))]


def _divisible(job: Job, dim: int) -> bool:
    """Whether slabs along the axis write different bytes, and there can be two."""
    maps = [axis for axis in job.operands[-1].axes if dim in axis.dims]
    units = -(-job.extent[dim] // job.steps[dim])
    return units > 1 and len(maps) == 1 and isinstance(maps[0], Along)


def _along(job: Job, dim: int, cores: int) -> Partition:
    step, extent = job.steps[dim], job.extent[dim]
    units = -(-extent // step)
    bounds = [min(units * k // cores * step, extent) for k in range(cores + 1)]
    return tuple(slab_of(job, dim, low, high) if low < high else None for low, high in pairwise(bounds))


def slab_of(job: Job, dim: int, low: int, high: int) -> Slab:
    """The slab of a job that has the iterations low..high of axis `dim`."""
    operands = [
        replace(o, axes=tuple([shifted(axis, dim, low, high - low) for axis in o.axes])) for o in job.operands
    ]
    return Slab(
        index=job.index,
        name=job.name,
        extent=(*job.extent[:dim], high - low, *job.extent[dim + 1 :]),
        steps=job.steps,
        operands=tuple(operands),
        engine=job.engine,
        caps=job.caps,
        copy=job.copy,
        whole=job,
        dim=dim,
        low=low,
    )
