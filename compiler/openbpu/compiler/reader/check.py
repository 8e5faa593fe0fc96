"""Is this graph legal ONNX? Names, edges, order and operators, each with an error that names the node."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, defs

from openbpu.compiler.reader.nodes import domain_of, reads_of, subgraphs_of, where
from openbpu.compiler.reader.problem import problem
from openbpu.compiler.reader.schemas import KNOWN_DOMAINS, Schema, schema_of

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


def _check_node(node: NodeProto, opsets: Mapping[str, int]) -> None:
    words = (node.op_type, node.domain, node.name, *node.input, *node.output)
    if not all(isinstance(word, str) for word in words):  # protobuf leaves what is no UTF-8 as bytes
        raise problem(
            "graph", "names of a node", "text", words, "copy or export the file again, it is damaged"
        )
    domain = domain_of(node)
    if domain not in KNOWN_DOMAINS:
        allowed = "one of ai.onnx, ai.onnx.ml, com.microsoft"
        fix = "remove the node or export it with standard operators"
        raise problem(where(node), "domain", allowed, f"'{domain}'", fix)
    if domain not in opsets:
        fix = "export the model again"
        raise problem(where(node), f"domain '{domain or 'ai.onnx'}'", "in opset_import", "missing", fix)
    if domain == "com.microsoft":
        return  # onnx has no schemas of ONNX Runtime's own operators
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
    listed = list(node.input)[schema.variadic_from :]
    if not all(listed):
        found = f"input {schema.variadic_from + listed.index('')} left out"
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


def checked_order(graph: GraphProto) -> list[NodeProto]:
    """Return the nodes in topological order, as near to the file's order as that allows.

    Raises ModelError for a value that is made twice, an edge without a source, a cycle or no outputs.
    """
    sources = _sources(graph)
    producers = _producers(graph, sources)
    _check_edges(graph, sources, producers)
    nodes = list(graph.node)
    waiting = [{producers[name] for name in reads_of(node) if name not in sources} for node in nodes]
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
