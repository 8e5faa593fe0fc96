"""Is every node a legal use of an operator of ONNX? Each refusal names the node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from onnx import AttributeProto, ModelProto, NodeProto, defs

from openbpu.compiler.reader.contrib import check_contrib
from openbpu.compiler.reader.nodes import domain_of, subgraphs_of, where
from openbpu.compiler.reader.problem import problem
from openbpu.compiler.reader.schemas import KNOWN_DOMAINS, RUNNABLE_DOMAINS, Schema, schema_of

OLDEST_OPSET = 7
_UNBOUNDED = 2**31 - 1


def checked_opsets(model: ModelProto) -> dict[str, int]:
    """Return the opset of every domain; raises ModelError when ai.onnx's is one this reader does not know."""
    opsets = {("" if o.domain == "ai.onnx" else o.domain): o.version for o in model.opset_import}
    newest = defs.onnx_opset_version()
    version = opsets.get("", OLDEST_OPSET)
    if not opsets or not OLDEST_OPSET <= version <= newest:
        fix = "update the onnx package" if version > newest else "export the model with opset 13 or newer"
        found = version if opsets else "missing"
        raise problem("model", "opset of ai.onnx", f"{OLDEST_OPSET}..{newest}", found, fix)
    for domain, number in opsets.items():
        if not 0 < number < _UNBOUNDED:
            raise problem(
                "model", f"opset of '{domain}'", "a small number above 0", number, "export it again"
            )
    return opsets


def check_nodes(nodes: Iterable[NodeProto], opsets: Mapping[str, int]) -> None:
    """Raise ModelError for the first node, subgraphs included, that is no valid use of a known operator."""
    for node in nodes:
        _check_node(node, opsets)
        for graph in subgraphs_of(node):
            check_nodes(graph.node, opsets)


def check_domains(nodes: Iterable[NodeProto]) -> None:
    """Raise ModelError for the first node, subgraphs included, of an operator that nothing here can run."""
    for node in nodes:
        check_domain(where(node), domain_of(node))
        for graph in subgraphs_of(node):
            check_domains(graph.node)


def check_domain(place: str, domain: str) -> None:
    """Raise ModelError for a domain that neither this package nor ONNX Runtime has operators of."""
    if domain not in RUNNABLE_DOMAINS:
        allowed = "one of ai.onnx, ai.onnx.ml, com.microsoft"
        fix = "remove the node or export it with standard operators"
        raise problem(place, "domain", allowed, f"'{domain}'", fix)


def _check_node(node: NodeProto, opsets: Mapping[str, int]) -> None:
    words = (node.op_type, node.domain, node.name, *node.input, *node.output)
    if not all(isinstance(word, str) for word in words):  # protobuf leaves what is no UTF-8 as bytes
        raise problem(
            "graph", "names of a node", "text", words, "copy or export the file again, it is damaged"
        )
    domain = domain_of(node)
    if domain not in opsets:
        fix = "export the model again"
        raise problem(where(node), f"domain '{domain or 'ai.onnx'}'", "in opset_import", "missing", fix)
    if domain == "com.microsoft":
        check_contrib(node)
        return
    if domain not in KNOWN_DOMAINS:
        return
    schema = schema_of(node.op_type, opsets[domain], domain)
    if schema is None:
        what = f"{domain or 'ai.onnx'} opset {opsets[domain]}"
        fix = "export the model with an opset that has it"
        raise problem(where(node), "operator", f"one of {what}", f"'{node.op_type}'", fix)
    _check_arity(node, schema)
    _check_attributes(node, schema)


def _check_arity(node: NodeProto, schema: Schema) -> None:
    for what, count, (low, high) in (
        ("number of inputs", len(node.input), schema.inputs),
        ("number of outputs", len(node.output), schema.outputs),
    ):
        if not low <= count <= high:
            raise problem(where(node), what, _range(low, high), count, "export the model again")
    for index, name in enumerate(node.input):
        if (not name and index in schema.needed) or (not name and index >= schema.variadic_from):
            found = f"input {index} left out"
            raise problem(where(node), "every input", "given", found, "export the model again")


def _range(low: int, high: int) -> str:
    if high == _UNBOUNDED:
        return f"{low} or more"
    return f"{low}" if low == high else f"{low}..{high}"


def _check_attributes(node: NodeProto, schema: Schema) -> None:
    given = {a.name: a for a in node.attribute}
    for name in schema.required:
        if name not in given:
            raise problem(where(node), f"attribute '{name}'", "given", "missing", "export the model again")
    for name, attribute in given.items():
        if name not in schema.attributes:
            allowed = f"one of {', '.join(sorted(schema.attributes)) or 'none'}"
            raise problem(where(node), "attribute", allowed, f"'{name}'", "export with the right opset")
        if attribute.type != schema.attributes[name]:
            kinds = AttributeProto.AttributeType
            allowed, found = kinds.Name(schema.attributes[name]), kinds.Name(attribute.type)
            raise problem(where(node), f"attribute '{name}'", allowed, found, "export the model again")
