"""Which bytes of a tensor's memory an operand touches."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from openbpu.compiler.schedule.problem.index_maps import Box
from openbpu.compiler.schedule.problem.job import Job, Operand, lengths


@dataclass(frozen=True, slots=True)
class Extent:
    """The bytes of a memory that an operand touches: the first, the last + 1, and how many."""

    low: int
    high: int
    count: int

    @property
    def solid(self) -> bool:
        """Whether it touches all between the first and the last."""
        return self.count == self.high - self.low


def extent_of(job: Job, operand: Operand) -> Extent:
    """What all of a job touches of an operand."""
    region = operand.region(tuple([(0, n) for n in job.extent]))
    low = operand.start(region)
    sizes = lengths(region)
    reach = sum([(n - 1) * k for n, k in zip(sizes, operand.strides, strict=True)])
    return Extent(low, low + reach + operand.element, prod(sizes) * operand.element)


def beyond(operand: Operand, region: Box, own: tuple[int, int]) -> list[Box] | None:
    """The parts of a region outside the bytes `own`, cut along its first axis of more than one index.

    None where an index of that axis touches bytes on both sides.
    """
    axis = next((d for d, n in enumerate(lengths(region)) if n > 1), 0)
    found: list[Box] = []
    start = None
    lo, hi = region[axis]
    for i in range(lo, hi + 1):
        outside = False
        if i < hi:
            row = (*region[:axis], (i, i + 1), *region[axis + 1 :])
            first = operand.start(row)
            reach = sum([(n - 1) * k for n, k in zip(lengths(row), operand.strides, strict=True)])
            last = first + reach + operand.element
            outside = last <= own[0] or own[1] <= first
            if not outside and not own[0] <= first <= last <= own[1]:
                return None
        if outside and start is None:
            start = i
        elif not outside and start is not None:
            found.append((*region[:axis], (start, i), *region[axis + 1 :]))
            start = None
    return found
