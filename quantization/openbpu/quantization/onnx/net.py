"""The graph that quantization works on: ONNX nodes in order, constants as arrays, shapes and types."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    TypeProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

from openbpu.arch.errors import ModelError, must
from openbpu.arch.protos import opset_of
from openbpu.arch.shape_data import check_axes, types_with_data

Array = npt.NDArray[Any]
Shape = tuple[int | str | None, ...]

_FIX = "export the model again"
MAX_BYTES = 1 << 31
"""Bytes of one tensor: no BPU, and no `.hbm`, has larger ones."""

SMALL = 1024
"""Constants up to this many elements are shown to shape inference: they may be shapes, axes or scales."""


@dataclass(frozen=True, slots=True)
class Net:
    """A float model taken apart. `header` is the model without its nodes and constants.

    `types` maps a tensor to its ONNX element type, `shapes` to its dimensions: an int, a symbol, or None if
    unknown. Nodes and arrays are never changed in place.
    """

    header: ModelProto
    nodes: tuple[NodeProto, ...]
    consts: Mapping[str, Array]
    types: Mapping[str, int] = field(default_factory=dict)
    shapes: Mapping[str, Shape] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the graph's inputs."""
        return tuple(v.name for v in self.header.graph.input)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the graph's outputs."""
        return tuple(v.name for v in self.header.graph.output)

    @property
    def opset(self) -> int:
        """Version of the default domain."""
        return opset_of(self.header, unnamed=1)

    def is_float(self, name: str) -> bool:
        """Whether `name` is a float32 tensor, constant or not."""
        if name in self.consts:
            return self.consts[name].dtype == np.float32
        return self.types.get(name) == TensorProto.FLOAT

    def is_live(self, name: str) -> bool:
        """Whether `name` is a float32 tensor that is computed or fed."""
        return name not in self.consts and self.types.get(name) == TensorProto.FLOAT

    def consumers(self) -> dict[str, list[int]]:
        """Map a tensor to the nodes that read it; a node that reads it twice stands there twice."""
        readers: dict[str, list[int]] = {}
        for index, node in enumerate(self.nodes):
            for name in reads(node):
                readers.setdefault(name, []).append(index)
        return readers

    def producers(self) -> dict[str, int]:
        """Map a computed tensor to the index of its node."""
        return {name: index for index, node in enumerate(self.nodes) for name in node.output if name}

    def with_nodes(self, nodes: Iterable[NodeProto], consts: Mapping[str, Array] | None = None) -> Net:
        """Return the net with other nodes and with `consts` added; constants nobody reads are dropped."""
        kept = tuple(nodes)
        used = {name for node in kept for name in reads(node)} | set(self.outputs)
        merged = {**self.consts, **(consts or {})}
        return replace(self, nodes=kept, consts={n: a for n, a in merged.items() if n in used})


class Names:
    """Hands out tensor and node names that the net does not use yet."""

    def __init__(self, net: Net) -> None:
        self._used = {*net.consts, *net.inputs, *net.outputs}
        for node in net.nodes:
            self._used.update((*node.input, *node.output, node.name))

    def fresh(self, name: str) -> str:
        """Return `name`, or `name_1`, `name_2`, … if it is taken, and take it."""
        unique, number = name, 0
        while unique in self._used:
            number += 1
            unique = f"{name}_{number}"
        self._used.add(unique)
        return unique


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


def take_apart(model: ModelProto, weights: Mapping[str, Array] = MappingProxyType({})) -> Net:
    """Return `model` as a Net: initializers and Constant nodes become arrays.

    `weights`: initializers by name whose data are not in the model.
    """
    consts = {
        t.name: weights[t.name] if t.name in weights else array_of(t, f"tensor '{t.name}'")
        for t in model.graph.initializer
    }
    nodes = []
    for node in model.graph.node:
        value = _constant(node)
        if value is None:
            nodes.append(node)
        else:
            consts[node.output[0]] = value
    inputs = [v for v in model.graph.input if v.name not in consts]
    header = ModelProto()
    header.CopyFrom(_without_graph(model))
    header.graph.name = model.graph.name or "model"
    header.graph.doc_string = model.graph.doc_string
    header.graph.input.extend(inputs)
    header.graph.output.extend(model.graph.output)
    header.graph.metadata_props.extend(model.graph.metadata_props)
    names = {name for node in nodes if node.domain not in {"", "ai.onnx"} for name in node.output}
    header.graph.value_info.extend(v for v in model.graph.value_info if v.name in names)
    return Net(header, tuple(nodes), consts)


def array_of(tensor: TensorProto, where: str) -> Array:
    """Return the data of a tensor; raises ModelError where type, shape and data contradict each other."""
    try:
        return numpy_helper.to_array(tensor)
    except Exception as error:  # contradictions of type, shape and data, each with a class of its own
        said = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(must(where, "its data", "readable", f"({said})", _FIX)) from error


def _without_graph(model: ModelProto) -> ModelProto:
    bare = ModelProto(
        ir_version=model.ir_version,
        producer_name=model.producer_name,
        producer_version=model.producer_version,
        domain=model.domain,
        model_version=model.model_version,
        doc_string=model.doc_string,
    )
    bare.opset_import.extend(model.opset_import)
    bare.metadata_props.extend(model.metadata_props)
    return bare


def _constant(node: NodeProto) -> Array | None:
    """Return the value of a Constant node that holds an array or numbers; None for any other node."""
    if node.op_type != "Constant" or node.domain not in {"", "ai.onnx"}:
        return None
    where = f"Constant '{node.name or ''.join(node.output[:1])}'"
    if len(node.attribute) != 1 or not node.output:
        found = f"{len(node.attribute)} attributes, {len(node.output)} outputs"
        raise ModelError(must(where, "what it holds", "one value for one output", found, _FIX))
    item = node.attribute[0]
    value = helper.get_attribute_value(item)
    if item.name == "value":
        return array_of(value, where)
    kinds = {
        "value_float": np.float32,
        "value_floats": np.float32,
        "value_int": np.int64,
        "value_ints": np.int64,
    }
    return np.asarray(value, dtype=kinds[item.name]) if item.name in kinds else None


def assemble(
    net: Net, extra_outputs: Iterable[str] = (), *, skeleton: bool = False, apart: Collection[str] = ()
) -> ModelProto:
    """Return `net` as a model; `extra_outputs` are float32 tensors made outputs too.

    A skeleton holds large constants (more than SMALL elements) as typed inputs instead: enough for shape
    inference. Constants named in `apart` are initializers without their data.
    """
    model = ModelProto()
    model.CopyFrom(net.header)
    graph = model.graph
    graph.node.extend(net.nodes)
    for name, array in net.consts.items():
        if skeleton and array.size > SMALL:
            graph.input.append(value_info(name, array))
        elif name in apart:
            graph.initializer.append(_elsewhere(name, array))
        else:
            graph.initializer.append(numpy_helper.from_array(array, name))
    known = set(net.outputs)
    for name in extra_outputs:
        if name not in known:
            graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return model


def _elsewhere(name: str, array: Array) -> TensorProto:
    """Return an initializer whose data a session is given beside the model."""
    made = TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(array.dtype), dims=array.shape)
    made.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "given"), ("offset", "0"), ("length", str(array.nbytes))):
        made.external_data.add(key=key, value=value)
    return made


def value_info(name: str, array: Array) -> ValueInfoProto:
    """Return the declaration of a tensor that has the type and shape of `array`."""
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)


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
