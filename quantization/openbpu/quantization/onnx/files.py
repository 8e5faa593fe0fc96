"""ONNX files: the model without its weights, and weights in other files as views of them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper

from openbpu.arch.arrays import Array
from openbpu.arch.errors import ModelError, must
from openbpu.arch.external import ExternalFiles
from openbpu.arch.protos import external_tensors
from openbpu.quantization.onnx.net import array_of

_SAID = 300
"""Characters of a foreign error that are passed on: it may hold a file name of any length."""

_BITS = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2, "FLOAT6E2M3": 6, "FLOAT6E3M2": 6}
_PLAIN = "biuf"
_ELSEWHERE = TensorProto.EXTERNAL


def parsed(path: Path) -> ModelProto:
    """Return the model in a file, what lies in other files left there; raises ModelError where it is none."""
    try:
        return onnx.load(path, load_external_data=False)
    except OSError as error:
        raise ModelError(must(str(path), "the model", "a readable file", error.strerror or error)) from error
    except Exception as error:  # damaged bytes, with a class of their own in every binding
        fix, said = "export the model again", " ".join(str(error).split())
        raise ModelError(must(str(path), "the file", "an ONNX model", f"({said[:_SAID]})", fix)) from error


def mapped_weights(model: ModelProto, folder: Path) -> dict[str, Array]:
    """Return the initializers of the graph that lie in other files, as views of these, by name.

    What else lies there (in functions, in bodies of If and Loop) is read into the model, in place. Raises
    ModelError for a file that is missing, too short or outside the folder.
    """
    files, arrays = ExternalFiles(folder), dict[str, Array]()
    for tensor in model.graph.initializer:
        if tensor.data_location == _ELSEWHERE and _is_plain(tensor):
            arrays[tensor.name] = _view(tensor, files)
    others = (*model.graph.node, *model.graph.sparse_initializer, *model.functions, *model.training_info)
    inner = [tensor for part in others for tensor in external_tensors(part)]
    odd = [t for t in model.graph.initializer if t.name not in arrays and t.data_location == _ELSEWHERE]
    for tensor in (*inner, *odd):
        _bring_in(tensor, files)
    return arrays


def with_weights(model: ModelProto, folder: Path) -> ModelProto:
    """Return the model with all that lies in other files read into it, in place."""
    files = ExternalFiles(folder)
    for tensor in [*external_tensors(model)]:
        _bring_in(tensor, files)
    return model


def _is_plain(tensor: TensorProto) -> bool:
    known = helper.get_all_tensor_dtypes()
    if tensor.data_type not in known or TensorProto.DataType.Name(tensor.data_type) in _BITS:
        return False
    return np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)).kind in _PLAIN


def _view(tensor: TensorProto, files: ExternalFiles) -> Array:
    where, shape = f"tensor '{tensor.name}'", tuple(tensor.dims)
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    nbytes = dtype.itemsize * math.prod(shape) if min(shape, default=0) >= 0 else -1
    data = files.data(tensor, max(nbytes, 0), where)
    if len(data) != nbytes:
        what = f"data of shape {shape} {dtype.name}"
        fix = "export the model again, the file is damaged"
        raise ModelError(must(where, what, f"{nbytes} bytes", len(data), fix))
    array = np.frombuffer(data, dtype.newbyteorder("<")).reshape(shape)
    return array.astype(dtype, copy=not array.flags.aligned)


def _bring_in(tensor: TensorProto, files: ExternalFiles) -> None:
    data = files.data(tensor, _nbytes(tensor), f"tensor '{tensor.name}'")
    tensor.raw_data = bytes(data)
    del tensor.external_data[:]
    tensor.ClearField("data_location")
    array_of(tensor, f"tensor '{tensor.name}'")


def _nbytes(tensor: TensorProto) -> int:
    known = helper.get_all_tensor_dtypes()
    if tensor.data_type not in known:
        return 0
    bits = 8 * np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
    bits = _BITS.get(TensorProto.DataType.Name(tensor.data_type), bits)
    return max(0, -(-int(math.prod(tensor.dims)) * bits // 8))
