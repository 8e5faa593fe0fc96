"""ONNX nodes: what they are called, what they read and carry, and copies of them that read something else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from onnx import AttributeProto, GraphProto, NodeProto, helper


def name_of(node: NodeProto) -> str:
    """Return how a node is called: by its name or, where it has none, by what it makes."""
    return node.name or next(filter(None, node.output), "")


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """Return an attribute of `node` as Python value (strings decoded), or `default`."""
    for item in node.attribute:
        if item.name == name:
            value = helper.get_attribute_value(item)
            return value.decode(errors="replace") if isinstance(value, bytes) else value
    return default


def reads(node: NodeProto) -> Iterator[str]:
    """Yield the tensors `node` reads, with those its subgraphs take from outside."""
    yield from filter(None, node.input)
    for body in subgraphs(node) if node.attribute else ():
        inner = _given(body)
        for child in body.node:
            yield from (name for name in reads(child) if name not in inner)
            inner.update(child.output)
        yield from (v.name for v in body.output if v.name not in inner)


def _given(body: GraphProto) -> set[str]:
    """Names that a subgraph has before its first node."""
    weights = (t.values.name for t in body.sparse_initializer)
    return {v.name for v in body.input} | {t.name for t in body.initializer} | set(weights)


_BODIES = {AttributeProto.UNDEFINED, AttributeProto.GRAPH, AttributeProto.GRAPHS}
"""Types of attributes that hold graphs; old files leave them out."""


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """Yield the graphs that `node` carries as attributes."""
    for item in node.attribute:
        if item.type in _BODIES:
            if item.HasField("g"):
                yield item.g
            yield from item.graphs


def remake(
    node: NodeProto, inputs: Iterable[str] | None = None, outputs: Iterable[str] | None = None
) -> NodeProto:
    """Return a copy of `node`, attributes, name and metadata included, with other inputs or outputs."""
    made = NodeProto()
    made.CopyFrom(node)
    if inputs is not None:
        del made.input[:]
        made.input.extend(inputs)
    if outputs is not None:
        del made.output[:]
        made.output.extend(outputs)
    return made


def rename_reads(node: NodeProto, names: Mapping[str, str]) -> NodeProto:
    """Return `node` reading `names[x]` instead of x, inside its subgraphs too."""
    if not any(name in names for name in reads(node)):
        return node
    made = remake(node, [names.get(name, name) for name in node.input])
    for body in subgraphs(made):
        _rename_captured(body, names)
    return made


def _rename_captured(body: GraphProto, names: Mapping[str, str]) -> None:
    """Rename what a (freshly copied) subgraph takes from outside; its own names hide outer ones."""
    inner = _given(body)
    inner.update(name for child in body.node for name in child.output)
    outer = {old: new for old, new in names.items() if old not in inner}
    children = [rename_reads(child, outer) for child in body.node]
    del body.node[:]
    body.node.extend(children)
    for value in body.output:
        if value.name in outer:
            body.node.append(helper.make_node("Identity", [outer[value.name]], [value.name]))
