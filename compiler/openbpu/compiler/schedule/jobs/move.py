"""TRANS, and the copies that need no engine but LOAD and STORE: Move, Concat, Pad, Gather."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from math import prod

import numpy as np

from openbpu.arch.arrays import Int64
from openbpu.arch.isa import Engine, FillTile, GatherTile, Instr, MoveTile
from openbpu.arch.march import March
from openbpu.arch.program import Concat, Gather, Move, Pad
from openbpu.arch.shapes import Ints, collapse, dense_strides
from openbpu.arch.timing import move_cycles
from openbpu.compiler.schedule.jobs.accesses import Access, access, in_rows, split_at_rows
from openbpu.compiler.schedule.jobs.context import JOBS, Context
from openbpu.compiler.schedule.jobs.elementwise import UnaryJob, along, flat_steps, rows_and_run
from openbpu.compiler.schedule.jobs.window import indexed
from openbpu.compiler.schedule.problem.index_maps import Along, Box, Boxes, OneAxis, Spans, Tiles
from openbpu.compiler.schedule.problem.job import Job, Operand, View, lengths
from openbpu.compiler.schedule.problem.loop_nests import nests
from openbpu.compiler.schedule.problem.subviews import concat_subview, slice_subview


def move_cost(job: Job, march: March, tile: Tiles, *, run: bool = True) -> Int64:
    """Cycles of the MoveTiles of a tile; `run`: the last axis is contiguous on both sides."""
    rows, length = rows_and_run(tile) if run else (tile.prod(axis=0), np.array(1))
    out: Int64 = move_cycles(march, rows=rows, run=length, element=job.operands[0].element)
    return out


def move_tiles(
    index: int, element: int, at: tuple[int, int], counts: Ints, strides: tuple[Ints, Ints]
) -> list[Instr]:
    """MoveTiles that copy a nest of elements from address at[0] to at[1]."""
    return [
        MoveTile(
            operator=index,
            x=at[0] + dx,
            y=at[1] + dy,
            element=element,
            counts=c,
            x_strides=xs,
            y_strides=ys,
        )
        for (dx, dy), c, (xs, ys) in nests(counts, strides, 6)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveJob(Job):
    """Iterates over the output's shape with axes joined. Operands: x, y."""

    x: Access
    run: bool

    def cost_details(self) -> Hashable:
        """Whether runs are contiguous."""
        return self.run

    def cycles(self, march: March, tile: Tiles) -> Int64:
        """Engine cycles of the MoveTiles of one tile."""
        return move_cost(self, march, tile, run=self.run)

    def emit(self, box: Box, views: tuple[View, ...]) -> list[Instr]:
        """The MoveTiles of one tile, of at most 6 axes each."""
        x, y = views
        at = (self.x.address(x, [lo for lo, _ in box]), y.at)
        strides = (self.x.strides(x), y.strides)
        return move_tiles(self.index, self.operands[0].element, at, lengths(box), strides)


@JOBS.of(Move)
def move_jobs(index: int, op: Move, c: Context) -> list[Job]:
    """The job of a Move: a copy where tiles keep their order, none where the output lies in the input."""
    source, target = op.inputs[0], op.outputs[0]
    if c.is_aliased(target, slice_subview(op, c.tensors[target].dtype.nbytes, c.owners[source])):
        return []
    views = ((source, op.strides), (target, dense_strides(op.shape, 1)))
    shape, split = split_at_rows(c, op.shape, views)
    placed = [in_rows(c, t, strides) for (t, _), strides in zip(views, split, strict=True)]
    extent, (strides, *_) = collapse(shape, (*split, *placed))
    extent, strides = extent or (1,), strides or (0,)
    x = access(c, source, extent, strides, op.offset)
    operands = (
        c.operand(source, x.shape, x.axes()),
        c.output(target, extent, along(len(extent))),
    )
    return [
        MoveJob(
            index=index,
            name="Move",
            extent=extent,
            steps=(1,) * len(extent),
            operands=operands,
            engine=Engine.TRANS,
            copy=x.keeps_order() or prod(extent) == 1,
            x=x,
            run=strides[-1] == 1,
        )
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyJob(Job):
    """Iterates over the part of the output that one input of a Concat fills. Operands: x, y."""

    def cost_details(self) -> Hashable:
        """Nothing more."""
        return ()

    def cycles(self, march: March, tile: Tiles) -> Int64:
        """Engine cycles of the MoveTiles of one tile."""
        return move_cost(self, march, tile)

    def emit(self, box: Box, views: tuple[View, ...]) -> list[Instr]:
        """The MoveTiles of one tile, where both sides are on chip."""
        x, y = views
        strides = (x.strides, y.strides)
        return move_tiles(self.index, self.operands[0].element, (x.at, y.at), lengths(box), strides)


@JOBS.of(Concat)
def concat_jobs(index: int, op: Concat, c: Context) -> list[Job]:
    """One job per input of a Concat: a copy, or a UnaryTile where the scale changes."""
    jobs: list[Job] = []
    start, width = 0, sum(op.sizes)
    for part, (tensor, size, mult) in enumerate(zip(op.inputs, op.sizes, op.mults, strict=True)):
        operands = (
            c.operand(tensor, (op.outer, size), (Along(0), Along(1))),
            c.output(op.outputs[0], (op.outer, width), (Along(0), Along(1, start))),
        )
        start += size
        local = concat_subview(op, part, operands[0].element, c.owners[op.outputs[0]])
        if size == 0 or (mult == 0 and c.is_aliased(tensor, local)):
            continue
        jobs.append(_concat_job(index, part, (op.outer, size), operands, copies=mult == 0))
    return jobs


def _concat_job(index: int, part: int, extent: Ints, operands: tuple[Operand, ...], *, copies: bool) -> Job:
    steps = flat_steps(extent)
    if copies:
        return CopyJob(
            index=index,
            name="Concat",
            extent=extent,
            steps=steps,
            operands=operands,
            engine=Engine.TRANS,
            copy=True,
        )
    return UnaryJob(
        index=index,
        name="Concat",
        extent=extent,
        steps=steps,
        operands=operands,
        engine=Engine.VAE,
        part=part,
    )


@dataclass(frozen=True, slots=True)
class Clipped(OneAxis):
    """Axis of x behind a border of `before`: the part of it that lies in the box; one element where nothing
    does.
    """

    dim: int
    length: int
    before: int

    def span(self, box: Box) -> tuple[int, int]:
        """The box's span in x, clipped."""
        lo, hi = box[self.dim]
        first = min(max(lo - self.before, 0), self.length - 1)
        return (first, max(min(hi - self.before, self.length), first + 1))

    def spans(self, boxes: Boxes) -> Spans:
        """The boxes' spans in x, clipped."""
        lo, hi = boxes[self.dim]
        first = np.minimum(np.maximum(lo - self.before, 0), self.length - 1)
        return first, np.maximum(np.minimum(hi - self.before, self.length), first + 1)

    def size(self, tile: Tiles) -> Int64:
        """At most the tile's length."""
        length: Int64 = np.minimum(tile[self.dim], self.length)
        return length


@dataclass(frozen=True, slots=True, kw_only=True)
class PadJob(Job):
    """Iterates over the output's shape with axes joined where nothing is padded. Operands: x, y."""

    before: Ints

    def cost_details(self) -> Hashable:
        """Nothing more."""
        return ()

    def cycles(self, march: March, tile: Tiles) -> Int64:
        """Engine cycles of the MoveTiles of one tile; fills run beside them."""
        return move_cost(self, march, tile)

    def emit(self, box: Box, views: tuple[View, ...]) -> list[Instr]:
        """Fill the tile where it touches the border, then move what lies inside."""
        x, y = views
        shape = self.operands[0].shape
        inside = [
            (max(lo, b), min(hi, b + n)) for (lo, hi), b, n in zip(box, self.before, shape, strict=True)
        ]
        out: list[Instr] = []
        if tuple(inside) != box:
            out += [
                FillTile(operator=self.index, y=y.at + dy, counts=counts, y_strides=ys)
                for (dy,), counts, (ys,) in nests(lengths(box), (y.strides,), 4)
            ]
        if all(lo < hi for lo, hi in inside):
            to = y.at + sum(
                (lo - span[0]) * k for (lo, _), span, k in zip(inside, box, y.strides, strict=True)
            )
            counts = tuple(hi - lo for lo, hi in inside)
            out += move_tiles(
                self.index, self.operands[0].element, (x.at, to), counts, (x.strides, y.strides)
            )
        return out


@JOBS.of(Pad)
def pad_jobs(index: int, op: Pad, c: Context) -> list[Job]:
    """The job of a Pad."""
    shape, before, after = list(op.shape), list(op.before), list(op.after)
    for d in range(len(shape) - 1, 0, -1):
        if before[d] or after[d]:
            continue
        n = shape.pop(d)
        del before[d], after[d]
        shape[d - 1], before[d - 1], after[d - 1] = shape[d - 1] * n, before[d - 1] * n, after[d - 1] * n
    extent = tuple(b + n + a for n, b, a in zip(shape, before, after, strict=True))
    operands = (
        c.operand(
            op.inputs[0],
            tuple(shape),
            tuple(Clipped(d, n, b) for d, (n, b) in enumerate(zip(shape, before, strict=True))),
        ),
        c.output(op.outputs[0], extent, along(len(extent))),
    )
    return [
        PadJob(
            index=index,
            name="Pad",
            extent=extent,
            steps=(1,) * len(extent),
            operands=operands,
            engine=Engine.TRANS,
            before=tuple(before),
        )
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatherJob(Job):
    """Iterates over A, I, B. Operands: x, indices, y."""

    def cycles(self, march: March, tile: Tiles) -> Int64:
        """Engine cycles of the GatherTile of one tile."""
        return move_cost(self, march, tile)

    def emit(self, box: Box, views: tuple[View, ...]) -> list[Instr]:
        """The GatherTile of one tile."""
        x, indices, y = views
        return [
            GatherTile(
                operator=self.index,
                x=x.at,
                y=y.at,
                indices=indices.at,
                base=x.region[1][0],
                counts=lengths(box),
                x_strides=x.strides[:2],
                y_strides=y.strides[:2],
            )
        ]


@JOBS.of(Gather)
def gather_jobs(index: int, op: Gather, c: Context) -> list[Job]:
    """The job of a Gather: the rows between the smallest and the largest index of a tile are loaded."""
    a, r, b = op.shape
    count = c.elements(op.indices_id)
    operands = (
        c.operand(
            op.inputs[0], op.shape, (Along(0), indexed(1, op.indices_id, 1, r, c), Along(2)), runs=True
        ),
        c.constant(op.indices_id, (count,), (Along(1),)),
        c.output(op.outputs[0], (a, count, b), (Along(0), Along(1), Along(2)), runs=True),
    )
    steps = (1, 1, min(64, b))
    return [
        GatherJob(
            index=index,
            name="Gather",
            extent=(a, count, b),
            steps=steps,
            operands=operands,
            engine=Engine.TRANS,
        )
    ]
