"""Types and shapes of what a node makes: onnx's own inference, one node at a time, with constants as data.

Walking in topological order with every constant folded makes one pass enough. What onnx cannot infer from a
node alone (bodies of If and Loop, operators defined as functions, ONNX Runtime's own operators) is looked up
in one inference of the whole model, done only when first needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx
from onnx import ModelProto, NodeProto, TensorProto, TypeProto, shape_inference

from openbpu.arch.errors import ModelError, must
from openbpu.arch.shape_data import types_with_data
from openbpu.compiler.ir.graph import Node, Value
from openbpu.compiler.reader import elements
from openbpu.compiler.reader.contrib import (
    is_channels_last,
    makes_floats,
    shape_of_choice,
    standard_form,
)
from openbpu.compiler.reader.export import IR_VERSION, node_proto, opset_imports, tensor_proto
from openbpu.compiler.reader.ranges import range_of
from openbpu.compiler.reader.schemas import schema_of
from openbpu.compiler.reader.scope import Scope, static_shape

REFUSALS = (shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, ValueError)
"""What onnx raises where it cannot infer; ValueError: more bytes than protobuf writes."""
_MAX_DATA = 1024  # elements of a constant that inference may look at; shapes, pads and sizes are all smaller
_MAX_COUNT = 2**63 - 1  # a dimension has no more, and no tensor has nearly as many
_NO_DATA = frozenset(
    {"Conv", "Gemm", "BatchNormalization", "QuantizeLinear", "DequantizeLinear", "ConvTranspose"}
)


_POOLS = frozenset({"MaxPool", "AveragePool", "LpPool"})
_POOL_OPSET = 22
"""Older schemas count a window of ceil_mode that starts in the padding; newer ones, and runtimes, drop it."""


class Inference:
    """Infers the output types of nodes at fixed opsets.

    `whole_model` makes, when called, a small copy of the model with static input shapes.
    """

    def __init__(self, opsets: Mapping[str, int], whole_model: Callable[[], ModelProto]) -> None:
        self._opsets = opsets
        self._imports = opset_imports(opsets)
        self._whole_model = whole_model
        self._hints: dict[str, TypeProto] | None = None

    def outputs(self, node: Node, scope: Scope) -> list[TypeProto]:
        """Return the type of every output, an empty TypeProto where nothing is known.

        Raises ModelError when the shapes or types of the inputs contradict the operator.
        """
        inferred = self._of_choice(node, scope) or self._of_standard(node, scope)
        return [self._completed(name, inferred.get(name)) if name else TypeProto() for name in node.outputs]

    def _of_choice(self, node: Node, scope: Scope) -> Mapping[str, TypeProto]:
        shape = shape_of_choice(node, scope.shape)
        if shape is None:
            return {}
        number = elements.number_of(scope.dtype(node.inputs[1 if node.op == "QLinearWhere" else 0]))
        return {node.outputs[0]: onnx.helper.make_tensor_type_proto(number, shape)}

    def _of_standard(self, node: Node, scope: Scope) -> Mapping[str, TypeProto]:
        standard = standard_form(node)
        return self._of_node(node, scope) if standard is node else self._of_contrib(node, standard, scope)

    def _of_contrib(self, node: Node, standard: Node, scope: Scope) -> Mapping[str, TypeProto]:
        """Infer with float tensors, which every operator takes, and give the type of the first back."""
        floats, turned = Scope(scope.opsets, scope.used, scope.taken), is_channels_last(node)
        for name in standard.reads:
            shape = scope.shape(name)
            image = turned and name == standard.inputs[0]
            floats.define(Value(name, _channels_first(shape) if image else shape, "float32"))
        inferred = self._of_node(standard, floats)
        dtype = "float32" if makes_floats(node) else scope.dtype(standard.inputs[0])
        made: dict[str, TypeProto] = {}
        for name, known in inferred.items():
            shape = static_shape(known)
            if shape is None:
                known.tensor_type.elem_type = elements.number_of(dtype)
                made[name] = known
                continue
            shape = _channels_last(shape) if turned else shape
            made[name] = onnx.helper.make_tensor_type_proto(elements.number_of(dtype), shape)
        return made

    def _of_node(self, node: Node, scope: Scope) -> Mapping[str, TypeProto]:
        version = self._opsets.get(node.domain, 0)
        if node.op in _POOLS and node.domain == "":
            version = max(version, _POOL_OPSET)
        schema = schema_of(node.op, version, node.domain)
        if schema is None:
            return {}
        types = {name: scope.type_of(name) for name in node.reads}
        if not all(_has_type(known) for known in types.values()):
            return {}
        if (exact := range_of(node, scope)) is not None:
            number = elements.number_of(exact.dtype.name)
            return {
                node.outputs[0]: onnx.helper.make_tensor_type_proto(number, [min(exact.count, _MAX_COUNT)])
            }
        proto = node_proto(node, self._opsets)
        data = {} if node.op in _NO_DATA else _data(node.inputs, scope)
        try:
            if not schema.onnx.has_type_and_shape_inference_function:
                return self._of_function(proto, types, data)
            return shape_inference.infer_node_outputs(
                schema.onnx, proto, types, data, opset_imports=self._imports
            )
        except REFUSALS as error:
            return self._after_error(node, scope, error)

    def _of_function(
        self, proto: NodeProto, types: Mapping[str, TypeProto], data: Mapping[str, TensorProto]
    ) -> Mapping[str, TypeProto]:
        """Infer an operator that is a function of others: onnx looks into it in a whole model only."""
        small = ModelProto(ir_version=IR_VERSION, opset_import=self._imports)
        small.graph.name = "function"
        small.graph.node.append(proto)
        small.graph.initializer.extend(data.values())
        for name, known in types.items():
            if name not in data:
                small.graph.input.add(name=name, type=known)
        for name in proto.output:
            small.graph.output.add(name=name)
        return {value.name: value.type for value in shape_inference.infer_shapes(small).graph.output}

    def _after_error(self, node: Node, scope: Scope, error: Exception) -> Mapping[str, TypeProto]:
        if node.captures or any(scope.shape(name) is None for name in node.inputs if name):
            return {}
        shapes = ", ".join(
            f"{scope.dtype(name)}{list(scope.shape(name) or ())}" for name in node.inputs if name
        )
        reason = str(error).split("] ")[-1].strip().splitlines()[0]
        place = f"node '{node.name}' ({node.op})"
        what = must(
            place,
            "inputs",
            "what the operator accepts",
            f"{shapes or 'none'} ({reason})",
            "export the model again",
        )
        raise ModelError(what) from error

    def _completed(self, name: str, known: TypeProto | None) -> TypeProto:
        if known is not None and _is_complete(known):
            return known
        hint = self._all_hints().get(name)
        if hint is None or (known is not None and known.WhichOneof("value") and not _is_complete(hint)):
            return known if known is not None else TypeProto()
        return hint

    def _all_hints(self) -> dict[str, TypeProto]:
        if self._hints is None:
            self._hints = _inferred_whole(self._whole_model())
        return self._hints


def _channels_first(shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
    return None if shape is None or len(shape) < 3 else (shape[0], shape[-1], *shape[1:-1])


def _channels_last(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], *shape[2:], shape[1])


def _has_type(known: TypeProto) -> bool:
    """Whether a type says anything; behind ONNX Runtime's own operators there may be a shape alone."""
    return known.WhichOneof("value") is not None and (
        not known.HasField("tensor_type") or known.tensor_type.elem_type != 0
    )


def _is_complete(known: TypeProto) -> bool:
    if known.WhichOneof("value") is None:
        return False
    if not known.HasField("tensor_type"):
        return True
    return known.tensor_type.elem_type != 0 and static_shape(known) is not None


def _data(names: Sequence[str], scope: Scope) -> dict[str, TensorProto]:
    data = {}
    for name in names:
        array = scope.const(name) if name else None
        if array is not None and array.ndim <= 1 and array.size <= _MAX_DATA and array.dtype.kind in "iuf":
            data[name] = tensor_proto(name, array)
    return data


def _inferred_whole(model: ModelProto) -> dict[str, TypeProto]:
    try:
        return types_with_data(model, shape_inference.infer_shapes)
    except REFUSALS:  # what the model itself declares is still worth something
        return {value.name: value.type for value in (*model.graph.output, *model.graph.value_info)}


def small_copy(model: ModelProto, inputs: Mapping[str, TypeProto]) -> ModelProto:
    """Return the model with static inputs and without the data of its large weights."""
    copy = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    copy.graph.name = model.graph.name
    copy.graph.node.extend(model.graph.node)
    copy.graph.output.extend(model.graph.output)
    copy.graph.value_info.extend(model.graph.value_info)
    for name, known in inputs.items():
        copy.graph.input.add(name=name, type=known)
    for tensor in model.graph.initializer:
        if _is_small(tensor):
            copy.graph.initializer.append(tensor)
        else:
            copy.graph.input.add(name=tensor.name, type=_declared(tensor))
    return copy


def _is_small(tensor: TensorProto) -> bool:
    external = tensor.data_location == TensorProto.EXTERNAL
    return not external and len(tensor.dims) <= 1 and (not tensor.dims or tensor.dims[0] <= _MAX_DATA)


def _declared(tensor: TensorProto) -> TypeProto:
    return onnx.helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
