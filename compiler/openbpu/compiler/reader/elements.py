"""Names of element types: NumPy's own where NumPy has one, ONNX's in lower case where not."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from openbpu.compiler.ir.graph import Array

STRING = "string"
OTHER = "other"

_RENAMED = {"FLOAT": "float32", "DOUBLE": "float64"}
_NAMES: dict[int, str] = {
    number: _RENAMED.get(name, name.lower()) for name, number in TensorProto.DataType.items() if number
}
_NUMBERS = {name: number for number, name in _NAMES.items()}
_BITS = {
    "int4": 4,
    "uint4": 4,
    "float4e2m1": 4,
    "int2": 2,
    "uint2": 2,
    "bool": 8,
    "bfloat16": 16,
    "string": 0,
    "float6e2m3": 6,
    "float6e3m2": 6,
}
_NUMPY = frozenset({"float16", "float32", "float64", "complex64", "complex128"}) | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}

HALF_FLOATS = ("float16", "bfloat16")
SMALL_INTS = ("int4", "uint4", "int2", "uint2")


def is_known(number: int) -> bool:
    """Whether `number` is an element type of the installed onnx."""
    return number in _NAMES


def name_of(number: int) -> str:
    """Name of an ONNX element type; "other" for 0 and for numbers this onnx does not know."""
    return _NAMES.get(number, OTHER)


def number_of(name: str) -> int:
    """ONNX element type of a name; 0 (undefined) for "other"."""
    return _NUMBERS.get(name, 0)


def name_of_array(array: Array) -> str:
    """Name of the element type of an array as it stands in a `Value`."""
    if array.dtype.kind in "OUS":
        return STRING
    # 1 is NumPy's own; ml_dtypes, which onnx brings along, registers its types as 2.
    own = array.dtype.kind in "biufc" and array.dtype.isbuiltin == 1
    return array.dtype.name if own else _exotic(array.dtype)


def _exotic(dtype: np.dtype[np.generic]) -> str:
    return name_of(helper.np_dtype_to_tensor_dtype(dtype))


def bits_of(name: str) -> int:
    """Bits one element takes in raw data; 0 for strings, 8 for types that are newer than this package."""
    if name in _BITS:
        return _BITS[name]
    return np.dtype(name).itemsize * 8 if name in _NUMPY else 8


def has_arrays(name: str) -> bool:
    """Whether the installed onnx makes arrays of an element type, and this package knows its size."""
    if name not in _BITS and name not in _NUMPY and not name.startswith("float8"):
        return False
    try:
        helper.tensor_dtype_to_np_dtype(number_of(name))
    except (KeyError, TypeError, ValueError):
        return False
    return True
