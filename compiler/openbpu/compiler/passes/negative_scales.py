"""A negative scale becomes a positive one of the complement of the codes, but for weights of products.

(q − z) · s  =  (~q − ~z) · (−s)        as ~q is −1 − q, and 255 − q of uint8

A weight keeps its sign: it is the sign of the factor of its channel.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from openbpu.arch.onnx_ops import PRODUCTS, VIEWS
from openbpu.arch.shapes import along
from openbpu.compiler.ir import Array, Graph, Node, Rewriter
from openbpu.compiler.ir.qdq import is_dequantize, is_quantize

_CODES = ("int8", "uint8", "int16", "uint16")
_THROUGH = VIEWS | {"Transpose"}


def positive_scales(graph: Graph) -> Graph:
    """Return the graph with positive scales for all but constant weights; what cannot be is left alone."""
    if not any(_has_negative(graph, n) for n in graph.nodes):
        return graph
    walk = _Walk(graph)
    for node in graph.nodes:
        walk.visit(node)
    return walk.rw.finish()


def _has_negative(graph: Graph, node: Node) -> bool:
    if not (is_quantize(node) or is_dequantize(node)):
        return False
    scale = graph.const(node.inputs[1])
    return scale is not None and scale.dtype == np.float32 and bool((scale < 0).any())


@dataclass(slots=True)
class _Walk:
    graph: Graph
    rw: Rewriter = field(init=False)
    readers: dict[str, list[Node]] = field(init=False)
    makers: dict[str, Node] = field(init=False)
    complements: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rw = Rewriter(self.graph)
        self.readers, self.makers = self.graph.consumers(), self.graph.producers()

    def visit(self, node: Node) -> None:
        codes = node.outputs[0] if is_quantize(node) else node.inputs[0] if is_dequantize(node) else ""
        if not _has_negative(self.graph, node) or not self.can_turn(node, codes):
            self.rw.nodes.append(node)
            return
        scale, zero = self.graph.const(node.inputs[1]), self.zero(node, codes)
        if scale is None:
            raise ValueError(f"the scale of '{node.name}' is not a constant")
        terms = (
            self.rw.constant(f"{node.outputs[0]}/scale", np.abs(scale)),
            self.rw.constant(f"{node.outputs[0]}/zero", np.where(scale < 0, ~zero, zero)),
        )
        attrs = {k: v for k, v in node.attrs.items() if k != "output_dtype"}
        if is_quantize(node):
            outputs = (self.complement(codes, scale, node),)
            self.rw.nodes.append(replace(node, inputs=(node.inputs[0], *terms), outputs=outputs, attrs=attrs))
        else:
            source = self.complement(codes, scale, node)
            self.rw.nodes.append(replace(node, inputs=(source, *terms), attrs=attrs))

    def can_turn(self, node: Node, codes: str) -> bool:
        """Whether codes can become their complements: constants that are no weights, or between Q and DQs."""
        if self.graph.values[codes].dtype not in _CODES or codes in self.graph.outputs:
            return False
        if not self.has_zero(node):
            return False
        if self.graph.const(codes) is not None:
            return is_dequantize(node) and not self.is_weight(node.outputs[0])
        maker = self.makers.get(codes)
        around = [*([] if maker is None else [maker]), *self.readers.get(codes, [])]
        return maker is not None and all(
            (is_quantize(n) or is_dequantize(n)) and self.has_zero(n) and self.same_signs(n, node)
            for n in around
        )

    def has_zero(self, node: Node) -> bool:
        return len(node.inputs) < 3 or not node.inputs[2] or self.graph.const(node.inputs[2]) is not None

    def same_signs(self, a: Node, b: Node) -> bool:
        first, second = (self.graph.const(n.inputs[1]) for n in (a, b))
        if first is None or second is None or not np.array_equal(np.sign(first), np.sign(second)):
            return False
        return first.size == 1 or a.attrs.get("axis", 1) == b.attrs.get("axis", 1)

    def is_weight(self, name: str) -> bool:
        """Whether products alone read a value, as their weight, perhaps behind moves."""
        readers = self.readers.get(name, [])
        return bool(readers) and name not in self.graph.outputs and all(self.weighs(n, name) for n in readers)

    def weighs(self, node: Node, name: str) -> bool:
        if node.domain:
            return False
        if node.op in PRODUCTS:
            return name != node.inputs[0] and name == node.inputs[1]
        return node.op in _THROUGH and self.is_weight(node.outputs[0])

    def zero(self, node: Node, codes: str) -> Array:
        given = self.graph.const(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
        shape = self.graph.values[node.inputs[1]].shape or ()
        return np.zeros(shape, self.graph.values[codes].dtype) if given is None else given

    def complement(self, codes: str, scale: Array, node: Node) -> str:
        """Return the name of codes that are complements where the scale is negative."""
        value = self.graph.values[codes]
        if value.const is not None:
            rank = value.const.ndim
            shape = along(int(node.attrs.get("axis", 1)) % rank if scale.size > 1 else None, rank)
            return self.rw.constant(
                f"{codes}/complement", np.where(scale.reshape(shape) < 0, ~value.const, value.const)
            )
        if codes not in self.complements:
            self.complements[codes] = self.rw.value(f"{codes}/complement", value.shape, value.dtype)
        return self.complements[codes]
