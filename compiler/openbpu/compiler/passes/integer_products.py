"""Products of integers whose scales are constants become products of dequantized tensors.

MatMulInteger(a, b, za, zb) → Cast → Mul(c)      becomes      MatMul(DQ(a, 1, za), DQ(b, c, zb))
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from onnx import TensorProto

from openbpu.compiler.ir import Array, Graph, Node, Rewriter
from openbpu.compiler.ir.qdq import DEQUANTIZE

_FLOAT = {"MatMulInteger": "MatMul", "ConvInteger": "Conv"}


def products_of_reals(graph: Graph) -> Graph:
    """Return the graph without MatMulInteger and ConvInteger that a Cast to float32 alone reads."""
    if not any(n.op in _FLOAT and not n.domain for n in graph.nodes):
        return graph
    walk = _Walk(graph)
    for node in graph.nodes:
        walk.visit(node)
    return walk.rw.finish()


@dataclass(slots=True)
class _Walk:
    """`done` are the outputs of nodes that went into a product."""

    graph: Graph
    rw: Rewriter = field(init=False)
    readers: dict[str, list[Node]] = field(init=False)
    done: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.rw, self.readers = Rewriter(self.graph), self.graph.consumers()

    def visit(self, node: Node) -> None:
        if node.op in _FLOAT and not node.domain and self.is_static(node):
            self.product(node)
        elif not self.done.intersection(node.outputs):
            self.rw.nodes.append(node)

    def is_static(self, node: Node) -> bool:
        """Whether zero points are known, one for all of the first operand, and a Cast alone reads the sum."""
        zeros = [self.graph.const(n) if n else np.zeros((), np.int8) for n in (*node.inputs[2:], "", "")[:2]]
        known = [z for z in zeros if z is not None]
        if len(known) < 2 or any(self.graph.values[n].shape is None for n in node.inputs[:2]):
            return False
        return known[0].size == 1 and known[1].ndim <= 1 and self.only_reader(node, "Cast") is not None

    def only_reader(self, node: Node, op: str) -> Node | None:
        readers = self.readers.get(node.outputs[0], [])
        if len(readers) != 1 or node.outputs[0] in self.graph.outputs:
            return None
        reader = readers[0]
        if reader.op != op or reader.domain or (op == "Cast" and reader.attrs.get("to") != TensorProto.FLOAT):
            return None
        return reader

    def product(self, node: Node) -> None:
        cast = self.only_reader(node, "Cast")
        if cast is None:
            raise ValueError(f"nothing casts the result of '{node.name}'")
        scaled = self.only_reader(cast, "Mul")
        factor = None if scaled is None else self.factor(node, scaled, cast.outputs[0])
        steps = [cast] if factor is None or scaled is None else [cast, scaled]
        origins = tuple(o for n in (node, *steps) for o in n.origins)
        zeros = (*node.inputs[2:], "", "")[:2]
        a = self.real(node.inputs[0], zeros[0], np.ones((), np.float32), 0)
        scale = np.ones((), np.float32) if factor is None else factor
        b = self.real(node.inputs[1], zeros[1], scale, self.axis(node))
        self.rw.add(_FLOAT[node.op], (a, b), steps[-1].outputs, origins, node.name, **node.attrs)
        self.done.update(n.outputs[0] for n in steps)

    def axis(self, node: Node) -> int:
        """The axis of the second operand that is an axis of the result of its own."""
        return (
            0 if node.op == "ConvInteger" else max(len(self.graph.values[node.inputs[1]].shape or ()) - 1, 0)
        )

    def factor(self, node: Node, mul: Node, data: str) -> Array | None:
        """The constant of a Mul as a scale of the second operand; None where it is none."""
        other = [n for n in mul.inputs if n != data]
        found = self.graph.const(other[0]) if len(other) == 1 else None
        shape = self.graph.values[mul.outputs[0]].shape
        if found is None or found.dtype != np.float32 or not (np.isfinite(found) & (found > 0)).all():
            return None
        if shape is None or shape != self.graph.values[data].shape:
            return None
        if found.size == 1:
            return found.reshape(())
        axis = 1 if node.op == "ConvInteger" else len(shape) - 1
        full = (1,) * (len(shape) - found.ndim) + found.shape
        along = len(full) == len(shape) and full[axis] == found.size == shape[axis]
        return found.reshape(-1) if along and self.graph.const(node.inputs[1]) is not None else None

    def real(self, codes: str, zero: str, scale: Array, axis: int) -> str:
        """Dequantize an operand; its zero point is spread over the scales."""
        given = [scale] if not zero else [scale, np.asarray(self.graph.const(zero))]
        size = max(part.size for part in given)
        terms = [self.rw.constant(f"{codes}/terms", _spread(part, size)) for part in given]
        out = self.rw.value(f"{codes}/f", self.graph.values[codes].shape, "float32")
        self.rw.add(DEQUANTIZE, (codes, *terms), (out,), axis=axis)
        return out


def _spread(part: Array, size: int) -> Array:
    """Return scales or zero points, one or `size` of them, as that many."""
    return part.reshape(()) if size == 1 else np.broadcast_to(part.reshape(-1), (size,))
