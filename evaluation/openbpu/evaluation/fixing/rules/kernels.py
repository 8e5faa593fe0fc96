"""Kernels with zeros in them instead of dilation, strides in two steps, fewer outputs at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import NodeProto

from openbpu.arch.arrays import Array
from openbpu.compiler.ops.mechanical import OUTPUTS, STRIDE, ZEROS
from openbpu.evaluation.fixing.draft import Draft, attribute, changed
from openbpu.evaluation.fixing.table import Example, codes, example, fix


def _dilated() -> Sequence[Example]:
    conv = "(float[1,4,48,48] x) => (float y)\nd = pair(x); k = codes(w); c = {}<{}>(d, k); y = pair(c)"
    w = codes(4, 4, 3, 3)
    return (
        example(conv.format("Conv", "dilations=[20,20]"), w=w),
        example(conv.format("Conv", "dilations=[2,2], strides=[2,2]"), w=w),
        example(conv.format("ConvTranspose", "dilations=[2,2]"), w=w),
    )


@fix(ZEROS, "Conv ConvTranspose", _dilated)
def zeros_in_the_kernel(draft: Draft, node: NodeProto) -> bool:
    """Conv 3×3, dilation 20 → Conv 21×21 of which every tenth element is not 0, dilation 2."""
    weight = draft.stored(node.input[1])
    if weight is None:
        return False
    dilations = list(attribute(node, "dilations", [1] * (weight.data.ndim - 2)))
    turned = node.op_type == "ConvTranspose"
    longest = draft.march.limits["deconv_kernel_max" if turned else "conv_kernel_max"]
    most = draft.march.limits["deconv_dilation_max" if turned else "conv_dilation_max"]
    if not turned and max(attribute(node, "strides", [1])) > draft.march.limits["conv_stride_dilated_max"]:
        most = 1
    powers = bool(draft.march.limits["conv_dilation_power_of_two"]) and not turned
    sides = zip(weight.data.shape[2:], dilations, strict=True)
    left = [_left(k, d, longest, most, powers=powers) for k, d in sides]
    if 0 in left or left == dilations:
        return False
    data = weight.data
    for axis, (old, new) in enumerate(zip(dilations, left, strict=True)):
        data = _spread(data, axis + 2, old // new)
    name, made = draft.store(weight.moved(data), f"{node.input[1]}_spread")
    inputs = [node.input[0], name, *node.input[2:]]
    draft.replace(node, [*made, changed(node, inputs, dilations=left, kernel_shape=None)])
    return True


def _left(kernel: int, dilation: int, longest: int, most: int, *, powers: bool) -> int:
    """The largest dilation that a kernel with zeros may keep; 0 where none is legal."""
    for left in range(min(dilation, most), 0, -1):
        if dilation % left or (powers and left & (left - 1)):
            continue
        if (kernel - 1) * (dilation // left) + 1 <= longest:
            return left
    return 0


def _spread(data: Array, axis: int, step: int) -> Array:
    shape = list(data.shape)
    shape[axis] = (shape[axis] - 1) * step + 1
    made = np.zeros(shape, data.dtype)
    made[(slice(None),) * axis + (slice(None, None, step),)] = data
    return made


def _strided() -> Sequence[Example]:
    line = "(float[1,2,1,700] x) => (float y)\nd = pair(x); "
    deep = "(float[1,4,24,24] x) => (float y)\nd = pair(x); k = DequantizeLinear(w, v); "
    wide: dict[str, Any] = {"s": np.float32(0.0005), "z": np.int16(0), "v": np.float32(0.01)}
    return (
        example(line + "k = codes(w); c = Conv<strides=[1,300]>(d, k); y = pair(c)", w=codes(2, 2, 1, 3)),
        example(line + "c = MaxPool<kernel_shape=[1,3], strides=[1,300]>(d); y = pair(c)"),
        example(deep + "c = Conv<strides=[4,4], group=4>(d, k); y = pair(c)", w=codes(4, 1, 4, 4), **wide),
    )


@fix(STRIDE, "Conv MaxPool AveragePool", _strided)
def slice_behind_a_stride(draft: Draft, node: NodeProto) -> bool:
    """Conv, stride 300 → Conv, stride 150 → Slice of every second one."""
    strides, out = list(attribute(node, "strides", [])), node.output[0]
    if attribute(node, "auto_pad", "NOTSET") not in {"NOTSET", "VALID"} or attribute(node, "ceil_mode", 0):
        return False
    is_conv = node.op_type == "Conv"
    most = draft.march.limits["conv_stride_max" if is_conv else "pool_stride_max"]
    even = draft.march.limits["conv_int16_depthwise_even_stride_max"]
    # One that is legal by itself is a depthwise convolution of int16, which minds even strides.
    legal = is_conv and max(strides, default=1) <= most
    less = [_less(s, even if legal and s % 2 == 0 else most) for s in strides]
    if less == strides:
        return False
    dense = draft.fresh(f"{out}_dense")
    rounded, pair = draft.rounded(dense, out)
    axes = list(range(2, 2 + len(strides)))
    steps = [s // d for s, d in zip(strides, less, strict=True)]
    bounds = ([0] * len(axes), [2**31 - 1] * len(axes), axes, steps)
    names = [draft.add(np.array(v, np.int64), f"{out}_slice") for v in bounds]
    cut = draft.op("Slice", [rounded, *names], out)
    draft.replace(node, [changed(node, output=dense, strides=less), *pair, cut])
    return True


def _less(stride: int, most: int) -> int:
    return max(d for d in range(1, min(stride, most) + 1) if stride % d == 0)


def _wide() -> Sequence[Example]:
    text = """(float[1,1,4,4] x) => (float y)
        d = pair(x); k = codes(w); c = Conv(d, k, b); r = Relu(c); p = pair(r)
        m = ReduceMax<keepdims=1>(p, a); y = pair(m)"""
    bias = np.arange(8200, dtype=np.float32) / 4100
    return (example(text, w=codes(8200, 1, 1, 1), b=bias, a=np.array([1])),)


@fix(OUTPUTS, "Conv", _wide)
def output_channels_apart(draft: Draft, node: NodeProto) -> bool:
    """Conv of 8200 channels → Conv of 4100 and Conv of 4100 → Concat."""
    weight, out = draft.stored(node.input[1]), node.output[0]
    shifted = len(node.input) > 2 and bool(node.input[2])
    bias = draft.stored(node.input[2]) if shifted else None
    if weight is None or attribute(node, "group", 1) != 1 or (shifted and bias is None):
        return False
    count, most = weight.data.shape[0], draft.march.limits["conv_outputs_max"]
    made, parts = list[NodeProto](), list[str]()
    for part in np.array_split(np.arange(count), -(-count // most)):
        name, more = draft.store(weight.moved(weight.data[part], part), f"{node.input[1]}_part")
        inputs, made = [node.input[0], name], [*made, *more]
        if bias is not None:
            shift, more = draft.store(bias.moved(bias.data[part], part), f"{node.input[2]}_part")
            inputs, made = [*inputs, shift], [*made, *more]
        one = changed(node, inputs, draft.fresh(f"{out}_part"))
        one.name = draft.fresh(f"{node.name}_part") if parts else node.name
        rounded, pair = draft.rounded(one.output[0], out)
        made, parts = [*made, one, *pair], [*parts, rounded]
    draft.replace(node, [*made, draft.op("Concat", parts, out, axis=1)])
    return True
