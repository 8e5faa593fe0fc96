"""Element-wise arithmetic, comparison and logic, with numpy's broadcasting (it is ONNX's)."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from openbpu.evaluation.reference.kernel import KERNELS, Array, Call, Kernel, held, kernel


def _binary(function: Any) -> Kernel:
    return lambda call: function(call[0], call[1])


def _compared(function: Any) -> Kernel:
    return lambda call: function(held(call[0]), held(call[1]))


def _variadic(function: Any) -> Kernel:
    def run(call: Call) -> Array:
        values = [call[i] for i in range(len(call.inputs))]
        result: Array = reduce(function, values)
        return result

    return run


def divide(x: Array, y: Array) -> Array:
    """True division of floats; integers truncate toward zero."""
    if x.dtype.kind == "f":
        return np.asarray(x / y)
    quotient = np.abs(x) // np.abs(y)
    return np.asarray(np.sign(x) * np.sign(y) * quotient, dtype=x.dtype)


def _power(x: Array, y: Array) -> Array:
    return np.asarray(np.power(x, y.astype(x.dtype) if x.dtype.kind == "f" else y), dtype=x.dtype)


KERNELS.update(
    {
        "Add": _binary(np.add),
        "Sub": _binary(np.subtract),
        "Mul": _binary(np.multiply),
        "Div": _binary(divide),
        "Pow": _binary(_power),
        "Max": _variadic(np.maximum),
        "Min": _variadic(np.minimum),
        "Sum": _variadic(np.add),
        "Equal": _compared(np.equal),
        "Greater": _compared(np.greater),
        "GreaterOrEqual": _compared(np.greater_equal),
        "Less": _compared(np.less),
        "LessOrEqual": _compared(np.less_equal),
        "And": _binary(np.logical_and),
        "Or": _binary(np.logical_or),
        "Xor": _binary(np.logical_xor),
        "Not": lambda call: np.logical_not(call[0]),
        "IsNaN": lambda call: np.isnan(call[0]),
    }
)


@kernel("Mean")
def mean(call: Call) -> Array:
    """The element-wise mean of all inputs."""
    values = [call[i] for i in range(len(call.inputs))]
    return np.asarray(reduce(np.add, values) / len(values))


@kernel("Mod")
def mod(call: Call) -> Array:
    """``fmod=1`` takes the sign of the dividend, 0 that of the divisor; it jumps at its multiples."""
    function = np.fmod if call.attr("fmod", 0) else np.mod
    return np.asarray(function(held(call[0]), held(call[1])))


@kernel("Where")
def where(call: Call) -> Array:
    """``condition ? x : y``."""
    return np.where(call[0], call[1], call[2])


@kernel("Clip")
def clip(call: Call) -> Array:
    """Bounds are attributes before opset 11 and optional inputs since."""
    x = call[0]
    low, high = call.get(1), call.get(2)
    if "min" in call.attrs:
        low = np.asarray(call.attrs["min"])
    if "max" in call.attrs:
        high = np.asarray(call.attrs["max"])
    if low is not None:
        x = np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


@kernel("PRelu")
def prelu(call: Call) -> Array:
    """``x < 0 ? slope * x : x``; the slope broadcasts to x."""
    x, slope = call[0], call[1]
    return np.where(x < 0, slope * x, x)
