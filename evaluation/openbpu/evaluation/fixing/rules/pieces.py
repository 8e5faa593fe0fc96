"""Operands apart: too many of them, empty ones, negative pads, biases and factors that are computed."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt, prod

import numpy as np
from onnx import NodeProto

from openbpu.compiler.ops.mechanical import APART, CROP, EMPTY, FACTORS, GROUPS
from openbpu.evaluation.fixing.draft import Draft, attribute, changed
from openbpu.evaluation.fixing.table import Example, codes, example, fix


def _many() -> Sequence[Example]:
    parts = ", ".join(["d"] * 1030)
    return (example(f"(float[1,2,2] x) => (float y)\nd = pair(x); c = Concat<axis=1>({parts}); y = pair(c)"),)


@fix(GROUPS, "Concat", _many)
def concat_in_groups(draft: Draft, node: NodeProto) -> bool:
    """Concat of 1030 → 32 Concats of 33 or less → Concat."""
    size, out = isqrt(len(node.input)) + 1, node.output[0]
    quantize = draft.rounding(out)
    made, parts = list[NodeProto](), list[str]()
    for first in range(0, len(node.input), size):
        group = list(node.input)[first : first + size]
        one = draft.op("Concat", group, stem=out, axis=attribute(node, "axis", 0))
        pair = draft.pair_like(quantize, one.output[0]) if quantize is not None else []
        made, parts = [*made, one, *pair], [*parts, str([one, *pair][-1].output[0])]
    draft.replace(node, [*made, changed(node, parts)])
    return True


def _hollow() -> Sequence[Example]:
    text = """(float[1,2,4] x) => (float y)
        d = pair(x); e = Slice(d, none, none, axis); c = Concat<axis=1>(d, e, d); y = pair(c)"""
    return (example(text, none=np.array([0]), axis=np.array([1])),)


@fix(EMPTY, "", _hollow)
def empty_operand(draft: Draft, node: NodeProto) -> bool:
    """Concat of x, nothing and y → Concat of x and y."""
    tensors = [name for name in (*node.input, *node.output) if 0 in (draft.shape(name) or ())]
    near = (node, *(reader for name in tensors for reader in draft.readers(name)))
    done = False
    for made in dict.fromkeys(str(n.output[0]) for n in near if n.op_type == "Concat"):
        join = draft.maker(made)
        kept = [name for name in join.input if 0 not in (draft.shape(name) or ())] if join is not None else []
        if join is not None and 0 < len(kept) < len(join.input):
            draft.replace(join, [changed(join, kept)])
            done = True
    return done


def _cropped() -> Sequence[Example]:
    text = "(float[1,2,6,6] x) => (float y)\nd = pair(x); c = Pad{}(d, p); y = pair(c)"
    return (example(text.format(""), p=np.array([0, 0, -1, 2, 0, 0, 1, -3])),)


@fix(CROP, "Pad", _cropped)
def crop_by_slice(draft: Draft, node: NodeProto) -> bool:
    """Pad by −1 and 2 → Slice → Pad by 2."""
    shape = draft.shape(node.input[0])
    pads = draft.const(node.input[1]) if len(node.input) > 1 else None
    if shape is None or pads is None or pads.size != 2 * len(shape) or attribute(node, "mode", "") == "wrap":
        return False
    out, rank = node.output[0], len(shape)
    begin, end = np.maximum(-pads[:rank], 0), np.array(shape) - np.maximum(-pads[rank:], 0)
    names = [draft.add(v.astype(np.int64), f"{out}_crop") for v in (begin, end)]
    cut = draft.op("Slice", [node.input[0], *names], stem=out)
    left = draft.add(np.maximum(pads, 0), f"{out}_pads")
    draft.replace(node, [cut, changed(node, [cut.output[0], left, *list(node.input)[2:]])])
    return True


def _biased() -> Sequence[Example]:
    conv = """(float[1,3,6,6] x, float[4] b) => (float y)
        d = pair(x); k = codes(w); e = pair(b); c = Conv(d, k, e); y = pair(c)"""
    return (example(conv, w=codes(4, 3, 3, 3)),)


@fix(APART, "Conv ConvTranspose", examples=_biased)
def add_apart(draft: Draft, node: NodeProto) -> bool:
    """Conv with a computed bias → Conv → Add."""
    shape, out = draft.shape(node.output[0]), node.output[0]
    if shape is None or len(node.input) < 3:
        return False
    alone = changed(node, list(node.input)[:2], draft.fresh(f"{out}_alone"))
    wide = draft.add(np.array([1, -1, *[1] * (len(shape) - 2)]), f"{out}_columns")
    bias = draft.op("Reshape", [node.input[2], wide], stem=out)
    draft.replace(node, [bias, alone, draft.op("Add", [alone.output[0], bias.output[0]], out)])
    return True


def _adaptive() -> Sequence[Example]:
    text = """(float[2,4,8] x, float[8] g, float[8] b) => (float y)
        d = pair(x); e = pair(g); f = pair(b); c = LayerNormalization(d, e, f); y = pair(c)"""
    return (example(text),)


@fix(FACTORS, "LayerNormalization", _adaptive, bound=0.02)
def factors_behind_a_norm(draft: Draft, node: NodeProto) -> bool:
    """LayerNormalization with computed gain and bias → LayerNormalization → Mul → Add.

    Between codes the normalized values are int16: of n elements none is larger than √n.
    """
    shape, out = draft.shape(node.input[0]), node.output[0]
    if shape is None or any(node.output[1:]):
        return False
    axis = attribute(node, "axis", -1) % len(shape)
    ones = draft.add(np.ones(shape[axis:], np.float32), f"{out}_ones")
    alone = changed(node, [node.input[0], ones], draft.fresh(f"{out}_alone"))
    made, name = [alone], str(alone.output[0])
    if draft.rounding(out) is not None:
        if draft.opset < 21:
            return False
        name = _int16(draft, made, name, prod(shape[axis:]) ** 0.5)
    shifted = len(node.input) > 2 and bool(node.input[2])
    times = draft.op("Mul", [name, node.input[1]], "" if shifted else out, stem=out)
    made.append(times)
    if shifted:
        name = str(times.output[0])
        gain = draft.dequantize(node.input[1])
        scale = None if gain is None else draft.const(gain.input[1])
        if draft.rounding(out) is not None:
            if scale is None:
                return False
            name = _int16(draft, made, name, prod(shape[axis:]) ** 0.5 * float(scale.reshape(())) * 128)
        made.append(draft.op("Add", [name, node.input[2]], out))
    draft.replace(node, made)
    return True


def _int16(draft: Draft, made: list[NodeProto], name: str, most: float) -> str:
    """Append a pair of int16 for values up to `most`; returns its result."""
    scale = draft.add(np.float32(most / 32767), f"{name}_scale")
    zero = draft.add(np.array(0, np.int16), f"{name}_zero")
    q = draft.op("QuantizeLinear", [name, scale, zero], stem=name)
    d = draft.op("DequantizeLinear", [q.output[0], scale, zero], stem=name)
    made += [q, d]
    return str(d.output[0])
