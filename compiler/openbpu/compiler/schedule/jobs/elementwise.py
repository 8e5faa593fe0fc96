"""VAE and VPU: one element in, one element out."""

from __future__ import annotations

from dataclasses import dataclass

from openbpu.arch.isa import BinaryTile, DequantizeTile, Instr, QuantizeTile, UnaryTile
from openbpu.arch.program import Binary, Dequantize, Lut, Quantize, Rescale, SegmentLut
from openbpu.compiler.schedule.axes import Along, Axis, Box, Whole
from openbpu.compiler.schedule.job import Job, View, lengths
from openbpu.compiler.schedule.jobs.accesses import Access, access
from openbpu.compiler.schedule.jobs.context import Context
from openbpu.compiler.schedule.jobs.conv import whole_constant
from openbpu.compiler.schedule.strided import collapse, dense_strides, nests

_STEP = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class UnaryJob(Job):
    """Box: any shape that x and y share. Operands: x, then a table where there is one, y."""

    part: int = 0

    def emit(self, box: Box, views: tuple[View, ...]) -> list[Instr]:
        """UnaryTiles of at most 4 axes."""
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


def unary_jobs(index: int, op: Lut | SegmentLut | Rescale, c: Context) -> list[Job]:
    """The job of a table look-up or a Rescale: flat."""
    n = c.elements(op.inputs[0])
    tables = [whole_constant(t, c) for t in op.constants()]
    operands = (
        c.operand(op.inputs[0], (n,), (Along(0),)),
        *tables,
        c.output(op.outputs[0], (n,), (Along(0),)),
    )
    return [
        UnaryJob(index=index, name=type(op).__name__, extent=(n,), steps=(min(_STEP, n),), operands=operands)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeJob(Job):
    """Box: flat. Operands: x float32, y."""

    def emit(self, box: Box, views: tuple[View, ...]) -> list[Instr]:
        """QuantizeTiles of at most 4 axes."""
        x, y = views
        return [
            QuantizeTile(
                operator=self.index, x=x.at + dx, y=y.at + dy, counts=counts, x_strides=xs, y_strides=ys
            )
            for (dx, dy), counts, (xs, ys) in nests(lengths(box), (x.strides, y.strides), 4)
        ]


def quantize_jobs(index: int, op: Quantize, c: Context) -> list[Job]:
    """The job of a Quantize: flat."""
    n = c.elements(op.inputs[0])
    operands = (c.operand(op.inputs[0], (n,), (Along(0),)), c.output(op.outputs[0], (n,), (Along(0),)))
    return [QuantizeJob(index=index, name="Quantize", extent=(n,), steps=(min(_STEP, n),), operands=operands)]


@dataclass(frozen=True, slots=True, kw_only=True)
class DequantizeJob(Job):
    """Box: A, C, B. Operands: x, scales, y."""

    def emit(self, box: Box, views: tuple[View, ...]) -> list[Instr]:
        """One DequantizeTile."""
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


def dequantize_jobs(index: int, op: Dequantize, c: Context) -> list[Job]:
    """The job of a Dequantize."""
    scales = c.elements(op.scales_id)
    by_channel: Axis = Along(1) if scales > 1 else Whole(1)
    axes = (Along(0), Along(1), Along(2))
    operands = (
        c.operand(op.inputs[0], op.shape, axes),
        c.constant(op.scales_id, (scales,), (by_channel,)),
        c.output(op.outputs[0], op.shape, axes),
    )
    steps = (1, 1, min(_STEP, op.shape[2]))
    return [DequantizeJob(index=index, name="Dequantize", extent=op.shape, steps=steps, operands=operands)]


@dataclass(frozen=True, slots=True, kw_only=True)
class BinaryJob(Job):
    """Box: the output's shape with axes joined where both operands allow. Operands: a, b, then table, y."""

    a: Access
    b: Access

    def emit(self, box: Box, views: tuple[View, ...]) -> list[Instr]:
        """BinaryTiles of at most 4 axes."""
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


def binary_jobs(index: int, op: Binary, c: Context) -> list[Job]:
    """The job of a Binary."""
    extent, (_, *both) = collapse(op.shape, (dense_strides(op.shape, 1), op.a_strides, op.b_strides))
    extent, both = extent or (1,), both if extent else [(0,), (0,)]
    a, b = (
        access(c.elements(t), c.tensors[t].shape, extent, strides, 0)
        for t, strides in zip(op.inputs, both, strict=True)
    )
    operands = (
        c.operand(op.inputs[0], a.shape, a.axes()),
        c.operand(op.inputs[1], b.shape, b.axes()),
        *([whole_constant(op.table_id, c)] if op.table_id >= 0 else []),
        c.output(op.outputs[0], extent, tuple(Along(d) for d in range(len(extent)))),
    )
    steps = (1,) * (len(extent) - 1) + (min(_STEP, extent[-1]),)
    return [BinaryJob(index=index, name="Binary", extent=extent, steps=steps, operands=operands, a=a, b=b)]
