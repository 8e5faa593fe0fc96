"""A quantized graph in half floats becomes one in float32; inputs and outputs of the model keep their type.

x (float16) → Q(s: float16) → …      becomes      x → Cast → Q(s: float32) → …

The integers are those of the same scales read as float32: every half float is one. What float16 would have
rounded between two operators is not rounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from onnx import GraphProto, TensorProto

from openbpu.compiler.ir import Graph, Node, Rewriter
from openbpu.compiler.ir.qdq import is_dequantize, is_quantize
from openbpu.compiler.reader.elements import HALF_FLOATS, number_of

_HALVES = frozenset(number_of(name) for name in HALF_FLOATS)
_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")


def widen_half_floats(graph: Graph) -> Graph:
    """Return the graph in float32 where a Quantize or Dequantize of it is in half floats; others stay."""
    if not any(_is_half(graph, n) for n in graph.nodes if is_quantize(n) or is_dequantize(n)):
        return graph
    walk = _Walk(Rewriter(graph))
    for name in graph.inputs:
        walk.given(name)
    for node in graph.nodes:
        walk.visit(node)
    return walk.rw.finish()


def _is_half(graph: Graph, node: Node) -> bool:
    return any(n and graph.values[n].dtype in HALF_FLOATS for n in (*node.inputs, *node.outputs))


@dataclass(slots=True)
class _Walk:
    """`wide` maps a half float to the float32 that holds it; `kept` names stay halves besides."""

    rw: Rewriter
    wide: dict[str, str] = field(default_factory=dict)
    kept: set[str] = field(init=False)

    def __post_init__(self) -> None:
        graph = self.rw.graph
        self.kept = {*graph.outputs, *(n for node in graph.nodes for n in node.captures)}

    def given(self, name: str) -> None:
        if self.is_half(name):
            self.wide[name] = self.cast(name, "float32")

    def visit(self, node: Node) -> None:
        if not _is_half(self.rw.graph, node) and not _names_half(node.attrs):
            self.rw.nodes.append(node)
        elif node.captures or any(isinstance(v, GraphProto) for v in node.attrs.values()):
            self.rw.nodes.append(replace(node, inputs=tuple(self.half(n) for n in node.inputs)))
            for name in node.outputs:
                self.given(name)
        else:
            self.widened(node)

    def widened(self, node: Node) -> None:
        """Append a node that works in float32; a Cast between floats that are one type now is left out."""
        if node.op == "Cast" and self.is_no_cast(node):
            self.wide[node.outputs[0]] = self.name(node.inputs[0])
            if node.outputs[0] in self.kept:
                self.keep(node)
            return
        inputs = tuple(self.name(n) for n in node.inputs)
        outputs = tuple(self.made(n) for n in node.outputs)
        self.rw.nodes.append(replace(node, inputs=inputs, outputs=outputs, attrs=_wide_attributes(node)))
        self.keep(node)

    def keep(self, node: Node) -> None:
        """Make what an output of the model, or a subgraph, reads under the name it has."""
        for name in node.outputs:
            if name in self.kept and self.wide.get(name, name) != name:
                self.cast(self.wide[name], self.rw.graph.values[name].dtype, name)

    def is_no_cast(self, node: Node) -> bool:
        ends = (node.inputs[0], node.outputs[0])
        return all(self.rw.graph.values[n].dtype in (*HALF_FLOATS, "float32") for n in ends)

    def name(self, name: str) -> str:
        """Return the float32 form of an input."""
        if name and name not in self.wide and self.is_half(name):
            data = self.rw.graph.const(name)
            if data is None:
                raise ValueError(f"'{name}' is read before it is made")
            self.wide[name] = self.rw.constant(f"{name}/wide", data.astype(np.float32))
        return self.wide.get(name, name)

    def made(self, name: str) -> str:
        if not name or not self.is_half(name):
            return name
        self.wide[name] = self.rw.value(f"{name}/wide", self.rw.graph.values[name].shape, "float32")
        return self.wide[name]

    def half(self, name: str) -> str:
        """Return the half float itself, for nodes that keep their type."""
        if not name or not self.is_half(name) or self.rw.graph.const(name) is not None or name in self.kept:
            return name
        return (
            name
            if name in self.rw.graph.inputs
            else self.cast(self.wide[name], self.rw.graph.values[name].dtype)
        )

    def cast(self, source: str, dtype: str, target: str = "") -> str:
        out = target or self.rw.value(f"{source}/{dtype}", self.rw.values[source].shape, dtype)
        if self.rw.values[source].dtype == dtype:
            self.rw.add("Identity", (source,), (out,))
        else:
            self.rw.add("Cast", (source,), (out,), to=number_of(dtype))
        return out

    def is_half(self, name: str) -> bool:
        return bool(name) and self.rw.graph.values[name].dtype in HALF_FLOATS


def _names_half(attrs: Mapping[str, Any]) -> bool:
    return any(attrs.get(key) in _HALVES for key in _TYPE_ATTRIBUTES)


def _wide_attributes(node: Node) -> dict[str, Any]:
    attrs = {k: v for k, v in node.attrs.items() if k != "precision"}
    for key in _TYPE_ATTRIBUTES:
        if attrs.get(key) in _HALVES:
            attrs[key] = int(TensorProto.FLOAT)
    return {k: _wide_array(v) for k, v in attrs.items()}


def _wide_array(value: Any) -> Any:
    half = isinstance(value, np.ndarray) and value.dtype.itemsize == 2 and value.dtype.kind not in "iu"
    return value.astype(np.float32) if half else value
