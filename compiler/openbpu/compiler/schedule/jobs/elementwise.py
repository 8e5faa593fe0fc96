"""VAE and VPU: one element in, one element out."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from openbpu.arch.arrays import Int64
from openbpu.arch.isa import BinaryTile, Engine, Instr, UnaryTile
from openbpu.arch.march import March
from openbpu.arch.program import Binary, Lut, Rescale, SegmentLut
from openbpu.arch.shapes import Ints, collapse, dense_strides
from openbpu.arch.timing import elementwise_cycles, lut_cycles
from openbpu.compiler.schedule.jobs.accesses import Access, access, in_rows, split_at_rows
from openbpu.compiler.schedule.jobs.context import JOBS, Context
from openbpu.compiler.schedule.jobs.tensor import whole_constant
from openbpu.compiler.schedule.problem.index_maps import Along, Box, IndexMap, Tiles
from openbpu.compiler.schedule.problem.job import Job, View, lengths
from openbpu.compiler.schedule.problem.loop_nests import nests

_STEP = 64


def widest_bits(job: Job) -> int:
    """Bits of the widest operand that is no constant table."""
    return 8 * max(o.element for o in job.operands if not o.constant)


def along(n: int) -> tuple[IndexMap, ...]:
    """Index maps of n axes, each along the iteration axis of the same number."""
    return tuple(Along(d) for d in range(n))


def flat_steps(extent: Ints) -> Ints:
    """Cut the last axis in multiples of a vector."""
    return (1,) * (len(extent) - 1) + (min(_STEP, extent[-1]),)


def rows_and_run(tile: Tiles) -> tuple[Int64, Int64]:
    """A tile as (number of contiguous runs, elements of a run), when only the last axis is contiguous."""
    return tile[:-1].prod(axis=0), tile[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnaryJob(Job):
    """Iterates over any shape that x and y share. Operands: x, then a table where there is one, y."""

    part: int = 0

    def cost_details(self) -> Hashable:
        """Nothing more."""
        return ()

    def cycles(self, march: March, tile: Tiles) -> Int64:
        """Engine cycles of the UnaryTiles of one tile."""
        rows, run = rows_and_run(tile)
        bits = widest_bits(self)
        if len(self.operands) > 2:
            bits = 8 * self.operands[0].element
            out: Int64 = lut_cycles(march, rows=rows, run=run, bits=bits)
        else:
            out = elementwise_cycles(march, rows=rows, run=run, bits=bits)
        return out

    def emit(self, box: Box, views: tuple[View, ...]) -> list[Instr]:
        """The UnaryTiles of one tile, of at most 4 axes each."""
        x, y = views[0], views[-1]
        return [
            UnaryTile(
                operator=self.index,
                x=x.at + dx,
                y=y.at + dy,
                table=views[1].at if len(views) > 2 else 0,
                part=self.part,
                counts=counts,
                x_strides=xs,
                y_strides=ys,
            )
            for (dx, dy), counts, (xs, ys) in nests(lengths(box), (x.strides, y.strides), 4)
        ]


@JOBS.of(Lut, SegmentLut, Rescale)
def unary_jobs(index: int, op: Lut | SegmentLut | Rescale, c: Context) -> list[Job]:
    """The job of a table look-up or a Rescale: flat."""
    x, y = op.inputs[0], op.outputs[0]
    extent = c.flat((x, y))
    tables = [whole_constant(t, c) for t in op.constants()]
    axes = along(len(extent))
    return [
        UnaryJob(
            index=index,
            name=type(op).__name__,
            extent=extent,
            steps=flat_steps(extent),
            operands=(c.operand(x, extent, axes), *tables, c.output(y, extent, axes)),
            engine=Engine.VAE,
        )
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class BinaryJob(Job):
    """Iterates over the output's shape, axes joined where both inputs allow it. Operands: a, b, table, y."""

    a: Access
    b: Access

    def cost_details(self) -> Hashable:
        """Nothing more."""
        return ()

    def cycles(self, march: March, tile: Tiles) -> Int64:
        """Engine cycles of the BinaryTiles of one tile."""
        rows, run = rows_and_run(tile)
        out: Int64 = elementwise_cycles(march, rows=rows, run=run, bits=widest_bits(self))
        return out

    def emit(self, box: Box, views: tuple[View, ...]) -> list[Instr]:
        """The BinaryTiles of one tile, of at most 4 axes each."""
        starts = [lo for lo, _ in box]
        y = views[-1]
        a_at, b_at = self.a.address(views[0], starts), self.b.address(views[1], starts)
        strides = (self.a.strides(views[0]), self.b.strides(views[1]), y.strides)
        return [
            BinaryTile(
                operator=self.index,
                a=a_at + da,
                b=b_at + db,
                y=y.at + dy,
                table=views[2].at if len(views) > 3 else 0,
                counts=counts,
                a_strides=sa,
                b_strides=sb,
                y_strides=sy,
            )
            for (da, db, dy), counts, (sa, sb, sy) in nests(lengths(box), strides, 4)
        ]


@JOBS.of(Binary)
def binary_jobs(index: int, op: Binary, c: Context) -> list[Job]:
    """The job of a Binary."""
    (x, other), y = op.inputs, op.outputs[0]
    views = ((x, op.a_strides), (other, op.b_strides), (y, dense_strides(op.shape, 1)))
    shape, split = split_at_rows(c, op.shape, views)
    placed = [in_rows(c, t, strides) for (t, _), strides in zip(views, split, strict=True)]
    extent, (a_strides, b_strides, *_) = collapse(shape, (*split, *placed))
    if not extent:
        extent, a_strides, b_strides = (1,), (0,), (0,)
    a = access(c, x, extent, a_strides, 0)
    b = access(c, other, extent, b_strides, 0)
    operands = (
        c.operand(x, a.shape, a.axes()),
        c.operand(other, b.shape, b.axes()),
        *([whole_constant(op.table_id, c)] if op.table_id >= 0 else []),
        c.output(y, extent, along(len(extent))),
    )
    return [
        BinaryJob(
            index=index,
            name="Binary",
            extent=extent,
            steps=flat_steps(extent),
            operands=operands,
            engine=Engine.VAE,
            a=a,
            b=b,
        )
    ]
