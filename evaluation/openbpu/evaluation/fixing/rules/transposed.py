"""A transposed convolution as a convolution: each of its phases is one, of every s-th element."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from onnx import NodeProto

from openbpu.arch.arrays import Array, Int64
from openbpu.compiler.ops.mechanical import PHASES
from openbpu.evaluation.fixing.draft import Draft, Stored, attribute, changed
from openbpu.evaluation.fixing.table import Example, codes, example, fix


def _examples() -> Sequence[Example]:
    body = "d = pair(x); k = codes(w); c = ConvTranspose<{}>(d, k{}); y = pair(c)"
    flat, line = "(float[1,3,5,6] x) => (float y)\n", "(float[1,3,9] x) => (float y)\n"
    deep = "(float[1,2050,2,2] x) => (float y)\n"
    wide, bias = "strides=[16,16], pads=[3,2,1,5]", np.array([1, 2, 3, -4], np.float32)
    return (
        example(flat + body.format(wide, ", b"), w=codes(3, 4, 16, 16), b=bias),
        example(flat + body.format("strides=[3,2], output_padding=[1,0]", ""), w=codes(3, 4, 20, 18)),
        example(flat + body.format("strides=[2,2]", ""), w=codes(3, 4, 1, 1)),
        example(deep + body.format("strides=[2,2]", ""), w=codes(2050, 2, 2, 2)),
        example(line + body.format("strides=[16]", ""), w=codes(3, 4, 17)),
    )


@fix(PHASES, "ConvTranspose", _examples)
def phases_of_a_conv_transpose(draft: Draft, node: NodeProto) -> bool:
    """ConvTranspose, stride 16 → Conv of 256 times the channels → DepthToSpace → Slice.

    The output at j·s + r − p is the sum over u of x[j − u] · w[u·s + r]: for each r a convolution of ⌈k / s⌉
    elements.
    """
    weight, out = draft.stored(node.input[1]), node.output[0]
    shifted = len(node.input) > 2 and bool(node.input[2])
    bias = draft.stored(node.input[2]) if shifted else None
    image, result = draft.shape(node.input[0]), draft.shape(out)
    if weight is None or image is None or result is None or (shifted and bias is None):
        return False
    strides = list(attribute(node, "strides", [1] * (len(image) - 2)))
    sides = [-(-k // s) for k, s in zip(weight.data.shape[2:], strides, strict=True)]
    if not _fits(draft, node, weight, strides, sides):
        return False
    begin = list(attribute(node, "pads", [0] * 2 * len(strides)))[: len(strides)]
    behind = [
        max(side - 1, -(-(b + size) // s) - length)
        for side, b, size, s, length in zip(sides, begin, result[2:], strides, image[2:], strict=True)
    ]
    kernel, order = _phases(weight.data, strides, sides)
    name, made = draft.store(weight.moved(kernel, order, 0), f"{node.input[1]}_phases")
    inputs = [node.input[0], name]
    if bias is not None:
        shift, more = draft.store(bias.moved(bias.data[order], order), f"{node.input[2]}_phases")
        inputs, made = [*inputs, shift], [*made, *more]
    none = dict.fromkeys(("strides", "output_padding", "output_shape", "auto_pad", "dilations"))
    pads = [*(side - 1 for side in sides), *behind]
    conv = changed(node, inputs, draft.fresh(f"{out}_phases"), kernel_shape=sides, pads=pads, **none)
    conv.op_type = "Conv"
    rounded, pair = draft.rounded(conv.output[0], out)
    places = [n + b for n, b in zip(image[2:], behind, strict=True)]
    joined, moves = _joined(draft, rounded, out, (image[0], weight.data.shape[1], *places), strides)
    end = [b + size for b, size in zip(begin, result[2:], strict=True)]
    draft.replace(node, [*made, conv, *pair, *moves, _cut(draft, joined, begin, end, out)])
    return True


def _fits(
    draft: Draft, node: NodeProto, weight: Stored, strides: Sequence[int], sides: Sequence[int]
) -> bool:
    """Whether the convolution of the phases is within the limits of the march, and the node a plain one."""
    return (
        max(attribute(node, "dilations", [1])) == 1
        and attribute(node, "group", 1) == 1
        and attribute(node, "auto_pad", "NOTSET") in {"NOTSET", "VALID"}
        and max(sides) <= draft.march.limits["conv_kernel_max"]
        and int(weight.data.shape[1]) * prod(strides) <= draft.march.limits["conv_outputs_max"]
    )


def _phases(weight: Array, strides: Sequence[int], sides: Sequence[int]) -> tuple[Array, Int64]:
    """The kernel [O·phases, I, *sides] of [I, O, *K], and the channel of each of its channels."""
    inputs, outputs, *kernel = weight.shape
    whole = [side * s for side, s in zip(sides, strides, strict=True)]
    full = np.zeros((inputs, outputs, *whole), weight.dtype)
    full[(slice(None), slice(None), *(slice(0, k) for k in kernel))] = weight
    split = full.reshape(inputs, outputs, *(n for pair in zip(sides, strides, strict=True) for n in pair))
    us = [2 + 2 * a for a in range(len(strides))]
    turned = np.flip(split, tuple(us)).transpose(1, *(u + 1 for u in us), 0, *us)  # O, r…, I, u… backwards
    order = np.repeat(np.arange(outputs), prod(strides))
    return np.ascontiguousarray(turned.reshape(-1, inputs, *sides)), order


def _joined(
    draft: Draft, name: str, out: str, shape: Sequence[int], strides: Sequence[int]
) -> tuple[str, list[NodeProto]]:
    """The phases of every place side by side; `shape` is [N, O, *places]."""
    batch, channels, *places = shape
    rank = len(strides)
    if set(strides) == {1}:
        return name, []
    if len(set(strides)) == 1 and rank == 2:
        made = draft.op("DepthToSpace", [name], stem=out, blocksize=strides[0], mode="CRD")
        return str(made.output[0]), [made]
    whole = [n * s for n, s in zip(places, strides, strict=True)]
    apart = draft.add(np.array([batch, channels, *strides, *places], np.int64), f"{out}_apart")
    together = draft.add(np.array([batch, channels, *whole], np.int64), f"{out}_together")
    perm = [0, 1, *(a for i in range(rank) for a in (2 + rank + i, 2 + i))]
    first = draft.op("Reshape", [name, apart], stem=out)
    second = draft.op("Transpose", [first.output[0]], stem=out, perm=perm)
    third = draft.op("Reshape", [second.output[0], together], stem=out)
    return str(third.output[0]), [first, second, third]


def _cut(draft: Draft, name: str, begin: Sequence[int], end: Sequence[int], out: str) -> NodeProto:
    axes = list(range(2, 2 + len(begin)))
    names = [draft.add(np.array(v, np.int64), f"{out}_cut") for v in (begin, end, axes)]
    return draft.op("Slice", [name, *names], out)
