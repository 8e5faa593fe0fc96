"""VAE: functions of whole rows."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from openbpu.arch.arrays import Int64
from openbpu.arch.isa import Engine, Instr, RowTile
from openbpu.arch.march import March
from openbpu.arch.program import LayerNorm, Softmax
from openbpu.arch.timing import row_cycles
from openbpu.compiler.schedule.jobs.context import JOBS, Context
from openbpu.compiler.schedule.jobs.tensor import whole_constant
from openbpu.compiler.schedule.problem.index_maps import Along, Box, Tiles, Whole
from openbpu.compiler.schedule.problem.job import Job, View


@dataclass(frozen=True, slots=True, kw_only=True)
class RowJob(Job):
    """Iterates over rows. Operands: x, one or two tables, y."""

    norm: bool

    def cost_details(self) -> Hashable:
        """Whether it normalizes."""
        return self.norm

    def cycles(self, march: March, tile: Tiles) -> Int64:
        """Engine cycles of the RowTile of one tile."""
        length = self.operands[0].shape[1]
        out: Int64 = row_cycles(march, rows=tile[0], length=length, norm=self.norm)
        return out

    def emit(self, box: Box, views: tuple[View, ...]) -> list[Instr]:
        """The RowTile of one tile."""
        x, table, y = views[0], views[1], views[-1]
        return [
            RowTile(
                operator=self.index,
                x=x.at,
                y=y.at,
                table=table.at,
                table2=views[2].at if len(views) > 3 else 0,
                rows=box[0][1] - box[0][0],
                x_row=x.strides[0],
                y_row=y.strides[0],
            )
        ]


@JOBS.of(Softmax, LayerNorm)
def row_jobs(index: int, op: Softmax | LayerNorm, c: Context) -> list[Job]:
    """The job of a Softmax or a LayerNorm: rows may be cut, a row never is."""
    rows, length = op.shape
    tables = (op.exp_id,) if isinstance(op, Softmax) else (op.gain_id, op.bias_id)
    operands = (
        c.operand(op.inputs[0], op.shape, (Along(0), Whole(length)), runs=True),
        *(whole_constant(t, c) for t in tables),
        c.output(op.outputs[0], op.shape, (Along(0), Whole(length)), runs=True),
    )
    return [
        RowJob(
            index=index,
            name=type(op).__name__,
            extent=(rows,),
            steps=(1,),
            operands=operands,
            engine=Engine.VAE,
            norm=isinstance(op, LayerNorm),
        )
    ]
