"""VAE: sums and extremes along an axis."""

from __future__ import annotations

from dataclasses import dataclass

from openbpu.arch.arrays import Int64
from openbpu.arch.isa import Engine, Instr, ReduceTile
from openbpu.arch.march import March
from openbpu.arch.program import Reduce
from openbpu.arch.timing import reduce_cycles
from openbpu.compiler.schedule.jobs.context import JOBS, Context
from openbpu.compiler.schedule.problem.index_maps import Along, Box, Tiles, Whole
from openbpu.compiler.schedule.problem.job import Job, View, lengths


@dataclass(frozen=True, slots=True, kw_only=True)
class ReduceJob(Job):
    """Iterates over A, B. Operands: x [A,R,B], y [A,B]."""

    def cycles(self, march: March, tile: Tiles) -> Int64:
        """Engine cycles of the ReduceTile of one tile."""
        x = self.operands[0]
        a, b, r = tile[0], tile[1], x.shape[1]
        if x.shape[2] == 1:
            rows, run = a, r
        else:
            rows, run = a * r, b
        out: Int64 = reduce_cycles(march, rows=rows, run=run, outputs=a * b, bits=8 * x.element)
        return out

    def emit(self, box: Box, views: tuple[View, ...]) -> list[Instr]:
        """The ReduceTile of one tile."""
        x, y = views
        a, b = lengths(box)
        counts = (a, x.shape()[1], b)
        return [
            ReduceTile(
                operator=self.index, x=x.at, y=y.at, counts=counts, x_strides=x.strides, y_strides=y.strides
            )
        ]


@JOBS.of(Reduce)
def reduce_jobs(index: int, op: Reduce, c: Context) -> list[Job]:
    """The job of a Reduce: the reduced axis is never cut."""
    a, r, b = op.shape
    operands = (
        c.operand(op.inputs[0], op.shape, (Along(0), Whole(r), Along(1))),
        c.output(op.outputs[0], (a, b), (Along(0), Along(1))),
    )
    steps = (1, min(64, b))
    return [
        ReduceJob(
            index=index, name="Reduce", extent=(a, b), steps=steps, operands=operands, engine=Engine.VAE
        )
    ]
