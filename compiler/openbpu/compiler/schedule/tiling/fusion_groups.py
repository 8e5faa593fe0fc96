"""Fusion groups: jobs that run depth-first, a stripe of rows through all of them, then the next stripe.

conv → T → conv, T too large for the chip:

    step 0   rows 0..9 of T are computed into a window, rows 0..7 of the result from them
    step 1   the window moves on: rows 8, 9 are copied to its other buffer, rows 10..17 computed behind them,
    …

Nothing is computed twice and T never reaches DDR. A group is a chain of consecutive jobs; every tensor
inside is written by one job and read by later jobs of the group only: each job but the last writes one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from openbpu.arch.isa import Engine
from openbpu.arch.shapes import Ints, dense_strides
from openbpu.compiler.schedule.problem.index_maps import Along, Box
from openbpu.compiler.schedule.problem.job import Job, Operand


@dataclass(frozen=True, slots=True)
class FusedTensor:
    """A tensor that stays inside a group, as rows of `row_bytes`, one per index of the writer's `dim`."""

    root: int
    dim: int
    row_bytes: int


@dataclass(frozen=True, slots=True)
class FusionGroup:
    """Consecutive jobs and the tensors between them; for the choice of residency it is like a job.

    fused: the tensors that stay inside, by root, in the order of their writers · operands: all others that
    its jobs access, the output last · readers: the jobs (by position in the group) that read a fused tensor,
    by root.
    """

    jobs: tuple[Job, ...]
    fused: Mapping[int, FusedTensor]
    operands: tuple[Operand, ...] = field(init=False)
    readers: Mapping[int, Ints] = field(init=False)

    def __post_init__(self) -> None:
        outer = [o for job in self.jobs for o in job.operands if o.root not in self.fused]
        object.__setattr__(self, "operands", tuple(outer))
        inputs = [{o.root for o in job.operands[:-1]} for job in self.jobs]
        reads = {root: tuple(p for p, roots in enumerate(inputs) if root in roots) for root in self.fused}
        object.__setattr__(self, "readers", reads)

    @property
    def engine(self) -> Engine:
        """The engine of the last job."""
        return self.jobs[-1].engine

    @property
    def numbers(self) -> Mapping[int, int]:
        """The roots that its jobs access, numbered in the order of the operands."""
        roots = dict.fromkeys(o.root for job in self.jobs for o in job.operands)
        return {root: number for number, root in enumerate(roots)}


def fused_tensor_of(jobs: Sequence[Job], position: int, nbytes: int) -> FusedTensor | None:
    """The output of jobs[position] as rows; None unless it is dense and its first axis of more than one index
    simply follows an iteration axis.
    """
    job = jobs[position]
    y = job.operands[-1]
    if not _dense(y, nbytes):
        return None
    axis = next((d for d, n in enumerate(y.shape) if n > 1), None)
    if axis is None:
        return None
    along = y.axes[axis]
    if not isinstance(along, Along) or along.offset or job.extent[along.dim] != y.shape[axis]:
        return None
    return FusedTensor(y.root, along.dim, prod(y.shape[axis + 1 :]) * y.element)


def _dense(operand: Operand, nbytes: int) -> bool:
    whole = operand.nbytes == nbytes and operand.offset == 0
    return whole and operand.strides == dense_strides(operand.shape, operand.element)


def make_group(jobs: Sequence[Job], inner: Mapping[int, int]) -> FusionGroup | None:
    """Jobs as a group that keeps the tensors `inner` (root → bytes) inside; None where that cannot be."""
    fused: dict[int, FusedTensor] = {}
    for position, job in enumerate(jobs[:-1]):
        root = job.operands[-1].root
        tensor = fused_tensor_of(jobs, position, inner[root]) if root in inner else None
        if tensor is None:
            return None
        fused[root] = tensor
    reads = [o for job in jobs for o in job.operands[:-1] if o.root in fused]
    if not all(_dense(o, inner[o.root]) for o in reads):
        return None
    return FusionGroup(tuple(jobs), fused)


def stripe_axes(group: FusionGroup) -> Ints:
    """The axes of the last job whose stripes need only part of the fused tensors at a time, best first."""
    job = group.jobs[-1]
    found = []
    for dim, n in enumerate(job.extent):
        if n == 1:
            continue
        box = tuple([(0, 1) if d == dim else (0, m) for d, m in enumerate(job.extent)])
        parts = [
            _rows(o, box, group.fused[o.root].row_bytes) * group.fused[o.root].row_bytes / o.nbytes
            for o in job.operands[:-1]
            if o.root in group.fused
        ]
        if parts and max(parts) < 0.5:
            found.append((max(parts), dim))
    return tuple(dim for _, dim in sorted(found))


def _rows(operand: Operand, box: Box, row_bytes: int) -> int:
    """How many rows of a fused tensor a box of a reader touches."""
    first, end = operand.interval(operand.region(box))
    return -(-end // row_bytes) - first // row_bytes
