"""Half floats become float32; inputs and outputs of the model keep their type.

    x (float16) → Conv (float16) → y        becomes        x → Cast → Conv (float32) → Cast → y

Every half float is a float32. What float16 would have rounded between two operators is not rounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from openbpu.arch.arrays import Array
from openbpu.quantization.onnx.nodes import subgraphs

_HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_TYPES = ("to", "dtype", "output_dtype")


def in_float32(model: ModelProto, weights: Mapping[str, Array]) -> tuple[ModelProto, Mapping[str, Array]]:
    """Return the model, and its weights that lie in files, without half floats."""
    if not any(map(_has_halves, _graphs(model.graph))):
        return model, weights
    made = ModelProto()
    made.CopyFrom(model)
    ends = [v.name for v in (*made.graph.input, *made.graph.output) if _is_half(v.type.tensor_type.elem_type)]
    kept = {v.name: v.type.tensor_type.elem_type for v in (*made.graph.input, *made.graph.output)}
    for graph in _graphs(made.graph):
        _widen(graph, weights)
    for name in dict.fromkeys(ends):
        _cast_end(made.graph, name, kept[name])
    return made, {name: _wide(array) for name, array in weights.items()}


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from _graphs(inner)


def _is_half(kind: int) -> bool:
    return kind in _HALVES


def _has_halves(graph: GraphProto) -> bool:
    values = (v.type.tensor_type.elem_type for v in (*graph.input, *graph.output, *graph.value_info))
    stored = (t.data_type for t in graph.initializer)
    return any(map(_is_half, (*values, *stored))) or any(map(_names_half, graph.node))


def _names_half(node: NodeProto) -> bool:
    return any(
        (a.name in _TYPES and _is_half(a.i)) or (a.HasField("t") and _is_half(a.t.data_type))
        for a in node.attribute
    )


def _widen(graph: GraphProto, weights: Mapping[str, Array]) -> None:
    for tensor in graph.initializer:
        if tensor.name in weights and _is_half(tensor.data_type):
            tensor.data_type = TensorProto.FLOAT  # its data are in a file
        else:
            _widen_tensor(tensor)
    for value in (*graph.input, *graph.output, *graph.value_info):
        if _is_half(value.type.tensor_type.elem_type):
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in graph.node:
        for found in node.attribute:
            if found.name in _TYPES and _is_half(found.i):
                found.i = TensorProto.FLOAT
            if found.HasField("t"):
                _widen_tensor(found.t)


def _widen_tensor(tensor: TensorProto) -> None:
    if _is_half(tensor.data_type):
        wide = numpy_helper.from_array(_wide(numpy_helper.to_array(tensor)), tensor.name)
        tensor.CopyFrom(wide)


def _wide(array: Array) -> Array:
    half = array.dtype.itemsize == 2 and array.dtype.kind not in "iu"
    return np.asarray(array, np.float32) if half else array


def _cast_end(graph: GraphProto, name: str, kind: int) -> None:
    """Give an input or output of the model its type back, with a Cast behind or in front of it."""
    wide = f"{name}/float32"
    is_input = any(v.name == name for v in graph.input)
    for node in graph.node:
        names = node.input if is_input else node.output
        for at, found in enumerate(names):
            if found == name:
                names[at] = wide
        if not is_input:
            for at, found in enumerate(node.input):
                if found == name:
                    node.input[at] = wide
    for value in (*graph.input, *graph.output):
        if value.name == name:
            value.type.tensor_type.elem_type = kind
    ends = (name, wide, TensorProto.FLOAT) if is_input else (wide, name, kind)
    cast = helper.make_node("Cast", [ends[0]], [ends[1]], f"{name}/Cast", to=int(ends[2]))
    nodes = [cast, *graph.node] if is_input else [*graph.node, cast]
    kept = [NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del graph.node[:]
    graph.node.extend(kept)
