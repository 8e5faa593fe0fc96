"""Operators that kept their name and changed their meaning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from openbpu.compiler.ir.graph import Node
from openbpu.compiler.reader.problem import problem
from openbpu.compiler.reader.rules.table import upgrade, without
from openbpu.compiler.reader.scope import Scope


def _place(node: Node) -> str:
    return f"node '{node.name}' ({node.op})"


@upgrade("Softmax", "LogSoftmax", "Hardmax", before=13)
def softmax(node: Node, scope: Scope) -> Sequence[Node]:
    """Before opset 13 all axes from `axis` (default 1) on were one: flatten, softmax, reshape back.

    Where only one of them is longer than 1, as nearly always, that is the plain softmax over it.
    """
    source, axis = node.inputs[0], node.attrs.get("axis", 1)
    shape = scope.shape(source)
    if shape is None:
        return _flattened(node, scope, axis, None)
    start = axis + len(shape) if axis < 0 else axis
    long_axes = [i for i in range(start, len(shape)) if shape[i] != 1]
    if len(long_axes) > 1 or start == len(shape):
        return _flattened(node, scope, axis, shape)
    return [replace(node, attrs={"axis": long_axes[0] if long_axes else len(shape) - 1})]


def _flattened(node: Node, scope: Scope, axis: int, shape: tuple[int, ...] | None) -> Sequence[Node]:
    source, result = node.inputs[0], node.outputs[0]
    flat, done = scope.fresh(f"{result}_flat"), scope.fresh(f"{result}_rows")
    nodes = [
        Node("Flatten", (source,), (flat,), {"axis": axis}),
        replace(node, inputs=(flat,), outputs=(done,), attrs={"axis": -1}),
    ]
    if shape is None:
        target = scope.fresh(f"{result}_shape")
        nodes.append(Node("Shape", (source,), (target,)))
    else:
        target = scope.add_ints(shape, f"{result}_shape")
    return [*nodes, Node("Reshape", (done, target), (result,), {"allowzero": 1})]


@upgrade("BatchNormalization", before=14)
def batch_normalization(node: Node, scope: Scope) -> Sequence[Node]:
    """More than one output meant training; `spatial` (opset 7) could be 0."""
    if not node.attrs.get("spatial", 1):
        fix = "export the model with opset 9 or newer"
        raise problem(_place(node), "attribute 'spatial'", 1, 0, fix)
    attrs = without(node.attrs, "spatial")
    used = [name for name in node.outputs[1:] if name in scope.used]
    if not used:
        return [replace(node, attrs=attrs, outputs=node.outputs[:1])]
    if any(name in scope.used for name in node.outputs[3:]):
        fix = "export the model in inference mode"
        raise problem(_place(node), "outputs in use", "the first three", len(node.outputs), fix)
    return [replace(node, attrs={**attrs, "training_mode": 1}, outputs=node.outputs[:3])]


@upgrade("Scan", before=9)
def scan(node: Node, _: Scope) -> Sequence[Node]:
    """Opset 8's Scan ran over a batch: it has no equal."""
    raise problem(_place(node), "opset", "9 or newer", 8, "export the model with opset 13 or newer")


@upgrade("RoiAlign", before=16)
def roi_align(node: Node, _: Scope) -> Sequence[Node]:
    """The default of coordinate_transformation_mode became half_pixel."""
    return [replace(node, attrs={**node.attrs, "coordinate_transformation_mode": "output_half_pixel"})]


@upgrade("GroupNormalization", before=21)
def group_normalization(node: Node, scope: Scope) -> Sequence[Node]:
    """Scale and bias, one per group before opset 21, are repeated for the channels of the group."""
    shape = scope.shape(node.inputs[0])
    if shape is None or len(shape) < 2:
        fix = "give the model static shapes or export it with opset 21"
        raise problem(_place(node), "number of channels", "known", "unknown", fix)
    groups = int(node.attrs["num_groups"])
    nodes: list[Node] = []
    repeated = [
        _repeated(name, groups, math.ceil(shape[1] / groups), scope, nodes) for name in node.inputs[1:]
    ]
    return [*nodes, replace(node, inputs=(node.inputs[0], *repeated))]


def _repeated(name: str, groups: int, times: int, scope: Scope, nodes: list[Node]) -> str:
    data = scope.const(name)
    if data is not None:
        return scope.add(np.repeat(data, times), f"{name}_channels")
    column, table, flat = (scope.fresh(f"{name}_{what}") for what in ("column", "table", "channels"))
    nodes.append(Node("Reshape", (name, scope.add_ints([groups, 1], f"{column}_shape")), (column,)))
    nodes.append(Node("Expand", (column, scope.add_ints([groups, times], f"{table}_shape")), (table,)))
    nodes.append(Node("Reshape", (table, scope.add_ints([groups * times], f"{flat}_shape")), (flat,)))
    return flat
