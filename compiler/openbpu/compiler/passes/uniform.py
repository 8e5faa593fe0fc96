"""Where(x > c, c, x) with c = [0.5, 0.5, …] becomes Where(x > 0.5, 0.5, x)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from openbpu.arch.uniform import BROADCAST, is_spare, lone_value
from openbpu.compiler.ir import Graph, Node, Rewriter
from openbpu.compiler.ir.qdq import is_dequantize, scaling


def uniform_to_scalar(graph: Graph) -> Graph:
    """Replace operands whose elements are all equal by scalars, where they do not shape the result."""
    rw, found = Rewriter(graph), _Scalars(graph.producers())
    for node in graph.nodes:
        rw.nodes.append(_with_scalars(rw, node, found) if node.op in BROADCAST else node)
    return rw.finish()


@dataclass(frozen=True, slots=True)
class _Scalars:
    """`of` maps a value to the scalar with the value of all its elements, None where there is no such."""

    producers: Mapping[str, Node]
    of: dict[str, str | None] = field(default_factory=dict)

    def find(self, rw: Rewriter, name: str) -> str | None:
        if name not in self.of:
            self.of[name] = _scalar(rw, name, self.producers)
        return self.of[name]


def _with_scalars(rw: Rewriter, node: Node, scalars: _Scalars) -> Node:
    if node.domain != "" or any(rw.values[name].shape is None for name in node.inputs if name):
        return node
    for index in range(node.op == "Where", len(node.inputs)):  # a condition chooses, it is no number
        shapes = [rw.values[name].shape or () for name in node.inputs if name]
        shape = shapes.pop(index) if len(shapes) == len(node.inputs) else ()
        found = scalars.find(rw, node.inputs[index]) if shape and is_spare(shape, shapes) else None
        if found is not None:
            node = replace(node, inputs=(*node.inputs[:index], found, *node.inputs[index + 1 :]))
    return node


def _scalar(rw: Rewriter, name: str, producers: Mapping[str, Node]) -> str | None:
    """Return the name of a scalar with the value of all elements of `name`; None if there is no such."""
    data, node = rw.graph.const(name), producers.get(name)
    if data is not None:
        value = lone_value(data) if data.size > 1 else None
        return None if value is None else rw.constant(f"{name}/scalar", value)
    if node is None or not is_dequantize(node) or (codes := rw.graph.const(node.inputs[0])) is None:
        return None
    if codes.size == 1:
        return None
    value, scale = lone_value(codes), scaling(rw.graph, node)
    parts = [rw.graph.const(i) for i in node.inputs[1:] if i]
    ones = [None if part is None else lone_value(np.asarray(part)) for part in parts]
    if value is None or scale is None or any(one is None for one in ones):
        return None
    inputs = [
        rw.constant(f"{old}/scalar", one)
        for old, one in zip((i for i in node.inputs if i), (value, *ones), strict=True)
        if one is not None
    ]
    out = rw.value(f"{name}/scalar", (), rw.values[name].dtype)
    rw.add(node.op, inputs, [out], node.origins)
    return out
