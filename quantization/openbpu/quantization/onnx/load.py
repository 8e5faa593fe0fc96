"""Read a float model and bring it to an opset that can hold the result."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto, helper, inliner, version_converter

from openbpu.arch.errors import ModelError, QuantizationError, must
from openbpu.quantization.onnx.net import SMALL, Net, opset_of, take_apart

OPSET_PER_CHANNEL = 13
"""First opset whose QuantizeLinear has an axis."""

OPSET_INT16 = 21
"""First opset whose QuantizeLinear makes int16."""

_IR_VERSION = {OPSET_PER_CHANNEL: 7, OPSET_INT16: 10}
_QUANTIZED_OPS = {
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "QLinearConv",
    "QLinearMatMul",
}

ModelLike = ModelProto | str | os.PathLike[str]


def load(model: ModelLike, opset: int) -> Net:
    """Return `model` taken apart, functions inlined, at `opset` or newer.

    Raises ModelError when the file is no ONNX model or cannot be converted to `opset`, QuantizationError
    when the model is quantized already or is not float32.
    """
    where, proto = _named(model), read_model(model)
    if proto.graph.sparse_initializer:
        raise ModelError(must(where, "initializers", "dense", "sparse", "store the weights as dense tensors"))
    _check_is_float(where, proto)
    if proto.functions:
        proto = inliner.inline_local_functions(proto)
    return take_apart(_at_least(where, proto, opset))


def _named(model: ModelLike) -> str:
    """Return how messages call the model."""
    return f"model '{model.graph.name}'" if isinstance(model, ModelProto) else str(model)


def read_model(model: ModelLike) -> ModelProto:
    """Return the model itself, or the one in a file; raises ModelError when that is not possible."""
    if isinstance(model, ModelProto):
        if any(t.data_location == TensorProto.EXTERNAL for t in model.graph.initializer):
            fix = "load it with onnx.load, which reads external data, or pass its path"
            raise ModelError(must(_named(model), "weights", "inside the ModelProto", "external data", fix))
        return model
    path = Path(model)
    try:
        return onnx.load(path)
    except OSError as error:
        raise ModelError(must(str(path), "the model", "a readable file", error.strerror or error)) from error
    except (DecodeError, ValueError, onnx.checker.ValidationError) as error:
        fix = "export the model again"
        raise ModelError(must(str(path), "the file", "an ONNX model", f"({error})", fix)) from error


def _check_is_float(where: str, model: ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type in _QUANTIZED_OPS:
            what = f"{node.op_type} '{node.name or node.output[0]}'"
            fix = "compile it as it is, or quantize the float model it was made from"
            raise QuantizationError(must(where, "a model to quantize", "float32", f"quantized ({what})", fix))
    for value in model.graph.input:
        if value.type.tensor_type.elem_type in {
            TensorProto.FLOAT16,
            TensorProto.BFLOAT16,
            TensorProto.DOUBLE,
        }:
            kind = TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
            fix = "export the model in float32"
            raise QuantizationError(must(where, f"input '{value.name}'", "float32", kind, fix))


def _at_least(where: str, model: ModelProto, opset: int) -> ModelProto:
    """Return `model` at `opset` or newer; large weights do not go through the converter."""
    if opset_of(model) >= opset:
        return _with_ir_version(model, opset)
    slim, weights = _split_weights(model)
    try:
        converted = version_converter.convert_version(slim, opset)
    except Exception as error:  # the C++ converter raises RuntimeError and its own ConvertError
        what, fix = f"opset {opset_of(model)}", f"export the model at opset {opset} or newer"
        raise ModelError(
            must(where, "its opset", f"convertible to {opset}", f"{what} ({error})", fix)
        ) from error
    _restore_metadata(model, converted)
    names = {t.name for t in weights}
    inputs = [v for v in converted.graph.input if v.name not in names]
    del converted.graph.input[:]
    converted.graph.input.extend(inputs)
    converted.graph.initializer.extend(weights)
    return _with_ir_version(converted, opset)


def _split_weights(model: ModelProto) -> tuple[ModelProto, list[TensorProto]]:
    """Return the model with its large initializers turned into inputs, and those initializers."""
    large = [t for t in model.graph.initializer if int(np.prod(t.dims, dtype=np.int64)) > SMALL]
    small = [t for t in model.graph.initializer if int(np.prod(t.dims, dtype=np.int64)) <= SMALL]
    names = {t.name for t in model.graph.initializer}
    slim = ModelProto()
    slim.ir_version = max(model.ir_version, 4)  # from 4 on, an initializer need not be an input
    slim.opset_import.extend(model.opset_import)
    slim.producer_name, slim.producer_version = model.producer_name, model.producer_version
    slim.metadata_props.extend(model.metadata_props)
    slim.graph.name = model.graph.name or "model"
    slim.graph.doc_string = model.graph.doc_string
    slim.graph.node.extend(model.graph.node)
    slim.graph.input.extend(v for v in model.graph.input if v.name not in names)
    for tensor in large:
        slim.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    slim.graph.initializer.extend(small)
    slim.graph.output.extend(model.graph.output)
    slim.graph.value_info.extend(model.graph.value_info)
    return slim, large


def _restore_metadata(source: ModelProto, converted: ModelProto) -> None:
    """Give nodes what exporters wrote about them, which the converter drops."""
    notes = {name: node for node in source.graph.node for name in node.output}
    for node in converted.graph.node:
        origin = next((notes[name] for name in node.output if name in notes), None)
        if origin is not None and not node.metadata_props:
            node.metadata_props.extend(origin.metadata_props)


def _with_ir_version(model: ModelProto, opset: int) -> ModelProto:
    needed = _IR_VERSION[opset]
    if model.ir_version >= needed:
        return model
    raised = ModelProto()
    raised.CopyFrom(model)
    raised.ir_version = needed
    return raised
