"""QuantizeLinear and DequantizeLinear, and the shape of a quantized operand."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper

from openbpu.evaluation.reference.kernel import Array, Call, Quantized, kernel

_RANGES = {"int4": (-8, 7), "uint4": (0, 15), "int2": (-2, 1), "uint2": (0, 3)}


def limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    """The smallest and largest integer of a quantized type."""
    if dtype.name in _RANGES:
        return _RANGES[dtype.name]
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def broadcast(parameter: Array, x: Array, axis: int, block: int) -> Array:
    """A scale or zero point, per tensor, per axis or per block, shaped to meet ``x``."""
    if parameter.size == 1:
        return parameter.reshape(())
    if block and parameter.ndim == x.ndim:
        repeated = np.repeat(parameter, block, axis=axis)
        return repeated.take(range(x.shape[axis]), axis=axis)
    shape = [1] * x.ndim
    shape[axis] = -1
    return parameter.reshape(shape)


def dequantize(q: Array, scale: Array, zero: Array | None, axis: int = 1, block: int = 0) -> Array:
    """``(q - zero_point) * scale`` in float64."""
    integers = q.astype(np.float64)
    if zero is not None:
        integers = integers - broadcast(zero.astype(np.float64), q, axis, block)
    return integers * broadcast(scale.astype(np.float64), q, axis, block)


def quantize(x: Array, scale: Array, zero: Array, axis: int = 1, block: int = 0) -> Quantized:
    """``clip(rint(x / scale) + zero_point)``, to the type of the zero point.

    ONNX divides in the type of the scale. What is float32 in the graph, `x` of that type, is divided so and
    nothing is left to excuse; what the graph computes is known in float64 and divided there.
    """
    step = broadcast(scale.astype(np.float64), x, axis, block)
    offset = broadcast(zero.astype(np.float64), x, axis, block)
    qmin, qmax = limits(zero.dtype)
    if x.dtype == np.float32:
        scaled = np.asarray(x / step.astype(np.float32)).astype(np.float64)
        return Quantized(scaled, offset, zero.dtype, qmin, qmax, known=True)
    return Quantized(np.asarray(x.astype(np.float64) / step), offset, zero.dtype, qmin, qmax)


@kernel("QuantizeLinear", "com.microsoft.QuantizeLinear")
def quantize_linear(call: Call) -> Quantized:
    """The type comes from the zero point, or from ``output_dtype``, or is uint8."""
    zero = call.get(2)
    if zero is None:
        target = call.attr("output_dtype", 0)
        dtype = helper.tensor_dtype_to_np_dtype(target) if target else np.dtype(np.uint8)
        zero = np.zeros((), dtype)
    return quantize(call[0], call[1], zero, call.attr("axis", 1), call.attr("block_size", 0))


@kernel("DequantizeLinear", "com.microsoft.DequantizeLinear")
def dequantize_linear(call: Call) -> Array:
    """Any integer type, int32 biases included."""
    axis, block = call.attr("axis", 1), call.attr("block_size", 0)
    return dequantize(call[0], call[1], call.get(2), axis, block)


@kernel("DynamicQuantizeLinear")
def dynamic_quantize_linear(call: Call) -> tuple[Array | Quantized, ...]:
    """uint8 with a scale and a zero point from the range of the input."""
    x = call[0]
    low, high = min(0.0, float(x.min())), max(0.0, float(x.max()))
    scale = np.asarray((high - low) / 255.0 or 1.0)
    zero = np.asarray(np.clip(np.rint(-low / scale), 0, 255)).astype(np.uint8)
    return quantize(x, scale, zero), scale, zero
