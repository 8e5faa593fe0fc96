"""Float64 meaning of every element-wise ONNX operator that tables can hold: what look-ups are made from.

Each entry maps (attributes, operands) to the result; the operands are float64 arrays that broadcast.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from openbpu.arch.arrays import Float32, Float64

Attrs = Mapping[str, Any]
Function = Callable[..., Float64]

_erf: Callable[[Float64], Float64] = np.vectorize(math.erf, otypes=[np.float64])


_SIXTH = float(np.float32(1 / 6))
"""ONNX defines HardSwish as the product with a HardSigmoid, whose attribute alpha is a float32."""


def _number(a: Attrs, key: str, default: float) -> float:
    return float(a.get(key, default))


def _held(x: Float64) -> Float64:
    """As the graph's float32 tensor holds it: which side of a jump, or of the end of a domain, a value is on.

    10 · 0.7 is 7 in float32, where the scale 0.7 stands for 0.69999999.
    """
    return x.astype(np.float32).astype(np.float64)


def _inside(x: Float64, low: float, high: float) -> Float64:
    return np.where((x >= low) & (x <= high), x, _held(x))


def _sigmoid(x: Float64) -> Float64:
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


def _softplus(x: Float64) -> Float64:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _gelu(a: Attrs, x: Float64) -> Float64:
    if a.get("approximate", "none") == "tanh":
        y: Float64 = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        return y
    return 0.5 * x * (1 + _erf(x / math.sqrt(2)))


def _hard_sigmoid(a: Attrs, x: Float64) -> Float64:
    return np.clip(_number(a, "alpha", 0.2) * x + _number(a, "beta", 0.5), 0, 1)


def _elu(a: Attrs, x: Float64) -> Float64:
    return np.where(x > 0, x, _number(a, "alpha", 1.0) * np.expm1(np.minimum(x, 0)))


def _selu(a: Attrs, x: Float64) -> Float64:
    alpha = _number(a, "alpha", 1.67326319217681884765625)
    gamma = _number(a, "gamma", 1.05070102214813232421875)
    return gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _celu(a: Attrs, x: Float64) -> Float64:
    alpha = _number(a, "alpha", 1.0)
    return np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(x / alpha))


def _clip(_: Attrs, x: Float64, low: Float64 | None = None, high: Float64 | None = None) -> Float64:
    bottom = x if low is None else np.maximum(x, low)
    return bottom if high is None else np.minimum(bottom, high)


def _shrink(a: Attrs, x: Float64) -> Float64:
    bias, lambd = _number(a, "bias", 0.0), _number(a, "lambd", 0.5)
    side = _held(x)
    return np.where(side < -lambd, x + bias, np.where(side > lambd, x - bias, 0.0))


_POWERS: dict[float, Callable[[Float64], Float64]] = {
    1.0: lambda x: x,
    2.0: lambda x: x * x,
    3.0: lambda x: x * x * x,
    0.5: np.sqrt,
    -0.5: lambda x: 1 / np.sqrt(x),
    -1.0: lambda x: 1 / x,
    -2.0: lambda x: 1 / (x * x),
}
"""Exponents that have other spellings: each is computed as these are, so that all give the same bits."""


def _pow(_: Attrs, x: Float64, exponent: Float64) -> Float64:
    same = _POWERS.get(float(exponent.reshape(-1)[0])) if np.size(exponent) == 1 else None
    return np.power(x, exponent) if same is None else same(x)


UNARY: dict[str, Function] = {
    "Identity": lambda _, x: x,
    "Relu": lambda _, x: np.maximum(x, 0),
    "Clip": _clip,
    "LeakyRelu": lambda a, x: np.where(x >= 0, x, _number(a, "alpha", 0.01) * x),
    "Sigmoid": lambda _, x: _sigmoid(x),
    "Tanh": lambda _, x: np.tanh(x),
    "Exp": lambda _, x: np.exp(x),
    "Log": lambda _, x: np.log(x),
    "Sqrt": lambda _, x: np.sqrt(x),
    "Reciprocal": lambda _, x: 1 / x,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda _, x: x * np.clip(_SIXTH * x + 0.5, 0, 1),
    "Swish": lambda a, x: x * _sigmoid(_number(a, "alpha", 1.0) * x),
    "Gelu": _gelu,
    "Erf": lambda _, x: _erf(x),
    "Softplus": lambda _, x: _softplus(x),
    "Softsign": lambda _, x: x / (1 + np.abs(x)),
    "Mish": lambda _, x: x * np.tanh(_softplus(x)),
    "Elu": _elu,
    "Selu": _selu,
    "Celu": _celu,
    "ThresholdedRelu": lambda a, x: np.where(_held(x) > _number(a, "alpha", 1.0), x, 0.0),
    "Shrink": _shrink,
    "Abs": lambda _, x: np.abs(x),
    "Neg": lambda _, x: -x,
    "Sign": lambda _, x: np.sign(x),
    "Floor": lambda _, x: np.floor(_held(x)),
    "Ceil": lambda _, x: np.ceil(_held(x)),
    "Round": lambda _, x: np.rint(_held(x)),
    "Sin": lambda _, x: np.sin(x),
    "Cos": lambda _, x: np.cos(x),
    "Tan": lambda _, x: np.tan(x),
    "Asin": lambda _, x: np.arcsin(_inside(x, -1, 1)),
    "Acos": lambda _, x: np.arccos(_inside(x, -1, 1)),
    "Atan": lambda _, x: np.arctan(x),
    "Sinh": lambda _, x: np.sinh(x),
    "Cosh": lambda _, x: np.cosh(x),
    "Asinh": lambda _, x: np.arcsinh(x),
    "Acosh": lambda _, x: np.arccosh(_inside(x, 1, np.inf)),
    "Atanh": lambda _, x: np.arctanh(_inside(x, -1, 1)),
}
"""Operators of one computed operand (Clip's bounds are constants)."""

BINARY: dict[str, Function] = {
    "Add": lambda _, a, b: a + b,
    "Sub": lambda _, a, b: a - b,
    "Mul": lambda _, a, b: a * b,
    "Div": lambda _, a, b: a / b,
    "Pow": _pow,
    "Max": lambda _, *xs: np.maximum.reduce(np.broadcast_arrays(*xs)),
    "Min": lambda _, *xs: np.minimum.reduce(np.broadcast_arrays(*xs)),
    "Sum": lambda _, *xs: sum(xs[1:], start=xs[0]),
    "Mean": lambda _, *xs: sum(xs[1:], start=xs[0]) / len(xs),
    "PRelu": lambda _, x, slope: np.where(x >= 0, x, slope * x),
    "Mod": lambda a, x, y: (np.fmod if a.get("fmod", 0) else np.mod)(_held(x), _held(y)),
}
"""Operators that tables hold when all operands but one are scalars, or all come from the same tensor."""


def _compared(compare: Callable[[Float32, Float32], npt.NDArray[np.bool_]]) -> Function:
    # The graph compares float32, so a code times its scale is rounded to it first.
    return lambda _, a, b: compare(a.astype(np.float32), b.astype(np.float32)).astype(np.float64)


def _cast(a: Attrs, x: Float64) -> Float64:
    return CASTS[int(a["to"])](x)


def _is_infinite(a: Attrs, x: Float64) -> Float64:
    found = (np.isposinf(x) & bool(a.get("detect_positive", 1))) | (
        np.isneginf(x) & bool(a.get("detect_negative", 1))
    )
    return found.astype(np.float64)


def _chosen(_: Attrs, condition: Float64, x: Float64, y: Float64) -> Float64:
    return np.where(condition != 0, x, y)


def _truncated(bits: int) -> Callable[[Float64], Float64]:
    """Toward 0; what the type cannot hold is its least value, as the processors of ONNX Runtime have it."""
    most = 2.0 ** (bits - 1)
    return lambda x: np.where(np.abs(x) < most, np.trunc(x), -most)


CASTS: dict[int, Callable[[Float64], Float64]] = {
    1: lambda x: x,
    11: lambda x: x,
    9: lambda x: (x != 0).astype(np.float64),
    6: _truncated(32),
    7: _truncated(64),
}
"""Casts that tables hold, by ONNX element type (1 float, 11 double, 6 int32, 7 int64, 9 bool): bools are 0.0
and 1.0."""
JUMPING_CASTS = frozenset({6, 7, 9})

PREDICATES: dict[str, Function] = {
    "Equal": _compared(np.equal),
    "Less": _compared(np.less),
    "LessOrEqual": _compared(np.less_equal),
    "Greater": _compared(np.greater),
    "GreaterOrEqual": _compared(np.greater_equal),
    "And": lambda _, a, b: a * b,
    "Or": lambda _, a, b: np.maximum(a, b),
    "Xor": lambda _, a, b: np.abs(a - b),
    "Not": lambda _, x: 1 - x,
    "Cast": _cast,
    "IsInf": _is_infinite,
    "IsNaN": lambda _, x: np.isnan(x).astype(np.float64),
    "Where": _chosen,
}
"""Operators that tables hold only between a tensor and a Quantize: x → Equal → Not → Cast → Quantize.

Where, with a comparison as its condition, chooses between the tensor and scalars.
"""

COMPARISONS = frozenset({"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"})
CONDITIONS = COMPARISONS | {"IsInf", "IsNaN"}
"""They make a bool of numbers."""
JOINS = frozenset({"And", "Not", "Or", "Xor"})
"""They make one condition of conditions."""
POINTWISE: dict[str, Function] = {**UNARY, **BINARY, **PREDICATES}
