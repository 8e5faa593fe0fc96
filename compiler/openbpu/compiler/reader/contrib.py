"""ONNX Runtime's own operators (com.microsoft), of which onnx has no schemas.

For shapes, each is read as the standard one it resembles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from onnx import AttributeProto, NodeProto

from openbpu.compiler.ir.graph import Node
from openbpu.compiler.reader.nodes import where
from openbpu.compiler.reader.problem import problem
from openbpu.compiler.reader.schemas import FORM_OPSET, schema_of

Shape = tuple[int, ...] | None

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
    "QLinearConv": ("Conv", slice(0, 4, 3)),
    "MatMulIntegerToFloat": ("MatMul", slice(0, 2)),
    "NhwcMaxPool": ("MaxPool", slice(0, 1)),
    "FastGelu": ("Relu", slice(0, 1)),
    "QuickGelu": ("Relu", slice(0, 1)),
    "BiasGelu": ("Add", slice(0, 2)),
    "FusedConv": ("Conv", slice(0, 2)),
    "FusedGemm": ("Gemm", slice(0, 2)),
}


# Operator -> (most inputs, those that cannot be left out), of the operators that something here looks into.
_INPUTS: dict[str, tuple[int, tuple[int, ...]]] = {
    **dict.fromkeys(("QLinearAdd", "QLinearMul"), (8, (0, 1, 3, 4, 6))),
    **dict.fromkeys(("QLinearSigmoid", "QLinearLeakyRelu", "QLinearAveragePool"), (5, (0, 1, 3))),
    **dict.fromkeys(("QLinearSoftmax", "QLinearGlobalAveragePool"), (5, (0, 1, 3, 4))),
    "QGemm": (9, (0, 1, 3, 4)),
    "QLinearConv": (9, tuple(range(8))),
    "QLinearWhere": (9, tuple(range(9))),
    "QLinearReduceMean": (5, (0, 1, 3)),
    "MatMulIntegerToFloat": (7, (0, 1, 2, 3)),
    "NhwcMaxPool": (1, (0,)),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), (3, (0, 1))),
    "BiasGelu": (2, (0, 1)),
    "FusedConv": (4, (0, 1)),
    "FusedGemm": (3, (0, 1)),
    "FastGelu": (2, (0,)),
    **dict.fromkeys(("Gelu", "QuickGelu"), (1, (0,))),
}


_KINDS = AttributeProto.AttributeType
_ATTRIBUTES: dict[str, int] = {
    **dict.fromkeys(("axis", "block_size", "ceil_mode", "channels_last", "count_include_pad"), _KINDS.INT),
    **dict.fromkeys(("group", "opset", "saturate", "storage_order", "transA", "transB"), _KINDS.INT),
    **dict.fromkeys(("alpha", "beta", "activation_alpha", "activation_beta"), _KINDS.FLOAT),
    **dict.fromkeys(("dilations", "kernel_shape", "pads", "strides"), _KINDS.INTS),
    **dict.fromkeys(("activation", "auto_pad"), _KINDS.STRING),
}
"""What the attributes that something here looks into hold."""


def check_contrib(node: NodeProto) -> None:
    """Raise ModelError for a node of com.microsoft with inputs too few or too many, no output, or an
    attribute of a wrong kind.
    """
    for attribute in node.attribute:
        kind = _ATTRIBUTES.get(attribute.name, attribute.type)
        if attribute.type != kind:
            place, found = where(node), _KINDS.Name(attribute.type)
            raise problem(place, f"attribute '{attribute.name}'", _KINDS.Name(kind), found, "export it again")
    given = list(node.input)
    most, needed = _INPUTS.get(node.op_type, (len(given), ()))
    if node.op_type == "QLinearConcat":  # scale and zero point of the result, then three for every operand
        most, needed = max(5, len(given) - (len(given) - 2) % 3), (0, 1, *range(2, max(5, len(given))))
    left_out = next((i for i in needed if i >= len(given) or not given[i]), None)
    if left_out is not None:
        fix = "export the model again"
        raise problem(where(node), "every input that it needs", "given", f"input {left_out} left out", fix)
    if len(given) > most:
        raise problem(where(node), "number of inputs", f"at most {most}", len(given), "export it again")
    if not any(node.output):
        raise problem(where(node), "an output", "named", "left out", "export the model again")


def standard_form(node: Node) -> Node:
    """Return a standard node with the same output shape, or the node itself when there is none."""
    if node.domain != "com.microsoft" or node.op not in _LIKE:
        return node
    op, part = _LIKE[node.op]
    schema = schema_of(op, FORM_OPSET, "")
    known = schema.attributes if schema is not None else {}
    attrs = {name: value for name, value in node.attrs.items() if name in known}
    return replace(node, op=op, domain="", inputs=node.inputs[part], attrs=attrs, outputs=node.outputs[:1])


def is_channels_last(node: Node) -> bool:
    """Whether the image that a node reads, and the one it makes, are N×H×W×C."""
    if node.domain != "com.microsoft":
        return False
    return node.op == "NhwcMaxPool" or (node.op in _LIKE and bool(node.attrs.get("channels_last", 0)))


def makes_floats(node: Node) -> bool:
    """Whether an operator on codes of com.microsoft has a result that nothing quantizes."""
    if node.op == "QGemm":
        return len(node.inputs) < 8 or not node.inputs[7]
    return node.op == "MatMulIntegerToFloat"


def shape_of_choice(node: Node, shape: Callable[[str], Shape]) -> Shape:
    """Return the shape of a QLinearWhere or QLinearReduceMean; None for others, or where it is unknown."""
    if node.domain != "com.microsoft" or node.op not in ("QLinearWhere", "QLinearReduceMean"):
        return None
    if node.op == "QLinearWhere":
        shapes = [shape(node.inputs[i]) for i in (0, 1, 4)]
        known = [s for s in shapes if s is not None]
        return np.broadcast_shapes(*known) if len(known) == len(shapes) else None
    data = shape(node.inputs[0])
    if data is None:
        return None
    axes = {a % len(data) for a in node.attrs.get("axes") or range(len(data))}
    kept = node.attrs.get("keepdims", 1)
    return tuple(1 if i in axes else n for i, n in enumerate(data) if kept or i not in axes)
