"""Respellings: what changes nothing, images around a norm, pixels."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto

from openbpu.compiler.ops.mechanical import IMAGE, NOTHING, PIXELS
from openbpu.evaluation.fixing.draft import Draft, attribute, changed
from openbpu.evaluation.fixing.table import Example, example, fix


def _unreduced() -> Sequence[Example]:
    text = """(float[1,2,4] x) => (float y)
        d = pair(x); c = ReduceSum<noop_with_empty_axes=1>(d); y = pair(c)"""
    return (example(text),)


@fix(NOTHING, "ReduceSum ReduceMean ReduceMax ReduceMin", _unreduced)
def reduce_nothing(draft: Draft, node: NodeProto) -> bool:
    """ReduceSum over no axis → Identity."""
    made = draft.op("Identity", [node.input[0]], node.output[0])
    made.name = node.name
    draft.replace(node, [made])
    return True


def _normed() -> Sequence[Example]:
    text = "(float[3,4] x) => (float y)\nd = pair(x); c = BatchNormalization(d, g, b, m, v); y = pair(c)"
    ones = np.arange(1, 5, dtype=np.float32)
    given: dict[str, Any] = {"g": ones, "b": -ones, "m": ones / 9, "v": ones * ones}
    return (example(text, **given),)


@fix(IMAGE, "BatchNormalization", _normed)
def image_around_a_norm(draft: Draft, node: NodeProto) -> bool:
    """BatchNormalization of [N, C] or [N, C, D, H, W] → of [N, C, 1, all the rest] between Reshapes."""
    shape, out = draft.shape(node.input[0]), node.output[0]
    if shape is None or len(shape) < 2 or attribute(node, "training_mode", 0) or any(node.output[1:]):
        return False
    wide = draft.add(np.array([*shape[:2], 1, prod(shape[2:])], np.int64), f"{out}_image")
    back = draft.add(np.array(shape, np.int64), f"{out}_shape")
    first = draft.op("Reshape", [node.input[0], wide], stem=out)
    inner = changed(node, [first.output[0], *list(node.input)[1:]], draft.fresh(f"{out}_normed"))
    rounded, pair = draft.rounded(inner.output[0], out)
    draft.replace(node, [first, inner, *pair, draft.op("Reshape", [rounded, back], out)])
    return True


def _camera() -> Sequence[Example]:
    text = "({}[1,3,4,4] x) => (float y)\nc = Cast<to=1>(x); y = pair(c)"
    return (example(text.format("int8")), example(text.format("uint8")))


@fix(PIXELS, "Cast", _camera)
def pixels(draft: Draft, node: NodeProto) -> bool:
    """Cast of int8 to float → DequantizeLinear with scale 1."""
    kinds: dict[int, type[Any]] = {TensorProto.INT8: np.int8, TensorProto.UINT8: np.uint8}
    if draft.opset >= 21:
        kinds |= {TensorProto.INT16: np.int16, TensorProto.UINT16: np.uint16}
    dtype = kinds.get(draft.kind(node.input[0]))
    if attribute(node, "to", 0) != TensorProto.FLOAT or dtype is None:
        return False
    scale = draft.add(np.array(1, np.float32), f"{node.output[0]}_scale")
    zero = draft.add(np.array(0, dtype), f"{node.output[0]}_zero")
    made = draft.op("DequantizeLinear", [node.input[0], scale, zero], node.output[0])
    made.name = node.name
    draft.replace(node, [made])
    return True
