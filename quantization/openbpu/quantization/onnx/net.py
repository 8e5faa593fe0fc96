"""The graph that quantization works on: ONNX nodes in order, constants as arrays, shapes and types."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
from onnx import (
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

from openbpu.arch.arrays import Array
from openbpu.arch.errors import ModelError, must
from openbpu.arch.protos import opset_of
from openbpu.quantization.onnx.nodes import reads

Shape = tuple[int | str | None, ...]

_FIX = "export the model again"

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
