"""TensorProto to array: checked before anything is allocated, viewed instead of copied where possible."""

from __future__ import annotations

import math
import mmap
from pathlib import Path

import numpy as np
from onnx import SparseTensorProto, TensorProto, helper, numpy_helper

from openbpu.compiler.ir.graph import Array
from openbpu.compiler.reader import elements
from openbpu.compiler.reader.problem import problem

MAX_BYTES = 2**31
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
        self._folder = folder
        self._maps: dict[Path, mmap.mmap | bytes] = {}

    def array(self, tensor: TensorProto, where: str = "") -> Array:
        """Return the data of `tensor`, read-only.

        Raises ModelError for an unknown element type, a negative dimension, more than 2 GiB, data whose
        length does not fit the shape, or an external file that is missing, too short or outside the folder.
        """
        where = where or f"tensor '{tensor.name}'"
        nbytes = _checked_bytes(tensor, where)
        if tensor.data_location == TensorProto.EXTERNAL:
            return self._external(tensor, nbytes, where)
        if tensor.HasField("raw_data"):
            return _from_raw(tensor, tensor.raw_data, nbytes, where)
        return _from_fields(tensor, where)

    def dense(self, sparse: SparseTensorProto) -> Array:
        """Return a sparse tensor as a dense array; its indices are flat or one row per element (ONNX)."""
        where = f"sparse tensor '{sparse.values.name}'"
        values = self.array(sparse.values, where)
        indices = self.array(sparse.indices, where)
        shape = tuple(sparse.dims)
        if math.prod(shape) * values.itemsize > MAX_BYTES or min(shape, default=0) < 0:
            raise problem(where, "its dense form", "at most 2 GiB", f"of shape {shape}")
        dense = np.zeros(shape, values.dtype)
        try:
            dense[tuple(indices.T) if indices.ndim == 2 else np.unravel_index(indices, shape)] = values
        except (IndexError, ValueError) as error:
            raise problem(where, "indices", f"inside the shape {shape}", f"invalid ({error})") from error
        return _frozen(dense)

    def _external(self, tensor: TensorProto, nbytes: int, where: str) -> Array:
        info = {entry.key: entry.value for entry in tensor.external_data}
        path = _inside(self._folder, info.get("location", ""), where)
        data = self._open(path, where)
        offset = _count(info.get("offset", "0"), where, "offset")
        length = _count(info.get("length", str(nbytes)), where, "length")
        if offset + length > len(data):
            fix = "copy the file again, it is truncated"
            raise problem(where, f"data in {path}", f"{offset + length} bytes long", len(data), fix)
        return _from_raw(tensor, memoryview(data)[offset : offset + length], nbytes, where)

    def _open(self, path: Path, where: str) -> mmap.mmap | bytes:
        if path not in self._maps:
            self._maps[path] = _map_file(path, where)
        return self._maps[path]


def _checked_bytes(tensor: TensorProto, where: str) -> int:
    if not elements.is_known(tensor.data_type):
        raise problem(where, "element type", "one that ONNX defines", tensor.data_type, "update onnx")
    if any(dim < 0 for dim in tensor.dims):
        raise problem(where, "dimensions", "0 or more", tuple(tensor.dims), "export the model again")
    if tensor.HasField("segment"):
        raise problem(where, "data", "in one piece", "a segment", "export the model again")
    bits = elements.bits_of(elements.name_of(tensor.data_type))
    nbytes = -(-math.prod(tensor.dims) * bits // 8)
    if nbytes > MAX_BYTES:
        fix = "a weight of this size fits no BPU; split the layer"
        raise problem(where, "size", "at most 2 GiB", f"{nbytes:,} bytes (shape {tuple(tensor.dims)})", fix)
    return int(nbytes)


def _from_raw(tensor: TensorProto, raw: bytes | memoryview, nbytes: int, where: str) -> Array:
    name = elements.name_of(tensor.data_type)
    if name == elements.STRING:
        raise problem(where, "strings", "in string_data", "raw data", "export the model again")
    if len(raw) != nbytes:
        what = f"data of shape {tuple(tensor.dims)} {name}"
        raise problem(where, what, f"{nbytes} bytes", len(raw), "export the model again, the file is damaged")
    if name not in _VIEWABLE:
        return _frozen(numpy_helper.to_array(_inlined(tensor, bytes(raw))))
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
    array = numpy_helper.to_array(tensor)
    return _frozen(array if array.dtype.kind != "S" else array.astype(object))


def _frozen(array: Array) -> Array:
    array.flags.writeable = False
    return array


def _count(text: str, where: str, key: str) -> int:
    if not text.isdecimal():
        raise problem(where, f"external data {key}", "a number of bytes", repr(text))
    return int(text)


def _inside(folder: Path | None, location: str, where: str) -> Path:
    """Resolve `location` below `folder`; refuse everything that leads out of it."""
    if folder is None:
        fix = "pass the path of the .onnx file instead of a ModelProto without its data"
        raise problem(where, "external data", "reachable", f"'{location}' beside an unknown file", fix)
    if not _stays_inside(folder, location):
        fix = "save the model with its data file beside it"
        raise problem(
            where, "external data file", f"inside '{folder}', the model's folder", f"{location!r}", fix
        )
    return folder / location


def _stays_inside(folder: Path, location: str) -> bool:
    named = Path(location)
    if not location or named.is_absolute() or ".." in named.parts or "\\" in location or "\0" in location:
        return False
    try:
        return (folder / location).resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a loop of links
        return False


def _map_file(path: Path, where: str) -> mmap.mmap | bytes:
    if not path.is_file():
        fix = "put the data file beside the model"
        raise problem(where, "external data file", f"{path}", "missing", fix)
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
