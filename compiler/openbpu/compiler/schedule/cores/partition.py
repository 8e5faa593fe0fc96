"""The choice of partitions: every job is cut along the axis that costs least, given how others are cut.

Rows leave most of a tensor where it was made, but every core loads all weights; channels divide the weights,
but every core reads what all others made. What neither helps is done by one core.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from openbpu.arch.march import March
from openbpu.arch.timing import memory_cycles, port_cycles, shared_cycles
from openbpu.compiler.schedule.cores.parts import Partition, partitions_of
from openbpu.compiler.schedule.problem.byte_ranges import ByteRange, byte_range_of
from openbpu.compiler.schedule.problem.job import Job

_ROUNDS = 3
"""Times that all jobs choose again, after what their neighbours chose."""
_ROOM = 3
"""A tensor stays on chip, it is assumed, if a core's part of it is at most one third of the memory."""


@dataclass(frozen=True, slots=True)
class _Option:
    """One partition of a job: cycles of the slowest core, bytes of constants of all cores, and by core what
    it reads (by root) and writes.
    """

    parts: Partition
    compute: int
    constants: int
    reads: Mapping[int, tuple[ByteRange | None, ...]]
    writes: tuple[ByteRange | None, ...]


@dataclass(slots=True)
class Partitioner:
    """Chooses a partition for every job of a segment.

    constant: whether a tensor is one, by id · options: the partitions that every job may have · chosen: which
    of them it has now · writers, readers: the jobs that write and read a tensor, by root · known: what was
    chosen, by bytes of L2M.
    """

    jobs: Sequence[Job]
    constant: Sequence[bool]
    march: March
    cores: int
    options: list[list[_Option]] = field(init=False)
    chosen: list[int] = field(init=False)
    l2m_bytes: int = field(init=False)
    known: dict[int, tuple[int, ...]] = field(default_factory=dict)
    writers: dict[int, list[int]] = field(init=False)
    readers: dict[int, list[int]] = field(init=False)

    def __post_init__(self) -> None:
        self.options = [
            [self._option(parts) for parts in partitions_of(job, self.cores)] for job in self.jobs
        ]
        self.writers, self.readers = {}, {}
        for moment, job in enumerate(self.jobs):
            self.writers.setdefault(job.operands[-1].root, []).append(moment)
            for root in self.options[moment][0].reads:
                self.readers.setdefault(root, []).append(moment)

    def choose(self, l2m_bytes: int) -> tuple[int, ...]:
        """Which partition every job has, where tensors may take so much of the L2M instead of DDR."""
        if l2m_bytes in self.known:
            return self.known[l2m_bytes]
        self.l2m_bytes = l2m_bytes
        self.chosen = [min(1, len(options) - 1) for options in self.options]
        for _ in range(_ROUNDS):
            before = list(self.chosen)
            for moment in range(len(self.jobs)):
                self._choose(moment)
            if before == self.chosen:
                break
        self.known[l2m_bytes] = tuple(self.chosen)
        return self.known[l2m_bytes]

    def partitions(self, chosen: Sequence[int]) -> list[Partition]:
        """The partitions that are chosen, of all jobs in order."""
        return [options[k].parts for options, k in zip(self.options, chosen, strict=True)]

    def _choose(self, moment: int) -> None:
        root = self.jobs[moment].operands[-1].root
        touched = {moment, *self.readers.get(root, ())}
        costs = []
        for k in range(len(self.options[moment])):
            self.chosen[moment] = k
            costs.append(sum(self._cost(m) for m in touched))
        self.chosen[moment] = costs.index(min(costs))

    def _option(self, parts: Partition) -> _Option:
        compute = constants = 0
        reads: dict[int, list[ByteRange | None]] = {}
        for core, part in enumerate(parts):
            if part is None:
                continue
            whole = np.array(part.extent, dtype=np.int64)[:, None]
            compute = max(compute, int(part.cycles(self.march, whole).max()))
            for operand in part.operands[:-1]:
                touched = byte_range_of(part, operand)
                if self.constant[operand.root]:
                    constants += touched.count
                else:
                    held = reads.setdefault(operand.root, [None] * self.cores)
                    held[core] = _hull(e for e in (held[core], touched) if e)
        writes = tuple(byte_range_of(part, part.operands[-1]) if part else None for part in parts)
        return _Option(parts, compute, constants, {root: tuple(e) for root, e in reads.items()}, writes)

    def _cost(self, moment: int) -> int:
        """Estimated cycles of a job: compute or constants, then what cores must hand to each other.

        All that a core moves keeps it from computing, by `arch.timing.port_cycles`.
        """
        option, march = self.options[moment][self.chosen[moment]], self.march
        doing = max(sum(p is not None for p in option.parts), 1)
        far, handed = 0, False
        near, moved = [0] * self.cores, [option.constants // doing] * self.cores
        for root, ranges in option.reads.items():
            missing = [self._missing(root, core, touched) for core, touched in enumerate(ranges)]
            made_here = root in self.writers
            handed |= made_here and any(missing)
            moved = [a + b * (1 + made_here) for a, b in zip(moved, missing, strict=True)]
            if made_here and self._bytes(root) <= self.l2m_bytes:
                near = [a + 2 * b for a, b in zip(near, missing, strict=True)]
            else:
                far += sum(missing) * (1 + made_here)
        exchange = int(memory_cycles(march, rows=1, run=far)) + int(shared_cycles(march, max(near)))
        loads = int(memory_cycles(march, rows=1, run=option.constants))
        wait = 2 * (march.ddr.latency_cycles + march.ddr.issue_cycles) if handed else 0
        return max(option.compute + int(port_cycles(march, max(moved))), loads) + exchange + wait

    def _bytes(self, root: int) -> int:
        """Bytes of a tensor that jobs write."""
        return sum(e.count for m in self.writers[root] for e in self._written(m) if e)

    def _written(self, moment: int) -> tuple[ByteRange | None, ...]:
        return self.options[moment][self.chosen[moment]].writes

    def _missing(self, root: int, core: int, touched: ByteRange | None) -> int:
        """Bytes that a core reads of a tensor and does not have on chip."""
        if touched is None:
            return 0
        mine = [e for m in self.writers.get(root, ()) if (e := self._written(m)[core])]
        own = _hull(mine)
        if own is None or not own.contiguous or own.count * _ROOM > self.march.chip_bytes:
            return touched.count
        inside = min(own.high, touched.high) - max(own.low, touched.low)
        return max(touched.count - max(inside, 0), 0)


def _hull(ranges: Iterable[ByteRange]) -> ByteRange | None:
    """Byte ranges taken together, as if they did not overlap; None for none."""
    listed = list(ranges)
    if not listed:
        return None
    low, high = min(e.low for e in listed), max(e.high for e in listed)
    return ByteRange(low, high, sum(e.count for e in listed))
