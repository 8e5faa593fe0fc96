"""Groups of jobs that run depth-first: a stripe of rows through all of them, then the next stripe.

conv → T → conv, T too large for the chip:

    step 0   rows 0..9 of T are computed into a window, rows 0..7 of the result from them
    step 1   the window moves on: rows 8, 9 are copied to its other buffer, rows 10..17 computed behind them,
    …

Nothing is computed twice and T never reaches DDR. A group is a chain of consecutive jobs; every tensor
inside is written by one job and read by later jobs of the group only.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from openbpu.arch.isa import Engine
from openbpu.compiler.schedule.problem.index_maps import Along, Box, Ints, Span
from openbpu.compiler.schedule.problem.job import Job, Operand
from openbpu.compiler.schedule.problem.strides import dense_strides


@dataclass(frozen=True, slots=True)
class Link:
    """A tensor inside a group as rows: its producer (position in the group) writes `row_bytes` per index of
    `dim`.
    """

    root: int
    producer: int
    dim: int
    row_bytes: int


@dataclass(frozen=True, slots=True)
class Group:
    """Consecutive jobs and the tensors between them. It looks like a job to those who place tensors."""

    jobs: tuple[Job, ...]
    links: Mapping[int, Link]  # by root
    operands: tuple[Operand, ...] = field(init=False)  # all that are not links; the output last
    readers: Mapping[int, Ints] = field(init=False)  # positions of the jobs that read a link, by root

    def __post_init__(self) -> None:
        outer = [o for job in self.jobs for o in job.operands if o.root not in self.links]
        object.__setattr__(self, "operands", tuple(outer))
        inputs = [{o.root for o in job.operands[:-1]} for job in self.jobs]
        reads = {root: tuple(p for p, roots in enumerate(inputs) if root in roots) for root in self.links}
        object.__setattr__(self, "readers", reads)

    @property
    def engine(self) -> Engine:
        """The engine of the last job."""
        return self.jobs[-1].engine

    @property
    def alike(self) -> Hashable:
        """The same for groups of the same jobs around the same tensors."""
        return tuple([id(job) for job in self.jobs]), frozenset(self.links)


@dataclass(frozen=True, slots=True)
class Stride:
    """One step of a group: the box of every job (None: nothing new), and the rows each link's window then
    holds.
    """

    boxes: tuple[Box | None, ...]
    windows: Mapping[int, Span]


def link_of(jobs: Sequence[Job], position: int, nbytes: int) -> Link | None:
    """The output of jobs[position] as rows, if it is dense and its first axis of more than one index is a
    plain one.
    """
    job = jobs[position]
    y = job.operands[-1]
    if not _dense(y, nbytes):
        return None
    axis = next((d for d, n in enumerate(y.shape) if n > 1), None)
    if axis is None:
        return None
    rule = y.axes[axis]
    if not isinstance(rule, Along) or rule.offset or job.extent[rule.dim] != y.shape[axis]:
        return None
    return Link(y.root, position, rule.dim, prod(y.shape[axis + 1 :]) * y.element)


def _dense(operand: Operand, nbytes: int) -> bool:
    whole = operand.nbytes == nbytes and operand.offset == 0
    return whole and operand.strides == dense_strides(operand.shape, operand.element)


def make_group(jobs: Sequence[Job], inner: Mapping[int, int]) -> Group | None:
    """Jobs as a group; `inner` are the tensors to keep inside, root → bytes. None where that cannot be."""
    links: dict[int, Link] = {}
    for position, job in enumerate(jobs[:-1]):
        root = job.operands[-1].root
        link = link_of(jobs, position, inner[root]) if root in inner else None
        if link is None:
            return None
        links[root] = link
    reads = [o for job in jobs for o in job.operands[:-1] if o.root in links]
    if not all(_dense(o, inner[o.root]) for o in reads):
        return None
    return Group(tuple(jobs), links)


def strides_of(group: Group, dim: int, length: int) -> list[Stride] | None:
    """The steps of a group whose last job goes along `dim` in tiles of `length`; None where rows would go
    back.
    """
    last = group.jobs[-1]
    extent = last.extent[dim]
    seen: dict[tuple[int, int], int] = {}  # (reader, root) → first row it needed last
    windows: dict[int, Span] = {}
    out: list[Stride] = []
    for start in range(0, extent, length):
        whole: list[Span] = [(0, n) for n in last.extent]
        whole[dim] = (start, min(start + length, extent))
        found = _step(group, tuple(whole), windows, seen)
        if found is None:
            return None
        windows = dict(found.windows)
        out.append(found)
    return out


def _step(
    group: Group, box: Box, before: Mapping[int, Span], seen: dict[tuple[int, int], int]
) -> Stride | None:
    """One step, worked out from the last job's box backwards; updates `seen`."""
    boxes: list[Box | None] = [None] * len(group.jobs)
    boxes[-1] = box
    needs: dict[int, int] = {}  # root → end of the rows needed
    windows = dict(before)
    for position in reversed(range(len(group.jobs))):
        job = group.jobs[position]
        link = group.links.get(job.operands[-1].root)
        if link:
            had = before.get(link.root, (0, 0))
            low = min(seen.get((r, link.root), 0) for r in group.readers[link.root])
            high = max(needs.get(link.root, 0), had[1])
            fresh = (max(low, had[1]), high)
            if low < had[0] or (fresh[0] < fresh[1] and high > job.extent[link.dim]):
                return None
            if fresh[0] < fresh[1]:
                boxes[position] = tuple(fresh if d == link.dim else (0, n) for d, n in enumerate(job.extent))
                windows[link.root] = (low, high)
        mine = boxes[position]
        if mine is None:
            continue
        for operand in job.operands[:-1]:
            inner = group.links.get(operand.root)
            if inner is None:
                continue
            rows = _rows(operand, operand.region(mine), inner.row_bytes)
            if rows[0] < seen.get((position, inner.root), 0):
                return None
            seen[position, inner.root] = rows[0]
            needs[inner.root] = max(needs.get(inner.root, 0), rows[1])
    return Stride(tuple(boxes), windows)


def _rows(operand: Operand, region: Box, row_bytes: int) -> Span:
    """The rows of a link that a region of it touches."""
    first = operand.start(region)
    last = sum([(hi - 1) * k for (_, hi), k in zip(region, operand.strides, strict=True)]) + operand.element
    return (first // row_bytes, -(-last // row_bytes))


def cut_axes(group: Group) -> Ints:
    """The axes of the last job along which less of the links is needed at a time, best first."""
    job = group.jobs[-1]
    found = []
    for dim, n in enumerate(job.extent):
        if n == 1:
            continue
        box = tuple([(0, 1) if d == dim else (0, m) for d, m in enumerate(job.extent)])
        parts = [
            (hi - lo) * group.links[o.root].row_bytes / o.nbytes
            for o in job.operands[:-1]
            if o.root in group.links
            for lo, hi in [_rows(o, o.region(box), group.links[o.root].row_bytes)]
        ]
        if parts and max(parts) < 0.5:
            found.append((max(parts), dim))
    return tuple(dim for _, dim in sorted(found))
