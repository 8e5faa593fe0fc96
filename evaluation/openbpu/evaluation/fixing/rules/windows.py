"""Pools and reductions over more than a unit takes at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import NodeProto

from openbpu.compiler.ops.mechanical import MAXIMA, MEAN, ROWS_FIRST, TWO_AXES
from openbpu.evaluation.fixing.draft import Draft, attribute, changed
from openbpu.evaluation.fixing.table import Example, example, fix

_POOLS = {"GlobalAveragePool": "ReduceMean", "GlobalMaxPool": "ReduceMax"}
_REDUCTIONS = " ".join(f"Reduce{kind}" for kind in ("Sum", "Mean", "Max", "Min", "L1", "L2", "SumSquare"))

_Step = tuple[int, int, int, int, int]
"""A pool along one axis: axis, side, stride, padding in front and behind."""


def _pooled() -> Sequence[Example]:
    wide = "kernel_shape=[190,190]"
    tall = "kernel_shape=[300,2], strides=[7,1], pads=[9,0,3,1]"
    return (
        example(f"(float[1,2,400,6] x) => (float y)\nd = pair(x); c = MaxPool<{tall}>(d); y = pair(c)"),
        example(f"(float[1,1,200,200] x) => (float y)\nd = pair(x); c = MaxPool<{wide}>(d); y = pair(c)"),
    )


@fix(MAXIMA, "MaxPool", _pooled)
def maxima_in_steps(draft: Draft, node: NodeProto) -> bool:
    """MaxPool 300×2, stride 7 → MaxPool 256×1 → MaxPool 45×1, stride 7 → MaxPool 1×2."""
    kernel = list(attribute(node, "kernel_shape", []))
    rank, most = len(kernel), draft.march.limits["maxpool_kernel_max"]
    strides = list(attribute(node, "strides", [1] * rank))
    pads = list(attribute(node, "pads", [0] * 2 * rank))
    odd = attribute(node, "ceil_mode", 0) or max(attribute(node, "dilations", [1])) > 1
    if odd or any(node.output[1:]) or attribute(node, "auto_pad", "NOTSET") not in {"NOTSET", "VALID"}:
        return False
    steps = [step for axis in range(rank) for step in _steps(axis, kernel, strides, pads, most)]
    made, name = list[NodeProto](), str(node.input[0])
    for step in steps:
        is_last = step is steps[-1]
        out = node.output[0] if is_last else draft.fresh(f"{node.output[0]}_step")
        one = changed(node, [name], out, dilations=None, auto_pad=None, **_along(step, rank))
        one.name = node.name if is_last else draft.fresh(f"{node.name}_step")
        made, name = [*made, one], out
    draft.replace(node, made)
    return True


def _steps(
    axis: int, kernel: Sequence[int], strides: Sequence[int], pads: Sequence[int], most: int
) -> list[_Step]:
    left, found = kernel[axis], list[_Step]()
    before, after = pads[axis], pads[axis + len(kernel)]
    while left > most:
        found.append((axis, most, 1, before, after))
        left, before, after = left - most + 1, 0, 0
    return [*found, (axis, left, strides[axis], before, after)]


def _along(step: _Step, rank: int) -> dict[str, list[int]]:
    axis, side, stride, *pads = step
    return {
        "kernel_shape": [side if a == axis else 1 for a in range(rank)],
        "strides": [stride if a == axis else 1 for a in range(rank)],
        "pads": [n if a == axis else 0 for n in pads for a in range(rank)],
    }


def _whole() -> Sequence[Example]:
    pool = "\nd = pair(x); c = AveragePool<kernel_shape={}>(d); y = pair(c)"
    return (
        example("(float[1,2,300,3] x) => (float y)" + pool.format("[300,3]")),
        example("(float[1,2,300] x) => (float y)" + pool.format("[300]")),
    )


@fix(MEAN, "AveragePool", _whole)
def mean_of_the_image(draft: Draft, node: NodeProto) -> bool:
    """AveragePool over the whole image → ReduceMean over its axes."""
    shape, kernel = draft.shape(node.input[0]), list(attribute(node, "kernel_shape", []))
    if shape is None or list(shape[2:]) != kernel or any(attribute(node, "pads", [0])):
        return False
    if max(kernel) > draft.march.limits["reduce_axis_max"]:
        return False
    axes = list(range(2, len(shape)))
    out = node.output[0]
    if draft.opset >= 18:
        given = draft.add(np.array(axes, np.int64), f"{out}_axes")
        made = draft.op("ReduceMean", [node.input[0], given], out, keepdims=1)
    else:
        made = draft.op("ReduceMean", [node.input[0]], out, keepdims=1, axes=axes)
    made.name = node.name
    draft.replace(node, [made])
    return True


def _long() -> Sequence[Example]:
    reduce = "(float[1,1,70000] x) => (float y)\nd = pair(x); c = Reduce{}>(d, a); y = pair(c)"
    return (
        example(reduce.format("Max<keepdims=0"), a=np.array([2])),
        example(reduce.format("Mean<keepdims=1"), a=np.array([-1])),
    )


@fix(TWO_AXES, " ".join((_REDUCTIONS, *_POOLS)), _long)
def reduce_over_two_axes(draft: Draft, node: NodeProto) -> bool:
    """ReduceMax over 70000 → Reshape to 250 × 280 → ReduceMax over both axes."""
    shape, result, out = draft.shape(node.input[0]), draft.shape(node.output[0]), node.output[0]
    found = _axes(draft, node, len(shape or ()))
    if shape is None or result is None or found is None:
        return False
    split, axes = list[int](), list[int]()
    for axis, size in enumerate(shape):
        parts = _factors(size, draft.march.limits["reduce_axis_max"]) if axis in found else (size,)
        if not parts:
            return False
        axes += [len(split) + n for n in range(len(parts))] if axis in found else []
        split += parts
    turned = draft.op("Reshape", [node.input[0], draft.add(np.array(split), f"{out}_split")], stem=out)
    inner, names = draft.fresh(f"{out}_reduced"), [str(turned.output[0])]
    if draft.opset >= (13 if node.op_type == "ReduceSum" else 18):
        names.append(draft.add(np.array(axes), f"{out}_axes"))
        reduced = changed(node, names, inner, keepdims=0)
    else:
        reduced = changed(node, names, inner, keepdims=0, axes=axes)
    reduced.op_type = _POOLS.get(node.op_type, node.op_type)
    rounded, pair = draft.rounded(inner, out)
    back = draft.op("Reshape", [rounded, draft.add(np.array(result, np.int64), f"{out}_shape")], out)
    draft.replace(node, [turned, reduced, *pair, back])
    return True


def _axes(draft: Draft, node: NodeProto, rank: int) -> frozenset[int] | None:
    if node.op_type in _POOLS:
        return frozenset(range(2, rank))
    given = attribute(node, "axes", None)
    if given is None and len(node.input) > 1 and node.input[1]:
        data = draft.const(node.input[1])
        if data is None:
            return None
        given = data.tolist()
    if not given:
        return None if attribute(node, "noop_with_empty_axes", 0) else frozenset(range(rank))
    return frozenset(int(a) % rank for a in given)


def _factors(size: int, most: int) -> tuple[int, ...]:
    """Two factors of a size that is too long, as like as can be; none of a prime."""
    if size <= most:
        return (size,)
    low = next((n for n in range(int(size**0.5), 1, -1) if size % n == 0), 0)
    return (low, size // low) if low and size // low <= most else ()


def _indexed() -> Sequence[Example]:
    pool = "MaxPool<kernel_shape=[2,2], storage_order=1>"
    return (example(f"(float[1,2,6,6] x) => (float y)\nd = pair(x); c = {pool}(d); y = pair(c)"),)


@fix(ROWS_FIRST, "MaxPool", _indexed)
def row_major_indices(draft: Draft, node: NodeProto) -> bool:
    """MaxPool with the order of indices that nobody reads → MaxPool."""
    if any(node.output[1:]):
        return False
    draft.replace(node, [changed(node, storage_order=None)])
    return True
