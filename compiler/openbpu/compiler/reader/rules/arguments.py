"""Arguments that were attributes in older opsets and are inputs now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from openbpu.compiler.ir.graph import Node
from openbpu.compiler.reader import elements
from openbpu.compiler.reader.rules.table import ALWAYS, input_at, upgrade, with_inputs, without
from openbpu.compiler.reader.scope import Scope

_SMALLEST_FLOAT = float(np.finfo(np.float32).min)


def _scalar(node: Node, scope: Scope, value: float, hint: str) -> str:
    dtype = scope.dtype(node.inputs[0])
    kind = np.float32 if dtype in (elements.OTHER, "bfloat16") else np.dtype(dtype)
    return scope.add(np.array(value, kind), _name(node, hint))


def _ints(node: Node, scope: Scope, items: Iterable[int], hint: str) -> str:
    return scope.add_ints(items, _name(node, hint))


def _name(node: Node, hint: str) -> str:
    """Return what a constant beside a node is called."""
    return f"{node.outputs[0]}_{hint}"


@upgrade("Clip", before=11)
def clip(node: Node, scope: Scope) -> Sequence[Node]:
    """Min and max → inputs; the old defaults, ±the largest float, clip nothing and are left out."""
    low, high = (node.attrs.get(name) for name in ("min", "max"))
    lower = "" if low is None or low <= _SMALLEST_FLOAT else _scalar(node, scope, low, "min")
    upper = "" if high is None or high >= -_SMALLEST_FLOAT else _scalar(node, scope, high, "max")
    return [with_inputs(node, (node.inputs[0], lower, upper), "min", "max")]


@upgrade("Pad", before=11)
def pad(node: Node, scope: Scope) -> Sequence[Node]:
    """Pads and value → inputs."""
    pads = _ints(node, scope, node.attrs["pads"], "pads")
    value = node.attrs.get("value", 0.0)
    fill = _scalar(node, scope, value, "value") if value else ""
    return [with_inputs(node, (node.inputs[0], pads, fill), "pads", "value")]


@upgrade("Slice", before=10)
def slice_(node: Node, scope: Scope) -> Sequence[Node]:
    """starts, ends and axes → inputs."""
    starts = node.attrs["starts"]
    axes = node.attrs.get("axes", tuple(range(len(starts))))
    lists = {"starts": starts, "ends": node.attrs["ends"], "axes": axes}
    names = [_ints(node, scope, items, name) for name, items in lists.items()]
    return [with_inputs(node, (node.inputs[0], *names), *lists)]


@upgrade("Squeeze", "Unsqueeze", "ReduceSum", before=13)
@upgrade("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", before=18)
@upgrade("ReduceMean", "ReduceMin", "ReduceProd", "ReduceSumSquare", before=18)
def axes_input(node: Node, scope: Scope) -> Sequence[Node]:
    """Axes → input."""
    if "axes" not in node.attrs:
        return [node]
    axes = _ints(node, scope, node.attrs["axes"], "axes")
    return [with_inputs(node, (node.inputs[0], axes), "axes")]


@upgrade("Split", before=18)
def split(node: Node, scope: Scope) -> Sequence[Node]:
    """Split → input; without it the number of outputs, which says the same, is stated."""
    if "split" in node.attrs:
        sizes = _ints(node, scope, node.attrs["split"], "split")
        return [with_inputs(node, (node.inputs[0], sizes), "split")]
    if input_at(node, 1):
        return [node]
    return [replace(node, attrs={**node.attrs, "num_outputs": len(node.outputs)})]


@upgrade("TopK", before=10)
def topk(node: Node, scope: Scope) -> Sequence[Node]:
    """K → input."""
    count = _ints(node, scope, [node.attrs["k"]], "k")
    return [with_inputs(node, (node.inputs[0], count), "k")]


@upgrade("Dropout", before=12)
def dropout(node: Node, scope: Scope) -> Sequence[Node]:
    """Ratio → input; before opset 12 there was no training mode."""
    ratio = _scalar(node, scope, node.attrs.get("ratio", 0.5), "ratio")
    return [with_inputs(node, (node.inputs[0], ratio), "ratio")]


@upgrade("DFT", before=20)
def dft(node: Node, scope: Scope) -> Sequence[Node]:
    """Axis → input; its old default was 1."""
    axis = scope.add(np.array(node.attrs.get("axis", 1), np.int64), _name(node, "axis"))
    return [with_inputs(node, (node.inputs[0], input_at(node, 1), axis), "axis")]


@upgrade("Scatter", before=ALWAYS)
def scatter(node: Node, _: Scope) -> Sequence[Node]:
    """Renamed to ScatterElements."""
    return [replace(node, op="ScatterElements")]


@upgrade("GridSample", before=20)
def grid_sample(node: Node, _: Scope) -> Sequence[Node]:
    """Modes renamed: bilinear → linear, bicubic → cubic."""
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(node.attrs.get("mode", "bilinear"), "nearest")
    return [replace(node, attrs={**without(node.attrs, "mode"), "mode": mode})]
