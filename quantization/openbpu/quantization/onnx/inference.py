"""Types and shapes of the tensors of a net, as far as ONNX can infer them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import onnx
from onnx import ModelProto, NodeProto, TypeProto, ValueInfoProto, helper

from openbpu.arch.errors import ModelError, must
from openbpu.arch.shape_data import check_axes, types_with_data
from openbpu.quantization.onnx.net import Net, Shape, assemble
from openbpu.quantization.onnx.nodes import subgraphs

MAX_BYTES = 1 << 31
"""Bytes of one tensor: no BPU, and no `.hbm`, has larger ones."""

_REFUSALS = (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, ValueError)


def infer(net: Net) -> Net:
    """Return `net` with the types and shapes that ONNX can infer."""
    skeleton = assemble(net, skeleton=True)
    for node in net.nodes:  # constants only: other shapes are not known yet
        given = [net.consts[name].shape if name in net.consts else None for name in node.input]
        check_axes(_place(node), node.op_type if node.domain in {"", "ai.onnx"} else "", given)
    try:
        found = _inferred(skeleton)
    except _REFUSALS as error:
        where, reason = f"model '{net.header.graph.name}'", " ".join(str(error).split())
        raise ModelError(must(where, "the shapes", "consistent", f"({reason})", "export it again")) from error
    types: dict[str, int] = {}
    shapes: dict[str, Shape] = {}
    for name, known in found.items():
        if known.HasField("tensor_type"):
            types[name] = known.tensor_type.elem_type
        shape = shape_in(known)
        if shape is not None:
            shapes[name] = shape
    _check_sizes(net.nodes, types, shapes)
    shapes.update((name, array.shape) for name, array in net.consts.items())
    return replace(net, types=types, shapes=shapes)


def _inferred(skeleton: ModelProto) -> dict[str, TypeProto]:
    """Return the types that ONNX infers; computed shapes, if any are left, are taken into account."""
    infer_shapes = onnx.shape_inference.infer_shapes
    if any(node.op_type in {"Shape", "Size"} or any(subgraphs(node)) for node in skeleton.graph.node):
        return types_with_data(skeleton, infer_shapes)
    graph = infer_shapes(skeleton).graph
    return {value.name: value.type for value in (*graph.value_info, *graph.output, *graph.input)}


def made_type(net: Net, node: NodeProto, name: str) -> int:
    """Return the ONNX element type of an output as the types of the node's inputs decide it; 0 if unknown."""
    versions = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in net.header.opset_import}
    domain = "" if node.domain == "ai.onnx" else node.domain
    try:
        schema = onnx.defs.get_schema(node.op_type, versions.get(domain, 1), domain)
        given = {
            n: helper.make_tensor_type_proto(_type_of(net, n), net.shapes.get(n)) for n in node.input if n
        }
        found = onnx.shape_inference.infer_node_outputs(
            schema, node, given, opset_imports=list(net.header.opset_import)
        )
    except (*_REFUSALS, KeyError, onnx.defs.SchemaError):  # no schema, no inference, or no type of an input
        return 0
    return int(found[name].tensor_type.elem_type) if name in found else 0


def _type_of(net: Net, name: str) -> int:
    array = net.consts.get(name)
    return net.types[name] if array is None else helper.np_dtype_to_tensor_dtype(array.dtype)


def _check_sizes(nodes: Iterable[NodeProto], types: Mapping[str, int], shapes: Mapping[str, Shape]) -> None:
    """Refuse what the compiler refuses too: a file of some bytes can describe a tensor of any size."""
    for node in nodes:
        for name in node.output:
            size = nbytes(types.get(name, 0), shapes.get(name, ()))
            if size > MAX_BYTES:
                where, found = f"{_place(node)}: output '{name}'", f"{size:,} bytes"
                raise ModelError(must(where, "size", "at most 2 GiB", found, "use smaller inputs"))


def nbytes(kind: int, shape: Shape) -> int:
    """Return how many bytes a tensor of an ONNX element type takes at least: an unknown axis counts as 1."""
    known = helper.get_all_tensor_dtypes()
    item = helper.tensor_dtype_to_np_dtype(kind).itemsize if kind in known else 1
    return item * math.prod(d for d in shape if isinstance(d, int))


def _place(node: NodeProto) -> str:
    return f"node '{node.name or ''.join(node.output[:1])}' ({node.op_type})"


def shape_of(value: ValueInfoProto) -> Shape | None:
    """Return the declared shape; None when even the rank is unknown."""
    return shape_in(value.type)


def shape_in(known: TypeProto) -> Shape | None:
    """Return the shape of a type; None when even the rank is unknown."""
    tensor = known.tensor_type
    return tuple(_dim(d) for d in tensor.shape.dim) if tensor.HasField("shape") else None


def _dim(dim: Any) -> int | str | None:
    return dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
