"""How every job is split over cores: the axis that costs least, given how its neighbours are split.

Rows leave most of a tensor where it was made, but every core loads all weights; channels divide the weights,
but every core reads what all others made. What neither helps is done by one core.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from openbpu.arch.march import March
from openbpu.arch.timing import memory_cycles, port_cycles, shared_cycles
from openbpu.compiler.schedule.cores.parts import Parts, splits
from openbpu.compiler.schedule.problem.byte_ranges import Extent, extent_of
from openbpu.compiler.schedule.problem.job import Job

_ROUNDS = 3
"""Times that all jobs choose again, after what their neighbours chose."""
_ROOM = 3
"""A tensor stays on chip, it is assumed, if a core's part of it is at most one third of the memory."""


@dataclass(frozen=True, slots=True)
class _Way:
    """One way to split a job, all by core: cycles of the slowest, bytes of constants (all cores), what each
    one reads by root, and what it writes.
    """

    parts: Parts
    compute: int
    constants: int
    reads: Mapping[int, tuple[Extent | None, ...]]
    writes: tuple[Extent | None, ...]


@dataclass(slots=True)
class Division:
    """Chooses the ways. `shared_bytes`: L2M that tensors may take, so that they need no DDR."""

    jobs: Sequence[Job]
    constant: Sequence[bool]
    march: March
    cores: int
    shared_bytes: int
    ways: list[list[_Way]] = field(init=False)
    chosen: list[int] = field(init=False)
    writers: dict[int, list[int]] = field(init=False)
    readers: dict[int, list[int]] = field(init=False)

    def __post_init__(self) -> None:
        self.ways = [[self._way(parts) for parts in splits(job, self.cores)] for job in self.jobs]
        self.chosen = [min(1, len(ways) - 1) for ways in self.ways]
        self.writers, self.readers = {}, {}
        for moment, job in enumerate(self.jobs):
            self.writers.setdefault(job.operands[-1].root, []).append(moment)
            for root in self.ways[moment][0].reads:
                self.readers.setdefault(root, []).append(moment)

    def parts(self) -> list[Parts]:
        """What every core does of every job."""
        for _ in range(_ROUNDS):
            before = list(self.chosen)
            for moment in range(len(self.jobs)):
                self._choose(moment)
            if before == self.chosen:
                break
        return [ways[k].parts for ways, k in zip(self.ways, self.chosen, strict=True)]

    def cost(self) -> int:
        """Estimated cycles of all jobs as they are split now, one after another."""
        return sum(self._cost(moment) for moment in range(len(self.jobs)))

    def _choose(self, moment: int) -> None:
        root = self.jobs[moment].operands[-1].root
        touched = {moment, *self.readers.get(root, ())}
        costs = []
        for k in range(len(self.ways[moment])):
            self.chosen[moment] = k
            costs.append(sum(self._cost(m) for m in touched))
        self.chosen[moment] = costs.index(min(costs))

    def _way(self, parts: Parts) -> _Way:
        compute = constants = 0
        reads: dict[int, list[Extent | None]] = {}
        for core, part in enumerate(parts):
            if part is None:
                continue
            whole = np.array(part.extent, dtype=np.int64)[:, None]
            compute = max(compute, int(part.cycles(self.march, whole).max()))
            for operand in part.operands[:-1]:
                extent = extent_of(part, operand)
                if self.constant[operand.root]:
                    constants += extent.count
                else:
                    held = reads.setdefault(operand.root, [None] * self.cores)
                    held[core] = _hull(e for e in (held[core], extent) if e)
        writes = tuple(extent_of(part, part.operands[-1]) if part else None for part in parts)
        return _Way(parts, compute, constants, {root: tuple(e) for root, e in reads.items()}, writes)

    def _cost(self, moment: int) -> int:
        """Estimated cycles of a job: compute or constants, then what cores must hand to each other.

        All that a core moves keeps it from computing, as the port's rule says.
        """
        way, march = self.ways[moment][self.chosen[moment]], self.march
        doing = max(sum(p is not None for p in way.parts), 1)
        far, handed = 0, False
        near, moved = [0] * self.cores, [way.constants // doing] * self.cores
        for root, extents in way.reads.items():
            missing = [self._missing(root, core, extent) for core, extent in enumerate(extents)]
            made_here = root in self.writers
            handed |= made_here and any(missing)
            moved = [a + b * (1 + made_here) for a, b in zip(moved, missing, strict=True)]
            if made_here and self._bytes(root) <= self.shared_bytes:
                near = [a + 2 * b for a, b in zip(near, missing, strict=True)]
            else:
                far += sum(missing) * (1 + made_here)
        exchange = int(memory_cycles(march, rows=1, run=far)) + int(shared_cycles(march, max(near)))
        loads = int(memory_cycles(march, rows=1, run=way.constants))
        wait = 2 * (march.ddr.latency_cycles + march.ddr.issue_cycles) if handed else 0
        return max(way.compute + int(port_cycles(march, max(moved))), loads) + exchange + wait

    def _bytes(self, root: int) -> int:
        """Bytes of a tensor that jobs write."""
        return sum(e.count for m in self.writers[root] for e in self._written(m) if e)

    def _written(self, moment: int) -> tuple[Extent | None, ...]:
        return self.ways[moment][self.chosen[moment]].writes

    def _missing(self, root: int, core: int, extent: Extent | None) -> int:
        """Bytes that a core reads of a tensor and does not have on chip."""
        if extent is None:
            return 0
        mine = [e for m in self.writers.get(root, ()) if (e := self._written(m)[core])]
        own = _hull(mine)
        if own is None or not own.solid or own.count * _ROOM > self.march.chip_bytes:
            return extent.count
        inside = min(own.high, extent.high) - max(own.low, extent.low)
        return max(extent.count - max(inside, 0), 0)


def _hull(extents: Iterable[Extent]) -> Extent | None:
    """Extents taken together; None for none."""
    listed = list(extents)
    if not listed:
        return None
    low, high = min(e.low for e in listed), max(e.high for e in listed)
    return Extent(low, high, sum(e.count for e in listed))
