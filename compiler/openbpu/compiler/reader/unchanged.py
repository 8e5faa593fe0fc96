"""Operators in functions of an older opset whose change of meaning onnx's version converter passes over.

Before functions are inlined such nodes get a domain of their own, which the converter leaves alone; after it
they are written in operators that mean the same in every opset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from onnx import FunctionProto, GraphProto, NodeProto, helper

from openbpu.arch.protos import opset_of
from openbpu.arch.unfolding import PASSED_OVER
from openbpu.compiler.reader.nodes import subgraphs_of
from openbpu.compiler.reader.problem import problem

DOMAIN = "openbpu.unchanged"
_ONNX = ("", "ai.onnx")


def marked(function: FunctionProto, target: int) -> FunctionProto:
    """Return a function whose nodes the converter to opset `target` would get wrong in our own domain."""
    version = opset_of(function)
    wrong = frozenset(op for op, since in PASSED_OVER.items() if 0 < version < since <= target)
    if not wrong:
        return function
    changed = FunctionProto()
    changed.CopyFrom(function)
    if _mark(changed.node, wrong):
        changed.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return changed


def _mark(nodes: Iterable[NodeProto], wrong: frozenset[str]) -> bool:
    found = False
    for node in nodes:
        if node.domain in _ONNX and node.op_type in wrong:
            node.domain, found = DOMAIN, True
        for graph in subgraphs_of(node):
            found |= _mark(graph.node, wrong)
    return found


def respell(graph: GraphProto) -> None:
    """Write the marked nodes of a graph, and of the graphs inside it, anew."""
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        for inner in subgraphs_of(node):
            respell(inner)
        graph.node.extend(_FORMS[node.op_type](node) if node.domain == DOMAIN else [node])


def _hardmax(node: NodeProto) -> list[NodeProto]:
    """It was over all axes from `axis` on: Flatten → Hardmax → Reshape."""
    source, result = node.input[0], node.output[0]
    flat, rows, shape = (f"{result}/{part}" for part in ("flat", "rows", "shape"))
    flatten = helper.make_node("Flatten", [source], [flat])
    flatten.attribute.extend(node.attribute)
    return [
        flatten,
        helper.make_node("Hardmax", [flat], [rows], node.name, axis=1),
        helper.make_node("Shape", [source], [shape]),
        helper.make_node("Reshape", [rows, shape], [result]),
    ]


def _resize(node: NodeProto) -> list[NodeProto]:
    """Up to opset 10 both had the coordinates that Upsample still has for our reader."""
    upsample = NodeProto()
    upsample.CopyFrom(node)
    upsample.op_type, upsample.domain = "Upsample", ""
    given = [a for a in node.attribute if a.name == "scales"]
    if not given:
        return [upsample]
    scales = f"{node.output[0]}/scales"  # an attribute before opset 9
    upsample.attribute.remove(given[0])
    upsample.input.append(scales)
    return [helper.make_node("Constant", [], [scales], value_floats=list(given[0].floats)), upsample]


def _group_normalization(node: NodeProto) -> list[NodeProto]:
    place = f"node '{node.name or node.output[0]}' ({node.op_type}) of a function"
    fix = "export the model without local functions, or these with opset 21"
    raise problem(place, "opset", "21 or newer as that of the model", "older", fix)


_FORMS: dict[str, Callable[[NodeProto], list[NodeProto]]] = {
    "Hardmax": _hardmax,
    "Resize": _resize,
    "Upsample": _resize,
    "GroupNormalization": _group_normalization,
}
