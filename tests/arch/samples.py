"""Programs for the tests of the container: every operator, both kinds of segments, code of two cores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np

from openbpu.arch.definition.rooms import Room
from openbpu.arch.dtypes import DType
from openbpu.arch.isa import Code, ConvTile, Load, Store, encode
from openbpu.arch.numerics import EXP_ENTRIES
from openbpu.arch.program import (
    OPERATORS,
    Binary,
    BpuSegment,
    Concat,
    Conv,
    CpuSegment,
    DebugEntry,
    Dequantize,
    Gather,
    LayerNorm,
    Lut,
    MatMul,
    Move,
    Operator,
    Pad,
    Placement,
    Pool,
    Program,
    Quantize,
    Reduce,
    Rescale,
    Resize,
    SegmentLut,
    Softmax,
    Space,
    Tensor,
)
from simulator.build import Build

N, H, W, C = 1, 4, 6, 8
SHAPE = (N, H, W, C)
SIZE = N * H * W * C
SAMPLES: Room[type[Operator], Callable[[Build, int], Operator]] = Room(
    "a sample",
    OPERATORS,
    __name__,
    decorator="a function under @SAMPLES.of({})",
    where="tests/operators/{}.py",
)
"""Operator → (build, int8 tensor of SHAPE), which returns one that reads it."""


def _i8(b: Build, shape: tuple[int, ...] = SHAPE) -> int:
    return b.tensor(shape, DType.INT8)


@SAMPLES.of(Conv)
def _conv(b: Build, x: int) -> Operator:
    params = np.tile(np.array([3, 1 << 30, -7, 36], np.int32), (C, 1))
    return Conv(
        inputs=(x, x),
        outputs=(_i8(b),),
        x_shape=SHAPE,
        y_shape=SHAPE,
        kernel=(3, 3),
        pads=(1, 1, 1, 1),
        weight_id=b.const(np.ones((C, 3, 3, C), np.int8)),
        params_id=b.const(params),
        rmult_id=b.const(np.ones(C, np.int64)),
        table_id=b.const(np.arange(-128, 128).astype(np.int8)),
    )


@SAMPLES.of(Pool)
def _pool(b: Build, x: int) -> Operator:
    return Pool(
        inputs=(x,),
        outputs=(_i8(b, (N, 2, 3, C)),),
        counts_id=b.const(np.tile(np.array([1 << 30, 30], np.int64), (5, 1))),
        fn="avg",
        x_shape=SHAPE,
        y_shape=(N, 2, 3, C),
        kernel=(2, 2),
        strides=(2, 2),
    )


@SAMPLES.of(Resize)
def _resize(b: Build, x: int) -> Operator:
    i, j = np.arange(8), np.arange(W)
    return Resize(
        inputs=(x,),
        outputs=(_i8(b, (N, 8, W, C)),),
        rows_id=b.const(np.stack([i // 2, np.minimum(i // 2 + 1, H - 1), i % 2 << 29], 1).astype(np.int32)),
        cols_id=b.const(np.stack([j, j, j * 0], 1).astype(np.int32)),
        x_shape=SHAPE,
        y_shape=(N, 8, W, C),
        mult=1 << 30,
        shift=30,
    )


@SAMPLES.of(LayerNorm)
def _layernorm(b: Build, x: int) -> Operator:
    gain, bias = b.const(np.ones(C, np.int64)), b.const(np.zeros(1, np.int64))
    return LayerNorm(
        inputs=(x,), outputs=(_i8(b),), gain_id=gain, bias_id=bias, shape=(SIZE // C, C), shift=20
    )


@SAMPLES.of(SegmentLut)
def _segment_lut(b: Build, x: int) -> Operator:
    wide, y = b.tensor(SHAPE, DType.INT16), b.tensor(SHAPE, DType.INT16)
    b.add(Rescale(inputs=(x,), outputs=(wide,), mult=1 << 30, shift=22, lo=-32768, hi=32767))
    segments = b.const(np.array([[-32768, 0, 1 << 24, 24], [0, 5, 1 << 23, 24]], np.int64))
    return SegmentLut(inputs=(wide,), outputs=(y,), segments_id=segments, lo=-32768, hi=32767)


@SAMPLES.of(Binary)
def _binary(b: Build, x: int) -> Operator:
    a_strides = (H * W * C, W * C, C, 1)
    return Binary(
        inputs=(x, x), outputs=(_i8(b),), fn="add", shape=SHAPE, a_strides=a_strides, b_strides=(0, 0, 0, 1)
    )


@SAMPLES.of(MatMul)
def _matmul(b: Build, x: int) -> Operator:
    y, k = _i8(b, (C, C)), SIZE // C
    return MatMul(inputs=(x, x), outputs=(y,), a_batch=1, b_batch=1, m=C, k=k, n=C, mult=1 << 30, shift=36)


@SAMPLES.of(Softmax)
def _softmax(b: Build, x: int) -> Operator:
    return Softmax(
        inputs=(x,),
        outputs=(_i8(b),),
        exp_id=b.const(np.ones(EXP_ENTRIES, np.int32)),
        shape=(SIZE // C, C),
        mult=1 << 30,
        shift=31,
        out_mult=1,
        out_shift=20,
    )


@SAMPLES.of(Concat)
def _concat(b: Build, x: int) -> Operator:
    y = _i8(b, (2, *SHAPE[1:]))
    return Concat(
        inputs=(x, x),
        outputs=(y,),
        outer=1,
        sizes=(SIZE, SIZE),
        x_zeros=(0, 1),
        mults=(0, 1 << 30),
        shifts=(0, 30),
    )


@SAMPLES.of(Move)
def _move(b: Build, x: int) -> Operator:
    return Move(inputs=(x,), outputs=(_i8(b, (N, C, H, W)),), shape=(N, C, H, W), strides=(0, 1, W * C, C))


@SAMPLES.of(Pad)
def _pad(b: Build, x: int) -> Operator:
    y = _i8(b, (N, H + 2, W, C))
    return Pad(inputs=(x,), outputs=(y,), shape=SHAPE, before=(0, 1, 0, 0), after=(0, 1, 0, 0))


@SAMPLES.of(Gather)
def _gather(b: Build, x: int) -> Operator:
    indices, y = b.const(np.array([5, 23], np.int32)), _i8(b, (2, C))
    return Gather(inputs=(x,), outputs=(y,), indices_id=indices, shape=(1, H * W, C))


@SAMPLES.of(Lut)
def _lut(b: Build, x: int) -> Operator:
    return Lut(inputs=(x,), outputs=(_i8(b),), table_id=b.const(np.zeros(256, np.int8)))


@SAMPLES.of(Rescale)
def _rescale(b: Build, x: int) -> Operator:
    y = b.tensor(SHAPE, DType.INT16)
    return Rescale(inputs=(x,), outputs=(y,), mult=1 << 30, shift=22, lo=-32768, hi=32767)


@SAMPLES.of(Reduce)
def _reduce(b: Build, x: int) -> Operator:
    return Reduce(
        inputs=(x,), outputs=(_i8(b, (N, C)),), fn="sum", shape=(N, H * W, C), mult=1 << 30, shift=31
    )


@SAMPLES.of(Quantize)
def _quantize(b: Build, x: int) -> Operator:
    return Quantize(inputs=(x,), outputs=(_i8(b),), scale=0.1)


@SAMPLES.of(Dequantize)
def _dequantize(b: Build, x: int) -> Operator:
    scales, y = b.const(np.full(1, 0.1, np.float32)), b.tensor(SHAPE, DType.FLOAT32)
    return Dequantize(inputs=(x,), outputs=(y,), scales_id=scales, shape=(1, 1, SIZE))


def every_operator() -> Program:
    """One segment with an operator of every kind, all fed by one quantized input."""
    b = Build()
    first = SAMPLES[Quantize](b, b.input(SHAPE, DType.FLOAT32))
    b.add(first)
    (q,) = first.outputs
    made = {kind: make(b, q) for kind, make in SAMPLES.items() if kind not in (Quantize, Dequantize)}
    for op in made.values():
        b.add(op)
    last = SAMPLES[Dequantize](b, *made[Conv].outputs)
    b.add(last)
    (y,) = last.outputs
    return b.program((y, b.view(y, (SIZE,))))


def code() -> tuple[Code, Code]:
    """A load and a convolution on one core, a store on the other; the numbers mean nothing."""
    one, strides = (1, 1, 1, 4), (0, 0, 0, 64)
    load = Load(
        operator=2, ddr=64, chip=0, row_bytes=64, counts=one, ddr_strides=strides, chip_strides=strides
    )
    names = [f.name for f in fields(ConvTile) if "kind" in f.metadata]
    conv: Any = dict.fromkeys(names, 1)
    store = Store(
        operator=2, ddr=64, chip=0, row_bytes=64, counts=one, ddr_strides=strides, chip_strides=strides
    )
    return encode([load, ConvTile(operator=2, wait=(1, *(0,) * 7), **conv)]), encode([store])


def full() -> Program:
    """`every_operator` with code, a CPU segment behind it, and every table of a program filled."""
    program = every_operator()
    (segment,) = program.segments
    assert isinstance(segment, BpuSegment)
    tensors = list(program.tensors)
    tensors[0] = replace(tensors[0], scale=(0.1, 1e-30), axis=1)
    tensors.append(Tensor("ends", (), DType.INT64, Space.DDR, -1))
    last = len(tensors) - 1
    segments = (
        replace(segment, code=code(), chip_bytes=1 << 20),
        CpuSegment("cpu0", b"\x08\x0a not really", program.outputs[:1], (last,), ("x",), ("y",), 10, 20, 1),
    )
    return replace(
        program,
        tensors=tuple(tensors),
        segments=segments,
        outputs=(*program.outputs, last),
        debug=(DebugEntry("conv1", "Conv", ("a", "b·c"), "net.conv1", "net.py:12"),),
        placement=(
            Placement("a", "Conv", "BPU", 0, "int8/int8", layer=0),
            Placement("b·c", "NonZero", "CPU", 1, "float/int64", "no unit for it", "remove it"),
        ),
        options=(("opt", "2"),),
        macs=(("int8xint8", 110592),),
    )
