"""Subgraphs: an If whose condition is known becomes its branch; other bodies go to the same opset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from onnx import GraphProto, NodeProto

from openbpu.compiler.ir.graph import Array, Node
from openbpu.compiler.reader.export import graph_copy, node_proto
from openbpu.compiler.reader.nodes import captures_of, node_of, subgraphs_of
from openbpu.compiler.reader.order import body_order
from openbpu.compiler.reader.rules import normalised
from openbpu.compiler.reader.schemas import FORM_OPSET
from openbpu.compiler.reader.scope import Names, Scope, constant
from openbpu.compiler.reader.tensors import TensorReader


def inlined_branch(node: Node, scope: Scope, tensors: TensorReader) -> list[Node] | None:
    """Return the nodes of the branch that an If with a constant condition takes, under names of their own.

    None when the condition is not known or the branch holds subgraphs itself. The branch's own constants are
    added to `scope`.
    """
    condition = scope.const(node.inputs[0]) if node.op == "If" and not node.domain else None
    if condition is None or condition.size != 1:
        return None
    graph: GraphProto = node.attrs["then_branch" if condition.item() else "else_branch"]
    if any(subgraphs_of(inner) for inner in graph.node):
        return None
    names = _outer_names(graph, node, scope)
    for tensor in graph.initializer:
        scope.define(constant(names[tensor.name], tensors.array(tensor)))
    nodes = [_renamed(node_of(inner, tensors), names, node) for inner in body_order(graph)]
    links = zip(graph.output, node.outputs, strict=True)
    return nodes + [
        Node(
            "Identity",
            (names.get(inner.name, inner.name),),
            (outer,),
            {},
            f"{node.name}_{outer}",
            "",
            node.origins,
        )
        for inner, outer in links
        if outer
    ]


def _outer_names(graph: GraphProto, node: Node, scope: Scope) -> dict[str, str]:
    made = [t.name for t in graph.initializer]
    made += [name for inner in graph.node for name in inner.output if name]
    names = {name: scope.fresh(f"{node.name}/{name}") for name in made}
    scope.used.update(names.values())
    return names


def _renamed(inner: Node, names: Mapping[str, str], outer: Node) -> Node:
    return replace(
        inner,
        inputs=tuple(names.get(name, name) for name in inner.inputs),
        outputs=tuple(names.get(name, name) for name in inner.outputs),
        name=f"{outer.name}/{inner.name or inner.op}",
        origins=outer.origins,
    )


def normalised_subgraphs(node: Node, scope: Scope, tensors: TensorReader) -> Node:
    """Return the node with the nodes of its subgraphs in the one form, where the model's opset is older."""
    if scope.opsets.get("", FORM_OPSET) >= FORM_OPSET:
        return node
    graphs = {name: value for name, value in node.attrs.items() if isinstance(value, GraphProto)}
    if not graphs:
        return node
    changed = {name: _normalised_graph(graph, scope, tensors) for name, graph in graphs.items()}
    return replace(node, attrs={**node.attrs, **changed})


def _normalised_graph(graph: GraphProto, scope: Scope, tensors: TensorReader) -> GraphProto:
    inner_scope = _InnerScope(scope, graph)
    protos: list[NodeProto] = []
    for proto in graph.node:
        node = normalised_subgraphs(node_of(proto, tensors), scope, tensors)
        new = list(normalised(node, inner_scope))
        protos.extend(node_proto(n, {"": FORM_OPSET}) for n in (*inner_scope.take_constants(), *new))
    return graph_copy(graph, protos)


class _InnerScope(Scope):
    """A scope inside a subgraph: what the rules add are Constant nodes in it; no shape inside is known."""

    def __init__(self, outer: Scope, graph: GraphProto) -> None:
        names = {name for node in graph.node for name in (*node.input, *node.output)}
        seen = {name: outer.values[name] for name in captures_of(graph) if name in outer.values}
        super().__init__(outer.opsets, names, Names(outer.taken | names), seen)
        self._constants: list[Node] = []

    def add(self, array: Array, hint: str) -> str:
        """Add a Constant node and return the name of its output."""
        name = super().add(array, hint)
        self._constants.append(Node("Constant", (), (name,), {"value": array}))
        return name

    def take_constants(self) -> list[Node]:
        """Return the Constant nodes added since the last call."""
        taken, self._constants = self._constants, []
        return taken
