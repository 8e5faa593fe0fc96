"""AAE: pooling and resizing."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from openbpu.arch.arrays import Int64
from openbpu.arch.isa import Engine, Instr, PoolTile, ResizeTile
from openbpu.arch.march import March
from openbpu.arch.march.march import CHANNEL_BLOCK, SIZE_MAX
from openbpu.arch.program import Pool, Resize
from openbpu.arch.timing import pool_cycles, resize_cycles
from openbpu.compiler.schedule.jobs.context import JOBS, Context
from openbpu.compiler.schedule.jobs.tensor import sixteen_bits
from openbpu.compiler.schedule.problem.index_maps import Along, Box, Indexed, IndexMap, Tiles, Whole, Window
from openbpu.compiler.schedule.problem.job import Job, View


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolJob(Job):
    """Iterates over N, OH, OW, C. Operands: x, counts, y."""

    op: Pool

    def cost_details(self) -> Hashable:
        """The kernel."""
        return self.op.kernel

    def legal(self, tile: Tiles) -> npt.NDArray[np.bool_]:
        """Whether heights and widths fit their 16 bits, per candidate."""
        return sixteen_bits(self, tile)

    def cycles(self, march: March, tile: Tiles) -> Int64:
        """Engine cycles of the PoolTiles of one tile."""
        taps, bits = self.op.kernel[0] * self.op.kernel[1], 8 * self.operands[0].element
        out: Int64 = tile[0] * pool_cycles(
            march, out_h=tile[1], out_w=tile[2], channels=tile[3], taps=taps, bits=bits
        )
        return out

    def emit(self, box: Box, views: tuple[View, ...]) -> list[Instr]:
        """The PoolTiles of one tile, one per image."""
        op, (x, counts, y) = self.op, views
        (n0, n1), (h0, h1), (w0, w1), (c0, c1) = box
        _, (xh0, xh1), (xw0, xw1), _ = x.region
        top, left, bottom, right = op.pads
        _, h, w, _ = op.x_shape
        return [
            PoolTile(
                operator=self.index,
                x=x.at + i * x.strides[0],
                y=y.at + i * y.strides[0],
                counts=counts.at,
                x_row=x.strides[1],
                x_pixel=x.strides[2],
                y_row=y.strides[1],
                y_pixel=y.strides[2],
                in_h=xh1 - xh0,
                in_w=xw1 - xw0,
                out_h=h1 - h0,
                out_w=w1 - w0,
                channels=c1 - c0,
                pad_top=top + xh0 - h0 * op.strides[0],
                pad_left=left + xw0 - w0 * op.strides[1],
                bounds=(-top - xh0, h + bottom - xh0, -left - xw0, w + right - xw0),
            )
            for i in range(n1 - n0)
        ]


@JOBS.of(Pool)
def pool_jobs(index: int, op: Pool, c: Context) -> list[Job]:
    """The job of a Pool."""
    _, h, w, channels = op.x_shape
    reach = [(k - 1) * d for k, d in zip(op.kernel, op.dilations, strict=True)]
    rows, cols = (Window(1 + i, n, op.strides[i], reach[i], op.pads[i]) for i, n in enumerate((h, w)))
    counts = c.tensors[op.counts_id].shape
    operands = (
        c.operand(op.inputs[0], op.x_shape, (Along(0), rows, cols, Along(3)), runs=True),
        c.constant(op.counts_id, counts, tuple(Whole(n) for n in counts)),
        c.output(op.outputs[0], op.y_shape, tuple(Along(d) for d in range(4)), runs=True),
    )
    steps = (1, 1, 1, min(CHANNEL_BLOCK, channels))
    return [
        PoolJob(
            index=index,
            name="Pool",
            extent=op.y_shape,
            steps=steps,
            operands=operands,
            engine=Engine.AAE,
            op=op,
        )
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeJob(Job):
    """Iterates over N, OH, OW, C. Operands: x, rows, cols, y."""

    def cost_details(self) -> Hashable:
        """Nothing more."""
        return ()

    def cycles(self, march: March, tile: Tiles) -> Int64:
        """Engine cycles of the ResizeTiles of one tile."""
        out: Int64 = tile[0] * resize_cycles(march, out_h=tile[1], out_w=tile[2], channels=tile[3])
        return out

    def emit(self, box: Box, views: tuple[View, ...]) -> list[Instr]:
        """The ResizeTiles of one tile, one per image."""
        x, rows, cols, y = views
        batches, out_h, out_w, channels = (hi - lo for lo, hi in box)
        return [
            ResizeTile(
                operator=self.index,
                x=x.at + i * x.strides[0],
                y=y.at + i * y.strides[0],
                rows=rows.at,
                cols=cols.at,
                x_row=x.strides[1],
                x_pixel=x.strides[2],
                y_row=y.strides[1],
                y_pixel=y.strides[2],
                out_h=out_h,
                out_w=out_w,
                channels=channels,
                row0=x.region[1][0],
                col0=x.region[2][0],
            )
            for i in range(batches)
        ]


def indexed(dim: int, tensor: int, columns: int, length: int, c: Context) -> IndexMap:
    """The axis that outputs of `dim` read through a constant table of indices [n, ≥ columns]; whole if
    unknown.
    """
    table = c.values(tensor)
    if table is None:
        return Whole(length)
    used = table.reshape(len(table), -1)[:, :columns].astype(np.int64)
    return Indexed(dim, used.min(axis=1), used.max(axis=1))


@JOBS.of(Resize)
def resize_jobs(index: int, op: Resize, c: Context) -> list[Job]:
    """The job of a Resize."""
    (_, h, w, channels), (_, oh, ow, _) = op.x_shape, op.y_shape
    rows, cols = indexed(1, op.rows_id, 2, h, c), indexed(2, op.cols_id, 2, w, c)
    operands = (
        c.operand(op.inputs[0], op.x_shape, (Along(0), rows, cols, Along(3)), runs=True),
        c.constant(op.rows_id, (oh, 3), (Along(1), Whole(3))),
        c.constant(op.cols_id, (ow, 3), (Along(2), Whole(3))),
        c.output(op.outputs[0], op.y_shape, tuple(Along(d) for d in range(4)), runs=True),
    )
    return [
        ResizeJob(
            index=index,
            name="Resize",
            extent=op.y_shape,
            steps=(1, 1, 1, min(CHANNEL_BLOCK, channels)),
            engine=Engine.AAE,
            caps=(SIZE_MAX, SIZE_MAX, SIZE_MAX, channels),
            operands=operands,
        )
    ]
