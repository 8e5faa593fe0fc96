"""TensorProto to array: checked before anything is allocated, viewed instead of copied where possible."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from onnx import SparseTensorProto, TensorProto, helper, numpy_helper

from openbpu.arch.external import ExternalFiles
from openbpu.arch.hbm.check import MAX_RANK
from openbpu.arch.sparse import DenseForms
from openbpu.compiler.ir.graph import Array
from openbpu.compiler.reader import elements
from openbpu.compiler.reader.problem import problem

MAX_BYTES = 2**31
_SPLIT = "a tensor of this size fits no BPU; split the layer"
_VIEWABLE = frozenset(
    {
        "int8",
        "uint8",
        "int16",
        "uint16",
        "int32",
        "uint32",
        "int64",
        "uint64",
        "float16",
        "float32",
        "float64",
        "bool",
    }
)


class TensorReader:
    """Turns the TensorProtos of one model into arrays; external files are opened once and memory-mapped."""

    def __init__(self, folder: Path | None) -> None:
        self._files = ExternalFiles(folder)
        self._dense = DenseForms()

    def array(self, tensor: TensorProto, where: str = "") -> Array:
        """Return the data of `tensor`, read-only.

        Raises ModelError for an unknown element type, a negative dimension, more than 2 GiB, data whose
        length does not fit the shape, or an external file that is missing, too short or outside the folder.
        """
        where = where or f"tensor '{tensor.name}'"
        nbytes = _checked_bytes(tensor, where)
        if tensor.data_location == TensorProto.EXTERNAL:
            return _from_raw(tensor, self._files.data(tensor, nbytes, where), nbytes, where)
        if tensor.HasField("raw_data"):
            return _from_raw(tensor, tensor.raw_data, nbytes, where)
        return _from_fields(tensor, where)

    def dense(self, sparse: SparseTensorProto) -> Array:
        """Return a sparse tensor as a dense array; its indices are flat or one row per element (ONNX).

        Raises ModelError for what onnx's checker refuses too (indices out of range, out of order or twice),
        and when all that one model stores sparsely takes more than 2 GiB.
        """
        where = f"sparse tensor '{sparse.values.name}'"
        values = self.array(sparse.values, where)
        indices = self.array(sparse.indices, where)
        shape = checked_shape(sparse.dims, where)
        return self._dense.of(values, indices, shape, where)


def checked_shape(dims: Iterable[int], where: str, bits: int = 8, fix: str = _SPLIT) -> tuple[int, ...]:
    """Return the shape of a tensor of elements of `bits`; raises ModelError for one that no array has."""
    shape = tuple(dims)
    if any(dim < 0 for dim in shape):
        raise problem(where, "dimensions", "0 or more", shape, "export the model again")
    if len(shape) > MAX_RANK:
        raise problem(where, "number of axes", f"at most {MAX_RANK}", len(shape), "export it with fewer axes")
    nbytes = -(
        -math.prod(max(dim, 1) for dim in shape) * bits // 8
    )  # NumPy, too, passes over axes of length 0
    if nbytes > MAX_BYTES:
        raise problem(where, "size", "at most 2 GiB", f"{nbytes:,} bytes (shape {shape})", fix)
    return shape


def _checked_bytes(tensor: TensorProto, where: str) -> int:
    if not elements.is_known(tensor.data_type):
        raise problem(where, "element type", "one that ONNX defines", tensor.data_type, "update onnx")
    name = elements.name_of(tensor.data_type)
    if not elements.has_arrays(name):
        fix = "export the model with another type"
        raise problem(where, "element type", "one that the installed onnx reads", name, fix)
    if tensor.HasField("segment"):
        raise problem(where, "data", "in one piece", "a segment", "export the model again")
    bits = elements.bits_of(name)
    return -(-math.prod(checked_shape(tensor.dims, where, bits)) * bits // 8)


def _from_raw(tensor: TensorProto, raw: bytes | memoryview, nbytes: int, where: str) -> Array:
    name = elements.name_of(tensor.data_type)
    if name == elements.STRING:
        raise problem(where, "strings", "in string_data", "raw data", "export the model again")
    if len(raw) != nbytes:
        what = f"data of shape {tuple(tensor.dims)} {name}"
        raise problem(where, what, f"{nbytes} bytes", len(raw), "export the model again, the file is damaged")
    if name not in _VIEWABLE:
        return _frozen(_to_array(_inlined(tensor, bytes(raw)), where))
    dtype = np.dtype(name).newbyteorder("<")
    array = np.frombuffer(raw, dtype).reshape(tuple(tensor.dims))
    return _frozen(array.astype(name, copy=not array.flags.aligned))


def _inlined(tensor: TensorProto, raw: bytes) -> TensorProto:
    return TensorProto(data_type=tensor.data_type, dims=tensor.dims, raw_data=raw)


def _from_fields(tensor: TensorProto, where: str) -> Array:
    count = math.prod(tensor.dims)
    name = elements.name_of(tensor.data_type)
    if name.startswith("complex"):
        count *= 2
    packed = elements.bits_of(name) if name != elements.STRING else 8
    per_item = 8 // packed if packed < 8 else 1
    found = len(getattr(tensor, helper.tensor_dtype_to_field(tensor.data_type)))
    if found != -(-count // per_item):
        what = f"data of shape {tuple(tensor.dims)} {name}"
        raise problem(where, what, f"{count} elements", found, "export the model again, the file is damaged")
    if name.startswith("complex"):
        pairs = np.array(
            getattr(tensor, helper.tensor_dtype_to_field(tensor.data_type)), f"float{packed // 2}"
        )
        return _frozen(pairs.view(name).reshape(tuple(tensor.dims)))
    array = _to_array(tensor, where)
    return _frozen(array if array.dtype.kind != "S" else array.astype(object))


def _to_array(tensor: TensorProto, where: str) -> Array:
    try:
        return numpy_helper.to_array(tensor)
    except (LookupError, TypeError, ValueError, OverflowError) as error:  # strings that are no UTF-8, for one
        raise problem(where, "data", "readable", f"({error})", "export the model again") from error


def _frozen(array: Array) -> Array:
    array.flags.writeable = False
    return array
