"""A Reshape of a product's float result waits behind what is fused into that product.

Gemm → Reshape → Add(DQ) → Relu      becomes      Gemm → Add(Reshape(DQ)) → Relu → Reshape

Exporters write a linear layer on [B, N, K] as a Gemm between two Reshapes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from openbpu.arch.onnx_ops import MATRIX_PRODUCTS
from openbpu.compiler.ir import Graph, Node, Rewriter

_CLAMPS = frozenset({"Relu", "Clip"})


def sink_reshapes(graph: Graph) -> Graph:
    """Move Reshapes of products below the Add, Relu and Clip behind them."""
    walk = _Walk(graph)
    for node in graph.nodes:
        walk.visit(node)
    return walk.rw.finish() if walk.changed else graph


@dataclass(slots=True)
class _Walk:
    """`late` maps a float to the Reshape that makes it and may still sink."""

    graph: Graph
    rw: Rewriter = field(init=False)
    late: dict[str, Node] = field(default_factory=dict)
    products: set[str] = field(default_factory=set)
    readers: dict[str, list[Node]] = field(init=False)
    changed: bool = False

    def __post_init__(self) -> None:
        self.rw = Rewriter(self.graph)
        self.readers = self.graph.consumers()

    def visit(self, node: Node) -> None:
        """Append the node, or what it becomes."""
        if node.domain != "":
            self.rw.nodes.append(node)
            return
        if node.op in _CLAMPS and self.movable(node.inputs[0]):
            self.swapped(node, self.late[node.inputs[0]], node.inputs[1:])
            return
        if node.op == "Add" and len(node.inputs) == 2 and (side := self.addend(node)) is not None:
            reshape = self.late[node.inputs[side]]
            self.swapped(node, reshape, (self.back(node.inputs[1 - side], reshape),))
            return
        self.rw.nodes.append(node)
        if node.op in MATRIX_PRODUCTS:
            self.products.add(node.outputs[0])
        if node.op == "Reshape" and node.inputs[0] in self.products:
            self.late[node.outputs[0]] = node

    def shape(self, name: str) -> tuple[int, ...] | None:
        return self.rw.values[name].shape

    def movable(self, name: str) -> bool:
        """Whether `name` is a reshaped product that one node reads."""
        only = len(self.readers.get(name, [])) == 1 and name not in self.graph.outputs
        if name not in self.late or not only:
            return False
        return self.shape(name) is not None and self.shape(self.late[name].inputs[0]) is not None

    def addend(self, node: Node) -> int | None:
        """Which operand of an Add is a reshaped product, the other being a tensor of the same shape."""
        for side in (0, 1):
            other = node.inputs[1 - side]
            if (
                self.movable(node.inputs[side])
                and self.graph.const(other) is None
                and self.shape(other) == self.shape(node.inputs[side])
            ):
                return side
        return None

    def back(self, name: str, reshape: Node) -> str:
        """Give the other operand the shape of the product."""
        shape = self.shape(reshape.inputs[0]) or ()
        target = self.rw.constant(f"{name}/rows/shape", np.array(shape, np.int64))
        rows = self.rw.value(f"{name}/rows", shape, self.rw.values[name].dtype)
        self.rw.add("Reshape", (name, target), (rows,))
        return rows

    def swapped(self, node: Node, reshape: Node, others: tuple[str, ...]) -> None:
        """Compute `node` on the product, and reshape behind it."""
        source = reshape.inputs[0]
        rows = self.rw.value(
            f"{node.outputs[0]}/rows", self.shape(source) or (), self.rw.values[source].dtype
        )
        self.rw.nodes.append(replace(node, inputs=(source, *others), outputs=(rows,)))
        late = replace(reshape, inputs=(rows, *reshape.inputs[1:]), outputs=node.outputs)
        self.rw.nodes.append(late)
        self.late[node.outputs[0]] = late
        self.changed = True
