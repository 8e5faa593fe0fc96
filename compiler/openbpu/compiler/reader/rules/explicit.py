"""Arguments that may be left out, written out: later passes need not know the defaults."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from openbpu.arch.shapes import same_pads
from openbpu.compiler.ir.graph import Node
from openbpu.compiler.reader.rules.checked import (
    check_convolution,
    check_pads,
    check_parts,
    check_steps,
    check_window,
)
from openbpu.compiler.reader.rules.table import form, input_at, with_inputs, without
from openbpu.compiler.reader.scope import Scope

_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")


@form("Dropout")
def dropout(node: Node, scope: Scope) -> Sequence[Node]:
    """Outside training Dropout is Identity; one whose mask is read stays."""
    training = input_at(node, 2)
    flag = scope.const(training) if training else np.array(0)
    mask_used = len(node.outputs) > 1 and node.outputs[1] in scope.used
    if flag is None or flag.any() or mask_used:
        return [node]
    return [replace(node, op="Identity", inputs=node.inputs[:1], outputs=node.outputs[:1], attrs={})]


@form(*(f"Reduce{name}" for name in _REDUCTIONS))
def reduce(node: Node, scope: Scope) -> Sequence[Node]:
    """No axes means all axes, unless the node says that it means none."""
    given = input_at(node, 1)
    axes = scope.ints(given) if given else ()
    rank = scope.rank(node.inputs[0])
    if axes is None or rank is None or (not axes and node.attrs.get("noop_with_empty_axes", 0)):
        return [node]
    wanted = sorted(axis % rank for axis in axes) if axes else list(range(rank))
    return [_with_ints(node, scope, 1, wanted, "axes", "noop_with_empty_axes")]


@form("Squeeze")
def squeeze(node: Node, scope: Scope) -> Sequence[Node]:
    """No axes means every axis of length 1."""
    shape = scope.shape(node.inputs[0])
    if input_at(node, 1) or shape is None:
        return [node]
    return [_with_ints(node, scope, 1, [i for i, size in enumerate(shape) if size == 1], "axes")]


@form("Slice")
def slice_(node: Node, scope: Scope) -> Sequence[Node]:
    """Axes and steps written out."""
    starts = scope.ints(node.inputs[1])
    if starts is None:
        return [node]
    result = node.outputs[0]
    axes = input_at(node, 3) or scope.add_ints(range(len(starts)), f"{result}_axes")
    steps = input_at(node, 4) or scope.add_ints([1] * len(starts), f"{result}_steps")
    return [with_inputs(node, (*node.inputs[:3], axes, steps))]


@form("Pad")
def pad(node: Node, scope: Scope) -> Sequence[Node]:
    """Axes (opset 18) become pads of all axes."""
    check_pads(node, scope)
    named, pads, rank = input_at(node, 3), scope.ints(node.inputs[1]), scope.rank(node.inputs[0])
    axes = scope.ints(named) if named else None
    if axes is None or pads is None or rank is None:
        return [node]
    full = [0] * (2 * rank)
    for i, axis in enumerate(axes):
        full[axis % rank], full[axis % rank + rank] = pads[i], pads[i + len(axes)]
    name = scope.add_ints(full, f"{node.outputs[0]}_pads")
    return [with_inputs(node, (node.inputs[0], name, input_at(node, 2)))]


@form("Range")
def range_(node: Node, scope: Scope) -> Sequence[Node]:
    """One-element inputs become scalars: ONNX Runtime takes both, newer opsets only scalars."""
    shape = scope.add_ints([], f"{node.outputs[0]}_scalar")
    nodes: list[Node] = []
    inputs = []
    for name in node.inputs:
        inputs.append(name)
        if scope.rank(name) not in (None, 0):
            inputs[-1] = scope.fresh(f"{name}_scalar")
            nodes.append(Node("Reshape", (name, shape), (inputs[-1],)))
    return [*nodes, replace(node, inputs=tuple(inputs))]


@form("Split")
def split(node: Node, scope: Scope) -> Sequence[Node]:
    """num_outputs becomes the sizes of the parts, the last one may be smaller; every part has a name."""
    check_parts(node)
    node = replace(node, outputs=tuple(name or scope.fresh("unread") for name in node.outputs))
    count, shape = node.attrs.get("num_outputs"), scope.shape(node.inputs[0])
    if count is None or shape is None or not shape or count != len(node.outputs):
        return [node]
    length = shape[node.attrs.get("axis", 0)]
    part = math.ceil(length / count)
    sizes = [max(0, min(part, length - i * part)) for i in range(count)]
    return [_with_ints(node, scope, 1, sizes, "split", "num_outputs")]


@form("Conv", "MaxPool", "AveragePool")
def padding(node: Node, scope: Scope) -> Sequence[Node]:
    """auto_pad becomes pads, and VALID no pads at all."""
    check_steps(node)
    if node.op == "Conv":
        check_convolution(node, scope)
    mode = node.attrs.get("auto_pad", "NOTSET")
    shape = scope.shape(node.inputs[0])
    window = _window(node, scope)
    if mode in ("NOTSET", "VALID"):
        check_window(node, shape, window)
    if mode == "NOTSET":
        return [replace(node, attrs=without(node.attrs, "auto_pad"))]
    if shape is None or window is None or node.attrs.get("ceil_mode", 0):
        return [node]
    pads = _same(shape[2:], window, node, upper=mode == "SAME_UPPER") if mode != "VALID" else ()
    attrs = {**without(node.attrs, "auto_pad", "pads"), "pads": pads or (0,) * (2 * len(window))}
    return [replace(node, attrs=attrs)]


def _window(node: Node, scope: Scope) -> tuple[int, ...] | None:
    if node.attrs.get("kernel_shape"):
        return tuple(node.attrs["kernel_shape"])
    weight = scope.shape(node.inputs[1]) if node.op == "Conv" else None
    return None if weight is None else weight[2:]


def _same(spatial: tuple[int, ...], window: tuple[int, ...], node: Node, *, upper: bool) -> tuple[int, ...]:
    ones = (1,) * len(window)
    strides, dilations = node.attrs.get("strides", ones), node.attrs.get("dilations", ones)
    results = [-(-size // stride) for size, stride in zip(spatial, strides, strict=True)]
    return same_pads(spatial, results, window, strides, dilations, upper=upper)


def _with_ints(
    node: Node, scope: Scope, position: int, items: Sequence[int], hint: str, *dropped: str
) -> Node:
    name = input_at(node, position)
    if not name or scope.ints(name) != tuple(items):
        name = scope.add_ints(items, f"{node.outputs[0]}_{hint}")
    return with_inputs(node, (*node.inputs[:position], name), *dropped)
