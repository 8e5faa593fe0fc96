"""VAE: sums and extremes along an axis."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from openbpu.arch.arrays import Int64
from openbpu.arch.isa import Engine, Instr, ReduceTile
from openbpu.arch.march import March
from openbpu.arch.operators.reduce import (
    ArgReduce,
    ArgReduceTile,
    CumSum,
    CumSumTile,
    arg_reduce_cycles,
    cumsum_cycles,
)
from openbpu.arch.program import Reduce
from openbpu.arch.timing import reduce_cycles
from openbpu.compiler.schedule.jobs.context import JOBS, Context
from openbpu.compiler.schedule.problem.index_maps import Along, Box, Tiles, Whole
from openbpu.compiler.schedule.problem.job import Job, View, lengths


def along_axis(kind: type[Instr], index: int, box: Box, views: tuple[View, ...], *more: int) -> Instr:
    """An instruction for the box A, B of x [A,R,B] and y, whose counts are A, R, B and what else it has."""
    x, y = views
    a, b = lengths(box)
    given: dict[str, Any] = {
        "counts": (a, x.shape()[1], b, *more),
        "x": x.at,
        "y": y.at,
        "x_strides": x.strides,
        "y_strides": y.strides,
    }
    return kind(operator=index, **given)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReduceJob(Job):
    """Iterates over A, B. Operands: x [A,R,B], y [A,B]. finds: it is an ArgReduce, not a Reduce."""

    finds: bool = False

    def cost_details(self) -> Hashable:
        """Which of the two it is."""
        return self.finds

    def cycles(self, march: March, tile: Tiles) -> Int64:
        """Engine cycles of the instruction of one tile."""
        x = self.operands[0]
        a, b, r = tile[0], tile[1], x.shape[1]
        if x.shape[2] == 1:
            rows, run = a, r
        else:
            rows, run = a * r, b
        cost = arg_reduce_cycles if self.finds else reduce_cycles
        out: Int64 = cost(march, rows=rows, run=run, outputs=a * b, bits=8 * x.element)
        return out

    def emit(self, box: Box, views: tuple[View, ...]) -> list[Instr]:
        """The instruction of one tile."""
        return [along_axis(ArgReduceTile if self.finds else ReduceTile, self.index, box, views)]


@JOBS.of(Reduce, ArgReduce)
def reduce_jobs(index: int, op: Reduce | ArgReduce, c: Context) -> list[Job]:
    """The job of what makes one element of an axis, which is never cut."""
    finds = isinstance(op, ArgReduce)
    a, r, b = op.shape
    operands = (
        c.operand(op.inputs[0], op.shape, (Along(0), Whole(r), Along(1))),
        c.output(op.outputs[0], (a, b), (Along(0), Along(1))),
    )
    steps = (1, min(64, b))
    return [
        ReduceJob(
            index=index,
            name=type(op).__name__,
            extent=(a, b),
            steps=steps,
            operands=operands,
            engine=Engine.VAE,
            finds=finds,
        )
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class CumSumJob(Job):
    """Box: A, B. Operands: x [A,R,B], y [A,R,B]."""

    def cost_details(self) -> Hashable:
        """Nothing more."""
        return ()

    def cycles(self, march: March, tile: Tiles) -> Int64:
        """One CumSumTile."""
        x = self.operands[0]
        bits = 8 * max(o.element for o in self.operands)
        out: Int64 = cumsum_cycles(march, a=tile[0], r=x.shape[1], b=tile[1], bits=bits)
        return out

    def emit(self, box: Box, views: tuple[View, ...]) -> list[Instr]:
        """One CumSumTile."""
        return [along_axis(CumSumTile, self.index, box, views)]


@JOBS.of(CumSum)
def cumsum_jobs(index: int, op: CumSum, c: Context) -> list[Job]:
    """The job of a CumSum: its axis is never cut."""
    a, r, b = op.shape
    axes = (Along(0), Whole(r), Along(1))
    operands = (c.operand(op.inputs[0], op.shape, axes), c.output(op.outputs[0], op.shape, axes))
    steps = (1, min(64, b))
    return [
        CumSumJob(
            index=index, name="CumSum", extent=(a, b), steps=steps, operands=operands, engine=Engine.VAE
        )
    ]
