"""The bytes of a tensor's memory that a job touches through an operand."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from openbpu.compiler.schedule.problem.index_maps import Box
from openbpu.compiler.schedule.problem.job import Job, Operand, lengths

Interval = tuple[int, int]
"""The first byte and the last + 1, as addresses or as offsets in a tensor."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes of a tensor's memory that are touched: the first, the last + 1, and how many in between."""

    low: int
    high: int
    count: int

    @property
    def contiguous(self) -> bool:
        """Whether all bytes between the first and the last are touched."""
        return self.count == self.high - self.low


def byte_range_of(job: Job, operand: Operand) -> ByteRange:
    """The bytes of an operand that all iterations of a job together touch."""
    region = operand.region(tuple([(0, n) for n in job.extent]))
    low, high = operand.interval(region)
    return ByteRange(low, high, prod(lengths(region)) * operand.element)


def regions_outside(operand: Operand, region: Box, inner: Interval) -> list[Box] | None:
    """The parts of an operand's region outside the bytes `inner`, cut along its first axis of more than one
    index.

    None where an index of that axis touches bytes on both sides.
    """
    axis = next((d for d, n in enumerate(lengths(region)) if n > 1), 0)
    found: list[Box] = []
    start = None
    lo, hi = region[axis]
    for i in range(lo, hi + 1):
        outside = False
        if i < hi:
            first, last = operand.interval((*region[:axis], (i, i + 1), *region[axis + 1 :]))
            outside = last <= inner[0] or inner[1] <= first
            if not outside and not inner[0] <= first <= last <= inner[1]:
                return None
        if outside and start is None:
            start = i
        elif not outside and start is not None:
            found.append((*region[:axis], (start, i), *region[axis + 1 :]))
            start = None
    return found
