"""SPU: the first elements along an axis."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from openbpu.arch.arrays import Int64
from openbpu.arch.isa import Engine, Instr
from openbpu.arch.march import March
from openbpu.arch.operators.ranking import TopK, TopKTile, top_k_cycles
from openbpu.compiler.schedule.jobs.context import JOBS, Context
from openbpu.compiler.schedule.jobs.reduce import along_axis
from openbpu.compiler.schedule.problem.index_maps import Along, Box, Tiles, Whole
from openbpu.compiler.schedule.problem.job import Job, View


@dataclass(frozen=True, slots=True, kw_only=True)
class TopKJob(Job):
    """Iterates over A, B. Operands: x [A,R,B], y [A,K,B]."""

    def cost_details(self) -> Hashable:
        """Nothing more."""
        return ()

    def cycles(self, march: March, tile: Tiles) -> Int64:
        """Engine cycles of the TopKTile of one tile."""
        x, y = self.operands
        out: Int64 = top_k_cycles(march, rows=tile[0] * tile[1], r=x.shape[1], k=y.shape[1])
        return out

    def emit(self, box: Box, views: tuple[View, ...]) -> list[Instr]:
        """The TopKTile of one tile."""
        return [along_axis(TopKTile, self.index, box, views, views[1].shape()[1])]


@JOBS.of(TopK)
def top_k_jobs(index: int, op: TopK, c: Context) -> list[Job]:
    """The job of a TopK: its axis is never cut."""
    a, r, b = op.shape
    operands = (
        c.operand(op.inputs[0], op.shape, (Along(0), Whole(r), Along(1))),
        c.output(op.outputs[0], (a, op.k, b), (Along(0), Whole(op.k), Along(1))),
    )
    steps = (1, min(64, b))
    return [
        TopKJob(index=index, name="TopK", extent=(a, b), steps=steps, operands=operands, engine=Engine.SPU)
    ]
