"""Every layer the operator limits allow compiles: tiles shrink to whatever the memory of a chip is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from compiler.scheduling import chip_of
from openbpu.arch.dtypes import DType
from openbpu.arch.errors import CompileError
from openbpu.arch.isa import Load, Store, decode, headers
from openbpu.arch.program import (
    Concat,
    Conv,
    Gather,
    MatMul,
    Move,
    Operator,
    Pool,
    Reduce,
    Rescale,
    Softmax,
    Space,
    Tensor,
)
from openbpu.compiler.schedule import Scheduled, ScheduleOptions, schedule

Shape = tuple[int, ...]
MIB = 1 << 20
INT16 = DType.INT16


class Table:
    """Tensors without values: layers this large are scheduled, never run."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.end = {Space.DDR: 0, Space.CONST: 0}

    def add(self, shape: Shape, dtype: DType = DType.INT8, space: Space = Space.DDR) -> int:
        made = Tensor(f"t{len(self.tensors)}", shape, dtype, space, self.end[space])
        self.tensors.append(made)
        self.end[space] += -(-made.nbytes // 64) * 64
        return len(self.tensors) - 1

    def const(self, shape: Shape, dtype: DType = DType.INT8) -> int:
        return self.add(shape, dtype, Space.CONST)


def conv(x: Shape, cout: int, kernel: int, **more: int) -> tuple[Table, Operator]:
    t, (n, h, w, cin) = Table(), x
    stride, pad, dilation = more.get("stride", 1), more.get("pad", 0), more.get("dilation", 1)
    groups, up = more.get("groups", 1), more.get("upsample", 1)
    oh, ow = (((s - 1) * up + 2 * pad - (kernel - 1) * dilation) // stride + 1 for s in (h, w))
    y_shape = (n, oh, ow, cout)
    return t, Conv(
        inputs=(t.add(x, INT16 if more.get("int16") else DType.INT8),),
        outputs=(t.add(y_shape),),
        weight_id=t.const((cout, kernel, kernel, cin // groups)),
        params_id=t.const((cout, 4), DType.INT32),
        x_shape=x,
        y_shape=y_shape,
        kernel=(kernel, kernel),
        strides=(stride, stride),
        pads=(pad,) * 4,
        dilations=(dilation, dilation),
        upsample=(up, up),
        groups=groups,
    )


def matmul(
    m: int, k: int, n: int, dtype: DType = DType.INT8, *, turned: bool = False
) -> tuple[Table, Operator]:
    t = Table()
    inputs = (t.add((1, m, k), dtype), t.add((1, n, k) if turned else (1, k, n)))
    y = t.add((1, m, n))
    return t, MatMul(inputs=inputs, outputs=(y,), a_batch=1, b_batch=1, m=m, k=k, n=n, b_transposed=turned)


def pool(x: Shape, kernel: int, stride: int) -> tuple[Table, Operator]:
    t, (n, h, w, c) = Table(), x
    y_shape = (n, (h - kernel) // stride + 1, (w - kernel) // stride + 1, c)
    return t, Pool(
        inputs=(t.add(x),),
        outputs=(t.add(y_shape),),
        counts_id=t.const((kernel**2 + 1, 2), DType.INT64),
        fn="max",
        x_shape=x,
        y_shape=y_shape,
        kernel=(kernel, kernel),
        strides=(stride, stride),
    )


def reduce(a: int, r: int, b: int, dtype: DType) -> tuple[Table, Operator]:
    t = Table()
    x, y = t.add((a, r, b), dtype), t.add((a, b))
    return t, Reduce(inputs=(x,), outputs=(y,), fn="sum", shape=(a, r, b), mult=1, shift=1)


def move(x: Shape, order: Shape) -> tuple[Table, Operator]:
    t, strides = Table(), [int(np.prod(x[d + 1 :])) for d in range(len(x))]
    shape = tuple(x[d] for d in order)
    source, target = t.add(x), t.add(shape)
    return t, Move(inputs=(source,), outputs=(target,), shape=shape, strides=tuple(strides[d] for d in order))


def concat(count: int, mult: int) -> tuple[Table, Operator]:
    t = Table()
    inputs = tuple(t.add((64, 64)) for _ in range(count))
    return t, Concat(
        inputs=inputs,
        outputs=(t.add((64, 64 * count)),),
        outer=64,
        sizes=(64,) * count,
        x_zeros=(0,) * count,
        mults=(mult,) * count,
        shifts=(1,) * count,
    )


def gather(a: int, r: int, b: int, count: int) -> tuple[Table, Operator]:
    t = Table()
    x, y = t.add((a, r, b)), t.add((a, count, b))
    return t, Gather(inputs=(x,), outputs=(y,), indices_id=t.const((count,), DType.INT32), shape=(a, r, b))


def softmax(a: int, r: int) -> tuple[Table, Operator]:
    t = Table()
    x, y, table = t.add((a, r), INT16), t.add((a, r), INT16), t.const((257,), DType.INT32)
    return t, Softmax(
        inputs=(x,), outputs=(y,), exp_id=table, shape=(a, r), mult=1, shift=1, out_mult=1, out_shift=1
    )


LAYERS: dict[str, Callable[[], tuple[Table, Operator]]] = {
    "conv of 1x64x1024x1024": lambda: conv((1, 1024, 1024, 64), 64, 3, pad=1),
    "conv of 1x64x1024x1024 in int16": lambda: conv((1, 1024, 1024, 64), 64, 3, pad=1, int16=1),
    "conv of 8192 to 8192 channels": lambda: conv((1, 1, 1, 8192), 8192, 1),
    "conv of 65536 channels": lambda: conv((1, 2, 2, 65536), 64, 1),
    "conv to 65536 channels": lambda: conv((1, 2, 2, 64), 65536, 1),
    "conv 31x31, KH*KW*C = 65348": lambda: conv((1, 128, 128, 68), 64, 31, pad=15),
    "conv 31x31 depthwise, dilation 18": lambda: conv((1, 700, 700, 64), 64, 31, groups=64, dilation=18),
    "conv of height 65536": lambda: conv((1, 65536, 1, 16), 16, 1),
    "conv of width 65536": lambda: conv((1, 3, 65536, 16), 16, 3, pad=1),
    "conv of stride 256": lambda: conv((1, 2048, 2048, 3), 16, 7, stride=256, pad=3),
    "conv of batch 4096": lambda: conv((4096, 4, 4, 16), 16, 3, pad=1),
    "transposed conv 14x14, stride 14": lambda: conv((1, 64, 64, 334), 64, 14, pad=13, upsample=14),
    "matmul 8192x8192 vector": lambda: matmul(1, 8192, 8192),
    "matmul 2048x8192x8192 turned": lambda: matmul(2048, 8192, 8192, INT16, turned=True),
    "max pool 181x181": lambda: pool((1, 400, 400, 64), 181, 1),
    "max pool 256x128 area": lambda: pool((1, 1024, 1024, 16), 128, 128),
    "reduce 65535": lambda: reduce(64, 65535, 64, DType.INT8),
    "reduce 65535 in int16": lambda: reduce(1, 65535, 4096, INT16),
    "transpose of 64 MiB": lambda: move((1024, 1024, 64), (2, 0, 1)),
    "transpose of six axes": lambda: move((32, 16, 8, 32, 16, 8), (5, 4, 3, 2, 1, 0)),
    "concat of 1024": lambda: concat(1024, 0),
    "concat of 1024 with scales": lambda: concat(1024, 1),
    "gather from 32768 rows": lambda: gather(1, 32768, 768, 197),
    "softmax over 65535": lambda: softmax(300, 65535),
}


def run(layer: tuple[Table, Operator], chip_bytes: int, opt: int) -> Scheduled:
    table, op = layer
    base = table.end[Space.CONST]
    return schedule(
        [op],
        table.tensors,
        op.inputs,
        op.outputs,
        chip_of(chip_bytes),
        options=ScheduleOptions(opt),
        ddr_base=base,
        ddr_start=table.end[Space.DDR],
    )


@pytest.mark.parametrize("opt", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", sorted(LAYERS))
def test_the_largest_layers_compile_for_one_mebibyte(name: str, opt: int) -> None:
    done = run(LAYERS[name](), MIB, opt)
    assert 0 < done.chip_bytes <= MIB
    assert 0 < len(done.code[0]) < 100_000


@pytest.mark.slow
@pytest.mark.parametrize("opt", [0, 2])
def test_a_full_8192_matmul_compiles_for_one_mebibyte(opt: int) -> None:
    assert run(matmul(8192, 8192, 8192, INT16, turned=True), MIB, opt).chip_bytes <= MIB


def test_every_output_byte_of_a_large_conv_is_stored_once() -> None:
    done = run(LAYERS["conv of 1x64x1024x1024"](), MIB, 2)
    stored = sum(i.row_bytes * int(np.prod(i.counts)) for i in decode(done.code[0]) if isinstance(i, Store))
    assert stored == 64 << 20


def test_weights_that_fit_are_loaded_once() -> None:
    table, op = conv((1, 256, 256, 64), 64, 3, pad=1)
    done = run((table, op), MIB, 1)
    assert isinstance(op, Conv)
    weights = table.tensors[op.weight_id]
    span = range(weights.address, weights.address + weights.nbytes)
    loads = [i for i in decode(done.code[0]) if isinstance(i, Load) and i.ddr in span]
    assert sum(i.row_bytes * int(np.prod(i.counts)) for i in loads) == weights.nbytes


def test_a_layer_whose_smallest_tile_does_not_fit_is_refused_with_the_numbers() -> None:
    layer = conv((1, 700, 700, 68), 16, 31, dilation=18)
    with pytest.raises(CompileError, match=r"operator 0 \(Conv\): .* must be >= \d{8} .*, not 1048576; run"):
        run(layer, MIB, 2)


def test_an_empty_segment_has_no_code() -> None:
    done = schedule([], [], [], [], chip_of(MIB), options=ScheduleOptions(2), ddr_base=0, ddr_start=0)
    assert headers(done.code[0]).shape == (0,)
    assert (done.chip_bytes, done.ddr_bytes) == (0, 0)


def test_a_tensor_the_segment_does_not_use_keeps_its_place() -> None:
    table, op = conv((1, 8, 8, 16), 16, 3, pad=1)
    table.tensors.append(replace(table.tensors[0], address=-1))
    assert run((table, op), MIB, 2).tensors == tuple(table.tensors)


def test_a_tensor_that_leaves_no_memory_does_not_cut_its_neighbours_into_crumbs() -> None:
    """Beside the middle tensor 1.5 KiB are left: it lives on chip at the price of tiles of 192 bytes."""
    t, rows = Table(), (6 * MIB - 1536) // 8
    x, middle, y = t.add((rows, 8)), t.add((rows, 8)), t.add((8, rows))
    operators: list[Operator] = [
        Rescale(inputs=(x,), outputs=(middle,), mult=1, shift=0, lo=-128, hi=127),
        Move(inputs=(middle,), outputs=(y,), shape=(8, rows), strides=(1, 8)),
    ]
    done = schedule(
        operators,
        t.tensors,
        [x],
        [y],
        chip_of(6 * MIB),
        options=ScheduleOptions(2),
        ddr_base=0,
        ddr_start=t.end[Space.DDR],
    )
    assert sum(len(code) for code in done.code) < 10_000
