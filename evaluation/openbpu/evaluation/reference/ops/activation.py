"""Functions of one variable, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from openbpu.evaluation.reference.kernel import KERNELS, Array, Call, Kernel, held, kernel

_erf = np.frompyfunc(math.erf, 1, 1)


def erf(x: Array) -> Array:
    """The error function, by the C library's."""
    return np.asarray(_erf(x), dtype=np.float64)


def inside(x: Array, low: float, high: float) -> Array:
    """``x``, as a float32 tensor holds it where it is outside of ``low`` to ``high``."""
    return np.where((x >= low) & (x <= high), x, held(x))


def sigmoid(x: Array) -> Array:
    """``1 / (1 + e^-x)`` without overflow."""
    z = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, z) / (1.0 + z)


def softplus(x: Array) -> Array:
    """``log(1 + e^x)`` without overflow."""
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def gelu(x: Array) -> Array:
    """``x * Phi(x)``."""
    return 0.5 * x * (1.0 + erf(x / math.sqrt(2.0)))


def gelu_tanh(x: Array) -> Array:
    """The tanh approximation of gelu."""
    inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1.0 + np.tanh(inner))


def _unary(function: Callable[[Array], Array]) -> Kernel:
    return lambda call: np.asarray(function(call[0]))


_PLAIN: dict[str, Callable[[Array], Array]] = {
    "Relu": lambda x: np.maximum(x, np.zeros((), x.dtype)),
    "Sigmoid": sigmoid,
    "Tanh": np.tanh,
    "Exp": np.exp,
    "Log": np.log,
    "Sqrt": np.sqrt,
    "Reciprocal": np.reciprocal,
    "Abs": np.abs,
    "Neg": np.negative,
    "Sign": np.sign,
    "Floor": lambda x: np.floor(held(x)),
    "Ceil": lambda x: np.ceil(held(x)),
    "Round": lambda x: np.rint(held(x)),
    "Erf": erf,
    "Softplus": softplus,
    "Softsign": lambda x: x / (1.0 + np.abs(x)),
    "Mish": lambda x: x * np.tanh(softplus(x)),
    "HardSwish": lambda x: x * np.clip(np.float32(1 / 6) * x + 0.5, 0.0, 1.0),
    "Sin": np.sin,
    "Cos": np.cos,
    "Tan": np.tan,
    "Asin": lambda x: np.arcsin(inside(x, -1, 1)),
    "Acos": lambda x: np.arccos(inside(x, -1, 1)),
    "Atan": np.arctan,
    "Sinh": np.sinh,
    "Cosh": np.cosh,
    "Asinh": np.arcsinh,
    "Acosh": lambda x: np.arccosh(inside(x, 1, np.inf)),
    "Atanh": lambda x: np.arctanh(inside(x, -1, 1)),
    "IsNaN": np.isnan,
    "com.microsoft.Gelu": gelu,
}
KERNELS.update({name: _unary(function) for name, function in _PLAIN.items()})


@kernel("Gelu")
def gelu_either(call: Call) -> Array:
    """``approximate`` is ``none`` or ``tanh``."""
    return gelu_tanh(call[0]) if call.attr("approximate", "none") == "tanh" else gelu(call[0])


@kernel("Swish")
def swish(call: Call) -> Array:
    """``x * sigmoid(alpha * x)``."""
    return call[0] * sigmoid(call.real("alpha", 1.0) * call[0])


@kernel("com.microsoft.QuickGelu")
def quick_gelu(call: Call) -> Array:
    """``x * sigmoid(1.702 * x)``."""
    return call[0] * sigmoid(call.real("alpha", 1.702) * call[0])


@kernel("HardSigmoid")
def hard_sigmoid(call: Call) -> Array:
    """``clip(alpha * x + beta, 0, 1)``."""
    return np.clip(call.real("alpha", 0.2) * call[0] + call.real("beta", 0.5), 0.0, 1.0)


@kernel("LeakyRelu")
def leaky_relu(call: Call) -> Array:
    """``x < 0 ? alpha * x : x``."""
    x = call[0]
    return np.where(x < 0, call.real("alpha", 0.01) * x, x)


@kernel("Elu")
def elu(call: Call) -> Array:
    """``x < 0 ? alpha * (e^x - 1) : x``."""
    x = call[0]
    return np.where(x < 0, call.real("alpha", 1.0) * np.expm1(np.minimum(x, 0.0)), x)


@kernel("Celu")
def celu(call: Call) -> Array:
    """``max(0, x) + min(0, alpha * (e^(x/alpha) - 1))``."""
    x, alpha = call[0], call.real("alpha", 1.0)
    return np.maximum(x, 0.0) + np.minimum(0.0, alpha * np.expm1(np.minimum(x, 0.0) / alpha))


@kernel("Selu")
def selu(call: Call) -> Array:
    """``gamma * (x > 0 ? x : alpha * (e^x - 1))``."""
    x = call[0]
    alpha = call.real("alpha", 1.67326319217681884765625)
    gamma = call.real("gamma", 1.05070102214813232421875)
    return gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


@kernel("ThresholdedRelu")
def thresholded_relu(call: Call) -> Array:
    """``x > alpha ? x : 0``."""
    x = call[0]
    return np.where(held(x) > call.real("alpha", 1.0), x, 0.0)


@kernel("Shrink")
def shrink(call: Call) -> Array:
    """``x < -lambd ? x + bias : x > lambd ? x - bias : 0``."""
    x, bias, bound = call[0], call.real("bias", 0.0), call.real("lambd", 0.5)
    side = held(x)
    return np.where(side < -bound, x + bias, np.where(side > bound, x - bias, 0.0))
