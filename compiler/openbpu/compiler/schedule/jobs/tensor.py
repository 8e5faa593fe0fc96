"""TAE: convolutions and matrix products."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from openbpu.arch.arrays import Int64
from openbpu.arch.dtypes import DType
from openbpu.arch.isa import ConvTile, Engine, Instr, MatMulTile
from openbpu.arch.march import March
from openbpu.arch.march.march import CHANNEL_BLOCK, SIZE_MAX
from openbpu.arch.program import Conv, MatMul
from openbpu.arch.timing import conv_cycles, matmul_cycles, passes
from openbpu.compiler.schedule.jobs.context import JOBS, Context
from openbpu.compiler.schedule.problem.index_maps import Along, Box, Grouped, IndexMap, Tiles, Whole, Window
from openbpu.compiler.schedule.problem.job import Job, Operand, View


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvJob(Job):
    """Iterates over N, OH, OW, Cout. Operands: x, weights, params, then rmult, table, residual
    if any, y.
    """

    op: Conv
    dtypes: tuple[DType, DType]  # of x and weights
    residual: int = -1  # positions among the operands
    rmult: int = -1
    table: int = -1

    def cost_details(self) -> Hashable:
        """Kernel, groups, dtypes, and what is read beside x."""
        return (
            self.op.kernel,
            self.op.upsample,
            self.op.groups,
            self.op.raw,
            self.dtypes,
            self.residual >= 0,
        )

    def legal(self, tile: Tiles) -> npt.NDArray[np.bool_]:
        """Whether heights and widths fit their 16 bits, per candidate."""
        return sixteen_bits(self, tile)

    def cycles(self, march: March, tile: Tiles) -> Int64:
        """Engine cycles of the ConvTiles of one tile."""
        op, weights = self.op, self.operands[1]
        taps = tuple(-(-k // u) for k, u in zip(op.kernel, op.upsample, strict=True))
        group = (weights.shape[3], op.y_shape[3] // op.groups)
        step, reads = passes(march, *self.dtypes), 1 + (self.residual >= 0)
        out: Int64 = tile[0] * conv_cycles(
            march,
            (tile[1], tile[2], tile[3]),
            (np.array(group[0]), np.array(group[1])),
            taps,
            step=step,
            weight_bytes=weights.element,
            reads=reads,
            raw=int(op.raw),
        )
        return out

    def emit(self, box: Box, views: tuple[View, ...]) -> list[Instr]:
        """The ConvTiles of one tile, one per image."""
        op, x, y = self.op, views[0], views[-1]
        (n0, n1), (h0, h1), (w0, w1), (c0, c1) = box
        _, (xh0, xh1), (xw0, xw1), _ = x.region
        r = views[self.residual] if self.residual >= 0 else None
        return [
            ConvTile(
                operator=self.index,
                x=x.at + i * x.strides[0],
                weights=views[1].at,
                params=views[2].at,
                rmult=views[self.rmult].at if self.rmult >= 0 else 0,
                r=r.at + i * r.strides[0] if r else 0,
                y=y.at + i * y.strides[0],
                table=views[self.table].at if self.table >= 0 else 0,
                x_row=x.strides[1],
                x_pixel=x.strides[2],
                r_row=r.strides[1] if r else 0,
                r_pixel=r.strides[2] if r else 0,
                y_row=y.strides[1],
                y_pixel=y.strides[2],
                in_h=xh1 - xh0,
                in_w=xw1 - xw0,
                out_h=h1 - h0,
                out_w=w1 - w0,
                out_c=c1 - c0,
                oc_start=c0,
                pad_top=op.pads[0] + xh0 * op.upsample[0] - h0 * op.strides[0],
                pad_left=op.pads[1] + xw0 * op.upsample[1] - w0 * op.strides[1],
            )
            for i in range(n1 - n0)
        ]


@JOBS.of(Conv)
def conv_jobs(index: int, op: Conv, c: Context) -> list[Job]:
    """The job of a Conv."""
    (_, h, w, cin), cout = op.x_shape, op.y_shape[3]
    per_in, per_out = cin // op.groups, cout // op.groups
    reach = [(k - 1) * d for k, d in zip(op.kernel, op.dilations, strict=True)]
    x_axes: tuple[IndexMap, ...] = (
        Along(0),
        Window(1, h, op.strides[0], reach[0], op.pads[0], op.upsample[0]),
        Window(2, w, op.strides[1], reach[1], op.pads[1], op.upsample[1]),
        Grouped(3, per_out, per_in, op.groups),
    )
    y_axes: tuple[IndexMap, ...] = (Along(0), Along(1), Along(2), Along(3))
    weight = (cout, *op.kernel, per_in)
    words = c.elements(op.params_id) // cout
    operands = [
        c.operand(op.inputs[0], op.x_shape, x_axes, runs=True),
        c.constant(op.weight_id, weight, (Along(3), *(Whole(n) for n in weight[1:]))),
        c.constant(op.params_id, (cout, words), (Along(3), Whole(words))),
    ]
    places = {"rmult": -1, "table": -1, "residual": -1}
    if op.rmult_id >= 0:
        places["rmult"] = len(operands)
        operands.append(c.constant(op.rmult_id, (cout,), (Along(3),)))
    if op.table_id >= 0:
        places["table"] = len(operands)
        operands.append(whole_constant(op.table_id, c))
    if len(op.inputs) > 1 and op.inputs[1] >= 0:
        places["residual"] = len(operands)
        operands.append(c.operand(op.inputs[1], op.y_shape, y_axes, runs=True))
    operands.append(c.output(op.outputs[0], op.y_shape, y_axes, runs=True))
    step = per_out if op.groups > 1 and per_out % CHANNEL_BLOCK else CHANNEL_BLOCK
    step *= -(-CHANNEL_BLOCK // step)
    return [
        ConvJob(
            index=index,
            name="Conv",
            extent=op.y_shape,
            steps=(1, 1, 1, min(step, cout)),
            operands=tuple(operands),
            engine=Engine.TAE,
            op=op,
            dtypes=(c.tensors[op.inputs[0]].dtype, c.tensors[op.weight_id].dtype),
            rmult=places["rmult"],
            table=places["table"],
            residual=places["residual"],
        )
    ]


def sixteen_bits(job: Job, tile: Tiles) -> npt.NDArray[np.bool_]:
    """Whether the heights and widths (axes 1 and 2) of input and output tile fit their fields."""
    sizes = [*job.operands[0].tile_shape(tile)[1:3], *tile[1:3]]
    fits: npt.NDArray[np.bool_] = np.ones(tile.shape[1], dtype=np.bool_)
    for size in sizes:
        fits = fits & (size <= SIZE_MAX)
    return fits


def whole_constant(tensor: int, c: Context) -> Operand:
    """A constant that every tile needs whole: a table."""
    n = c.elements(tensor)
    return c.constant(tensor, (n,), (Whole(n),))


@dataclass(frozen=True, slots=True, kw_only=True)
class MatMulJob(Job):
    """Iterates over batch, M, N. Operands: a, b, then table where there is one, y."""

    table: bool
    raw: bool
    dtypes: tuple[DType, DType]  # of a and b

    def cost_details(self) -> Hashable:
        """Dtypes, and whether the sums leave as they are."""
        return (self.raw, self.dtypes)

    def cycles(self, march: March, tile: Tiles) -> Int64:
        """Engine cycles of the MatMulTiles of one tile."""
        b, k = self.operands[1], self.operands[0].shape[2]
        step = passes(march, *self.dtypes)
        out: Int64 = tile[0] * matmul_cycles(
            march, m=tile[1], n=tile[2], k=k, step=step, weight_bytes=b.element, raw=int(self.raw)
        )
        return out

    def emit(self, box: Box, views: tuple[View, ...]) -> list[Instr]:
        """The MatMulTiles of one tile, one per batch."""
        a, b, y = views[0], views[1], views[-1]
        batches, m, n = (hi - lo for lo, hi in box)
        a_step = a.strides[0] if self.operands[0].shape[0] > 1 else 0
        b_step = b.strides[0] if self.operands[1].shape[0] > 1 else 0
        return [
            MatMulTile(
                operator=self.index,
                a=a.at + i * a_step,
                b=b.at + i * b_step,
                y=y.at + i * y.strides[0],
                table=views[2].at if self.table else 0,
                a_row=a.strides[1],
                b_row=b.strides[1],
                y_row=y.strides[1],
                m=m,
                n=n,
            )
            for i in range(batches)
        ]


@JOBS.of(MatMul)
def matmul_jobs(index: int, op: MatMul, c: Context) -> list[Job]:
    """The job of a MatMul."""
    batch = max(op.a_batch, op.b_batch)

    def of(n: int) -> IndexMap:
        return Along(0) if n > 1 else Whole(1)

    b_shape = (op.b_batch, op.n, op.k) if op.b_transposed else (op.b_batch, op.k, op.n)
    b_axes: tuple[IndexMap, ...] = (Along(2), Whole(op.k)) if op.b_transposed else (Whole(op.k), Along(2))
    operands = [
        c.operand(op.inputs[0], (op.a_batch, op.m, op.k), (of(op.a_batch), Along(1), Whole(op.k)), runs=True),
        c.operand(op.inputs[1], b_shape, (of(op.b_batch), *b_axes), runs=True),
        *([whole_constant(op.table_id, c)] if op.table_id >= 0 else []),
        c.output(op.outputs[0], (batch, op.m, op.n), (Along(0), Along(1), Along(2)), runs=True),
    ]
    return [
        MatMulJob(
            index=index,
            name="MatMul",
            extent=(batch, op.m, op.n),
            steps=(1, min(CHANNEL_BLOCK, op.m), min(CHANNEL_BLOCK, op.n)),
            operands=tuple(operands),
            engine=Engine.TAE,
            table=op.table_id >= 0,
            raw=op.raw,
            dtypes=(c.tensors[op.inputs[0]].dtype, c.tensors[op.inputs[1]].dtype),
        )
    ]
