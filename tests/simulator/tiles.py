"""Every operator as one tile that fills the chip, or one per image: `tiled(program)` has code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from openbpu.arch import isa
from openbpu.arch.definition.rooms import Room
from openbpu.arch.isa import Instr
from openbpu.arch.program import (
    OPERATORS,
    Binary,
    BpuSegment,
    Concat,
    Conv,
    Dequantize,
    Gather,
    LayerNorm,
    Lut,
    MatMul,
    Move,
    Operator,
    Pad,
    Pool,
    Program,
    Quantize,
    Reduce,
    Rescale,
    Resize,
    SegmentLut,
    Softmax,
)
from simulator.coder import At, Coder, Ints, dense, padded

TILES: Room[type[Operator], Callable[[Coder, Any, At, int], list[Instr]]] = Room(
    "the one tile",
    OPERATORS,
    __name__,
    decorator="a function under @TILES.of({})",
    where="tests/operators/{}.py",
)
"""Operator → (coder, operator, addresses, address of the output), which returns its instructions."""


def tiled(program: Program) -> Program:
    """The program with code for its one BPU segment: every operator as one tile, or one per image."""
    (segment,) = program.segments
    assert isinstance(segment, BpuSegment)
    code, chip_bytes = Coder(program, segment, TILES).all()
    return replace(program, segments=(replace(segment, code=(code,), chip_bytes=chip_bytes),))


def images(c: Coder, x: int, shape: Ints) -> tuple[int, int, int]:
    """Bytes of an image, a row and a pixel of an NHWC tensor."""
    return dense(shape, c.size(x))[:3]  # type: ignore[return-value]


@TILES.of(Conv)
def conv(c: Coder, op: Conv, at: At, y: int) -> list[Instr]:
    x, out = op.inputs[0], op.outputs[0]
    x_image, x_row, x_pixel = images(c, x, op.x_shape)
    y_image, y_row, y_pixel = images(c, out, op.y_shape)
    r = op.inputs[1] if len(op.inputs) > 1 else -1
    r_image, r_row, r_pixel = images(c, r, op.y_shape) if r >= 0 else (0, 0, 0)
    return [
        isa.ConvTile(
            operator=c.index,
            x=at[x] + n * x_image,
            weights=at[op.weight_id],
            params=at[op.params_id],
            rmult=at.get(op.rmult_id, 0),
            r=at.get(r, 0) + n * r_image,
            y=y + n * y_image,
            table=at.get(op.table_id, 0),
            x_row=x_row,
            x_pixel=x_pixel,
            r_row=r_row,
            r_pixel=r_pixel,
            y_row=y_row,
            y_pixel=y_pixel,
            in_h=op.x_shape[1],
            in_w=op.x_shape[2],
            out_h=op.y_shape[1],
            out_w=op.y_shape[2],
            out_c=op.y_shape[3],
            oc_start=0,
            pad_top=op.pads[0],
            pad_left=op.pads[1],
        )
        for n in range(op.x_shape[0])
    ]


@TILES.of(MatMul)
def matmul(c: Coder, op: MatMul, at: At, y: int) -> list[Instr]:
    a, b = op.inputs[:2]
    a_row, y_row = op.k * c.size(a), op.n * c.size(op.outputs[0])
    b_row = (op.k if op.b_transposed else op.n) * c.size(b)
    a_step = op.m * a_row if op.a_batch > 1 else 0
    b_step = op.k * op.n * c.size(b) if op.b_batch > 1 else 0
    return [
        isa.MatMulTile(
            operator=c.index,
            a=at[a] + i * a_step,
            b=at[b] + i * b_step,
            y=y + i * op.m * y_row,
            table=at.get(op.table_id, 0),
            a_row=a_row,
            b_row=b_row,
            y_row=y_row,
            m=op.m,
            n=op.n,
        )
        for i in range(max(op.a_batch, op.b_batch))
    ]


@TILES.of(Pool)
def pool(c: Coder, op: Pool, at: At, y: int) -> list[Instr]:
    x_image, x_row, x_pixel = images(c, op.inputs[0], op.x_shape)
    y_image, y_row, y_pixel = images(c, op.outputs[0], op.y_shape)
    top, left, bottom, right = op.pads
    return [
        isa.PoolTile(
            operator=c.index,
            x=at[op.inputs[0]] + n * x_image,
            y=y + n * y_image,
            counts=at[op.counts_id],
            x_row=x_row,
            x_pixel=x_pixel,
            y_row=y_row,
            y_pixel=y_pixel,
            in_h=op.x_shape[1],
            in_w=op.x_shape[2],
            out_h=op.y_shape[1],
            out_w=op.y_shape[2],
            channels=op.x_shape[3],
            pad_top=top,
            pad_left=left,
            bounds=(-top, op.x_shape[1] + bottom, -left, op.x_shape[2] + right),
        )
        for n in range(op.x_shape[0])
    ]


@TILES.of(Resize)
def resize(c: Coder, op: Resize, at: At, y: int) -> list[Instr]:
    x_image, x_row, x_pixel = images(c, op.inputs[0], op.x_shape)
    y_image, y_row, y_pixel = images(c, op.outputs[0], op.y_shape)
    return [
        isa.ResizeTile(
            operator=c.index,
            x=at[op.inputs[0]] + n * x_image,
            y=y + n * y_image,
            rows=at[op.rows_id],
            cols=at[op.cols_id],
            x_row=x_row,
            x_pixel=x_pixel,
            y_row=y_row,
            y_pixel=y_pixel,
            out_h=op.y_shape[1],
            out_w=op.y_shape[2],
            channels=op.x_shape[3],
            row0=0,
            col0=0,
        )
        for n in range(op.x_shape[0])
    ]


@TILES.of(Binary)
def binary(c: Coder, op: Binary, at: At, y: int) -> list[Instr]:
    a, b = op.inputs
    return [
        isa.BinaryTile(
            operator=c.index,
            a=at[a],
            b=at[b],
            y=y,
            table=at.get(op.table_id, 0),
            counts=padded(op.shape, 4, 1),
            a_strides=padded([s * c.size(a) for s in op.a_strides], 4, 0),
            b_strides=padded([s * c.size(b) for s in op.b_strides], 4, 0),
            y_strides=padded(dense(op.shape, c.size(op.outputs[0])), 4, 0),
        )
    ]


def flat(c: Coder, tensor: int) -> tuple[Ints, Ints]:
    """Counts and strides of all elements in a row."""
    elements = prod(c.program.tensors[tensor].shape)
    return (1, 1, 1, elements), (0, 0, 0, c.size(tensor))


@TILES.of(Lut, SegmentLut, Rescale)
def unary(c: Coder, op: Lut | SegmentLut | Rescale, at: At, y: int) -> list[Instr]:
    counts, strides = flat(c, op.inputs[0])
    table = at[op.constants()[0]] if op.constants() else 0
    y_strides = flat(c, op.outputs[0])[1]
    return [
        isa.UnaryTile(
            operator=c.index,
            x=at[op.inputs[0]],
            y=y,
            table=table,
            counts=counts,
            x_strides=strides,
            y_strides=y_strides,
        )
    ]


@TILES.of(Concat)
def concat(c: Coder, op: Concat, at: At, y: int) -> list[Instr]:
    out, width, size = [], sum(op.sizes), c.size(op.outputs[0])
    start = 0
    for part, (x, n) in enumerate(zip(op.inputs, op.sizes, strict=True)):
        out.append(
            isa.UnaryTile(
                operator=c.index,
                x=at[x],
                y=y + start * size,
                part=part,
                counts=(1, 1, op.outer, n),
                x_strides=(0, 0, n * c.size(x), c.size(x)),
                y_strides=(0, 0, width * size, size),
            )
        )
        start += n
    return list(out)


@TILES.of(Reduce)
def reduce(c: Coder, op: Reduce, at: At, y: int) -> list[Instr]:
    a, r, b = op.shape
    size = c.size(op.outputs[0])
    return [
        isa.ReduceTile(
            operator=c.index,
            x=at[op.inputs[0]],
            y=y,
            counts=(a, r, b),
            x_strides=dense(op.shape, c.size(op.inputs[0])),
            y_strides=(b * size, size),
        )
    ]


@TILES.of(Softmax, LayerNorm)
def row(c: Coder, op: Softmax | LayerNorm, at: At, y: int) -> list[Instr]:
    tables = (op.exp_id, -1) if isinstance(op, Softmax) else (op.gain_id, op.bias_id)
    return [
        isa.RowTile(
            operator=c.index,
            x=at[op.inputs[0]],
            y=y,
            table=at[tables[0]],
            table2=at.get(tables[1], 0),
            rows=op.shape[0],
            x_row=op.shape[1] * c.size(op.inputs[0]),
            y_row=op.shape[1] * c.size(op.outputs[0]),
        )
    ]


@TILES.of(Move)
def move(c: Coder, op: Move, at: At, y: int) -> list[Instr]:
    size = c.size(op.inputs[0])
    return [
        isa.MoveTile(
            operator=c.index,
            x=at[op.inputs[0]] + op.offset * size,
            y=y,
            element=size,
            counts=padded(op.shape, 6, 1),
            x_strides=padded([s * size for s in op.strides], 6, 0),
            y_strides=padded(dense(op.shape, size), 6, 0),
        )
    ]


@TILES.of(Pad)
def pad(c: Coder, op: Pad, at: At, y: int) -> list[Instr]:
    """Only what a FillTile does: the move into the middle is a step of its own."""
    size = c.size(op.outputs[0])
    outer = [b + n + a for b, n, a in zip(op.before, op.shape, op.after, strict=True)]
    strides = dense(outer, size)
    fill = isa.FillTile(operator=c.index, y=y, counts=padded(outer, 4, 1), y_strides=padded(strides, 4, 0))
    c.step([fill])
    return [
        isa.MoveTile(
            operator=c.index,
            x=at[op.inputs[0]],
            y=y + int(np.dot(op.before, strides)),
            element=size,
            counts=padded(op.shape, 6, 1),
            x_strides=padded(dense(op.shape, size), 6, 0),
            y_strides=padded(strides, 6, 0),
        )
    ]


@TILES.of(Gather)
def gather(c: Coder, op: Gather, at: At, y: int) -> list[Instr]:
    a, r, b = op.shape
    size, count = c.size(op.inputs[0]), prod(c.program.tensors[op.indices_id].shape)
    return [
        isa.GatherTile(
            operator=c.index,
            x=at[op.inputs[0]],
            y=y,
            indices=at[op.indices_id],
            base=0,
            counts=(a, count, b),
            x_strides=(r * b * size, b * size),
            y_strides=(count * b * size, b * size),
        )
    ]


@TILES.of(Quantize)
def quantize(c: Coder, op: Quantize, at: At, y: int) -> list[Instr]:
    counts, strides = flat(c, op.inputs[0])
    y_strides = flat(c, op.outputs[0])[1]
    return [
        isa.QuantizeTile(
            operator=c.index, x=at[op.inputs[0]], y=y, counts=counts, x_strides=strides, y_strides=y_strides
        )
    ]


@TILES.of(Dequantize)
def dequantize(c: Coder, op: Dequantize, at: At, y: int) -> list[Instr]:
    scales, words = (*c.program.tensors[op.scales_id].shape, 1)[:2]
    return [
        isa.DequantizeTile(
            operator=c.index,
            x=at[op.inputs[0]],
            y=y,
            scales=at[op.scales_id],
            scale_stride=4 * words if scales > 1 else 0,
            counts=op.shape,
            x_strides=dense(op.shape, c.size(op.inputs[0])),
            y_strides=dense(op.shape, 4),
        )
    ]
