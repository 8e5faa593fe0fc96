"""ONNX Runtime's own operators (com.microsoft): for shapes, each is read as the standard one it resembles."""

from __future__ import annotations

from dataclasses import replace

from openbpu.compiler.ir.graph import Node

# Operator -> (standard operator with the same output type and shape, positions of the inputs that count).
_LIKE: dict[str, tuple[str, tuple[int, ...]]] = {
    "QLinearAdd": ("Add", (0, 3)),
    "QLinearMul": ("Mul", (0, 3)),
    "QLinearSigmoid": ("Relu", (0,)),
    "QLinearLeakyRelu": ("Relu", (0,)),
    "QLinearSoftmax": ("Relu", (0,)),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", (0,)),
    "FastGelu": ("Relu", (0,)),
    "QuickGelu": ("Relu", (0,)),
    "BiasGelu": ("Add", (0, 1)),
    "FusedConv": ("Conv", (0, 1)),
}


def standard_form(node: Node) -> Node:
    """Return a standard node with the same output shape, or the node itself when there is none."""
    if node.domain != "com.microsoft" or node.op not in _LIKE:
        return node
    op, positions = _LIKE[node.op]
    attrs = dict(node.attrs) if op == "Conv" else {}
    for name in ("activation", "activation_params"):
        attrs.pop(name, None)
    inputs = tuple(node.inputs[i] for i in positions if i < len(node.inputs))
    return replace(node, op=op, domain="", inputs=inputs, attrs=attrs, outputs=node.outputs[:1])
