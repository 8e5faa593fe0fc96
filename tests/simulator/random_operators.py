"""Random programs of one operator each, drawn by seed: every field that changes what is computed varies."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from openbpu.arch import numerics
from openbpu.arch import program as p
from openbpu.arch.dtypes import DType

from .build import Build, one_operator_program, random_tensor
from .drawing import (
    CASES,
    CHANNELS,
    DRAWN,
    INT8,
    INT16,
    Rng,
    any_dtype,
    bounds,
    chance,
    drawn,
    factor,
    narrow_dtype,
    pick,
    pick_dtype,
    shape_of,
    table,
    zero_point,
)

__all__ = ["CASES", "DRAWN", "program_of"]


def conv_params(rng: Rng, acc: float, channels: int, out: DType) -> npt.NDArray[np.int32]:
    rows = []
    for _ in range(channels):
        mult, shift = factor(rng, acc, out)
        if chance(rng, 0.05):
            mult = -mult
        offset = int(rng.integers(-(2**30), 2**30)) if chance(rng) else 0
        if chance(rng, 0.05):
            mult, offset, shift = 2**31 - 1, int(rng.integers(-(2**31), 2**31)), pick(rng, (0, 1, 31, 50, 62))
        rows.append((int(rng.uniform(-acc, acc) / 4), mult, offset, shift))
    return np.array(rows, dtype=np.int64).astype(np.int32)


@drawn(p.Conv)
def conv(rng: Rng, b: Build) -> p.Operator:
    style = pick(rng, (0, 0, 1, 2, 3))  # plain, depthwise, grouped, upsampled
    x_dtype, w_dtype = ((INT8, INT8), (INT8, INT8), (INT16, INT8), (INT8, INT16))[int(rng.integers(4))]
    groups, per_in, per_out = 1, pick(rng, CHANNELS), pick(rng, CHANNELS)
    if style == 1:
        groups, per_in, per_out = pick(rng, CHANNELS), 1, 1
    if style == 2:
        groups, per_in, per_out = pick(rng, (2, 3)), pick(rng, (1, 3, 8, 16)), pick(rng, (1, 4, 17))
    kernel = (int(rng.integers(1, 5)), int(rng.integers(1, 5)))
    strides = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    dilations = (1, 1) if chance(rng, 0.6) else (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    upsample = (int(rng.integers(1, 4)), int(rng.integers(1, 4))) if style == 3 else (1, 1)
    pads = tuple(int(v) for v in rng.integers(0, 4, 4)) if chance(rng, 0.7) else (0, 0, 0, 0)
    size, out = [], []
    for axis in range(2):
        span = (kernel[axis] - 1) * dilations[axis] + 1
        n = int(rng.integers(1, 9))
        while (n - 1) * upsample[axis] + 1 + pads[axis] + pads[axis + 2] < span:
            n += 1
        size.append(n)
        out.append(((n - 1) * upsample[axis] + 1 + pads[axis] + pads[axis + 2] - span) // strides[axis] + 1)
    images = pick(rng, (1, 1, 2))
    x_shape = (images, size[0], size[1], groups * per_in)
    y_shape = (images, out[0], out[1], groups * per_out)
    weights = random_tensor(rng, (y_shape[3], *kernel, per_in), w_dtype).astype(np.int64)
    if chance(rng, 0.2):
        weights = np.sign(weights) * w_dtype.qmax  # extremes
    wide = INT16 in (x_dtype, w_dtype) and chance(rng, 0.5)
    if not wide:  # small enough to fit int32
        most = np.abs(weights).sum(axis=(1, 2, 3)).max() * -x_dtype.qmin
        weights = weights // int(np.ceil(most / 2**30)) if most > 2**30 else weights
    acc = float(np.sqrt((weights.astype(np.float64) ** 2).sum(axis=(1, 2, 3)).max()) * x_dtype.qmax)
    return _conv_operator(
        rng, b, x_shape, y_shape, weights.astype(w_dtype.numpy), x_dtype, acc,
        {"kernel": kernel, "strides": strides, "dilations": dilations, "upsample": upsample, "pads": pads,
         "groups": groups, "wide": wide},
    )  # fmt: skip


def _conv_operator(
    rng: Rng,
    b: Build,
    x_shape: tuple[int, ...],
    y_shape: tuple[int, ...],
    weights: npt.NDArray[np.integer],
    x_dtype: DType,
    acc: float,
    geometry: dict[str, Any],
) -> p.Operator:
    inputs: tuple[int, ...] = (b.input(x_shape, x_dtype),)
    rmult = -1
    raw = chance(rng, 0.1)
    y_dtype = DType.INT32 if raw else narrow_dtype(rng)
    params = conv_params(rng, min(acc, 2.0**29), y_shape[3], INT8 if raw else y_dtype)
    if geometry["wide"] and chance(rng, 0.5):
        params[:, 0] = rng.choice([-(2**31), 2**31 - 1], params.shape[0])
    if chance(rng, 0.2):  # the high word of the offset: as if there were none, or a large one
        high = np.where(rng.random(params.shape[0]) < 0.5, params[:, 2] >> 31, rng.integers(-(2**26), 2**26))
        params = np.concatenate([params, high[:, None].astype(np.int32)], axis=1)
    limits: dict[str, Any] = bounds(rng, y_dtype if not raw else INT8)
    table_id, r_dtype = -1, narrow_dtype(rng)
    if not raw and chance(rng):
        ratio = rng.uniform(-2, 2, y_shape[3]) * (y_dtype.qmax / r_dtype.qmax)
        shift = np.minimum(params[:, 3], 45)
        params[:, 3] = shift
        rmult = b.const(np.rint(ratio * 2.0**shift).astype(np.int64))
        inputs = (*inputs, b.input(y_shape, r_dtype))
    if not raw and chance(rng, 0.2):
        limits, y_dtype = bounds(rng, INT8), pick_dtype(rng)
        table_id = table(rng, b, y_dtype)
    y = b.tensor(y_shape, y_dtype)
    return p.Conv(
        inputs=inputs, outputs=(y,), weight_id=b.const(weights), params_id=b.const(params), rmult_id=rmult,
        table_id=table_id, x_shape=x_shape, y_shape=y_shape, pad_value=zero_point(rng, x_dtype),
        r_zero=zero_point(rng, r_dtype), raw=raw, **geometry, **limits,
    )  # fmt: skip


@drawn(p.MatMul)
def matmul(rng: Rng, b: Build) -> p.Operator:
    a_dtype, b_dtype = ((INT8, INT8), (INT16, INT8), (INT8, INT16), (INT16, INT16))[int(rng.integers(4))]
    m, k, n = pick(rng, CHANNELS), pick(rng, CHANNELS), pick(rng, CHANNELS)
    batches = pick(rng, (1, 2, 3))
    a_batch, b_batch = (
        (batches, batches) if chance(rng, 0.5) else ((1, batches) if chance(rng) else (batches, 1))
    )
    transposed = chance(rng, 0.5)
    left = b.input((a_batch, m, k), a_dtype)
    shape = (b_batch, n, k) if transposed else (b_batch, k, n)
    right = b.const(random_tensor(rng, shape, b_dtype)) if chance(rng) else b.input(shape, b_dtype)
    raw = chance(rng, 0.1)
    y_dtype = DType.INT32 if raw else narrow_dtype(rng)
    wide = INT16 in (a_dtype, b_dtype)
    mult, shift = factor(
        rng, min(a_dtype.qmax * b_dtype.qmax * np.sqrt(k), 2.0**31), INT8 if raw else y_dtype
    )
    limits, table_id = bounds(rng, y_dtype if not raw else INT8), -1
    if not raw and chance(rng):
        limits, y_dtype = bounds(rng, INT8), pick_dtype(rng)
        table_id = table(rng, b, y_dtype)
    return p.MatMul(
        inputs=(left, right), outputs=(b.tensor((max(a_batch, b_batch), m, n), y_dtype),),
        table_id=table_id, a_batch=a_batch, b_batch=b_batch, m=m, k=k, n=n, b_transposed=transposed,
        a_zero=zero_point(rng, a_dtype), b_zero=zero_point(rng, b_dtype), mult=mult,
        offset=int(rng.integers(-(2**20), 2**20)), shift=shift, raw=raw, wide=wide, **limits,
    )  # fmt: skip


@drawn(p.Binary)
def binary(rng: Rng, b: Build) -> p.Operator:
    shape = tuple(pick(rng, (1, 2, 3, 5, 17)) for _ in range(pick(rng, (1, 2, 3, 4))))
    if chance(rng, 0.2):
        shape = (3, 1500)
    fn = ("add", "mul", "max", "min", "prelu")[int(rng.integers(5))]
    y_dtype = narrow_dtype(rng)
    ids, strides, dtypes = [], [], []
    for _ in range(2):
        kept = tuple(1 if chance(rng) else n for n in shape)
        dense = [int(np.prod(kept[axis + 1 :])) for axis in range(len(kept))]
        strides.append(tuple(0 if kept[axis] == 1 else dense[axis] for axis in range(len(kept))))
        dtypes.append(narrow_dtype(rng))
        ids.append(
            b.const(random_tensor(rng, kept, dtypes[-1])) if chance(rng, 0.2) else b.input(kept, dtypes[-1])
        )
    spread = float(dtypes[0].qmax) * (dtypes[1].qmax if fn in ("mul", "prelu") else 1)
    mult_a, shift = factor(rng, spread, y_dtype)
    limits, table_id = bounds(rng, y_dtype), -1
    if chance(rng):
        limits, y_dtype = bounds(rng, INT8), pick_dtype(rng)
        table_id = table(rng, b, y_dtype)
    return p.Binary(
        inputs=(ids[0], ids[1]), outputs=(b.tensor(shape, y_dtype),), table_id=table_id, fn=fn, shape=shape,
        a_strides=strides[0], b_strides=strides[1], a_zero=zero_point(rng, dtypes[0]),
        b_zero=zero_point(rng, dtypes[1]), mult_a=mult_a, mult_b=int(mult_a * rng.uniform(-1, 1)),
        offset=int(rng.integers(-(2**30), 2**30)) if chance(rng) else 0, shift=shift, **limits,
    )  # fmt: skip


@drawn(p.Lut)
def lut(rng: Rng, b: Build) -> p.Operator:
    shape, dtype = shape_of(rng), pick_dtype(rng)
    return p.Lut(inputs=(b.input(shape),), outputs=(b.tensor(shape, dtype),), table_id=table(rng, b, dtype))


@drawn(p.SegmentLut)
def segment_lut(rng: Rng, b: Build) -> p.Operator:
    shape, dtype = shape_of(rng), narrow_dtype(rng)
    target = np.tanh(np.arange(-32768, 32768) / float(rng.uniform(1e3, 2e4))) * dtype.qmax
    segments = b.const(numerics.segment_table(target, dtype.qmin, dtype.qmax))
    x, y = b.input(shape, INT16), b.tensor(shape, dtype)
    return p.SegmentLut(inputs=(x,), outputs=(y,), segments_id=segments, lo=dtype.qmin, hi=dtype.qmax)


@drawn(p.Rescale)
def rescale(rng: Rng, b: Build) -> p.Operator:
    shape, x_dtype, y_dtype = shape_of(rng), pick_dtype(rng), pick_dtype(rng)
    mult, shift = factor(rng, float(x_dtype.qmax), y_dtype)
    if y_dtype is DType.INT32:
        shift = max(shift, 1)
    limits = bounds(rng, y_dtype)
    zero = zero_point(rng, x_dtype) if x_dtype is not DType.INT32 else 0
    return p.Rescale(
        inputs=(b.input(shape, x_dtype),), outputs=(b.tensor(shape, y_dtype),), x_zero=zero, mult=mult,
        offset=int(rng.integers(-(2**20), 2**20)), shift=shift, **limits,
    )  # fmt: skip


@drawn(p.Pool)
def pool(rng: Rng, b: Build) -> p.Operator:
    kernel = (int(rng.integers(1, 5)), int(rng.integers(1, 5)))
    strides, dilations = (pick(rng, (1, 2, 3)), pick(rng, (1, 2))), (pick(rng, (1, 1, 2)), 1)
    pads = tuple(int(rng.integers(0, kernel[axis % 2])) for axis in range(4))
    size, out = [], []
    for axis in range(2):
        span = (kernel[axis] - 1) * dilations[axis] + 1
        n = max(int(rng.integers(1, 9)), span)
        size.append(n)
        out.append((n + pads[axis] + pads[axis + 2] - span) // strides[axis] + 1)
    channels = pick(rng, (*CHANNELS, 1100))
    x_shape, y_shape = (2, size[0], size[1], channels), (2, out[0], out[1], channels)
    x_dtype, y_dtype = narrow_dtype(rng), narrow_dtype(rng)
    fn, x_zero, limits = ("max", "avg")[int(rng.integers(2))], zero_point(rng, x_dtype), bounds(rng, y_dtype)
    area = kernel[0] * kernel[1]
    rows = [factor(rng, float(x_dtype.qmax) * max(count, 1), y_dtype) for count in range(area + 1)]
    if chance(rng, 0.5):
        rows[0], limits["zero"] = (1 << 30, 30), x_zero if y_dtype is x_dtype else 0
    return p.Pool(
        inputs=(b.input(x_shape, x_dtype),), outputs=(b.tensor(y_shape, y_dtype),), fn=fn,
        counts_id=b.const(np.array(rows, dtype=np.int64)), x_shape=x_shape, y_shape=y_shape, kernel=kernel,
        strides=strides, pads=pads, dilations=dilations, count_pad=chance(rng, 0.5), x_zero=x_zero, **limits,
    )  # fmt: skip


@drawn(p.Reduce)
def reduce(rng: Rng, b: Build) -> p.Operator:
    shape = (pick(rng, (1, 3)), pick(rng, (1, 7, 49, 1500)), pick(rng, (1, 1, 16, 1100)))
    x_dtype, y_dtype = narrow_dtype(rng), narrow_dtype(rng)
    mult, shift = factor(rng, float(x_dtype.qmax) * np.sqrt(shape[1]), y_dtype)
    return p.Reduce(
        inputs=(b.input(shape, x_dtype),), outputs=(b.tensor((shape[0], shape[2]), y_dtype),), fn=("sum",
        "max", "min")[int(rng.integers(3))], shape=shape, x_zero=zero_point(rng, x_dtype), mult=mult,
        shift=shift, **bounds(rng, y_dtype),
    )  # fmt: skip


@drawn(p.Softmax)
def softmax(rng: Rng, b: Build) -> p.Operator:
    shape = (pick(rng, (1, 4)), pick(rng, (1, 2, 10, 300)))
    x_dtype, y_dtype = narrow_dtype(rng), narrow_dtype(rng)
    scale = float(rng.uniform(0.01, 0.3)) / (256 if x_dtype is INT16 else 1)
    mult, shift = numerics.exp_factor(scale)
    drop = max(shift - 30, 0)
    out_mult, out_shift = numerics.fixed_point(float(y_dtype.qmax) / 2.0**31)
    return p.Softmax(
        inputs=(b.input(shape, x_dtype),), outputs=(b.tensor(shape, y_dtype),),
        exp_id=b.const(numerics.exp_table()), shape=shape, mult=mult >> drop, shift=shift - drop,
        out_mult=int(out_mult[0]), out_shift=int(out_shift[0]), **bounds(rng, y_dtype),
    )  # fmt: skip


@drawn(p.LayerNorm)
def layernorm(rng: Rng, b: Build) -> p.Operator:
    shape = (pick(rng, (1, 5)), pick(rng, (1, 2, 10, 300)))
    x_dtype, y_dtype = narrow_dtype(rng), narrow_dtype(rng)
    size = pick(rng, (1, shape[1]))
    shift = 20 + 24 - (5 if y_dtype is INT8 else 12)
    return p.LayerNorm(
        inputs=(b.input(shape, x_dtype),), outputs=(b.tensor(shape, y_dtype),),
        gain_id=b.const(rng.integers(-(2**24), 2**24, size)), bias_id=b.const(rng.integers(-(2**40), 2**40,
        size)), shape=shape, epsilon=pick(rng, (0, 1, 1000, 2**31 - 1)),
        epsilon_shift=pick(rng, (-32, -3, 0, 40, 62)), centred=chance(rng, 0.7),
        x_zero=zero_point(rng, x_dtype), shift=shift, **bounds(rng, y_dtype),
    )  # fmt: skip


@drawn(p.Move)
def move(rng: Rng, b: Build) -> p.Operator:
    dtype = any_dtype(rng)
    full = tuple(pick(rng, (1, 2, 3, 8, 33)) for _ in range(4))
    strides = np.array([int(np.prod(full[axis + 1 :])) for axis in range(4)])
    order = rng.permutation(4)
    shape, steps, offset = [], [], 0
    for axis in order:
        step = pick(rng, (1, 1, 2, -1))
        count = -(-full[axis] // abs(step))
        offset += int(strides[axis]) * (full[axis] - 1 if step < 0 else 0)
        if chance(rng, 0.1):
            step = 0
        shape.append(count)
        steps.append(step * int(strides[axis]))
    x, y = b.input(full, dtype), b.tensor(tuple(shape), dtype)
    return p.Move(inputs=(x,), outputs=(y,), shape=tuple(shape), strides=tuple(steps), offset=offset)


@drawn(p.Concat)
def concat(rng: Rng, b: Build) -> p.Operator:
    y_dtype, outer = narrow_dtype(rng), pick(rng, (1, 4, 50))
    sizes = tuple(pick(rng, (1, 3, 16, 1100)) for _ in range(pick(rng, (1, 2, 4))))
    ids, zeros, mults, shifts = [], [], [], []
    for size in sizes:
        copied = chance(rng, 0.5)
        dtype = y_dtype if copied else narrow_dtype(rng)
        mult, shift = (0, 0) if copied else factor(rng, float(dtype.qmax), y_dtype)
        ids.append(b.input((outer, size), dtype))
        zeros.append(zero_point(rng, dtype))
        mults.append(mult)
        shifts.append(shift)
    return p.Concat(
        inputs=tuple(ids), outputs=(b.tensor((outer, sum(sizes)), y_dtype),), outer=outer, sizes=sizes,
        x_zeros=tuple(zeros), mults=tuple(mults), shifts=tuple(shifts), **bounds(rng, y_dtype),
    )  # fmt: skip


@drawn(p.Pad)
def pad(rng: Rng, b: Build) -> p.Operator:
    dtype = (INT8, INT16, DType.INT32)[int(rng.integers(3))]
    shape = shape_of(rng)
    before, after = (tuple(int(v) for v in rng.integers(0, 4, len(shape))) for _ in range(2))
    whole = tuple(b_ + n + a for b_, n, a in zip(before, shape, after, strict=True))
    value = int(rng.integers(dtype.qmin, dtype.qmax))
    x, y = b.input(shape, dtype), b.tensor(whole, dtype)
    return p.Pad(inputs=(x,), outputs=(y,), shape=shape, before=before, after=after, value=value)


@drawn(p.Gather)
def gather(rng: Rng, b: Build) -> p.Operator:
    dtype, shape = any_dtype(rng), (pick(rng, (1, 3)), pick(rng, (1, 5, 40)), pick(rng, (1, 3, 64)))
    indices = rng.integers(0, shape[1], pick(rng, (1, 7, 50))).astype(np.int32)
    y = b.tensor((shape[0], indices.size, shape[2]), dtype)
    return p.Gather(inputs=(b.input(shape, dtype),), outputs=(y,), indices_id=b.const(indices), shape=shape)


@drawn(p.Resize)
def resize(rng: Rng, b: Build) -> p.Operator:
    x_dtype, y_dtype = narrow_dtype(rng), narrow_dtype(rng)
    x_shape = (pick(rng, (1, 2)), pick(rng, (1, 4, 6)), pick(rng, (1, 3, 5)), pick(rng, CHANNELS))
    y_shape = (x_shape[0], pick(rng, (1, 7, 12)), pick(rng, (1, 5, 9)), x_shape[3])
    tables = []
    for axis in (1, 2):
        first = rng.integers(0, x_shape[axis], y_shape[axis])
        second = np.minimum(first + 1, x_shape[axis] - 1)
        tables.append(
            b.const(np.stack([first, second, rng.integers(0, 2**30 + 1, y_shape[axis])], 1).astype(np.int32))
        )
    mult, shift = factor(rng, float(x_dtype.qmax) * 2**15, y_dtype)
    return p.Resize(
        inputs=(b.input(x_shape, x_dtype),), outputs=(b.tensor(y_shape, y_dtype),), rows_id=tables[0],
        cols_id=tables[1], x_shape=x_shape, y_shape=y_shape, x_zero=zero_point(rng, x_dtype),
        mult=mult >> 2, shift=max(shift - 2, 0), **bounds(rng, y_dtype),
    )  # fmt: skip


@drawn(p.Quantize)
def quantize(rng: Rng, b: Build) -> p.Operator:
    shape, dtype = shape_of(rng), pick_dtype(rng)
    scale = float(np.float32(rng.uniform(0.5, 2) * 8 / dtype.qmax))
    x, y = b.input(shape, DType.FLOAT32), b.tensor(shape, dtype)
    return p.Quantize(inputs=(x,), outputs=(y,), scale=scale, **bounds(rng, dtype))


@drawn(p.Dequantize)
def dequantize(rng: Rng, b: Build) -> p.Operator:
    shape, dtype = (pick(rng, (1, 3)), pick(rng, (1, 5)), pick(rng, (1, 9000, 40))), pick_dtype(rng)
    scales = rng.uniform(0.01, 1, shape[1] if chance(rng, 0.5) else 1).astype(np.float32)
    if chance(rng, 0.4):
        scales = np.stack([scales, rng.normal(size=scales.shape).astype(np.float32)], axis=1)
    x, y = b.input(shape, dtype), b.tensor(shape, DType.FLOAT32)
    return p.Dequantize(
        inputs=(x,), outputs=(y,), scales_id=b.const(scales), shape=shape, x_zero=zero_point(rng, dtype)
    )


def program_of(kind: str, seed: int) -> tuple[p.Program, dict[int, npt.NDArray[np.generic]]]:
    """A program of one operator of this kind, and its inputs."""
    rng = np.random.default_rng(seed)
    b = Build()
    program = one_operator_program(b, CASES[kind](rng, b))
    return program, {
        t: random_tensor(rng, program.tensors[t].shape, program.tensors[t].dtype) for t in program.inputs
    }
