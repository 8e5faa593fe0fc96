"""Scales per channel where the channels stay apart become scales of what is a factor per channel anyway.

Q(x, s[c]) → DQ(s[c]) → Conv (depthwise, w)   becomes   Q(x / s[c], 1) → DQ(1) → Conv (w · s[c])
MatMul(DQ(w, s[row]), x)                      becomes   Transpose(MatMul(Transpose(x), Transpose(DQ(w))))

The codes are the same; behind a convolution the division is its factor.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from openbpu.arch.shapes import along
from openbpu.compiler.ir import Array, Graph, Node, Rewriter
from openbpu.compiler.ir.qdq import DEQUANTIZE, QUANTIZE, Scaling, is_dequantize, is_quantize, scaling


def scales_to_factors(graph: Graph) -> Graph:
    """Return the graph with inputs of depthwise convolutions per tensor, and weights on the right."""
    walk = _Walk(graph)
    if not any(walk.depthwise(n) or walk.left(n) for n in graph.nodes):
        return graph
    walk.codes = {walk.makers[n.inputs[0]].inputs[0] for n in graph.nodes if walk.depthwise(n)}
    for node in graph.nodes:
        walk.visit(node)
    return walk.rw.finish()


@dataclass(slots=True)
class _Walk:
    """`codes` are those that a Quantize has to make without their scales."""

    graph: Graph
    rw: Rewriter = field(init=False)
    makers: dict[str, Node] = field(init=False)
    codes: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.rw, self.makers = Rewriter(self.graph), self.graph.producers()

    def visit(self, node: Node) -> None:
        if is_quantize(node) and node.outputs[0] in self.codes:
            self.quantize(node)
        elif self.depthwise(node) is not None:
            self.convolution(node)
        elif self.left(node) is not None:
            self.product(node)
        else:
            self.rw.nodes.append(node)

    def read(self, name: str) -> Scaling | None:
        """The scaling of the Dequantize that makes a float."""
        node = self.makers.get(name)
        return scaling(self.graph, node) if node is not None and is_dequantize(node) else None

    # --- depthwise convolutions -----------------------------------------------------------------------------

    def depthwise(self, node: Node) -> tuple[Scaling, Scaling] | None:
        """The scalings of input and weight of a depthwise Conv whose input has scales per channel."""
        if node.domain or node.op != "Conv" or int(node.attrs.get("group", 1)) < 2:
            return None
        x, w = (self.read(name) for name in node.inputs[:2])
        shape, weights = (self.graph.values[n].shape for n in node.inputs[:2])
        if x is None or w is None or not shape or not weights or x.per_tensor or x.axis != 1:
            return None
        if node.attrs["group"] != shape[1] or weights[1] != 1 or np.unique(x.zero).size > 1:
            return None
        source, maker = self.makers[node.inputs[1]], self.makers.get(self.makers[node.inputs[0]].inputs[0])
        constant = self.graph.const(source.inputs[0]) is not None and (w.per_tensor or w.axis == 0)
        if not constant or maker is None or not is_quantize(maker):
            return None
        behind = scaling(self.graph, maker)
        return (x, w) if behind is not None and behind.same(x) else None

    def convolution(self, node: Node) -> None:
        found = self.depthwise(node)
        if found is None:
            raise ValueError(f"'{node.name}' is no depthwise convolution")
        x, w = found
        outputs = (self.graph.values[node.inputs[1]].shape or (1,))[0]
        factors = np.repeat(x.scale.astype(np.float64), outputs // x.scale.size)
        scale = (np.broadcast_to(w.scale, (outputs,)) * factors).astype(np.float32)
        before, weight = (self.makers[name] for name in node.inputs[:2])
        data = self.dequantized(before, np.ones((), np.float32), x.zero[:1].reshape(()), x.dtype, 1)
        zeros = np.broadcast_to(w.zero, (outputs,))
        kernel = self.dequantized(weight, scale, zeros, w.dtype, 0)
        self.rw.nodes.append(replace(node, inputs=(data, kernel, *node.inputs[2:])))

    def dequantized(self, node: Node, scale: Array, zero: Array, dtype: str, axis: int) -> str:
        """Dequantize what `node` does by other terms."""
        out = self.rw.value(f"{node.outputs[0]}/plain", self.graph.values[node.outputs[0]].shape, "float32")
        terms = (self.rw.constant(f"{out}/scale", scale), self.rw.constant(f"{out}/zero", zero.astype(dtype)))
        self.rw.add(DEQUANTIZE, (node.inputs[0], *terms), (out,), node.origins, axis=axis)
        return out

    def quantize(self, node: Node) -> None:
        """Divide by the scales first: x / s / 1 is x / s, in float32 as well."""
        scale = scaling(self.graph, node)
        if scale is None:
            raise ValueError(f"'{node.name}' has no constant scale")
        shape = self.graph.values[node.inputs[0]].shape or ()
        floats = self.rw.value(f"{node.outputs[0]}/divided", shape, "float32")
        divisor = self.rw.constant(f"{floats}/by", scale.scale.reshape(along(1, len(shape))[1:]))
        self.rw.add("Div", (node.inputs[0], divisor), (floats,), node.origins)
        terms = (
            self.rw.constant(f"{floats}/scale", np.ones((), np.float32)),
            self.rw.constant(f"{floats}/zero", scale.zero[:1].reshape(()).astype(scale.dtype)),
        )
        self.rw.add(QUANTIZE, (floats, *terms), node.outputs, node.origins, node.name)

    # --- weights on the left --------------------------------------------------------------------------------

    def left(self, node: Node) -> Scaling | None:
        """The scales per row of a constant that is multiplied from the left."""
        if node.domain or node.op != "MatMul" or len(node.inputs) != 2:
            return None
        w = self.read(node.inputs[0])
        shapes = [self.graph.values[n].shape for n in node.inputs]
        if w is None or w.per_tensor or w.axis != 0 or None in shapes:
            return None
        if len(shapes[0] or ()) != 2 or len(shapes[1] or ()) < 2:
            return None
        return w if self.graph.const(self.makers[node.inputs[0]].inputs[0]) is not None else None

    def product(self, node: Node) -> None:
        right, left = (self.turned(name) for name in reversed(node.inputs))
        shape = self.graph.values[node.outputs[0]].shape or ()
        product = self.rw.value(f"{node.outputs[0]}/turned", (*shape[:-2], shape[-1], shape[-2]), "float32")
        self.rw.nodes.append(replace(node, inputs=(right, left), outputs=(product,)))
        self.rw.add("Transpose", (product,), node.outputs, node.origins, perm=_swapped(len(shape)))

    def turned(self, name: str) -> str:
        """Return a float with its last two axes swapped."""
        shape = self.graph.values[name].shape or ()
        out = self.rw.value(f"{name}/turned", (*shape[:-2], shape[-1], shape[-2]), "float32")
        self.rw.add("Transpose", (name,), (out,), perm=_swapped(len(shape)))
        return out


def _swapped(rank: int) -> tuple[int, ...]:
    return (*range(rank - 2), rank - 1, rank - 2)
