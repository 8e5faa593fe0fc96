"""Is every value of a graph made once, and before it is read? The order to visit its nodes in, if so."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from onnx import GraphProto, NodeProto

from openbpu.compiler.reader.nodes import reads_of, subgraphs_of, where
from openbpu.compiler.reader.problem import problem


def checked_order(graph: GraphProto) -> list[NodeProto]:
    """Return the nodes in topological order, as near to the file's order as that allows.

    Raises ModelError for a value that is made twice, an edge without a source, a cycle or no outputs, in
    this graph or in one inside it.
    """
    sources = _sources(graph)
    producers = _producers(graph, sources)
    _check_edges(graph, sources, producers)
    for node in graph.node:
        for body in subgraphs_of(node):
            _check_body(body)
    return _ordered(graph, producers)


def body_order(graph: GraphProto) -> list[NodeProto]:
    """Return the nodes of a subgraph in topological order; what it takes from around it is there already.

    Raises ModelError for a value that is made twice, and for a cycle.
    """
    return _ordered(graph, _producers(graph, _sources(graph)))


def _check_body(graph: GraphProto) -> None:
    """Raise ModelError for a graph inside another one, or inside that, which has no order."""
    body_order(graph)
    for node in graph.node:
        for inner in subgraphs_of(node):
            _check_body(inner)


def _ordered(graph: GraphProto, producers: Mapping[str, int]) -> list[NodeProto]:
    nodes = list(graph.node)
    waiting = [{producers[name] for name in reads_of(node) if name in producers} for node in nodes]
    order = _sorted(waiting)
    if len(order) < len(nodes):
        _raise_cycle(nodes, waiting, set(order), producers)
    return [nodes[index] for index in order]


def _sources(graph: GraphProto) -> set[str]:
    inputs = [i.name for i in graph.input]
    weights = [t.name for t in graph.initializer] + [t.values.name for t in graph.sparse_initializer]
    for what, names in (("input", inputs), ("initializer", weights)):
        if not all(isinstance(name, str) for name in names):
            raise problem(
                "graph", f"{what} names", "text", names, "copy or export the file again, it is damaged"
            )
        double = _first_double(names)
        if double is not None:
            raise problem(f"{what} '{double}'", "name", "unique", "used twice", "rename one of them")
    return {*inputs, *weights}


def _first_double(names: list[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _producers(graph: GraphProto, sources: set[str]) -> dict[str, int]:
    producers: dict[str, int] = {}
    for index, node in enumerate(graph.node):
        for name in node.output:
            if name in producers or name in sources:
                other = where(graph.node[producers[name]]) if name in producers else "an input or initializer"
                fix = "rename one of them"
                raise problem(where(node), f"output '{name}'", "made once", f"made by {other} too", fix)
            if name:
                producers[name] = index
    return producers


def _check_edges(graph: GraphProto, sources: set[str], producers: Mapping[str, int]) -> None:
    allowed = "made by a node or be a graph input or initializer"
    for node in graph.node:
        for name in reads_of(node):
            if name not in producers and name not in sources:
                raise problem(where(node), f"input '{name}'", allowed, "dangling", "export the model again")
    for value in graph.output:
        if value.name not in producers and value.name not in sources:
            raise problem("graph", f"output '{value.name}'", allowed, "dangling", "export the model again")
    double = _first_double([value.name for value in graph.output])
    if double is not None:  # results are handed over by name
        raise problem(
            f"output '{double}'", "name", "unique", "used twice", "add an Identity with another name"
        )
    if not graph.output:
        raise problem("graph", "outputs", "one or more", "none", "export the model again")


def _sorted(waiting: list[set[int]]) -> list[int]:
    """Kahn's algorithm, lowest index first; nodes on or behind a cycle are missing from the result."""
    missing = [len(needs) for needs in waiting]
    readers: dict[int, list[int]] = {}
    for index, needs in enumerate(waiting):
        for need in needs:
            readers.setdefault(need, []).append(index)
    ready = [index for index, count in enumerate(missing) if not count]
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for reader in readers.get(index, ()):
            missing[reader] -= 1
            if not missing[reader]:
                heapq.heappush(ready, reader)
    return order


def _raise_cycle(
    nodes: list[NodeProto], waiting: list[set[int]], done: set[int], producers: Mapping[str, int]
) -> None:
    index = next(i for i in range(len(nodes)) if i not in done)
    seen: set[int] = set()
    while index not in seen:
        seen.add(index)
        index = min(need for need in waiting[index] if need not in done)
    node = nodes[index]
    behind = min(need for need in waiting[index] if need not in done)
    edge = next(name for name in reads_of(node) if producers.get(name) == behind)
    fix = "export the model again"
    raise problem(where(node), "inputs", "made before it", f"dependent on itself through '{edge}'", fix)
