"""VPU: between floats and codes."""

from __future__ import annotations

from dataclasses import dataclass

from openbpu.arch.arrays import Int64
from openbpu.arch.isa import DequantizeTile, Engine, Instr, QuantizeTile
from openbpu.arch.march import March
from openbpu.arch.program import Dequantize, Quantize
from openbpu.arch.timing import vpu_cycles
from openbpu.compiler.schedule.jobs.context import JOBS, Context
from openbpu.compiler.schedule.jobs.elementwise import along, flat_steps, rows_and_run
from openbpu.compiler.schedule.problem.index_maps import Along, Box, IndexMap, Tiles, Whole
from openbpu.compiler.schedule.problem.job import Job, View, lengths
from openbpu.compiler.schedule.problem.loop_nests import nests


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeJob(Job):
    """Iterates over the elements. Operands: x float32, y."""

    def cycles(self, march: March, tile: Tiles) -> Int64:
        """Engine cycles of the QuantizeTiles of one tile."""
        rows, run = rows_and_run(tile)
        out: Int64 = vpu_cycles(march, rows=rows, run=run)
        return out

    def emit(self, box: Box, views: tuple[View, ...]) -> list[Instr]:
        """The QuantizeTiles of one tile, of at most 4 axes each."""
        x, y = views
        return [
            QuantizeTile(
                operator=self.index, x=x.at + dx, y=y.at + dy, counts=counts, x_strides=xs, y_strides=ys
            )
            for (dx, dy), counts, (xs, ys) in nests(lengths(box), (x.strides, y.strides), 4)
        ]


@JOBS.of(Quantize)
def quantize_jobs(index: int, op: Quantize, c: Context) -> list[Job]:
    """The job of a Quantize: flat."""
    x, y = op.inputs[0], op.outputs[0]
    extent = c.flat((x, y))
    axes = along(len(extent))
    return [
        QuantizeJob(
            index=index,
            name="Quantize",
            extent=extent,
            steps=flat_steps(extent),
            operands=(c.operand(x, extent, axes), c.output(y, extent, axes)),
            engine=Engine.VPU,
        )
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class DequantizeJob(Job):
    """Iterates over A, C, B. Operands: x, scales, y."""

    def cycles(self, march: March, tile: Tiles) -> Int64:
        """Engine cycles of the DequantizeTile of one tile."""
        rows, run = rows_and_run(tile)
        out: Int64 = vpu_cycles(march, rows=rows, run=run)
        return out

    def emit(self, box: Box, views: tuple[View, ...]) -> list[Instr]:
        """The DequantizeTile of one tile."""
        x, scales, y = views
        return [
            DequantizeTile(
                operator=self.index,
                x=x.at,
                y=y.at,
                scales=scales.at,
                scale_stride=scales.strides[0] if self.operands[1].shape[0] > 1 else 0,
                counts=lengths(box),
                x_strides=x.strides,
                y_strides=y.strides,
            )
        ]


@JOBS.of(Dequantize)
def dequantize_jobs(index: int, op: Dequantize, c: Context) -> list[Job]:
    """The job of a Dequantize."""
    scales = c.tensors[op.scales_id].shape
    by_channel: IndexMap = Along(1) if scales[0] > 1 else Whole(1)
    operands = (
        c.operand(op.inputs[0], op.shape, along(3)),
        c.constant(op.scales_id, scales, (by_channel, *(Whole(n) for n in scales[1:]))),
        c.output(op.outputs[0], op.shape, along(3)),
    )
    return [
        DequantizeJob(
            index=index,
            name="Dequantize",
            extent=op.shape,
            steps=flat_steps(op.shape),
            operands=operands,
            engine=Engine.VPU,
        )
    ]
