"""After the walk: dead nodes and final copies go, opsets become as old as they can."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from onnx import GraphProto

from openbpu.compiler.ir.graph import Graph, Node, Value
from openbpu.compiler.reader.nodes import domain_of, subgraphs_of
from openbpu.compiler.reader.schemas import FORM_OPSET, schema_of


def live_nodes(nodes: Sequence[Node], outputs: Iterable[str]) -> list[Node]:
    """Return the nodes that an output depends on."""
    needed = set(outputs)
    kept = []
    for node in reversed(nodes):
        if needed.intersection(node.outputs):
            needed.update(node.reads)
            kept.append(node)
    return kept[::-1]


def without_final_copies(graph: Graph) -> Graph:
    """Let the maker of an output write it directly.

    conv → t → Identity → y     becomes     conv → y

    An output that is an input, a constant, read by a subgraph or another output's second name keeps its copy.
    """
    fixed = {*graph.inputs, *graph.outputs, *(name for node in graph.nodes for name in node.captures)}
    made = {name for node in graph.nodes for name in node.outputs}
    names: dict[str, str] = {}
    for node in graph.nodes:
        if node.op != "Identity" or node.domain or node.outputs[0] not in graph.outputs:
            continue
        source = node.inputs[0]
        if source in made and source not in fixed and source not in names:
            names[source] = node.outputs[0]
    return _renamed(graph, names) if names else graph


def _renamed(graph: Graph, names: Mapping[str, str]) -> Graph:
    nodes = [
        replace(
            node,
            inputs=tuple(names.get(name, name) for name in node.inputs),
            outputs=tuple(names.get(name, name) for name in node.outputs),
        )
        for node in graph.nodes
        if not (node.op == "Identity" and not node.domain and names.get(node.inputs[0]) == node.outputs[0])
    ]
    return graph.with_nodes(nodes)


def constant_outputs(outputs: Iterable[str], values: dict[str, Value], fresh: Iterator[str]) -> list[Node]:
    """Return a copying node for every constant output, its data moved to a value named by `fresh`."""
    nodes = []
    for name in [name for name in outputs if values[name].const is not None]:
        other = next(fresh)
        values[other] = replace(values[name], name=other)
        values[name] = replace(values[name], const=None)
        nodes.append(Node("Identity", (other,), (name,), {}, f"{name}_constant"))
    return nodes


def oldest_opsets(nodes: Iterable[Node], opsets: Mapping[str, int]) -> dict[str, int]:
    """Return the oldest opsets at which every node means the same: what more engines can run.

    Never older than `FORM_OPSET`, and only the domains that the nodes use (ai.onnx always).
    """
    needed = {"": FORM_OPSET}
    for node in nodes:
        for domain, since in _since(node, opsets):
            needed[domain] = max(needed.get(domain, 1), since)
    return needed


def _since(node: Node, opsets: Mapping[str, int]) -> list[tuple[str, int]]:
    schema = schema_of(node.op, opsets.get(node.domain, 1), node.domain)
    found = [(node.domain, schema.since if schema else opsets.get(node.domain, 1))]
    for value in node.attrs.values():
        for graph in value if isinstance(value, tuple) else (value,):
            if isinstance(graph, GraphProto):
                found.extend(_since_inside(graph, opsets))
    return found


def _since_inside(graph: GraphProto, opsets: Mapping[str, int]) -> list[tuple[str, int]]:
    found = []
    for proto in graph.node:
        domain = domain_of(proto)
        schema = schema_of(proto.op_type, opsets.get(domain, 1), domain)
        found.append((domain, schema.since if schema else opsets.get(domain, 1)))
        for inner in subgraphs_of(proto):
            found.extend(_since_inside(inner, opsets))
    return found
