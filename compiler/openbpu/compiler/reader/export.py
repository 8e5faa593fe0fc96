"""The way back: nodes and graphs of the IR as ONNX, for shape inference, folding and CPU segments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    OperatorSetIdProto,
    SparseTensorProto,
    TensorProto,
    TypeProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

from openbpu.compiler.ir.graph import Array, Graph, Node, Value
from openbpu.compiler.reader import elements
from openbpu.compiler.reader.schemas import schema_of

IR_VERSION = 10  # the newest that ONNX Runtime 1.20 reads, and the oldest that knows opset 21 types
_MAX_REPEATED_BYTES = 1 << 20
_KINDS = AttributeProto.AttributeType


def to_onnx(graph: Graph) -> ModelProto:
    """Return `graph` as a ModelProto that computes the same; its initializers are copies of the constants.

    A large constant that repeats what it holds along an axis is stored once, behind an Expand.
    """
    initializers: list[TensorProto] = []
    nodes: list[NodeProto] = []
    for value in graph.values.values():
        if value.const is not None and _repeats(value.const):
            _add_repeated(value.name, value.const, initializers, nodes)
        elif value.const is not None:
            initializers.append(tensor_proto(value.name, value.const))
    proto = helper.make_graph(
        [*nodes, *(node_proto(node, graph.opsets) for node in graph.nodes)],
        graph.name,
        [value_info(graph.values[name]) for name in graph.inputs],
        [value_info(graph.values[name]) for name in graph.outputs],
        initializers,
    )
    return helper.make_model(proto, opset_imports=opset_imports(graph.opsets), ir_version=IR_VERSION)


def _repeats(array: Array) -> bool:
    return array.nbytes > _MAX_REPEATED_BYTES and array.dtype.kind in "biuf" and 0 in array.strides


def _add_repeated(name: str, array: Array, initializers: list[TensorProto], nodes: list[NodeProto]) -> None:
    once = array[tuple(slice(None) if stride else slice(1) for stride in array.strides)]
    parts = (f"{name}/once", f"{name}/shape")
    initializers += [tensor_proto(parts[0], once), tensor_proto(parts[1], np.array(array.shape, np.int64))]
    nodes.append(helper.make_node("Expand", parts, [name], name=f"{name}/expand"))


def opset_imports(opsets: Mapping[str, int]) -> list[OperatorSetIdProto]:
    """Return `opsets` as ONNX declares it."""
    return [helper.make_opsetid(domain, version) for domain, version in opsets.items()]


def value_info(value: Value) -> ValueInfoProto:
    """Declare a value; a tensor without a static shape is declared by its element type alone."""
    info = ValueInfoProto(name=value.name)
    info.type.CopyFrom(type_proto(value))
    return info


def type_proto(value: Value) -> TypeProto:
    """Return the ONNX type of a value; an empty TypeProto when nothing is known."""
    if value.onnx_type is not None:
        return value.onnx_type  # type: ignore[no-any-return]
    if value.dtype == elements.OTHER:
        return TypeProto()
    return helper.make_tensor_type_proto(elements.number_of(value.dtype), value.shape)


def tensor_proto(name: str, array: Array) -> TensorProto:
    """Return an array as an ONNX tensor."""
    return numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)


def node_proto(node: Node, opsets: Mapping[str, int]) -> NodeProto:
    """Return a node as ONNX; `opsets` tells the kinds of attributes whose value does not (empty lists)."""
    proto = NodeProto(
        op_type=node.op, name=node.name, domain=node.domain, input=node.inputs, output=node.outputs
    )
    for name, value in node.attrs.items():
        fill = AttributeProto(name=name, type=cast(Any, _kind_of(name, value, node, opsets)))
        _fill(fill, value)
        proto.attribute.append(fill)
    return proto


def _kind_of(name: str, value: Any, node: Node, opsets: Mapping[str, int]) -> int:
    if isinstance(value, tuple):
        return _list_kind(value) if value else _declared_kind(name, node, opsets)
    return _scalar_kind(value)


def _scalar_kind(value: Any) -> int:
    for kind, types in _SCALARS.items():
        if isinstance(value, types):
            return kind
    raise TypeError(f"an attribute cannot hold {type(value).__name__}")


_SCALARS: dict[int, tuple[type, ...]] = {
    _KINDS.INT: (int, np.integer),
    _KINDS.FLOAT: (float, np.floating),
    _KINDS.STRING: (str, bytes),
    _KINDS.TENSOR: (np.ndarray, TensorProto),
    _KINDS.GRAPH: (GraphProto,),
    _KINDS.SPARSE_TENSOR: (SparseTensorProto,),
    _KINDS.TYPE_PROTO: (TypeProto,),
}
_LISTS: dict[int, int] = {
    _KINDS.INT: _KINDS.INTS,
    _KINDS.FLOAT: _KINDS.FLOATS,
    _KINDS.STRING: _KINDS.STRINGS,
    _KINDS.TENSOR: _KINDS.TENSORS,
    _KINDS.GRAPH: _KINDS.GRAPHS,
    _KINDS.SPARSE_TENSOR: _KINDS.SPARSE_TENSORS,
    _KINDS.TYPE_PROTO: _KINDS.TYPE_PROTOS,
}
_FIELDS: dict[int, str] = {
    _KINDS.INT: "i",
    _KINDS.FLOAT: "f",
    _KINDS.STRING: "s",
    _KINDS.TENSOR: "t",
    _KINDS.GRAPH: "g",
    _KINDS.SPARSE_TENSOR: "sparse_tensor",
    _KINDS.TYPE_PROTO: "tp",
    _KINDS.INTS: "ints",
    _KINDS.FLOATS: "floats",
    _KINDS.STRINGS: "strings",
    _KINDS.TENSORS: "tensors",
    _KINDS.GRAPHS: "graphs",
    _KINDS.SPARSE_TENSORS: "sparse_tensors",
    _KINDS.TYPE_PROTOS: "type_protos",
}


def _list_kind(values: tuple[Any, ...]) -> int:
    kinds = {_scalar_kind(value) for value in values}
    mixed = kinds == {_KINDS.INT, _KINDS.FLOAT}
    return _KINDS.FLOATS if mixed else _LISTS[min(kinds)]


def _declared_kind(name: str, node: Node, opsets: Mapping[str, int]) -> int:
    schema = schema_of(node.op, opsets.get(node.domain, 1), node.domain)
    return schema.attributes.get(name, _KINDS.INTS) if schema else _KINDS.INTS


def _fill(attribute: AttributeProto, value: Any) -> None:
    field = _FIELDS[attribute.type]
    if isinstance(value, tuple):
        getattr(attribute, field).extend(_encoded(item) for item in value)
    elif isinstance(value, (int, float, str, bytes, np.generic)):
        setattr(attribute, field, _encoded(value))
    else:
        getattr(attribute, field).CopyFrom(_encoded(value))


def _encoded(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode()
    return tensor_proto("", value) if isinstance(value, np.ndarray) else value


def graph_copy(graph: GraphProto, nodes: Iterable[NodeProto]) -> GraphProto:
    """Return a subgraph with other nodes."""
    copy = GraphProto()
    copy.CopyFrom(graph)
    del copy.node[:]
    copy.node.extend(nodes)
    return copy
