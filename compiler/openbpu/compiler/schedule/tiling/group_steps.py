"""The steps of a fusion group: which part of each job runs in which step, and what the windows then hold.

Worked out from the last job's stripes backwards, all steps of a job at once: a group is tried with many
lengths of stripe, and each may have dozens of steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from openbpu.arch.arrays import Int64
from openbpu.arch.shapes import Ints
from openbpu.compiler.schedule.problem.index_maps import Box, Boxes, Span, Spans
from openbpu.compiler.schedule.problem.job import Job, Operand
from openbpu.compiler.schedule.tiling.fusion_groups import FusionGroup

_Reads = dict[int, list[tuple[Int64, Int64]]]
"""By the root of a fused tensor: for every reader so far, the first row that it has needed up to each step,
and the end of the rows that it needs in it (0: none), [steps]."""


@dataclass(frozen=True, slots=True)
class GroupStep:
    """One stripe through a group: the box of every job (None: nothing new), and the rows that the window of
    every fused tensor then holds.
    """

    boxes: tuple[Box | None, ...]
    windows: Mapping[int, Span]


@dataclass(frozen=True, slots=True)
class Part:
    """What a job does along axis `dim`: in step `at[i]` the indices low[i]..high[i], nothing in others."""

    dim: int
    at: Int64
    low: Int64
    high: Int64

    def boxes(self, job: Job) -> Boxes:
        """The boxes of the job, in the order of `at`."""
        whole = [(np.array(0), np.array(n)) for n in job.extent]
        whole[self.dim] = self.low, self.high
        return tuple(whole)

    def tiles(self, job: Job) -> Int64:
        """The shapes of the boxes, [axes, boxes]."""
        shapes = np.repeat(np.array(job.extent)[:, None], len(self.at), axis=1)
        shapes[self.dim] = self.high - self.low
        return shapes


@dataclass(frozen=True, slots=True)
class GroupSteps:
    """All steps of a group: the part of every job, and the rows that every fused tensor's window holds.

    windows: by the position of the tensor's writer, [steps].
    """

    count: int
    parts: tuple[Part, ...]
    windows: tuple[Spans, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the arrays take, about."""
        return 8 * self.count * (3 * len(self.parts) + 2 * len(self.windows))

    def one_by_one(self, group: FusionGroup) -> tuple[GroupStep, ...]:
        """The steps as their boxes and windows."""
        boxes: list[list[Box | None]] = [[None] * len(self.parts) for _ in range(self.count)]
        for position, (job, part) in enumerate(zip(group.jobs, self.parts, strict=True)):
            for at, low, high in zip(part.at.tolist(), part.low.tolist(), part.high.tolist(), strict=True):
                boxes[at][position] = _box(job.extent, part.dim, (low, high))
        windows: list[dict[int, Span]] = [{} for _ in range(self.count)]
        for root, (lows, highs) in zip(group.fused, self.windows, strict=True):
            for step, low, high in zip(windows, lows.tolist(), highs.tolist(), strict=True):
                if high > 0:
                    step[root] = (low, high)
        return tuple([GroupStep(tuple(b), w) for b, w in zip(boxes, windows, strict=True)])


def _box(extent: Ints, dim: int, part: Span) -> Box:
    return tuple([part if d == dim else (0, n) for d, n in enumerate(extent)])


def steps_of(group: FusionGroup, dim: int, length: int) -> GroupSteps | None:
    """The steps of a group whose last job goes along `dim` in stripes of `length`; None where a window would
    have to go back.
    """
    extent = group.jobs[-1].extent[dim]
    low = np.arange(0, extent, length)
    count = len(low)
    part: Part | None = Part(dim, np.arange(count), low, np.minimum(low + length, extent))
    parts: list[Part] = []
    windows: list[Spans] = []
    reads: _Reads = {root: [] for root in group.fused}
    for job in reversed(group.jobs):
        tensor = group.fused.get(job.operands[-1].root)
        if tensor:
            part, window = _fresh(tensor.dim, reads[tensor.root])
            windows.append(window)
            if (part.high > job.extent[tensor.dim]).any():
                return None
        if part is None or not _read(group, job, part, count, reads):
            return None
        parts.append(part)
    return GroupSteps(count, tuple(reversed(parts)), tuple(reversed(windows)))


def _fresh(dim: int, readers: list[tuple[Int64, Int64]]) -> tuple[Part, Spans]:
    """The rows that a fused tensor's writer computes in each step, and those that its window then holds."""
    kept = np.minimum.reduce([first for first, _ in readers])
    high = np.maximum.accumulate(np.maximum.reduce([end for _, end in readers]))
    low = np.maximum(kept, np.concatenate(([0], high[:-1])))
    at = np.flatnonzero(low < high)
    since = np.maximum.accumulate(np.where(low < high, kept, 0))  # a window moves on when there is a new row
    return Part(dim, at, low[at], high[at]), (since, high)


def _read(group: FusionGroup, job: Job, part: Part, count: int, reads: _Reads) -> bool:
    """Note which rows of the fused tensors a job reads; False where it would read one that is gone."""
    boxes = part.boxes(job)
    for root in dict.fromkeys(o.root for o in job.operands[:-1] if o.root in group.fused):
        rows = [
            _rows(o, boxes, group.fused[root].row_bytes, len(part.at))
            for o in job.operands[:-1]
            if o.root == root
        ]
        first = np.stack([r[0] for r in rows], axis=1)
        in_turn = first.reshape(-1)
        if (in_turn < 0).any() or (np.diff(in_turn) < 0).any():
            return False
        seen, end = np.zeros(count, np.int64), np.zeros(count, np.int64)
        seen[part.at] = first[:, -1]
        end[part.at] = np.maximum.reduce([r[1] for r in rows])
        reads[root].append((np.maximum.accumulate(seen), end))
    return True


def _rows(operand: Operand, boxes: Boxes, row_bytes: int, count: int) -> Spans:
    """The rows of a fused tensor that each box of a reader touches."""
    first, last = operand.intervals(operand.regions(boxes))
    return np.broadcast_to(first // row_bytes, count), np.broadcast_to(-(-last // row_bytes), count)
