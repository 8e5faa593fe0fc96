"""NodeProto to Node: attributes as plain Python values, and what subgraphs read from around them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from onnx import AttributeProto, GraphProto, NodeProto, TensorProto

from openbpu.compiler.ir.graph import Node
from openbpu.compiler.reader.export import tensor_proto
from openbpu.compiler.reader.problem import problem
from openbpu.compiler.reader.tensors import TensorReader

_KINDS = AttributeProto.AttributeType
_TENSOR = AttributeProto.TENSOR
_DOMAINS = {"ai.onnx": ""}


def domain_of(proto: NodeProto) -> str:
    """Domain of a node, "" for ai.onnx however it is written."""
    return _DOMAINS.get(proto.domain, proto.domain)


def where(proto: NodeProto) -> str:
    """How an error names a node: by its name, or by what it makes when it has none."""
    label = proto.name or f"making '{next(iter(proto.output), '')}'"
    return f"node '{label}' ({proto.op_type})" if proto.name else f"node {label} ({proto.op_type})"


def node_of(proto: NodeProto, tensors: TensorReader) -> Node:
    """Return `proto` as a Node without origins.

    Subgraphs are copied, so that the model can be freed, with all their constants inside and dense.
    """
    attrs = {a.name: attribute_value(a, tensors, where(proto)) for a in proto.attribute}
    captures = _captures_of(proto)
    return Node(
        proto.op_type,
        tuple(proto.input),
        tuple(proto.output),
        attrs,
        proto.name,
        domain_of(proto),
        (),
        captures,
    )


def attribute_value(attribute: AttributeProto, tensors: TensorReader, place: str) -> Any:
    """Return the value of an attribute as `Node.attrs` holds it; raises ModelError when it has none."""
    read = _READERS.get(attribute.type)
    if read is None or attribute.ref_attr_name:
        kind = attribute.ref_attr_name or attribute.type
        raise problem(place, f"attribute '{attribute.name}'", "a value", f"unset ({kind})", "export again")
    return read(attribute, tensors)


def _text(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _copied(proto: Any) -> Any:
    copy = type(proto)()
    copy.CopyFrom(proto)
    return copy


def _whole(graph: GraphProto, tensors: TensorReader) -> GraphProto:
    """Bring the constants of a graph, a copy, inside it and make sparse ones dense; returns the graph.

    CPU segments are one file each, and ONNX Runtime finds no sparse initializer that a subgraph reads.
    """
    for sparse in graph.sparse_initializer:
        graph.initializer.append(tensor_proto(sparse.values.name, tensors.dense(sparse)))
    del graph.sparse_initializer[:]
    for tensor in graph.initializer:
        _bring_inside(tensor, tensors)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == _KINDS.SPARSE_TENSOR and node.op_type == "Constant":
                dense = tensor_proto("", tensors.dense(attribute.sparse_tensor))
                attribute.CopyFrom(AttributeProto(name="value", type=_TENSOR, t=dense))
            for tensor in (attribute.t, *attribute.tensors):
                _bring_inside(tensor, tensors)
        for inner in subgraphs_of(node):
            _whole(inner, tensors)
    return graph


def _bring_inside(tensor: TensorProto, tensors: TensorReader) -> None:
    if tensor.data_location == TensorProto.EXTERNAL:
        tensor.CopyFrom(tensor_proto(tensor.name, tensors.array(tensor)))


_READERS: dict[int, Callable[[AttributeProto, TensorReader], Any]] = {
    _KINDS.FLOAT: lambda a, _: a.f,
    _KINDS.INT: lambda a, _: a.i,
    _KINDS.STRING: lambda a, _: _text(a.s),
    _KINDS.TENSOR: lambda a, tensors: tensors.array(a.t, f"attribute '{a.name}'"),
    _KINDS.GRAPH: lambda a, tensors: _whole(_copied(a.g), tensors),
    _KINDS.SPARSE_TENSOR: lambda a, _: _copied(a.sparse_tensor),
    _KINDS.TYPE_PROTO: lambda a, _: _copied(a.tp),
    _KINDS.FLOATS: lambda a, _: tuple(a.floats),
    _KINDS.INTS: lambda a, _: tuple(a.ints),
    _KINDS.STRINGS: lambda a, _: tuple(_text(s) for s in a.strings),
    _KINDS.TENSORS: lambda a, tensors: tuple(tensors.array(t, f"attribute '{a.name}'") for t in a.tensors),
    _KINDS.GRAPHS: lambda a, tensors: tuple(_whole(_copied(g), tensors) for g in a.graphs),
    _KINDS.SPARSE_TENSORS: lambda a, _: tuple(_copied(t) for t in a.sparse_tensors),
    _KINDS.TYPE_PROTOS: lambda a, _: tuple(_copied(t) for t in a.type_protos),
}


def subgraphs_of(proto: NodeProto) -> list[GraphProto]:
    """Every graph that the attributes of a node hold."""
    graphs = [a.g for a in proto.attribute if a.type == _KINDS.GRAPH]
    for attribute in proto.attribute:
        if attribute.type == _KINDS.GRAPHS:
            graphs.extend(attribute.graphs)
    return graphs


def reads_of(proto: NodeProto) -> list[str]:
    """Every value a node depends on: inputs that are not omitted, then what its subgraphs capture."""
    return [*(name for name in proto.input if name), *_captures_of(proto)]


def _captures_of(proto: NodeProto) -> tuple[str, ...]:
    return _unique(name for graph in subgraphs_of(proto) for name in captures_of(graph))


def captures_of(graph: GraphProto) -> tuple[str, ...]:
    """Names that a subgraph reads but does not define, in order of first use."""
    defined = {i.name for i in graph.input} | {t.name for t in graph.initializer}
    defined |= {t.values.name for t in graph.sparse_initializer}
    defined |= {name for node in graph.node for name in node.output}
    inner = [name for node in graph.node for name in reads_of(node)]
    outputs = [value.name for value in graph.output]
    return _unique(name for name in inner + outputs if name not in defined)


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
