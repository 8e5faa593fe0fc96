"""A layer split over cores: a part of a job is a slab of its iteration box, and a job itself.

conv, 56 rows, 4 cores  →  rows 0..13, 14..27, 28..41, 42..55, one job each; the rows of the input that two
parts need are read by both.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from openbpu.arch.isa import Instr
from openbpu.arch.march import March
from openbpu.compiler.schedule.problem.index_maps import Along, Box, Int64, Tiles, shifted
from openbpu.compiler.schedule.problem.job import Job, View

Parts = tuple[Job | None, ...]
"""What every core does of a job; None: nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part(Job):
    """Iterations low.. of axis `dim` of a job; its own box starts at 0."""

    whole: Job
    dim: int
    low: int

    @property
    def alike(self) -> Hashable:
        """Parts of one job as long as each other, if it does not matter where they begin."""
        if all(axis.even for o in self.operands for axis in o.axes if self.dim in axis.dims):
            return id(self.whole), self.dim, self.extent
        return id(self)

    def emit(self, box: Box, views: tuple[View, ...]) -> list[Instr]:
        """The instructions of the same tile of the whole job."""
        lo, hi = box[self.dim]
        moved = (*box[: self.dim], (lo + self.low, hi + self.low), *box[self.dim + 1 :])
        return self.whole.emit(moved, views)

    def cycles(self, march: March, tile: Tiles) -> Int64:
        """As the whole job's."""
        return self.whole.cycles(march, tile)

    def legal(self, tile: Tiles) -> npt.NDArray[np.bool_]:
        """As the whole job's."""
        return self.whole.legal(tile)


def splits(job: Job, cores: int) -> list[Parts]:
    """All ways to split a job: the first core does all of it, or an axis of the output is cut."""
    alone: Parts = (job, *(None for _ in range(cores - 1)))
    return [alone, *(_along(job, dim, cores) for dim in range(len(job.extent)) if _divisible(job, dim))]


def _divisible(job: Job, dim: int) -> bool:
    """Whether parts along the axis write different bytes, and there can be two."""
    rules = [axis for axis in job.operands[-1].axes if dim in axis.dims]
    units = -(-job.extent[dim] // job.steps[dim])
    return units > 1 and len(rules) == 1 and isinstance(rules[0], Along)


def _along(job: Job, dim: int, cores: int) -> Parts:
    step, extent = job.steps[dim], job.extent[dim]
    units = -(-extent // step)
    bounds = [min(units * k // cores * step, extent) for k in range(cores + 1)]
    return tuple(part(job, dim, low, high) if low < high else None for low, high in pairwise(bounds))


def part(job: Job, dim: int, low: int, high: int) -> Part:
    """Iterations low..high of axis `dim`."""
    operands = [
        replace(o, axes=tuple([shifted(axis, dim, low, high - low) for axis in o.axes])) for o in job.operands
    ]
    return Part(
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
