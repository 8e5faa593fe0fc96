"""After the walk: dead nodes and final copies go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from openbpu.compiler.ir.graph import Graph, Node, Value


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


def with_constant_outputs(
    nodes: Sequence[Node], outputs: Iterable[str], values: dict[str, Value], fresh: Iterator[str]
) -> list[Node]:
    """Return the nodes behind a copying node for every output that is a constant.

    The data move to a value named by `fresh`, from which all read them but subgraphs, which keep the name.
    """
    names: dict[str, str] = {}
    for name in [name for name in outputs if values[name].const is not None]:
        names[name] = other = next(fresh)
        values[other] = replace(values[name], name=other)
        values[name] = replace(values[name], const=None)
    copies = [Node("Identity", (other,), (name,), {}, f"{name}_constant") for name, other in names.items()]
    readers = [replace(node, inputs=tuple([names.get(i, i) for i in node.inputs])) for node in nodes]
    return [*copies, *(readers if names else nodes)]
