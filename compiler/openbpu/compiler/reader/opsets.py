"""The oldest opsets at which a graph means the same: what more engines can run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain, repeat

from onnx import GraphProto, TensorProto

from openbpu.compiler.ir.graph import Node, Value
from openbpu.compiler.reader import elements
from openbpu.compiler.reader.nodes import domain_of, subgraphs_of
from openbpu.compiler.reader.schemas import FORM_OPSET, Schema, schema_of

_TYPES = (23, 24, 25)
WIDENED: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("Cast", "DequantizeLinear", "QuantizeLinear"), (*_TYPES, 28)),
    **dict.fromkeys(("Constant", "ConstantOfShape", "Flatten", "Identity", "Pad", "Reshape"), _TYPES),
    **dict.fromkeys(("Shape", "Size", "Squeeze", "Transpose", "Unsqueeze"), _TYPES),
    "Range": (27,),
    **dict.fromkeys(("BitShift", "Celu", "Compress", "DepthToSpace", "Einsum", "Mod", "OneHot"), (28,)),
    **dict.fromkeys(("ReduceLogSum", "ReduceLogSumExp", "ReverseSequence", "SpaceToDepth", "Unique"), (28,)),
}
"""Revisions that only took more element types or attributes: without those a node means what it did."""
_FLOATS = frozenset({"tensor(float)", "tensor(double)", "tensor(float16)", "tensor(bfloat16)"})
DEFINED: dict[tuple[str, int], frozenset[str]] = {("Mod", 28): _FLOATS}
"""Revisions that say for the first time what these types mean: Mod with fmod=0 of floats."""


def oldest_opsets(
    nodes: Iterable[Node], opsets: Mapping[str, int], values: Mapping[str, Value]
) -> dict[str, int]:
    """Return the oldest opset of every domain at which every node means the same.

    Never older than `FORM_OPSET`, and only the domains that the nodes use (ai.onnx always).
    """
    needed = {"": FORM_OPSET}
    for node in nodes:
        for domain, since in _since(node, opsets, values):
            needed[domain] = max(needed.get(domain, 1), since)
    return needed


def _since(node: Node, opsets: Mapping[str, int], values: Mapping[str, Value]) -> list[tuple[str, int]]:
    schema = schema_of(node.op, opsets.get(node.domain, 1), node.domain)
    if schema is not None and node.domain == "":
        schema = _oldest(node, schema, values)
    found = [(node.domain, schema.since if schema else opsets.get(node.domain, 1))]
    for value in node.attrs.values():
        for graph in value if isinstance(value, tuple) else (value,):
            if isinstance(graph, GraphProto):
                found.extend(_since_inside(graph, opsets))
    return found


def _oldest(node: Node, schema: Schema, values: Mapping[str, Value]) -> Schema:
    """Go back over revisions that only widened the operator, as far as the node uses nothing new."""
    while schema.since > FORM_OPSET and schema.since in WIDENED.get(node.op, ()):
        older = schema_of(node.op, schema.since - 1, "")
        redefined = DEFINED.get((node.op, schema.since), frozenset())
        changed = any(_type_of(values.get(name)) in redefined for name in node.inputs)
        if older is None or changed or not _takes(older, node, values):
            break
        schema = older
    return schema


def _takes(schema: Schema, node: Node, values: Mapping[str, Value]) -> bool:
    """Whether a revision has the node's attributes and its types."""
    if not node.attrs.keys() <= schema.attributes.keys():
        return False
    formals = ((node.inputs, schema.onnx.inputs), (node.outputs, schema.onnx.outputs))
    return all(
        formal is None or _type_of(values.get(name)) in formal.types
        for names, declared in formals
        # The last formal parameter stands for all further ones of a variadic operator.
        for name, formal in zip(
            names, chain(declared, repeat(declared[-1] if declared else None)), strict=False
        )
        if name
    )


def _type_of(value: Value | None) -> str:
    """Return the type as schemas write it, `tensor(int8)`; "" for what is no tensor or has no known type."""
    number = elements.number_of(value.dtype) if value is not None and value.onnx_type is None else 0
    return f"tensor({TensorProto.DataType.Name(number).lower()})" if number else ""


def _since_inside(graph: GraphProto, opsets: Mapping[str, int]) -> list[tuple[str, int]]:
    found = []
    for proto in graph.node:
        domain = domain_of(proto)
        schema = schema_of(proto.op_type, opsets.get(domain, 1), domain)
        found.append((domain, schema.since if schema else opsets.get(domain, 1)))
        for inner in subgraphs_of(proto):
            found.extend(_since_inside(inner, opsets))
    return found
