"""VAE: functions of whole rows (Softmax, LayerNorm) and reductions of an axis."""

from __future__ import annotations

from dataclasses import dataclass

from openbpu.arch.isa import Instr, ReduceTile, RowTile
from openbpu.arch.program import LayerNorm, Reduce, Softmax
from openbpu.compiler.schedule.axes import Along, Box, Whole
from openbpu.compiler.schedule.job import Job, View, lengths
from openbpu.compiler.schedule.jobs.context import Context
from openbpu.compiler.schedule.jobs.conv import whole_constant


@dataclass(frozen=True, slots=True, kw_only=True)
class RowJob(Job):
    """Box: rows. Operands: x, one or two tables, y."""

    def emit(self, box: Box, views: tuple[View, ...]) -> list[Instr]:
        """One RowTile."""
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


def row_jobs(index: int, op: Softmax | LayerNorm, c: Context) -> list[Job]:
    """The job of a Softmax or a LayerNorm: rows may be cut, a row never is."""
    rows, length = op.shape
    tables = (op.exp_id,) if isinstance(op, Softmax) else (op.gain_id, op.bias_id)
    operands = (
        c.operand(op.inputs[0], op.shape, (Along(0), Whole(length))),
        *(whole_constant(t, c) for t in tables),
        c.output(op.outputs[0], op.shape, (Along(0), Whole(length))),
    )
    return [RowJob(index=index, name=type(op).__name__, extent=(rows,), steps=(1,), operands=operands)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReduceJob(Job):
    """Box: A, B. Operands: x [A,R,B], y [A,B]."""

    def emit(self, box: Box, views: tuple[View, ...]) -> list[Instr]:
        """One ReduceTile."""
        x, y = views
        a, b = lengths(box)
        counts = (a, x.shape()[1], b)
        return [
            ReduceTile(
                operator=self.index, x=x.at, y=y.at, counts=counts, x_strides=x.strides, y_strides=y.strides
            )
        ]


def reduce_jobs(index: int, op: Reduce, c: Context) -> list[Job]:
    """The job of a Reduce: the reduced axis is never cut."""
    a, r, b = op.shape
    operands = (
        c.operand(op.inputs[0], op.shape, (Along(0), Whole(r), Along(1))),
        c.output(op.outputs[0], (a, b), (Along(0), Along(1))),
    )
    steps = (1, min(64, b))
    return [ReduceJob(index=index, name="Reduce", extent=(a, b), steps=steps, operands=operands)]
