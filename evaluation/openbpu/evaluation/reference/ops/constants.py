"""Constants, shapes and casts."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from openbpu.evaluation.reference.kernel import Array, Call, as_float64, held, kernel


@kernel("Constant")
def constant(call: Call) -> Array:
    """The one attribute that is set."""
    for name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        value = call.attr(name)
        if isinstance(value, onnx.TensorProto):
            return as_float64(numpy_helper.to_array(value))
        if value is not None:
            return np.asarray(value, dtype=np.float64 if "float" in name else np.int64)
    raise NotImplementedError(f"witness: Constant with attributes {sorted(call.attrs)}")


@kernel("ConstantOfShape")
def constant_of_shape(call: Call) -> Array:
    """Filled with ``value``, float zero by default."""
    value = call.attr("value")
    fill = np.zeros(1) if value is None else as_float64(numpy_helper.to_array(value))
    return np.full(tuple(int(v) for v in call[0]), fill.reshape(()), dtype=fill.dtype)


@kernel("Shape")
def shape(call: Call) -> Array:
    """Sizes, from ``start`` to ``end``."""
    sizes = call[0].shape[call.attr("start", 0) : call.attr("end")]
    return np.asarray(sizes, dtype=np.int64)


@kernel("Size")
def size(call: Call) -> Array:
    """The number of elements."""
    return np.asarray(call[0].size, dtype=np.int64)


@kernel("Range")
def range_(call: Call) -> Array:
    """``start, start + delta, ...`` below ``limit``."""
    return np.arange(call[0].item(), call[1].item(), call[2].item(), dtype=call[0].dtype)


@kernel("Cast")
def cast(call: Call) -> Array:
    """Every float type is float64 here; floats become integers toward zero."""
    target = helper.tensor_dtype_to_np_dtype(call.attrs["to"])
    if target.kind == "f" or "float" in target.name:
        return call[0].astype(np.float64)
    return held(call[0]).astype(target)


@kernel("CastLike")
def cast_like(call: Call) -> Array:
    """Cast to the type of the second input."""
    value = call[0] if call[1].dtype.kind == "f" else held(call[0])
    return value.astype(call[1].dtype)
