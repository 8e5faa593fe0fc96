"""CPU operators on codes that ONNX Runtime has no kernel for run in floats that hold the codes exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import onnx

from openbpu.compiler.ir import Graph, Node, Value

_PIXELS = frozenset({"DepthToSpace", "SpaceToDepth"})
_WIDER = {
    "int16": ("float32", frozenset({"MaxPool", "Resize", "Pad"}) | _PIXELS),
    "int32": ("float64", _PIXELS),
}
"""By dtype of the codes: the float to run in, and the operators without a kernel for that dtype."""
_ONNX = {
    "float32": onnx.TensorProto.FLOAT,
    "float64": onnx.TensorProto.DOUBLE,
    "int16": onnx.TensorProto.INT16,
    "int32": onnx.TensorProto.INT32,
}


def widened(graph: Graph, nodes: Sequence[Node]) -> tuple[tuple[Node, ...], dict[str, Value]]:
    """Return the nodes with Casts in front of and behind every such operator, and the values between them."""
    out: list[Node] = []
    fresh: dict[str, Value] = {}
    for node in nodes:
        codes = graph.values[node.inputs[0]].dtype if node.inputs and node.inputs[0] else ""
        wide, without = _WIDER.get(codes, ("", frozenset()))
        if node.domain == "" and node.op in without:
            wider = _Wider(graph, node, codes, wide)
            out += wider.nodes()
            fresh.update(wider.values)
        else:
            out.append(node)
    return tuple(out), fresh


@dataclass(slots=True)
class _Wider:
    """One node on `codes`, run in `wide`; its other inputs and outputs (sizes, indices) stay as they are."""

    graph: Graph
    node: Node
    codes: str
    wide: str
    values: dict[str, Value] = field(default_factory=dict)

    def nodes(self) -> list[Node]:
        inputs = {n: self.name(n, "in") for n in self.node.inputs if self.holds_codes(n)}
        outputs = {n: self.name(n, "out") for n in self.node.outputs if self.holds_codes(n)}
        node = replace(
            self.node,
            inputs=tuple(inputs.get(n, n) for n in self.node.inputs),
            outputs=tuple(outputs.get(n, n) for n in self.node.outputs),
        )
        before = [self.cast(n, made, self.wide) for n, made in inputs.items()]
        return [*before, node, *(self.cast(made, n, self.codes) for n, made in outputs.items())]

    def holds_codes(self, name: str) -> bool:
        return bool(name) and self.graph.values[name].dtype == self.codes

    def name(self, value: str, side: str) -> str:
        """Declare the float form of a value that this node reads or makes."""
        made = f"{value}/{side}/{self.node.outputs[0]}"
        self.values[made] = Value(made, self.graph.values[value].shape, self.wide)
        return made

    def cast(self, source: str, target: str, to: str) -> Node:
        return Node("Cast", (source,), (target,), {"to": _ONNX[to]}, target, origins=self.node.origins)
