"""AAE: sampling an image at the points of a grid."""

from __future__ import annotations

from dataclasses import dataclass

from openbpu.arch.arrays import Int64
from openbpu.arch.isa import Engine, Instr
from openbpu.arch.march import March
from openbpu.arch.march.march import CHANNEL_BLOCK, SIZE_MAX
from openbpu.arch.operators.sample import GridSample, GridSampleTile, rows_read, sample_cycles
from openbpu.arch.program import Space
from openbpu.compiler.schedule.jobs.context import JOBS, Context
from openbpu.compiler.schedule.problem.index_maps import Along, Box, Indexed, IndexMap, Tiles, Whole
from openbpu.compiler.schedule.problem.job import Job, View, lengths


@dataclass(frozen=True, slots=True, kw_only=True)
class GridSampleJob(Job):
    """Iterates over N, OH, OW, C. Operands: x, grid, y."""

    linear: bool

    def cycles(self, march: March, tile: Tiles) -> Int64:
        """Engine cycles of the GridSampleTiles of one tile."""
        points = tile[1] * tile[2]
        out: Int64 = tile[0] * sample_cycles(march, points=points, channels=tile[3], linear=self.linear)
        return out

    def emit(self, box: Box, views: tuple[View, ...]) -> list[Instr]:
        """The GridSampleTiles of one tile, one per image."""
        x, grid, y = views
        images, out_h, out_w, channels = lengths(box)
        return [
            GridSampleTile(
                operator=self.index,
                x=x.at + i * x.strides[0],
                grid=grid.at + i * grid.strides[0],
                y=y.at + i * y.strides[0],
                x_row=x.strides[1],
                x_pixel=x.strides[2],
                grid_row=grid.strides[1],
                grid_pixel=grid.strides[2],
                y_row=y.strides[1],
                y_pixel=y.strides[2],
                out_h=out_h,
                out_w=out_w,
                channels=channels,
                row0=x.region[1][0],
            )
            for i in range(images)
        ]


def _rows(op: GridSample, c: Context) -> IndexMap:
    """The rows of the image that points ask for: of a computed grid all, since they may lie anywhere."""
    grid = c.owners[op.inputs[1]]
    codes = c.values(grid) if c.tensors[grid].space is Space.CONST else None
    if codes is None:
        return Whole(op.x_shape[1])
    points = codes.reshape(*op.y_shape[:3], 2)
    linear, height = op.mode == "linear", op.x_shape[1]
    return Indexed(1, *rows_read(points, op.rows, height, border=op.border, linear=linear))


@JOBS.of(GridSample)
def grid_sample_jobs(index: int, op: GridSample, c: Context) -> list[Job]:
    """The job of a GridSample: tiles are of points and of channels."""
    (_, _, w, channels), (n, oh, ow, _) = op.x_shape, op.y_shape
    x, grid = op.inputs
    operands = (
        c.operand(x, op.x_shape, (Along(0), _rows(op, c), Whole(w), Along(3)), runs=True),
        c.operand(grid, (n, oh, ow, 2), (Along(0), Along(1), Along(2), Whole(2)), runs=True),
        c.output(op.outputs[0], op.y_shape, tuple(Along(d) for d in range(4)), runs=True),
    )
    return [
        GridSampleJob(
            index=index,
            name="GridSample",
            extent=op.y_shape,
            steps=(1, 1, 1, min(CHANNEL_BLOCK, channels)),
            engine=Engine.AAE,
            caps=(SIZE_MAX, SIZE_MAX, SIZE_MAX, channels),
            operands=operands,
            linear=op.mode == "linear",
        )
    ]
