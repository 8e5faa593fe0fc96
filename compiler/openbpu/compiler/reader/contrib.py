"""ONNX Runtime's own operators (com.microsoft): for shapes, each is read as the standard one it resembles."""

from __future__ import annotations

from dataclasses import replace

from openbpu.compiler.ir.graph import Node
from openbpu.compiler.reader.schemas import FORM_OPSET, schema_of

# Operator -> (standard operator with the same output type and shape, the inputs that count).
_LIKE: dict[str, tuple[str, slice]] = {
    "QLinearAdd": ("Add", slice(0, 4, 3)),
    "QLinearMul": ("Mul", slice(0, 4, 3)),
    "QLinearSigmoid": ("Relu", slice(0, 1)),
    "QLinearLeakyRelu": ("Relu", slice(0, 1)),
    "QLinearSoftmax": ("Relu", slice(0, 1)),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", slice(0, 1)),
    "QLinearAveragePool": ("AveragePool", slice(0, 1)),
    "QLinearConcat": ("Concat", slice(2, None, 3)),
    "QGemm": ("Gemm", slice(0, 4, 3)),
    "FastGelu": ("Relu", slice(0, 1)),
    "QuickGelu": ("Relu", slice(0, 1)),
    "BiasGelu": ("Add", slice(0, 2)),
    "FusedConv": ("Conv", slice(0, 2)),
    "FusedGemm": ("Gemm", slice(0, 2)),
}


def standard_form(node: Node) -> Node:
    """Return a standard node with the same output shape, or the node itself when there is none."""
    if node.domain != "com.microsoft" or node.op not in _LIKE or node.attrs.get("channels_last"):
        return node
    if node.op == "QGemm" and len(node.inputs) < 8:
        return node  # without a scale of its own the result is float
    op, part = _LIKE[node.op]
    schema = schema_of(op, FORM_OPSET, "")
    known = schema.attributes if schema is not None else {}
    attrs = {name: value for name, value in node.attrs.items() if name in known}
    return replace(node, op=op, domain="", inputs=node.inputs[part], attrs=attrs, outputs=node.outputs[:1])
